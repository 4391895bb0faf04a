"""The record: every prompt, generation, antibody, embedding and measured effect, in SQL. Imports no torch and no Ray.

db.store       AntibodyStore, open_store, new_id: the only door, and the storage contract; db.run_book: benchmark runs
db.drafts      what is handed in (GenerationDraft, AntibodyDraft, ...)
db.records     what is handed out (frozen dataclasses, never ORM objects)
db.models      the tables; db.columns what they are made of
db.types       column types: UTC times, text that survives any database, strict JSON
db.values      numbers that may be NaN or infinite, as value and kind
db.vectors     embeddings as bytes
db.queries     the SELECTs of the store
db.ranking     most gain, least harm
db.search      nearest by embedding
db.lineage     parents and children of a generation, a prompt, an antibody
db.diff        what changed between two generations
db.judging     which generations accepted a sample
db.stats       how much of everything
db.sql         a user's SQL, read-only
db.naming      what a user may name, and how
db.diagram     docs/schema.md from the models
db.embedding   embeddings for what was stored without
db.vector_file all embeddings of an encoder in a mapped file (SQLite); db.stamps: whether it is up to date
db.halves      PostgreSQL's index of the embeddings (pgvector)
db.claims      who is at work on what: heartbeats, takeover
db.machinery   tables that are no part of the record
db.writing     every INSERT
db.exchange    whole sessions as folders (db.session_files, db.rows); db.merge whole databases; db.joining for both
db.bank_import other people's antibodies as generations; db.backup a copy of a live SQLite file
db.maintenance check, upgrade
db.engine      URLs, settings of SQLite and PostgreSQL, transactions, errors in plain words
db.schema      creating, checking and upgrading the schema
db.migrations  the revisions (Alembic)
"""
