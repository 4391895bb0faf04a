"""What the lexicon says to a few prompts, as one digest: for comparison between processes."""

import hashlib

from langchain_core.messages import HumanMessage

from agents.lexicon.model import LexiconChatModel
from evaluation.antibodies.vocabulary import load_vocabulary
from tests.agents.prompts.briefings import class_briefing, in_a_prompt, reflection_briefing


def digest_of_replies() -> str:
    """SHA-256 over the replies of two seeds to three prompts."""
    models = [LexiconChatModel(seed=seed, vocabulary=load_vocabulary()) for seed in (0, 1)]
    briefings = (class_briefing(), class_briefing(class_name="dog", wanted=50), reflection_briefing())
    replies = [
        model.invoke([HumanMessage(in_a_prompt(briefing))]).content for briefing in briefings for model in models
    ]
    return hashlib.sha256("\n".join(replies).encode()).hexdigest()
