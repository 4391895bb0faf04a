"""The record: every prompt, generation, antibody, embedding and measured effect, in SQL. Imports no torch and no Ray.

db.store       AntibodyStore, open_store, new_id: the only door; its docstring is the storage contract
db.drafts      what is handed in (GenerationDraft, AntibodyDraft, ...)
db.records     what is handed out (frozen dataclasses, never ORM objects)
db.models      the tables
db.types       column types: UTC times, text that survives any database, strict JSON
db.values      numbers that may be NaN or infinite, as value and kind
db.vectors     embeddings as bytes
db.queries     every SELECT
db.writing     every INSERT
db.maintenance check, upgrade
db.engine      URLs, SQLite settings, transactions, errors in plain words
db.schema      creating, checking and upgrading the schema
db.migrations  the revisions (Alembic)
"""
