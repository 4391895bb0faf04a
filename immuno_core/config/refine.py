"""The section [refine] of a configuration: the chat model, and how the loop works."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from immuno_core.config.llm_server import ServerAddress
from immuno_core.config.methods import MethodConfig
from immuno_core.config.numbers import real, seconds, whole

Quantile = Annotated[float, real(ge=0, most=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class PriceConfig(_Section):
    """What the chat model costs, in dollars per million tokens. None is assumed: without, only tokens are counted."""

    input: Annotated[float, real(ge=0)]
    output: Annotated[float, real(ge=0)]


class RefineConfig(_Section):
    """The refinement loop."""

    llm: Annotated[str, Field(min_length=1)] = "lexicon"
    """lexicon (a deterministic word combiner, not an LLM), what LangChain's init_chat_model takes ("openai:NAME"), or
    replay:FILE (the recorded calls of a session, see docs/llm.md)."""
    base_url: ServerAddress | None = None
    """Address of an OpenAI-compatible server (vLLM, Ollama, ...)."""
    temperature: Annotated[float, real(ge=0, most=2)] = 0.7
    max_tokens: Annotated[int, whole(64)] = 2048
    structured: Literal["json_schema", "tool", "words"] = "json_schema"
    """How the form of a reply is asked for: by constrained decoding, as a tool's arguments, or in words."""
    concurrency: Annotated[int, whole(1, 1024)] = 16
    """Requests under way at once."""
    timeout: Annotated[float, seconds()] = 600.0
    """Seconds for each try of a request, until its last byte, on the wall clock."""
    retries: Annotated[int, whole(0, 20)] = 5
    """Tries of a request after the first, with growing pauses; where the server says how long to wait, it is obeyed."""
    reuse: bool | None = None
    """Whether a recorded reply to the very same request, in any session of the database, is taken instead of asking.
    Default: at temperature 0 only, where asking again should bring nothing else."""
    price: PriceConfig | None = None
    generations: Annotated[int, whole(1)] = 6
    """After the baseline. A session may end earlier: see stop_after_*."""
    classes_per_generation: Annotated[int, whole(1)] = 8
    """Half of them those that accept most outliers, half those that have waited longest."""
    proposals_per_class: Annotated[int, whole(1, 50)] = 12
    """Few at a time: what the next ones should be is measured in between (benchmarks/loop.py)."""
    prompt_tokens: Annotated[int, whole(500)] = 3000
    """Of a prompt, at most, pictures aside: what does not fit is left out, the oldest first. As the provider counts
    them, where it does; else estimated."""
    pictures_per_class: Annotated[int, whole(0, 6)] = 0
    """Thumbnails of mis-accepted images that go with a request; for chat models that take images."""
    parents: Literal["pareto", "best"] = "best"
    """Which generation is continued: always the best, or one of the Pareto front over the feedback outliers."""
    confirmation: Annotated[float, real(ge=0, most=5)] = 1.0
    """Standard errors by which a half of the feedback may seem worse, by AUROC or FPR95, and a bank still be kept."""
    maturation: bool = True
    """Whether embeddings mature on feedback outliers, where that is shown to help."""
    visual: bool = False
    """Whether the bank gets visual antibodies, what feedback outliers look like, where that is shown to help. Texts are
    then judged beside them, and fewer are kept (docs/loop.md); immuno_vlm makes its own of the feedback."""
    pruning: bool = True
    """Whether antibodies leave a bank that is shown to be better without them."""
    stop_after_tokens: Annotated[int, whole(1)] | None = None
    """No new generation once so many tokens were spent; those of requests and replies together."""
    stop_after_cost: Annotated[float, real(gt=0)] | None = None
    """The same in USD, by `price`."""
    stop_after_minutes: Annotated[float, real(gt=0)] | None = None
    """The same for the time that generations took; pauses do not count."""
    stop_after_plateau: Annotated[int, whole(1)] | None = None
    """The same after so many generations in a row of which none was kept."""
    band: tuple[Quantile, Quantile] = (0.0, 1.0)
    """Band-pass on cosine(antibody, mu_k), as quantiles of the proposals for each class."""
    score: MethodConfig = MethodConfig(name="calibrated")
    acceptance: Annotated[float, real(gt=0.5, lt=1)] = 0.95
    """Share of known feedback samples that the threshold accepts."""
