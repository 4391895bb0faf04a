"""The record: every prompt, generation, antibody, embedding and measured effect, in SQL. Imports no torch and no Ray.

`db.store` is the door (AntibodyStore, open_store) and states the storage contract; it is handed and hands out
`db.records`: frozen dataclasses, never ORM objects. Behind it `writing` holds every INSERT, `queries` every SELECT and
`claims` who is at work on what; `schema` has the tables, their types, engines and revisions. Before it `calls` records
what was asked of a chat model, `questions` holds what people ask, `exchange` what goes in and out whole.
"""
