"""The refinement loop, and the chat models that it asks. What others use is re-exported here, and loaded on demand."""

from typing import TYPE_CHECKING

from immuno_core.doors import door

if TYPE_CHECKING:
    from agents.chat.calls import UNCOUNTED as UNCOUNTED
    from agents.chat.recordings import RecordedCall as RecordedCall
    from agents.chat.recordings import write_recording as write_recording
    from agents.chat.review import PERSON as PERSON
    from agents.chat.review import REVIEW_STEP as REVIEW_STEP
    from agents.chat.review import Review as Review
    from agents.chat.review import Ruling as Ruling
    from agents.chat.review import edited as edited
    from agents.drafting import draft_branch as draft_branch
    from agents.drafting import measured_anew as measured_anew
    from agents.feedback import check_space as check_space
    from agents.feedback import crosses as crosses
    from agents.feedback import feedback_of as feedback_of
    from agents.feedback import measure as measure
    from agents.guidelines import PromptVersion as PromptVersion
    from agents.guidelines import prompt_tree as prompt_tree
    from agents.guidelines import reflection_pays as reflection_pays
    from agents.policies import check_limits as check_limits
    from agents.replies import LONGEST_GUIDELINE as LONGEST_GUIDELINE
    from agents.replies import Proposal as Proposal
    from agents.session import OnGeneration as OnGeneration
    from agents.session import RefinementSession as RefinementSession
    from agents.session import check_settings as check_settings

__getattr__ = door(
    __name__,
    {
        "UNCOUNTED": "chat.calls",
        **dict.fromkeys(("RecordedCall", "write_recording"), "chat.recordings"),
        **dict.fromkeys(("PERSON", "REVIEW_STEP", "Review", "Ruling", "edited"), "chat.review"),
        **dict.fromkeys(("draft_branch", "measured_anew"), "drafting"),
        **dict.fromkeys(("check_space", "crosses", "feedback_of", "measure"), "feedback"),
        **dict.fromkeys(("PromptVersion", "prompt_tree", "reflection_pays"), "guidelines"),
        "check_limits": "policies",
        **dict.fromkeys(("LONGEST_GUIDELINE", "Proposal"), "replies"),
        **dict.fromkeys(("OnGeneration", "RefinementSession", "check_settings"), "session"),
    },
)
