"""The record: SQLAlchemy models, engine, store, queries and migrations. Imports no torch and no Ray."""
