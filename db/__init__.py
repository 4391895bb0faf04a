"""The record: every prompt, generation, antibody, embedding and measured effect, in SQL. Imports no torch and no Ray.

    from db import open_store

The store (AntibodyStore, db.store) states the storage contract; it is handed and hands out `db.records`: frozen
dataclasses, never ORM objects. Behind it `writing` holds every INSERT, `queries` every SELECT and `claims` who is at
work on what; `schema` has the tables, their types, engines and revisions. Before it `calls` records what was asked of a
chat model, `questions` holds what people ask, `exchange` what goes in and out whole.

What others import from here is loaded when it is asked for: `import db` loads nothing.
"""

from typing import TYPE_CHECKING

from immuno_core.doors import door

if TYPE_CHECKING:
    from db.calls import CallDraft as CallDraft
    from db.calls import StoredReply as StoredReply
    from db.calls import find_calls as find_calls
    from db.calls import find_replies as find_replies
    from db.calls import record_calls as record_calls
    from db.claims import ClaimLostError as ClaimLostError
    from db.claims import HeldClaim as HeldClaim
    from db.records import AntibodyRecord as AntibodyRecord
    from db.records import EffectDraft as EffectDraft
    from db.records import EffectRecord as EffectRecord
    from db.records import GenerationDraft as GenerationDraft
    from db.records import GenerationRecord as GenerationRecord
    from db.records import LlmCallRecord as LlmCallRecord
    from db.records import PromptRecord as PromptRecord
    from db.records import RunRecord as RunRecord
    from db.records import SessionRecord as SessionRecord
    from db.store import AntibodyStore as AntibodyStore
    from db.store import chosen_generation as chosen_generation
    from db.store import is_new as is_new
    from db.store import open_store as open_store
    from db.writing import new_id as new_id

_RECORDS = (
    *("AntibodyRecord", "EffectDraft", "EffectRecord", "GenerationDraft", "GenerationRecord"),
    *("LlmCallRecord", "PromptRecord", "RunRecord", "SessionRecord"),
)
__getattr__ = door(
    __name__,
    {
        **dict.fromkeys(("AntibodyStore", "chosen_generation", "is_new", "open_store"), "store"),
        **dict.fromkeys(_RECORDS, "records"),
        **dict.fromkeys(("CallDraft", "StoredReply", "find_calls", "find_replies", "record_calls"), "calls"),
        **dict.fromkeys(("ClaimLostError", "HeldClaim"), "claims"),
        "new_id": "writing",
    },
)
