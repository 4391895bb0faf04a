BEGIN TRANSACTION;
CREATE TABLE "antibodies" (
	id VARCHAR(36) NOT NULL, 
	generation_id VARCHAR(36) NOT NULL, 
	position INTEGER NOT NULL, 
	text TEXT NOT NULL, 
	kind VARCHAR(32) NOT NULL, 
	guards TEXT NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	rationale TEXT NOT NULL, 
	status VARCHAR(32) NOT NULL, 
	reason TEXT NOT NULL, 
	cosine DOUBLE, 
	created_at DATETIME NOT NULL, 
	origin TEXT NOT NULL, 
	parent_id VARCHAR(36), 
	relation VARCHAR(32), 
	samples JSON NOT NULL, 
	CONSTRAINT pk_antibodies PRIMARY KEY (id), 
	CONSTRAINT ck_antibodies_kind CHECK (kind IN ('look_alike', 'contextual', 'visual')), 
	CONSTRAINT fk_antibodies_generation_id_generations FOREIGN KEY(generation_id) REFERENCES generations (id), 
	CONSTRAINT ck_antibodies_relation CHECK (relation IN ('matured', 'edited', 'copied')), 
	CONSTRAINT uq_antibodies_generation_id_digest UNIQUE (generation_id, digest), 
	CONSTRAINT ck_antibodies_relation_to_a_parent CHECK ((relation IS NULL) = (parent_id IS NULL)), 
	CONSTRAINT uq_antibodies_generation_id_position UNIQUE (generation_id, position), 
	CONSTRAINT ck_antibodies_status CHECK (status IN ('accepted', 'rejected'))
);
INSERT INTO "antibodies" VALUES('01a21d76-c306-75dc-b74b-1e1d9beff6b5','01a21d76-c311-7455-a833-d856a007c51a',0,'robot dog 0','look_alike','dog','0dbd4a91f6cd190052546c2274d52351702c5c99e2b0b2db89b71872a83742de','','accepted','',0.5,'2026-11-27 14:44:12.177555','',NULL,NULL,'[]');
INSERT INTO "antibodies" VALUES('01a21d76-c30e-7392-b8d7-8a429bc733cd','01a21d76-c311-7455-a833-d856a007c51a',1,'dog 0','look_alike','dog','b4b554c6386301bd86f104a475fa12c20b561a237fb71327bb7365a90e4a4e98','','rejected','names the class',NULL,'2026-11-27 14:44:12.177555','',NULL,NULL,'[]');
INSERT INTO "antibodies" VALUES('01a21d76-c36f-752c-a5e5-40b65e9c38cb','01a21d76-c371-7493-bb74-d971dd58d0ba',0,'robot dog 1','look_alike','dog','ad14c73dd4169c30426a4adb8525377b8d70d806115007d50f114710e87fe173','','accepted','',0.5,'2026-11-27 14:44:12.273264','scripted','01a21d76-c306-75dc-b74b-1e1d9beff6b5','edited','[]');
INSERT INTO "antibodies" VALUES('01a21d76-c370-7128-b54e-0040945afeec','01a21d76-c371-7493-bb74-d971dd58d0ba',1,'dog 1','look_alike','dog','a0a3c991d427ef1b13202dfdd9767296af9f2fbd04804f389aff29cae05db441','','rejected','names the class',NULL,'2026-11-27 14:44:12.273264','',NULL,NULL,'[]');
INSERT INTO "antibodies" VALUES('01a21d76-c3aa-7526-95b1-c28f5a2fdf9e','01a21d76-c3ab-750e-b8d1-4b9bf31b970e',0,'robot dog 0','look_alike','dog','0dbd4a91f6cd190052546c2274d52351702c5c99e2b0b2db89b71872a83742de','','accepted','',0.5,'2026-11-27 14:44:12.331199','',NULL,NULL,'[]');
INSERT INTO "antibodies" VALUES('01a21d76-c3aa-7526-95b1-c2909c68b2a5','01a21d76-c3ab-750e-b8d1-4b9bf31b970e',1,'dog 0','look_alike','dog','b4b554c6386301bd86f104a475fa12c20b561a237fb71327bb7365a90e4a4e98','','rejected','names the class',NULL,'2026-11-27 14:44:12.331199','',NULL,NULL,'[]');
INSERT INTO "antibodies" VALUES('01a21d76-c3b1-71c0-9eae-b24c2de7d958','01a21d76-c3b3-7325-b38a-df540dcaa383',0,'robot cat','look_alike','cat','238e9ce79d3bc82a6269c703fef350c0890d7608c8bb22f489c73ed424789aaa','','accepted','',0.5,'2026-11-27 14:44:12.339073','',NULL,NULL,'[]');
INSERT INTO "antibodies" VALUES('01a21d76-c374-76d0-beda-e6f2b649bc41','01a21d76-c371-7493-bb74-d971dd58d0ba',2,'robot dog 0 (matured)','look_alike','dog','cd8ef50b3b167962004b204cabd91d5da03a180ff66404490bac39f64a75e7fd','','accepted','',NULL,'2026-05-01 12:03:00.000250','maturation','01a21d76-c306-75dc-b74b-1e1d9beff6b5','matured','[]');
INSERT INTO "antibodies" VALUES('01a21d76-c3b5-76a9-adfc-e5cdefe9df49','01a21d76-c3b3-7325-b38a-df540dcaa383',1,'robot cat (matured)','look_alike','cat','808e9b63472d54a3abc89c6226c4ac901163baeb0f6d0c4ad72dd5d186e659f7','','accepted','',NULL,'2026-05-01 12:03:00.000250','maturation','01a21d76-c3b1-71c0-9eae-b24c2de7d958','matured','[]');
INSERT INTO "antibodies" VALUES('01a21d76-c3c0-72f4-aa66-68f677adab07','01a21d76-c3bf-7685-afd1-414ca9cefa03',0,'robot cat (matured)','look_alike','cat','808e9b63472d54a3abc89c6226c4ac901163baeb0f6d0c4ad72dd5d186e659f7','','accepted','',NULL,'2026-05-01 12:03:00.000250','maturation','01a21d76-c3b5-76a9-adfc-e5cdefe9df49','matured','[]');
CREATE TABLE "bank_members" (
	generation_id VARCHAR(36) NOT NULL, 
	antibody_id VARCHAR(36) NOT NULL, 
	CONSTRAINT pk_bank_members PRIMARY KEY (generation_id, antibody_id), 
	CONSTRAINT fk_bank_members_antibody_id_antibodies FOREIGN KEY(antibody_id) REFERENCES antibodies (id), 
	CONSTRAINT fk_bank_members_generation_id_generations FOREIGN KEY(generation_id) REFERENCES generations (id)
);
INSERT INTO "bank_members" VALUES('01a21d76-c311-7455-a833-d856a007c51a','01a21d76-c306-75dc-b74b-1e1d9beff6b5');
INSERT INTO "bank_members" VALUES('01a21d76-c371-7493-bb74-d971dd58d0ba','01a21d76-c36f-752c-a5e5-40b65e9c38cb');
INSERT INTO "bank_members" VALUES('01a21d76-c371-7493-bb74-d971dd58d0ba','01a21d76-c374-76d0-beda-e6f2b649bc41');
INSERT INTO "bank_members" VALUES('01a21d76-c3ab-750e-b8d1-4b9bf31b970e','01a21d76-c3aa-7526-95b1-c28f5a2fdf9e');
INSERT INTO "bank_members" VALUES('01a21d76-c3b3-7325-b38a-df540dcaa383','01a21d76-c3b5-76a9-adfc-e5cdefe9df49');
INSERT INTO "bank_members" VALUES('01a21d76-c3bf-7685-afd1-414ca9cefa03','01a21d76-c3c0-72f4-aa66-68f677adab07');
CREATE TABLE "claims" (
	work TEXT NOT NULL, 
	owner TEXT NOT NULL, 
	claimed_at DATETIME NOT NULL, 
	beat_at DATETIME NOT NULL, 
	host TEXT NOT NULL, 
	pid INTEGER NOT NULL, 
	boot TEXT NOT NULL, 
	CONSTRAINT pk_claims PRIMARY KEY (work)
);
INSERT INTO "claims" VALUES('session:01a21d76-c2db-70a8-b38e-b65d95cc7449','owner-1','2026-11-27 14:44:12.366704','2026-11-27 14:44:12.366704','host',1,'boot');
CREATE TABLE datasets (
	id VARCHAR(36) NOT NULL, 
	digest TEXT NOT NULL, 
	name TEXT NOT NULL, 
	split VARCHAR(32) NOT NULL, 
	role VARCHAR(32) NOT NULL, 
	count INTEGER NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_datasets PRIMARY KEY (id), 
	CONSTRAINT ck_datasets_role CHECK (role IN ('id', 'outlier')), 
	CONSTRAINT ck_datasets_split CHECK (split IN ('fit', 'feedback', 'test')), 
	CONSTRAINT uq_datasets_digest_name_split_role UNIQUE (digest, name, split, role)
);
INSERT INTO "datasets" VALUES('01a21d76-c2fa-7375-9f67-7e6cb2e2e520','dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd','near','feedback','outlier',1,'2026-11-27 14:44:12.154478');
CREATE TABLE "effects" (
	id VARCHAR(36) NOT NULL, 
	generation_id VARCHAR(36) NOT NULL, 
	antibody_id VARCHAR(36), 
	scope VARCHAR(32) NOT NULL, 
	outlier_set TEXT NOT NULL, 
	split VARCHAR(32) NOT NULL, 
	gain DOUBLE, 
	harm DOUBLE, 
	d_fpr95 DOUBLE, 
	d_auroc DOUBLE, 
	d_id_accuracy DOUBLE, 
	fired_id INTEGER NOT NULL, 
	fired_outliers INTEGER NOT NULL, 
	CONSTRAINT pk_effects PRIMARY KEY (id), 
	CONSTRAINT fk_effects_antibody_id_antibodies FOREIGN KEY(antibody_id) REFERENCES antibodies (id), 
	CONSTRAINT ck_effects_bank_has_no_antibody CHECK ((scope = 'bank') = (antibody_id IS NULL)), 
	CONSTRAINT ck_effects_scope CHECK (scope IN ('solo', 'leave_one_out', 'bank')), 
	CONSTRAINT uq_effects_generation_id_antibody_id_scope_outlier_set_split UNIQUE (generation_id, antibody_id, scope, outlier_set, split), 
	CONSTRAINT fk_effects_generation_id_generations FOREIGN KEY(generation_id) REFERENCES generations (id), 
	CONSTRAINT ck_effects_split CHECK (split IN ('fit', 'feedback', 'test'))
);
INSERT INTO "effects" VALUES('01a21d76-c360-73ff-9ed4-0ad4902910f2','01a21d76-c311-7455-a833-d856a007c51a',NULL,'bank','near','feedback',0.5,0.25,-0.125,0.0625,0.0,1,9);
INSERT INTO "effects" VALUES('01a21d76-c360-73ff-9ed4-0ad5de196bce','01a21d76-c311-7455-a833-d856a007c51a','01a21d76-c306-75dc-b74b-1e1d9beff6b5','solo','near','feedback',0.5,0.25,-0.125,0.0625,0.0,1,9);
INSERT INTO "effects" VALUES('01a21d76-c374-76d0-beda-e6f37259f5ba','01a21d76-c371-7493-bb74-d971dd58d0ba',NULL,'bank','near','feedback',0.5,0.25,-0.125,NULL,0.0,1,9);
INSERT INTO "effects" VALUES('01a21d76-c374-76d0-beda-e6f4976d3571','01a21d76-c371-7493-bb74-d971dd58d0ba','01a21d76-c36f-752c-a5e5-40b65e9c38cb','solo','near','feedback',9e999,-9e999,NULL,0.0625,0.0,1,9);
INSERT INTO "effects" VALUES('01a21d76-c3ad-748c-aa8b-68c074c10949','01a21d76-c3ab-750e-b8d1-4b9bf31b970e',NULL,'bank','near','feedback',0.5,0.25,-0.125,0.0625,0.0,1,9);
INSERT INTO "effects" VALUES('01a21d76-c3ad-748c-aa8b-68c113d030b1','01a21d76-c3ab-750e-b8d1-4b9bf31b970e','01a21d76-c3aa-7526-95b1-c28f5a2fdf9e','solo','near','feedback',0.5,0.25,-0.125,0.0625,0.0,1,9);
CREATE TABLE "embeddings" (
	id VARCHAR(36) NOT NULL, 
	antibody_id VARCHAR(36) NOT NULL, 
	generation_id VARCHAR(36) NOT NULL, 
	encoder_digest VARCHAR(64) NOT NULL, 
	dim INTEGER NOT NULL, 
	dtype VARCHAR(32) NOT NULL, 
	vector BLOB NOT NULL, 
	CONSTRAINT pk_embeddings PRIMARY KEY (id), 
	CONSTRAINT fk_embeddings_generation_id_generations FOREIGN KEY(generation_id) REFERENCES generations (id), 
	CONSTRAINT fk_embeddings_antibody_id_antibodies FOREIGN KEY(antibody_id) REFERENCES antibodies (id), 
	CONSTRAINT fk_embeddings_encoder_digest_encoders FOREIGN KEY(encoder_digest) REFERENCES encoders (digest), 
	CONSTRAINT uq_embeddings_antibody_id_encoder_digest UNIQUE (antibody_id, encoder_digest)
);
INSERT INTO "embeddings" VALUES('01a21d76-c35b-712f-9c4f-e190a4bad2c7','01a21d76-c306-75dc-b74b-1e1d9beff6b5','01a21d76-c311-7455-a833-d856a007c51a','d01f7d69694f9718082dec34d6842c2a75e9fa14a414cc2cdb5c901224191356',4,'<f4',X'47FE3E3E44AD48BE4936733FD1591F3E');
INSERT INTO "embeddings" VALUES('01a21d76-c373-72bb-be61-b61e63e48e39','01a21d76-c36f-752c-a5e5-40b65e9c38cb','01a21d76-c371-7493-bb74-d971dd58d0ba','d01f7d69694f9718082dec34d6842c2a75e9fa14a414cc2cdb5c901224191356',4,'<f4',X'D9625B3E7565023F34C5513EDFD14EBF');
INSERT INTO "embeddings" VALUES('01a21d76-c374-76d0-beda-e6f2b649bc41','01a21d76-c374-76d0-beda-e6f2b649bc41','01a21d76-c371-7493-bb74-d971dd58d0ba','d01f7d69694f9718082dec34d6842c2a75e9fa14a414cc2cdb5c901224191356',4,'<f4',X'88BFD0BEA193FC3DF85557BF8D98AA3E');
INSERT INTO "embeddings" VALUES('01a21d76-c3ac-7009-b1e2-655c377f7445','01a21d76-c3aa-7526-95b1-c28f5a2fdf9e','01a21d76-c3ab-750e-b8d1-4b9bf31b970e','d01f7d69694f9718082dec34d6842c2a75e9fa14a414cc2cdb5c901224191356',4,'<f4',X'47FE3E3E44AD48BE4936733FD1591F3E');
INSERT INTO "embeddings" VALUES('01a21d76-c3b4-76bc-b738-8b6dc7250594','01a21d76-c3b1-71c0-9eae-b24c2de7d958','01a21d76-c3b3-7325-b38a-df540dcaa383','d01f7d69694f9718082dec34d6842c2a75e9fa14a414cc2cdb5c901224191356',4,'<f4',X'3F4E41BEF7BA213F40B03B3F04802A3E');
INSERT INTO "embeddings" VALUES('01a21d76-c3b5-76a9-adfc-e5cdefe9df49','01a21d76-c3b5-76a9-adfc-e5cdefe9df49','01a21d76-c3b3-7325-b38a-df540dcaa383','d01f7d69694f9718082dec34d6842c2a75e9fa14a414cc2cdb5c901224191356',4,'<f4',X'F1D1FC3D5D11053F49591DBFAD90143F');
INSERT INTO "embeddings" VALUES('01a21d76-c3c0-72f4-aa66-68f677adab07','01a21d76-c3c0-72f4-aa66-68f677adab07','01a21d76-c3bf-7685-afd1-414ca9cefa03','d01f7d69694f9718082dec34d6842c2a75e9fa14a414cc2cdb5c901224191356',4,'<f4',X'8DBF18BFA09603BFCC530EBFDB1B88BE');
CREATE TABLE encoders (
	digest VARCHAR(64) NOT NULL, 
	model TEXT NOT NULL, 
	pretrained TEXT, 
	dim INTEGER NOT NULL, 
	logit_scale DOUBLE NOT NULL, 
	image_size INTEGER NOT NULL, 
	precision VARCHAR(32) NOT NULL, 
	weights_digest TEXT NOT NULL, 
	preprocess_digest TEXT NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_encoders PRIMARY KEY (digest)
);
INSERT INTO "encoders" VALUES('d01f7d69694f9718082dec34d6842c2a75e9fa14a414cc2cdb5c901224191356','tiny',NULL,4,100.0,64,'fp32','wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww','pppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppp','2026-11-27 14:44:12.124161');
CREATE TABLE "generations" (
	id VARCHAR(36) NOT NULL, 
	session_id VARCHAR(36) NOT NULL, 
	number INTEGER NOT NULL, 
	parent_id VARCHAR(36), 
	prompt_version INTEGER NOT NULL, 
	accepted BOOLEAN NOT NULL, 
	reason TEXT NOT NULL, 
	guideline TEXT NOT NULL, 
	metrics JSON NOT NULL, 
	started_at DATETIME NOT NULL, 
	finished_at DATETIME NOT NULL, 
	random_state JSON NOT NULL, 
	versions JSON NOT NULL, 
	git_sha TEXT, 
	CONSTRAINT pk_generations PRIMARY KEY (id), 
	CONSTRAINT fk_generations_parent_id_generations FOREIGN KEY(parent_id) REFERENCES generations (id), 
	CONSTRAINT fk_generations_session_id_sessions FOREIGN KEY(session_id) REFERENCES sessions (id), 
	CONSTRAINT uq_generations_session_id_number UNIQUE (session_id, number)
);
INSERT INTO "generations" VALUES('01a21d76-c311-7455-a833-d856a007c51a','01a21d76-c2db-70a8-b38e-b65d95cc7449',0,NULL,0,1,'mean FPR95 fell','','{"mean_fpr95": 0.5}','2026-05-01 12:00:00.000000','2026-05-01 12:03:00.000250','{"seed": 7}','{}',NULL);
INSERT INTO "generations" VALUES('01a21d76-c371-7493-bb74-d971dd58d0ba','01a21d76-c2db-70a8-b38e-b65d95cc7449',1,'01a21d76-c311-7455-a833-d856a007c51a',1,1,'mean FPR95 fell','','{"mean_fpr95": {"value": null, "kind": "nan"}}','2026-05-01 12:00:00.000000','2026-05-01 12:03:00.000250','{}','{}',NULL);
INSERT INTO "generations" VALUES('01a21d76-c3ab-750e-b8d1-4b9bf31b970e','01a21d76-c3a2-737e-919d-4b9eb031799e',0,NULL,0,1,'mean FPR95 fell','','{"mean_fpr95": 0.5}','2026-05-01 12:00:00.000000','2026-05-01 12:03:00.000250','{}','{}',NULL);
INSERT INTO "generations" VALUES('01a21d76-c3b3-7325-b38a-df540dcaa383','01a21d76-c3a2-737e-919d-4b9eb031799e',1,'01a21d76-c3ab-750e-b8d1-4b9bf31b970e',0,1,'mean FPR95 fell','','{"mean_fpr95": 0.5}','2026-05-01 12:00:00.000000','2026-05-01 12:03:00.000250','{}','{}',NULL);
INSERT INTO "generations" VALUES('01a21d76-c3bf-7685-afd1-414ca9cefa03','01a21d76-c3a2-737e-919d-4b9eb031799e',2,'01a21d76-c3b3-7325-b38a-df540dcaa383',0,1,'mean FPR95 fell','','{"mean_fpr95": 0.5}','2026-05-01 12:00:00.000000','2026-05-01 12:03:00.000250','{}','{}',NULL);
CREATE TABLE immuno_schema (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT immuno_schema_pkc PRIMARY KEY (version_num)
);
INSERT INTO "immuno_schema" VALUES('0007');
CREATE TABLE "llm_calls" (
	id VARCHAR(36) NOT NULL, 
	session_id VARCHAR(36) NOT NULL, 
	generation INTEGER NOT NULL, 
	step TEXT NOT NULL, 
	subject TEXT NOT NULL, 
	request_digest VARCHAR(64) NOT NULL, 
	request_text TEXT NOT NULL, 
	reply_text TEXT, 
	model TEXT NOT NULL, 
	prompt_tokens INTEGER, 
	completion_tokens INTEGER, 
	created_at DATETIME NOT NULL, 
	parameters JSON NOT NULL, 
	cache_key VARCHAR(64), 
	reused BOOLEAN NOT NULL, 
	cost_usd DOUBLE, 
	seconds DOUBLE, 
	CONSTRAINT pk_llm_calls PRIMARY KEY (id), 
	CONSTRAINT fk_llm_calls_session_id_sessions FOREIGN KEY(session_id) REFERENCES sessions (id), 
	CONSTRAINT uq_llm_calls_session_id_generation_step_subject_request_digest UNIQUE (session_id, generation, step, subject, request_digest)
);
INSERT INTO "llm_calls" VALUES('01a21d76-c300-72b5-9c36-e833e59bc6c2','01a21d76-c2db-70a8-b38e-b65d95cc7449',1,'propose','cat','ssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssss','Propose.','again','scripted',NULL,NULL,'2026-11-27 14:44:12.160137','{}','ssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssss',1,NULL,NULL);
INSERT INTO "llm_calls" VALUES('01a21d76-c300-72b5-9c36-e831d8342259','01a21d76-c2db-70a8-b38e-b65d95cc7449',1,'propose','dog','rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr','Name what looks like a dog.','{"antibodies": ["robot dog 1"]}','scripted',7,3,'2026-11-27 14:44:12.160137','{"temperature": 0.5}','rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr',0,0.25,1.5);
INSERT INTO "llm_calls" VALUES('01a21d76-c300-72b5-9c36-e8320106d316','01a21d76-c2db-70a8-b38e-b65d95cc7449',1,'reflect','','qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq','?',NULL,'scripted',NULL,NULL,'2026-11-27 14:44:12.160137','{"error": "length"}','qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq',0,NULL,NULL);
INSERT INTO "llm_calls" VALUES('01a21e42-cc58-7484-b028-02d79446fbad','01a21d76-c3a2-737e-919d-4b9eb031799e',9,'propose','dog','dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd','Propose.','a reply','m',1,2,'2026-11-27 18:27:03.896572','{"temperature": 0.5}','dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd',0,NULL,NULL);
CREATE TABLE "prompts" (
	id VARCHAR(36) NOT NULL, 
	session_id VARCHAR(36) NOT NULL, 
	version INTEGER NOT NULL, 
	step TEXT NOT NULL, 
	text TEXT NOT NULL, 
	parent_version INTEGER, 
	created_at DATETIME NOT NULL, 
	reason TEXT NOT NULL, 
	CONSTRAINT pk_prompts PRIMARY KEY (id), 
	CONSTRAINT uq_prompts_session_id_version_step UNIQUE (session_id, version, step), 
	CONSTRAINT fk_prompts_session_id_parent_version_step_prompts FOREIGN KEY(session_id, parent_version, step) REFERENCES prompts (session_id, version, step), 
	CONSTRAINT fk_prompts_session_id_sessions FOREIGN KEY(session_id) REFERENCES sessions (id)
);
INSERT INTO "prompts" VALUES('01a21d76-c31c-7203-8f39-647ce78fa897','01a21d76-c2db-70a8-b38e-b65d95cc7449',0,'propose','Name what looks like a {class}.',NULL,'2026-11-27 14:44:12.177555','');
INSERT INTO "prompts" VALUES('01a21d76-c371-7493-bb74-d972b979bd25','01a21d76-c2db-70a8-b38e-b65d95cc7449',1,'propose','Be bold.',0,'2026-11-27 14:44:12.273264','bolder');
INSERT INTO "prompts" VALUES('01a21d76-c371-7493-bb74-d973a9be36a6','01a21d76-c2db-70a8-b38e-b65d95cc7449',1,'reflect','Why?',NULL,'2026-11-27 14:44:12.273264','bolder');
INSERT INTO "prompts" VALUES('01a21d76-c3ab-750e-b8d1-4b9cadc46fd2','01a21d76-c3a2-737e-919d-4b9eb031799e',0,'propose','Name what looks like a {class}.',NULL,'2026-11-27 14:44:12.331199','');
CREATE TABLE result_metrics (
	result_id VARCHAR(36) NOT NULL, 
	metric TEXT NOT NULL, 
	value DOUBLE, 
	low DOUBLE, 
	high DOUBLE, 
	CONSTRAINT pk_result_metrics PRIMARY KEY (result_id, metric), 
	CONSTRAINT fk_result_metrics_result_id_results FOREIGN KEY(result_id) REFERENCES results (id)
);
INSERT INTO "result_metrics" VALUES('01a21d76-c38a-74c8-b68d-a985dc970dda','auroc',0.5,NULL,NULL);
INSERT INTO "result_metrics" VALUES('01a21d76-c38a-74c8-b68d-a985dc970dda','aupr_in',0.5,NULL,NULL);
INSERT INTO "result_metrics" VALUES('01a21d76-c38a-74c8-b68d-a985dc970dda','aupr_out',0.5,NULL,NULL);
INSERT INTO "result_metrics" VALUES('01a21d76-c38a-74c8-b68d-a985dc970dda','fpr95_id',0.5,NULL,NULL);
INSERT INTO "result_metrics" VALUES('01a21d76-c38a-74c8-b68d-a985dc970dda','fpr95_ood',0.5,NULL,NULL);
INSERT INTO "result_metrics" VALUES('01a21d76-c38a-74c8-b68d-a985dc970dda','id_accuracy',0.5,NULL,NULL);
INSERT INTO "result_metrics" VALUES('01a21d76-c38a-74c8-b68d-a986f76799e4','auroc',NULL,NULL,NULL);
INSERT INTO "result_metrics" VALUES('01a21d76-c38a-74c8-b68d-a986f76799e4','aupr_in',0.5,NULL,NULL);
INSERT INTO "result_metrics" VALUES('01a21d76-c38a-74c8-b68d-a986f76799e4','aupr_out',0.5,NULL,NULL);
INSERT INTO "result_metrics" VALUES('01a21d76-c38a-74c8-b68d-a986f76799e4','fpr95_id',0.125,NULL,NULL);
INSERT INTO "result_metrics" VALUES('01a21d76-c38a-74c8-b68d-a986f76799e4','fpr95_ood',9e999,NULL,NULL);
INSERT INTO "result_metrics" VALUES('01a21d76-c38a-74c8-b68d-a986f76799e4','id_accuracy',0.5,NULL,NULL);
INSERT INTO "result_metrics" VALUES('01a21d76-c38a-74c8-b68d-a98702569541','auroc',0.5,NULL,NULL);
INSERT INTO "result_metrics" VALUES('01a21d76-c38a-74c8-b68d-a98702569541','aupr_in',0.5,NULL,NULL);
INSERT INTO "result_metrics" VALUES('01a21d76-c38a-74c8-b68d-a98702569541','aupr_out',0.5,NULL,NULL);
INSERT INTO "result_metrics" VALUES('01a21d76-c38a-74c8-b68d-a98702569541','fpr95_id',0.5,NULL,NULL);
INSERT INTO "result_metrics" VALUES('01a21d76-c38a-74c8-b68d-a98702569541','fpr95_ood',0.5,NULL,NULL);
INSERT INTO "result_metrics" VALUES('01a21d76-c38a-74c8-b68d-a98702569541','id_accuracy',0.5,NULL,NULL);
INSERT INTO "result_metrics" VALUES('01a21d76-c39a-77b5-8793-77ac7cb59895','auroc',0.5,0.25,0.75);
INSERT INTO "result_metrics" VALUES('01a21d76-c39a-77b5-8793-77ac7cb59895','aupr_in',0.5,NULL,NULL);
INSERT INTO "result_metrics" VALUES('01a21d76-c39a-77b5-8793-77ac7cb59895','aupr_out',0.5,NULL,NULL);
INSERT INTO "result_metrics" VALUES('01a21d76-c39a-77b5-8793-77ac7cb59895','fpr95_id',0.5,NULL,NULL);
INSERT INTO "result_metrics" VALUES('01a21d76-c39a-77b5-8793-77ac7cb59895','fpr95_ood',0.5,NULL,NULL);
INSERT INTO "result_metrics" VALUES('01a21d76-c39a-77b5-8793-77ac7cb59895','id_accuracy',0.5,NULL,NULL);
INSERT INTO "result_metrics" VALUES('01a21d76-c39a-77b5-8793-77ac7cb59895','h_score',0.625,NULL,NULL);
INSERT INTO "result_metrics" VALUES('01a21d76-c39a-77b5-8793-77ac7cb59895','oscr',0.75,0.5,0.875);
INSERT INTO "result_metrics" VALUES('01a21d76-c39a-77b5-8793-77ac7cb59895','threshold',-9e999,NULL,NULL);
INSERT INTO "result_metrics" VALUES('01a21d76-c39a-77b5-8793-77ac7cb59895','acceptance',0.9375,NULL,NULL);
INSERT INTO "result_metrics" VALUES('01a21d76-c39a-77b5-8793-77ac7cb59895','rejection',NULL,NULL,NULL);
CREATE TABLE "results" (
	id VARCHAR(36) NOT NULL, 
	run_id VARCHAR(36) NOT NULL, 
	method TEXT NOT NULL, 
	params JSON NOT NULL, 
	seed BIGINT NOT NULL, 
	ood TEXT NOT NULL, 
	n_id INTEGER NOT NULL, 
	n_ood INTEGER NOT NULL, 
	antibodies INTEGER NOT NULL, 
	extra JSON NOT NULL, 
	arm TEXT NOT NULL, 
	CONSTRAINT pk_results PRIMARY KEY (id), 
	CONSTRAINT fk_results_run_id_runs FOREIGN KEY(run_id) REFERENCES runs (id), 
	CONSTRAINT uq_results_run_id_method_seed_ood UNIQUE (run_id, method, seed, ood)
);
INSERT INTO "results" VALUES('01a21d76-c38a-74c8-b68d-a98702569541','01a21d76-c382-732a-92e2-7d68d6ba15e8','calibrated','{"beta": 2.5}',0,'near',10,20,2,'{}','');
INSERT INTO "results" VALUES('01a21d76-c38a-74c8-b68d-a986f76799e4','01a21d76-c382-732a-92e2-7d68d6ba15e8','mcm','{"T": 1.0}',0,'far',10,20,3,'{"tau": {"value": null, "kind": "inf"}}','');
INSERT INTO "results" VALUES('01a21d76-c38a-74c8-b68d-a985dc970dda','01a21d76-c382-732a-92e2-7d68d6ba15e8','mcm','{"T": 1.0}',0,'near',10,20,3,'{"lambda": 0.5}','');
INSERT INTO "results" VALUES('01a21d76-c39a-77b5-8793-77ac7cb59895','01a21d76-c396-75c4-ae90-258ed7c3f8f1','immuno_vlm','{"T": 1.0}',0,'near',10,20,3,'{"lambda": 0.5}','bank');
CREATE TABLE runs (
	id VARCHAR(36) NOT NULL, 
	config JSON NOT NULL, 
	config_digest VARCHAR(64) NOT NULL, 
	seed BIGINT NOT NULL, 
	git_sha TEXT, 
	versions JSON NOT NULL, 
	status VARCHAR(32) NOT NULL, 
	session_id VARCHAR(36), 
	started_at DATETIME NOT NULL, 
	finished_at DATETIME, 
	CONSTRAINT pk_runs PRIMARY KEY (id), 
	CONSTRAINT ck_runs_status CHECK (status IN ('running', 'finished', 'failed')), 
	CONSTRAINT fk_runs_session_id_sessions FOREIGN KEY(session_id) REFERENCES sessions (id)
);
INSERT INTO "runs" VALUES('01a21d76-c382-732a-92e2-7d68d6ba15e8','{"x": 1}','cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc',7,'abc','{"numpy": "2"}','finished','01a21d76-c2db-70a8-b38e-b65d95cc7449','2026-11-27 14:44:12.290081','2026-11-27 14:44:12.307375');
INSERT INTO "runs" VALUES('01a21d76-c396-75c4-ae90-258ed7c3f8f1','{"x": 2}','eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee',8,NULL,'{}','failed','01a21d76-c2db-70a8-b38e-b65d95cc7449','2026-11-27 14:44:12.310032','2026-11-27 14:44:12.318454');
CREATE TABLE "sessions" (
	id VARCHAR(36) NOT NULL, 
	name TEXT NOT NULL, 
	status VARCHAR(32) NOT NULL, 
	config JSON NOT NULL, 
	seed BIGINT NOT NULL, 
	git_sha TEXT, 
	versions JSON NOT NULL, 
	encoder_digest VARCHAR(64) NOT NULL, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	llm TEXT, 
	parent_generation_id VARCHAR(36), 
	grounds JSON NOT NULL, 
	CONSTRAINT pk_sessions PRIMARY KEY (id), 
	CONSTRAINT fk_sessions_encoder_digest_encoders FOREIGN KEY(encoder_digest) REFERENCES encoders (digest), 
	CONSTRAINT ck_sessions_status CHECK (status IN ('running', 'paused', 'finished')), 
	CONSTRAINT uq_sessions_name UNIQUE (name)
);
INSERT INTO "sessions" VALUES('01a21d76-c2db-70a8-b38e-b65d95cc7449','alpha','finished','{"seed": 7}',7,'abc','{"numpy": "2"}','d01f7d69694f9718082dec34d6842c2a75e9fa14a414cc2cdb5c901224191356','2026-11-27 14:44:12.123901','2026-11-27 14:44:12.358270','scripted',NULL,'{}');
INSERT INTO "sessions" VALUES('01a21d76-c3a2-737e-919d-4b9eb031799e','beta','paused','{"seed": 7}',7,'abc','{"numpy": "2"}','d01f7d69694f9718082dec34d6842c2a75e9fa14a414cc2cdb5c901224191356','2026-11-27 14:44:12.321998','2026-11-27 14:44:12.356762',NULL,'01a21d76-c371-7493-bb74-d971dd58d0ba','{}');
CREATE TABLE test_reads (
	id VARCHAR(36) NOT NULL, 
	run_id VARCHAR(36) NOT NULL, 
	sets JSON NOT NULL, 
	reason TEXT NOT NULL, 
	at DATETIME NOT NULL, 
	CONSTRAINT pk_test_reads PRIMARY KEY (id), 
	CONSTRAINT fk_test_reads_run_id_runs FOREIGN KEY(run_id) REFERENCES runs (id)
);
INSERT INTO "test_reads" VALUES('01a21d76-c385-7773-84e7-b1b22d543e9a','01a21d76-c382-732a-92e2-7d68d6ba15e8','["id", "near", "far"]','benchmark','2026-11-27 14:44:12.294001');
CREATE TABLE "verdicts" (
	generation_id VARCHAR(36) NOT NULL, 
	set_name TEXT NOT NULL, 
	sample_id TEXT NOT NULL, 
	score DOUBLE, 
	accepted BOOLEAN NOT NULL, 
	nearest_class TEXT NOT NULL, 
	nearest_antibody_id VARCHAR(36), 
	CONSTRAINT pk_verdicts PRIMARY KEY (generation_id, set_name, sample_id), 
	CONSTRAINT fk_verdicts_nearest_antibody_id_antibodies FOREIGN KEY(nearest_antibody_id) REFERENCES antibodies (id), 
	CONSTRAINT fk_verdicts_generation_id_generations FOREIGN KEY(generation_id) REFERENCES generations (id)
);
INSERT INTO "verdicts" VALUES('01a21d76-c311-7455-a833-d856a007c51a','near','0.png',0.75,1,'dog','01a21d76-c306-75dc-b74b-1e1d9beff6b5');
INSERT INTO "verdicts" VALUES('01a21d76-c371-7493-bb74-d971dd58d0ba','near','odd ␛0000 name.png',-9e999,0,'dog',NULL);
INSERT INTO "verdicts" VALUES('01a21d76-c371-7493-bb74-d971dd58d0ba','near','undefined.png',NULL,0,'dog','01a21d76-c36f-752c-a5e5-40b65e9c38cb');
INSERT INTO "verdicts" VALUES('01a21d76-c3ab-750e-b8d1-4b9bf31b970e','near','0.png',0.75,1,'dog','01a21d76-c3aa-7526-95b1-c28f5a2fdf9e');
CREATE INDEX ix_runs_config_digest ON runs (config_digest);
CREATE INDEX ix_test_reads_run_id ON test_reads (run_id);
CREATE UNIQUE INDEX ux_effects_bank ON effects (generation_id, outlier_set, split) WHERE antibody_id IS NULL;
CREATE INDEX ix_effects_antibody_id ON effects (antibody_id);
CREATE INDEX ix_verdicts_sample_id ON verdicts (sample_id);
CREATE INDEX ix_bank_members_antibody_id ON bank_members (antibody_id);
CREATE INDEX ix_embeddings_generation_id ON embeddings (generation_id);
CREATE INDEX ix_llm_calls_cache_key ON llm_calls (cache_key);
CREATE INDEX ix_antibodies_text ON antibodies (text);
CREATE INDEX ix_antibodies_parent_id ON antibodies (parent_id);
COMMIT;
