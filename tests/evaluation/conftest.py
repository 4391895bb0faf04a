"""Hypothesis for this room: the same examples in every run, and no time limit on a busy machine."""

from hypothesis import settings

settings.register_profile("evaluation", derandomize=True, deadline=None)
settings.load_profile("evaluation")
