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
	CONSTRAINT pk_antibodies PRIMARY KEY (id), 
	CONSTRAINT uq_antibodies_generation_id_digest UNIQUE (generation_id, digest), 
	CONSTRAINT ck_antibodies_relation_to_a_parent CHECK ((relation IS NULL) = (parent_id IS NULL)), 
	CONSTRAINT ck_antibodies_kind CHECK (kind IN ('look_alike', 'contextual')), 
	CONSTRAINT ck_antibodies_relation CHECK (relation IN ('matured', 'edited', 'copied')), 
	CONSTRAINT uq_antibodies_generation_id_position UNIQUE (generation_id, position), 
	CONSTRAINT fk_antibodies_generation_id_generations FOREIGN KEY(generation_id) REFERENCES generations (id), 
	CONSTRAINT ck_antibodies_status CHECK (status IN ('accepted', 'rejected'))
);
INSERT INTO "antibodies" VALUES('01a21d76-c306-75dc-b74b-1e1d9beff6b5','01a21d76-c311-7455-a833-d856a007c51a',0,'robot dog 0','look_alike','dog','0dbd4a91f6cd190052546c2274d52351702c5c99e2b0b2db89b71872a83742de','','accepted','',0.5,'2026-11-27 14:44:12.177555','',NULL,NULL);
INSERT INTO "antibodies" VALUES('01a21d76-c30e-7392-b8d7-8a429bc733cd','01a21d76-c311-7455-a833-d856a007c51a',1,'dog 0','look_alike','dog','b4b554c6386301bd86f104a475fa12c20b561a237fb71327bb7365a90e4a4e98','','rejected','names the class',NULL,'2026-11-27 14:44:12.177555','',NULL,NULL);
INSERT INTO "antibodies" VALUES('01a21d76-c36f-752c-a5e5-40b65e9c38cb','01a21d76-c371-7493-bb74-d971dd58d0ba',0,'robot dog 1','look_alike','dog','ad14c73dd4169c30426a4adb8525377b8d70d806115007d50f114710e87fe173','','accepted','',0.5,'2026-11-27 14:44:12.273264','scripted','01a21d76-c306-75dc-b74b-1e1d9beff6b5','edited');
INSERT INTO "antibodies" VALUES('01a21d76-c370-7128-b54e-0040945afeec','01a21d76-c371-7493-bb74-d971dd58d0ba',1,'dog 1','look_alike','dog','a0a3c991d427ef1b13202dfdd9767296af9f2fbd04804f389aff29cae05db441','','rejected','names the class',NULL,'2026-11-27 14:44:12.273264','',NULL,NULL);
INSERT INTO "antibodies" VALUES('01a21d76-c3aa-7526-95b1-c28f5a2fdf9e','01a21d76-c3ab-750e-b8d1-4b9bf31b970e',0,'robot dog 0','look_alike','dog','0dbd4a91f6cd190052546c2274d52351702c5c99e2b0b2db89b71872a83742de','','accepted','',0.5,'2026-11-27 14:44:12.331199','',NULL,NULL);
INSERT INTO "antibodies" VALUES('01a21d76-c3aa-7526-95b1-c2909c68b2a5','01a21d76-c3ab-750e-b8d1-4b9bf31b970e',1,'dog 0','look_alike','dog','b4b554c6386301bd86f104a475fa12c20b561a237fb71327bb7365a90e4a4e98','','rejected','names the class',NULL,'2026-11-27 14:44:12.331199','',NULL,NULL);
INSERT INTO "antibodies" VALUES('01a21d76-c3b1-71c0-9eae-b24c2de7d958','01a21d76-c3b3-7325-b38a-df540dcaa383',0,'robot cat','look_alike','cat','238e9ce79d3bc82a6269c703fef350c0890d7608c8bb22f489c73ed424789aaa','','accepted','',0.5,'2026-11-27 14:44:12.339073','',NULL,NULL);
CREATE TABLE bank_members (
	generation_id VARCHAR(36) NOT NULL, 
	antibody_id VARCHAR(36) NOT NULL, 
	embedding_id VARCHAR(36) NOT NULL, 
	CONSTRAINT pk_bank_members PRIMARY KEY (generation_id, antibody_id), 
	CONSTRAINT fk_bank_members_antibody_id_antibodies FOREIGN KEY(antibody_id) REFERENCES antibodies (id), 
	CONSTRAINT fk_bank_members_embedding_id_embeddings FOREIGN KEY(embedding_id) REFERENCES embeddings (id), 
	CONSTRAINT fk_bank_members_generation_id_generations FOREIGN KEY(generation_id) REFERENCES generations (id)
);
INSERT INTO "bank_members" VALUES('01a21d76-c311-7455-a833-d856a007c51a','01a21d76-c306-75dc-b74b-1e1d9beff6b5','01a21d76-c35b-712f-9c4f-e190a4bad2c7');
INSERT INTO "bank_members" VALUES('01a21d76-c371-7493-bb74-d971dd58d0ba','01a21d76-c306-75dc-b74b-1e1d9beff6b5','01a21d76-c374-76d0-beda-e6f2b649bc41');
INSERT INTO "bank_members" VALUES('01a21d76-c371-7493-bb74-d971dd58d0ba','01a21d76-c36f-752c-a5e5-40b65e9c38cb','01a21d76-c373-72bb-be61-b61e63e48e39');
INSERT INTO "bank_members" VALUES('01a21d76-c3ab-750e-b8d1-4b9bf31b970e','01a21d76-c3aa-7526-95b1-c28f5a2fdf9e','01a21d76-c3ac-7009-b1e2-655c377f7445');
INSERT INTO "bank_members" VALUES('01a21d76-c3b3-7325-b38a-df540dcaa383','01a21d76-c3b1-71c0-9eae-b24c2de7d958','01a21d76-c3b5-76a9-adfc-e5cdefe9df49');
INSERT INTO "bank_members" VALUES('01a21d76-c3bf-7685-afd1-414ca9cefa03','01a21d76-c3b1-71c0-9eae-b24c2de7d958','01a21d76-c3c0-72f4-aa66-68f677adab07');
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
CREATE TABLE effects (
	id VARCHAR(36) NOT NULL, 
	generation_id VARCHAR(36) NOT NULL, 
	antibody_id VARCHAR(36), 
	scope VARCHAR(32) NOT NULL, 
	outlier_set TEXT NOT NULL, 
	split VARCHAR(32) NOT NULL, 
	gain DOUBLE, 
	gain_kind VARCHAR(6) NOT NULL, 
	harm DOUBLE, 
	harm_kind VARCHAR(6) NOT NULL, 
	d_fpr95 DOUBLE, 
	d_fpr95_kind VARCHAR(6) NOT NULL, 
	d_auroc DOUBLE, 
	d_auroc_kind VARCHAR(6) NOT NULL, 
	d_id_accuracy DOUBLE, 
	d_id_accuracy_kind VARCHAR(6) NOT NULL, 
	fired_id INTEGER NOT NULL, 
	fired_outliers INTEGER NOT NULL, 
	CONSTRAINT pk_effects PRIMARY KEY (id), 
	CONSTRAINT ck_effects_d_auroc_finite CHECK ((d_auroc_kind = 'finite') = (d_auroc IS NOT NULL)), 
	CONSTRAINT ck_effects_d_fpr95_finite CHECK ((d_fpr95_kind = 'finite') = (d_fpr95 IS NOT NULL)), 
	CONSTRAINT ck_effects_d_id_accuracy_finite CHECK ((d_id_accuracy_kind = 'finite') = (d_id_accuracy IS NOT NULL)), 
	CONSTRAINT ck_effects_gain_finite CHECK ((gain_kind = 'finite') = (gain IS NOT NULL)), 
	CONSTRAINT ck_effects_harm_finite CHECK ((harm_kind = 'finite') = (harm IS NOT NULL)), 
	CONSTRAINT ck_effects_bank_has_no_antibody CHECK ((scope = 'bank') = (antibody_id IS NULL)), 
	CONSTRAINT ck_effects_d_auroc_kind CHECK (d_auroc_kind IN ('finite', 'nan', 'inf', '-inf')), 
	CONSTRAINT ck_effects_d_fpr95_kind CHECK (d_fpr95_kind IN ('finite', 'nan', 'inf', '-inf')), 
	CONSTRAINT ck_effects_d_id_accuracy_kind CHECK (d_id_accuracy_kind IN ('finite', 'nan', 'inf', '-inf')), 
	CONSTRAINT ck_effects_gain_kind CHECK (gain_kind IN ('finite', 'nan', 'inf', '-inf')), 
	CONSTRAINT ck_effects_harm_kind CHECK (harm_kind IN ('finite', 'nan', 'inf', '-inf')), 
	CONSTRAINT ck_effects_scope CHECK (scope IN ('solo', 'leave_one_out', 'bank')), 
	CONSTRAINT ck_effects_split CHECK (split IN ('fit', 'feedback', 'test')), 
	CONSTRAINT fk_effects_antibody_id_antibodies FOREIGN KEY(antibody_id) REFERENCES antibodies (id), 
	CONSTRAINT fk_effects_generation_id_generations FOREIGN KEY(generation_id) REFERENCES generations (id), 
	CONSTRAINT uq_effects_generation_id_antibody_id_scope_outlier_set_split UNIQUE (generation_id, antibody_id, scope, outlier_set, split)
);
INSERT INTO "effects" VALUES('01a21d76-c360-73ff-9ed4-0ad4902910f2','01a21d76-c311-7455-a833-d856a007c51a',NULL,'bank','near','feedback',0.5,'finite',0.25,'finite',-0.125,'finite',0.0625,'finite',0.0,'finite',1,9);
INSERT INTO "effects" VALUES('01a21d76-c360-73ff-9ed4-0ad5de196bce','01a21d76-c311-7455-a833-d856a007c51a','01a21d76-c306-75dc-b74b-1e1d9beff6b5','solo','near','feedback',0.5,'finite',0.25,'finite',-0.125,'finite',0.0625,'finite',0.0,'finite',1,9);
INSERT INTO "effects" VALUES('01a21d76-c374-76d0-beda-e6f37259f5ba','01a21d76-c371-7493-bb74-d971dd58d0ba',NULL,'bank','near','feedback',0.5,'finite',0.25,'finite',-0.125,'finite',NULL,'nan',0.0,'finite',1,9);
INSERT INTO "effects" VALUES('01a21d76-c374-76d0-beda-e6f4976d3571','01a21d76-c371-7493-bb74-d971dd58d0ba','01a21d76-c36f-752c-a5e5-40b65e9c38cb','solo','near','feedback',NULL,'inf',NULL,'-inf',NULL,'nan',0.0625,'finite',0.0,'finite',1,9);
INSERT INTO "effects" VALUES('01a21d76-c3ad-748c-aa8b-68c074c10949','01a21d76-c3ab-750e-b8d1-4b9bf31b970e',NULL,'bank','near','feedback',0.5,'finite',0.25,'finite',-0.125,'finite',0.0625,'finite',0.0,'finite',1,9);
INSERT INTO "effects" VALUES('01a21d76-c3ad-748c-aa8b-68c113d030b1','01a21d76-c3ab-750e-b8d1-4b9bf31b970e','01a21d76-c3aa-7526-95b1-c28f5a2fdf9e','solo','near','feedback',0.5,'finite',0.25,'finite',-0.125,'finite',0.0625,'finite',0.0,'finite',1,9);
CREATE TABLE embeddings (
	id VARCHAR(36) NOT NULL, 
	antibody_id VARCHAR(36) NOT NULL, 
	generation_id VARCHAR(36) NOT NULL, 
	encoder_digest VARCHAR(64) NOT NULL, 
	kind VARCHAR(32) NOT NULL, 
	parent_id VARCHAR(36), 
	dim INTEGER NOT NULL, 
	dtype VARCHAR(32) NOT NULL, 
	vector BLOB NOT NULL, 
	CONSTRAINT pk_embeddings PRIMARY KEY (id), 
	CONSTRAINT ck_embeddings_kind CHECK (kind IN ('proposed', 'matured')), 
	CONSTRAINT fk_embeddings_antibody_id_antibodies FOREIGN KEY(antibody_id) REFERENCES antibodies (id), 
	CONSTRAINT fk_embeddings_encoder_digest_encoders FOREIGN KEY(encoder_digest) REFERENCES encoders (digest), 
	CONSTRAINT fk_embeddings_generation_id_generations FOREIGN KEY(generation_id) REFERENCES generations (id), 
	CONSTRAINT fk_embeddings_parent_id_embeddings FOREIGN KEY(parent_id) REFERENCES embeddings (id), 
	CONSTRAINT uq_embeddings_antibody_id_generation_id_kind_encoder_digest UNIQUE (antibody_id, generation_id, kind, encoder_digest)
);
INSERT INTO "embeddings" VALUES('01a21d76-c35b-712f-9c4f-e190a4bad2c7','01a21d76-c306-75dc-b74b-1e1d9beff6b5','01a21d76-c311-7455-a833-d856a007c51a','d01f7d69694f9718082dec34d6842c2a75e9fa14a414cc2cdb5c901224191356','proposed',NULL,4,'<f4',X'47FE3E3E44AD48BE4936733FD1591F3E');
INSERT INTO "embeddings" VALUES('01a21d76-c373-72bb-be61-b61e63e48e39','01a21d76-c36f-752c-a5e5-40b65e9c38cb','01a21d76-c371-7493-bb74-d971dd58d0ba','d01f7d69694f9718082dec34d6842c2a75e9fa14a414cc2cdb5c901224191356','proposed',NULL,4,'<f4',X'D9625B3E7565023F34C5513EDFD14EBF');
INSERT INTO "embeddings" VALUES('01a21d76-c374-76d0-beda-e6f2b649bc41','01a21d76-c306-75dc-b74b-1e1d9beff6b5','01a21d76-c371-7493-bb74-d971dd58d0ba','d01f7d69694f9718082dec34d6842c2a75e9fa14a414cc2cdb5c901224191356','matured','01a21d76-c35b-712f-9c4f-e190a4bad2c7',4,'<f4',X'88BFD0BEA193FC3DF85557BF8D98AA3E');
INSERT INTO "embeddings" VALUES('01a21d76-c3ac-7009-b1e2-655c377f7445','01a21d76-c3aa-7526-95b1-c28f5a2fdf9e','01a21d76-c3ab-750e-b8d1-4b9bf31b970e','d01f7d69694f9718082dec34d6842c2a75e9fa14a414cc2cdb5c901224191356','proposed',NULL,4,'<f4',X'47FE3E3E44AD48BE4936733FD1591F3E');
INSERT INTO "embeddings" VALUES('01a21d76-c3b4-76bc-b738-8b6dc7250594','01a21d76-c3b1-71c0-9eae-b24c2de7d958','01a21d76-c3b3-7325-b38a-df540dcaa383','d01f7d69694f9718082dec34d6842c2a75e9fa14a414cc2cdb5c901224191356','proposed',NULL,4,'<f4',X'3F4E41BEF7BA213F40B03B3F04802A3E');
INSERT INTO "embeddings" VALUES('01a21d76-c3b5-76a9-adfc-e5cdefe9df49','01a21d76-c3b1-71c0-9eae-b24c2de7d958','01a21d76-c3b3-7325-b38a-df540dcaa383','d01f7d69694f9718082dec34d6842c2a75e9fa14a414cc2cdb5c901224191356','matured','01a21d76-c3b4-76bc-b738-8b6dc7250594',4,'<f4',X'F1D1FC3D5D11053F49591DBFAD90143F');
INSERT INTO "embeddings" VALUES('01a21d76-c3c0-72f4-aa66-68f677adab07','01a21d76-c3b1-71c0-9eae-b24c2de7d958','01a21d76-c3bf-7685-afd1-414ca9cefa03','d01f7d69694f9718082dec34d6842c2a75e9fa14a414cc2cdb5c901224191356','matured','01a21d76-c3b5-76a9-adfc-e5cdefe9df49',4,'<f4',X'8DBF18BFA09603BFCC530EBFDB1B88BE');
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
	CONSTRAINT pk_generations PRIMARY KEY (id), 
	CONSTRAINT fk_generations_session_id_sessions FOREIGN KEY(session_id) REFERENCES sessions (id), 
	CONSTRAINT fk_generations_parent_id_generations FOREIGN KEY(parent_id) REFERENCES generations (id), 
	CONSTRAINT uq_generations_session_id_number UNIQUE (session_id, number)
);
INSERT INTO "generations" VALUES('01a21d76-c311-7455-a833-d856a007c51a','01a21d76-c2db-70a8-b38e-b65d95cc7449',0,NULL,0,1,'mean FPR95 fell','','{"mean_fpr95": 0.5}','2026-05-01 12:00:00.000000','2026-05-01 12:03:00.000250','{"seed": 7}');
INSERT INTO "generations" VALUES('01a21d76-c371-7493-bb74-d971dd58d0ba','01a21d76-c2db-70a8-b38e-b65d95cc7449',1,'01a21d76-c311-7455-a833-d856a007c51a',1,1,'mean FPR95 fell','','{"mean_fpr95": {"value": null, "kind": "nan"}}','2026-05-01 12:00:00.000000','2026-05-01 12:03:00.000250','{}');
INSERT INTO "generations" VALUES('01a21d76-c3ab-750e-b8d1-4b9bf31b970e','01a21d76-c3a2-737e-919d-4b9eb031799e',0,NULL,0,1,'mean FPR95 fell','','{"mean_fpr95": 0.5}','2026-05-01 12:00:00.000000','2026-05-01 12:03:00.000250','{}');
INSERT INTO "generations" VALUES('01a21d76-c3b3-7325-b38a-df540dcaa383','01a21d76-c3a2-737e-919d-4b9eb031799e',1,'01a21d76-c3ab-750e-b8d1-4b9bf31b970e',0,1,'mean FPR95 fell','','{"mean_fpr95": 0.5}','2026-05-01 12:00:00.000000','2026-05-01 12:03:00.000250','{}');
INSERT INTO "generations" VALUES('01a21d76-c3bf-7685-afd1-414ca9cefa03','01a21d76-c3a2-737e-919d-4b9eb031799e',2,'01a21d76-c3b3-7325-b38a-df540dcaa383',0,1,'mean FPR95 fell','','{"mean_fpr95": 0.5}','2026-05-01 12:00:00.000000','2026-05-01 12:03:00.000250','{}');
CREATE TABLE immuno_schema (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT immuno_schema_pkc PRIMARY KEY (version_num)
);
INSERT INTO "immuno_schema" VALUES('0004');
CREATE TABLE "llm_calls" (
	id VARCHAR(36) NOT NULL, 
	session_id VARCHAR(36) NOT NULL, 
	generation INTEGER NOT NULL, 
	step TEXT NOT NULL, 
	subject TEXT NOT NULL, 
	request_digest VARCHAR(64) NOT NULL, 
	request_text TEXT NOT NULL, 
	reply_text TEXT, 
	error TEXT, 
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
	CONSTRAINT uq_llm_calls_session_id_generation_step_subject UNIQUE (session_id, generation, step, subject), 
	CONSTRAINT fk_llm_calls_session_id_sessions FOREIGN KEY(session_id) REFERENCES sessions (id), 
	CONSTRAINT ck_llm_calls_replied_or_failed CHECK (reply_text IS NOT NULL OR error IS NOT NULL)
);
INSERT INTO "llm_calls" VALUES('01a21d76-c300-72b5-9c36-e833e59bc6c2','01a21d76-c2db-70a8-b38e-b65d95cc7449',1,'propose','cat','ssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssss','Propose.','again',NULL,'scripted',NULL,NULL,'2026-11-27 14:44:12.160137','{}','ssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssss',1,NULL,NULL);
INSERT INTO "llm_calls" VALUES('01a21d76-c300-72b5-9c36-e831d8342259','01a21d76-c2db-70a8-b38e-b65d95cc7449',1,'propose','dog','rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr','Name what looks like a dog.','{"antibodies": ["robot dog 1"]}',NULL,'scripted',7,3,'2026-11-27 14:44:12.160137','{"temperature": 0.5}','rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr',0,0.25,1.5);
INSERT INTO "llm_calls" VALUES('01a21d76-c300-72b5-9c36-e8320106d316','01a21d76-c2db-70a8-b38e-b65d95cc7449',1,'reflect','','qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq','?',NULL,'length','scripted',NULL,NULL,'2026-11-27 14:44:12.160137','{}','qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq',0,NULL,NULL);
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
CREATE TABLE "results" (
	id VARCHAR(36) NOT NULL, 
	run_id VARCHAR(36) NOT NULL, 
	method TEXT NOT NULL, 
	params JSON NOT NULL, 
	seed BIGINT NOT NULL, 
	ood TEXT NOT NULL, 
	n_id INTEGER NOT NULL, 
	n_ood INTEGER NOT NULL, 
	auroc DOUBLE, 
	auroc_kind VARCHAR(6) NOT NULL, 
	aupr_in DOUBLE, 
	aupr_in_kind VARCHAR(6) NOT NULL, 
	aupr_out DOUBLE, 
	aupr_out_kind VARCHAR(6) NOT NULL, 
	fpr95_id DOUBLE, 
	fpr95_id_kind VARCHAR(6) NOT NULL, 
	fpr95_ood DOUBLE, 
	fpr95_ood_kind VARCHAR(6) NOT NULL, 
	id_accuracy DOUBLE, 
	id_accuracy_kind VARCHAR(6) NOT NULL, 
	antibodies INTEGER NOT NULL, 
	extra JSON NOT NULL, 
	arm TEXT NOT NULL, 
	intervals JSON NOT NULL, 
	h_score DOUBLE, 
	h_score_kind VARCHAR(6), 
	oscr DOUBLE, 
	oscr_kind VARCHAR(6), 
	threshold DOUBLE, 
	threshold_kind VARCHAR(6), 
	acceptance DOUBLE, 
	acceptance_kind VARCHAR(6), 
	rejection DOUBLE, 
	rejection_kind VARCHAR(6), 
	accepted_accuracy DOUBLE, 
	accepted_accuracy_kind VARCHAR(6), 
	CONSTRAINT pk_results PRIMARY KEY (id), 
	CONSTRAINT ck_results_accepted_accuracy_kind CHECK (accepted_accuracy_kind IN ('finite', 'nan', 'inf', '-inf')), 
	CONSTRAINT uq_results_run_id_method_seed_ood UNIQUE (run_id, method, seed, ood), 
	CONSTRAINT ck_results_auroc_finite CHECK ((auroc_kind = 'finite') = (auroc IS NOT NULL)), 
	CONSTRAINT ck_results_fpr95_id_kind CHECK (fpr95_id_kind IN ('finite', 'nan', 'inf', '-inf')), 
	CONSTRAINT ck_results_h_score_finite CHECK ((coalesce(h_score_kind, '') = 'finite') = (h_score IS NOT NULL)), 
	CONSTRAINT ck_results_rejection_finite CHECK ((coalesce(rejection_kind, '') = 'finite') = (rejection IS NOT NULL)), 
	CONSTRAINT ck_results_threshold_kind CHECK (threshold_kind IN ('finite', 'nan', 'inf', '-inf')), 
	CONSTRAINT ck_results_auroc_kind CHECK (auroc_kind IN ('finite', 'nan', 'inf', '-inf')), 
	CONSTRAINT ck_results_fpr95_ood_finite CHECK ((fpr95_ood_kind = 'finite') = (fpr95_ood IS NOT NULL)), 
	CONSTRAINT ck_results_h_score_kind CHECK (h_score_kind IN ('finite', 'nan', 'inf', '-inf')), 
	CONSTRAINT ck_results_aupr_out_kind CHECK (aupr_out_kind IN ('finite', 'nan', 'inf', '-inf')), 
	CONSTRAINT ck_results_oscr_finite CHECK ((coalesce(oscr_kind, '') = 'finite') = (oscr IS NOT NULL)), 
	CONSTRAINT ck_results_aupr_out_finite CHECK ((aupr_out_kind = 'finite') = (aupr_out IS NOT NULL)), 
	CONSTRAINT ck_results_rejection_kind CHECK (rejection_kind IN ('finite', 'nan', 'inf', '-inf')), 
	CONSTRAINT ck_results_id_accuracy_kind CHECK (id_accuracy_kind IN ('finite', 'nan', 'inf', '-inf')), 
	CONSTRAINT ck_results_fpr95_id_finite CHECK ((fpr95_id_kind = 'finite') = (fpr95_id IS NOT NULL)), 
	CONSTRAINT ck_results_threshold_finite CHECK ((coalesce(threshold_kind, '') = 'finite') = (threshold IS NOT NULL)), 
	CONSTRAINT ck_results_acceptance_finite CHECK ((coalesce(acceptance_kind, '') = 'finite') = (acceptance IS NOT NULL)), 
	CONSTRAINT ck_results_fpr95_ood_kind CHECK (fpr95_ood_kind IN ('finite', 'nan', 'inf', '-inf')), 
	CONSTRAINT ck_results_aupr_in_finite CHECK ((aupr_in_kind = 'finite') = (aupr_in IS NOT NULL)), 
	CONSTRAINT ck_results_id_accuracy_finite CHECK ((id_accuracy_kind = 'finite') = (id_accuracy IS NOT NULL)), 
	CONSTRAINT ck_results_acceptance_kind CHECK (acceptance_kind IN ('finite', 'nan', 'inf', '-inf')), 
	CONSTRAINT ck_results_accepted_accuracy_finite CHECK ((coalesce(accepted_accuracy_kind, '') = 'finite') = (accepted_accuracy IS NOT NULL)), 
	CONSTRAINT ck_results_oscr_kind CHECK (oscr_kind IN ('finite', 'nan', 'inf', '-inf')), 
	CONSTRAINT fk_results_run_id_runs FOREIGN KEY(run_id) REFERENCES runs (id), 
	CONSTRAINT ck_results_aupr_in_kind CHECK (aupr_in_kind IN ('finite', 'nan', 'inf', '-inf'))
);
INSERT INTO "results" VALUES('01a21d76-c38a-74c8-b68d-a98702569541','01a21d76-c382-732a-92e2-7d68d6ba15e8','calibrated','{"beta": 2.5}',0,'near',10,20,0.5,'finite',0.5,'finite',0.5,'finite',0.5,'finite',0.5,'finite',0.5,'finite',2,'{}','','{}',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "results" VALUES('01a21d76-c38a-74c8-b68d-a986f76799e4','01a21d76-c382-732a-92e2-7d68d6ba15e8','mcm','{"T": 1.0}',0,'far',10,20,NULL,'nan',0.5,'finite',0.5,'finite',0.125,'finite',NULL,'inf',0.5,'finite',3,'{"tau": {"value": null, "kind": "inf"}}','','{}',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "results" VALUES('01a21d76-c38a-74c8-b68d-a985dc970dda','01a21d76-c382-732a-92e2-7d68d6ba15e8','mcm','{"T": 1.0}',0,'near',10,20,0.5,'finite',0.5,'finite',0.5,'finite',0.5,'finite',0.5,'finite',0.5,'finite',3,'{"lambda": 0.5}','','{}',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "results" VALUES('01a21d76-c39a-77b5-8793-77ac7cb59895','01a21d76-c396-75c4-ae90-258ed7c3f8f1','immuno_vlm','{"T": 1.0}',0,'near',10,20,0.5,'finite',0.5,'finite',0.5,'finite',0.5,'finite',0.5,'finite',0.5,'finite',3,'{"lambda": 0.5}','bank','{"auroc": [0.25, 0.75], "oscr": [0.5, 0.875]}',0.625,'finite',0.75,'finite',NULL,'-inf',0.9375,'finite',NULL,'nan',NULL,NULL);
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
CREATE TABLE sessions (
	id VARCHAR(36) NOT NULL, 
	name TEXT NOT NULL, 
	status VARCHAR(32) NOT NULL, 
	config JSON NOT NULL, 
	seed BIGINT NOT NULL, 
	git_sha TEXT, 
	versions JSON NOT NULL, 
	encoder_digest VARCHAR(64) NOT NULL, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, llm TEXT, parent_generation_id VARCHAR(36), 
	CONSTRAINT pk_sessions PRIMARY KEY (id), 
	CONSTRAINT ck_sessions_status CHECK (status IN ('running', 'paused', 'finished', 'failed')), 
	CONSTRAINT fk_sessions_encoder_digest_encoders FOREIGN KEY(encoder_digest) REFERENCES encoders (digest), 
	CONSTRAINT uq_sessions_name UNIQUE (name)
);
INSERT INTO "sessions" VALUES('01a21d76-c2db-70a8-b38e-b65d95cc7449','alpha','finished','{"seed": 7}',7,'abc','{"numpy": "2"}','d01f7d69694f9718082dec34d6842c2a75e9fa14a414cc2cdb5c901224191356','2026-11-27 14:44:12.123901','2026-11-27 14:44:12.358270','scripted',NULL);
INSERT INTO "sessions" VALUES('01a21d76-c3a2-737e-919d-4b9eb031799e','beta','failed','{"seed": 7}',7,'abc','{"numpy": "2"}','d01f7d69694f9718082dec34d6842c2a75e9fa14a414cc2cdb5c901224191356','2026-11-27 14:44:12.321998','2026-11-27 14:44:12.356762',NULL,'01a21d76-c371-7493-bb74-d971dd58d0ba');
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
CREATE TABLE vector_stamps (
	encoder_digest VARCHAR(64) NOT NULL, 
	token VARCHAR(32) NOT NULL, 
	epoch VARCHAR(32) NOT NULL, 
	CONSTRAINT pk_vector_stamps PRIMARY KEY (encoder_digest)
);
INSERT INTO "vector_stamps" VALUES('d01f7d69694f9718082dec34d6842c2a75e9fa14a414cc2cdb5c901224191356','E00A453AF8E425D90D7855BC083516AB','AD6B269EF7379DFBF3B590EB4330EE03');
CREATE TABLE verdicts (
	generation_id VARCHAR(36) NOT NULL, 
	set_name TEXT NOT NULL, 
	sample_id TEXT NOT NULL, 
	score DOUBLE, 
	score_kind VARCHAR(6) NOT NULL, 
	accepted BOOLEAN NOT NULL, 
	nearest_class TEXT NOT NULL, 
	nearest_antibody_id VARCHAR(36), 
	CONSTRAINT pk_verdicts PRIMARY KEY (generation_id, set_name, sample_id), 
	CONSTRAINT ck_verdicts_score_finite CHECK ((score_kind = 'finite') = (score IS NOT NULL)), 
	CONSTRAINT ck_verdicts_score_kind CHECK (score_kind IN ('finite', 'nan', 'inf', '-inf')), 
	CONSTRAINT fk_verdicts_generation_id_generations FOREIGN KEY(generation_id) REFERENCES generations (id), 
	CONSTRAINT fk_verdicts_nearest_antibody_id_antibodies FOREIGN KEY(nearest_antibody_id) REFERENCES antibodies (id)
);
INSERT INTO "verdicts" VALUES('01a21d76-c311-7455-a833-d856a007c51a','near','0.png',0.75,'finite',1,'dog','01a21d76-c306-75dc-b74b-1e1d9beff6b5');
INSERT INTO "verdicts" VALUES('01a21d76-c371-7493-bb74-d971dd58d0ba','near','odd ␛0000 name.png',NULL,'-inf',0,'dog',NULL);
INSERT INTO "verdicts" VALUES('01a21d76-c371-7493-bb74-d971dd58d0ba','near','undefined.png',NULL,'nan',0,'dog','01a21d76-c36f-752c-a5e5-40b65e9c38cb');
INSERT INTO "verdicts" VALUES('01a21d76-c3ab-750e-b8d1-4b9bf31b970e','near','0.png',0.75,'finite',1,'dog','01a21d76-c3aa-7526-95b1-c28f5a2fdf9e');
CREATE INDEX ix_runs_config_digest ON runs (config_digest);
CREATE INDEX ix_test_reads_run_id ON test_reads (run_id);
CREATE INDEX ix_effects_antibody_id ON effects (antibody_id);
CREATE UNIQUE INDEX ux_effects_bank ON effects (generation_id, outlier_set, split) WHERE antibody_id IS NULL;
CREATE TRIGGER immuno_stamp_insert AFTER INSERT ON embeddings BEGIN INSERT INTO vector_stamps VALUES (NEW.encoder_digest, hex(randomblob(16)), hex(randomblob(16))) ON CONFLICT (encoder_digest) DO UPDATE SET token = excluded.token; END;
CREATE TRIGGER immuno_stamp_update AFTER UPDATE ON embeddings BEGIN INSERT INTO vector_stamps VALUES (OLD.encoder_digest, hex(randomblob(16)), hex(randomblob(16))) ON CONFLICT (encoder_digest) DO UPDATE SET token = excluded.token, epoch = excluded.epoch; END;
CREATE TRIGGER immuno_stamp_delete AFTER DELETE ON embeddings BEGIN INSERT INTO vector_stamps VALUES (OLD.encoder_digest, hex(randomblob(16)), hex(randomblob(16))) ON CONFLICT (encoder_digest) DO UPDATE SET token = excluded.token, epoch = excluded.epoch; END;
CREATE INDEX ix_antibodies_text ON antibodies (text);
CREATE INDEX ix_antibodies_parent_id ON antibodies (parent_id);
CREATE INDEX ix_embeddings_generation_id ON embeddings (generation_id);
CREATE INDEX ix_bank_members_antibody_id ON bank_members (antibody_id);
CREATE INDEX ix_verdicts_sample_id ON verdicts (sample_id);
CREATE INDEX ix_llm_calls_cache_key ON llm_calls (cache_key);
COMMIT;
