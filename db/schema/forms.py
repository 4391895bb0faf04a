"""What a row may say beyond the types of its columns: the rules of writing, and of what comes from other databases."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from db.schema.packed import oddity_of
from immuno_core.errors import SetupError
from immuno_core.records import VISUAL, text_digest

_LONGEST_NAME = 200_000
"""Characters of a text that names something, or stands in a table: generous, and nothing that fills a memory."""
_LONGEST_TEXT = 16_000_000
"""Characters of any other text, and of JSON."""
_LONG = ("text", "guideline", "rationale", "reason", "request_text", "reply_text")
_ANTIBODIES = "antibodies"
_Rule = tuple[Callable[[Any], bool], str]


def _between(low: float, high: float) -> Callable[[Any], bool]:
    """Numbers that are not finite are undefined ones."""
    return lambda value: not math.isfinite(value) or low <= value <= high


def _is_count(value: Any) -> bool:
    return bool(value >= 0)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def are_metrics(value: Any) -> bool:
    """Whether a generation's metrics have the form in which the loop and the commands read them."""
    if not isinstance(value, Mapping):
        return False
    numbers = [value.get(name) for name in ("mean_fpr95", "worst_fpr95", "id_accuracy")]
    for by_set in (value.get("fpr95"), value.get("auroc")):
        numbers += by_set.values() if isinstance(by_set, Mapping) else [by_set]
    return all(one is None or _is_number(one) for one in numbers) and isinstance(value.get("source", {}), Mapping)


_COUNT: _Rule = (_is_count, "a number from 0 on")
_SHARE: _Rule = (_between(0, 1), "a share from 0 to 1")
_CHANGE: _Rule = (_between(-1, 1), "a change from -1 to 1")
_MAPPING: _Rule = (_is_mapping, "a mapping")
_RULES: Mapping[str, Mapping[str, _Rule]] = {
    "sessions": {"config": _MAPPING, "versions": _MAPPING, "seed": _COUNT},
    "prompts": {"version": _COUNT, "parent_version": _COUNT},
    "generations": {
        **{"number": _COUNT, "prompt_version": _COUNT, "random_state": _MAPPING},
        "metrics": (are_metrics, "a mapping with numbers as mean_fpr95 and by set in fpr95 and auroc"),
    },
    _ANTIBODIES: {
        **{"position": _COUNT, "cosine": (_between(-1.01, 1.01), "a cosine")},
    },
    "effects": {
        **dict.fromkeys(("gain", "harm"), _SHARE),
        **dict.fromkeys(("d_fpr95", "d_auroc", "d_id_accuracy"), _CHANGE),
        **dict.fromkeys(("fired_id", "fired_outliers"), _COUNT),
    },
    "llm_calls": {
        **dict.fromkeys(("generation", "prompt_tokens", "completion_tokens"), _COUNT),
        **dict.fromkeys(("cost_usd", "seconds"), (lambda value: 0 <= value < math.inf, "a finite number from 0 on")),
        "parameters": _MAPPING,
    },
    "encoders": {"dim": (lambda dim: 1 <= dim <= 2**20, "a number of dimensions"), "image_size": _COUNT},
    "datasets": {"count": _COUNT},
    "runs": {"config": _MAPPING, "versions": _MAPPING, "seed": _COUNT},
    "results": {
        **dict.fromkeys(("seed", "n_id", "n_ood", "antibodies"), _COUNT),
        **dict.fromkeys(("params", "extra"), _MAPPING),
    },
    "test_reads": {"sets": (lambda sets: all(isinstance(one, str) for one in sets), "a list of names")},
}
"""By table and column; NULL fits where the column may be NULL."""


def oddity(table: str, row: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a row (column -> value) that is of the right types; None where nothing is."""
    rules = _RULES.get(table, {})
    for name, value in row.items():
        if value is None:
            continue
        fits, wanted = rules.get(name, (None, ""))
        most = _LONGEST_NAME if isinstance(value, str) and name not in _LONG else _LONGEST_TEXT
        if fits is not None and not fits(value):
            return f"'{name}' is not {wanted}, but {short(value)}"
        if isinstance(value, str | Mapping | list) and len(value if isinstance(value, str) else str(value)) > most:
            return f"'{name}' is longer than {most:,} characters"
    if table in ("sample_lists", "verdicts"):
        return oddity_of(row)
    return _odd_antibody(row) if table == _ANTIBODIES and "digest" in row else None


def _odd_antibody(row: Mapping[str, Any]) -> str | None:
    samples = row["samples"]
    if not isinstance(samples, list | tuple) or not all(isinstance(one, str) for one in samples):
        return f"'samples' is not a list of names, but {short(samples)}"
    if (row["kind"] == VISUAL) != bool(samples) or (samples and row["text"]):
        return f"a {VISUAL} antibody has samples and no text, and no other one has samples"
    if row["digest"] != text_digest(row["text"], row["guards"], *samples):
        return "'digest' is not that of its text, class and samples"
    return None


def check_form(table: str, row: Mapping[str, Any], place: str) -> None:
    """Raise SetupError, naming `place`, for a row that no version would have written."""
    if (odd := oddity(table, row)) is not None:
        raise SetupError(f"{place}: {odd}; nothing was added")


def short(value: Any) -> str:
    """Return a value as an error names it."""
    said = repr(value)
    return said if len(said) <= 80 else f"{said[:77]}..."
