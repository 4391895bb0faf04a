"""Verdicts of a generation as they are stored: a few bytes for each image, whatever its name.

Which samples are judged is the same in every generation, so their names are stored once for all: in lists of at most
50,000, in the order of a digest of the name, so that the few lists that may hold a sample are found by two numbers. A
list's verdicts are one row of a generation: for each sample, in the order of the list, 13 bytes; classes and
antibodies by their place among those that the row names.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

from db.schema.types import plain_text, storable_text
from immuno_core.errors import SetupError
from immuno_core.records import Verdict, text_digest

MOST = 50_000
_JUDGED = struct.Struct("<dHHB")
"""Score; place of the class; 0 where no antibody fires, else 1 and the place of the antibody; whether accepted."""
ACCEPTED = slice(_JUDGED.size - 1, None, _JUDGED.size)
"""Of the bytes of a row, those that say whether each sample is accepted."""
_MOST_BYTES = 2**26
"""Of a list, unpacked."""


class Packed(NamedTuple):
    """A list of samples, and verdicts on them: rows of their tables, the latter without its generation."""

    samples: dict[str, Any]
    verdicts: dict[str, Any]


def key_of(sample: str) -> int:
    """Return what orders samples: 64 bits of a digest of the name, with a sign."""
    return _key(storable_text(sample))


def _key(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)


def packed(verdicts: Iterable[Verdict]) -> Iterator[Packed]:
    """Yield verdicts set by set, packed. Raises SetupError for two on one sample of a set."""
    by_set: dict[str, list[Verdict]] = {}
    for one in verdicts:
        by_set.setdefault(one.set_name, []).append(one)
    for set_name, of_set in by_set.items():
        names_of_set = [storable_text(one.sample_id) for one in of_set]
        ordered = sorted((_key(name), name, i) for i, name in enumerate(names_of_set))
        for start in range(0, len(ordered), MOST):
            some = ordered[start : start + MOST]
            names = [name for _, name, _ in some]
            if len(set(names)) < len(names):
                twice = next(name for name, after in pairwise(names) if name == after)
                raise SetupError(f"two verdicts on the sample {plain_text(twice)!r} of '{set_name}'; one is enough")
            listed = pack_names(set_name, names)
            yield Packed(
                {"set_name": set_name, "first": some[0][0], "last": some[-1][0], "count": len(some), **listed},
                {"samples_digest": listed["digest"], **_judged([of_set[i] for *_, i in some])},
            )


def pack_names(set_name: str, names: list[str]) -> dict[str, Any]:
    """Return the names of a list, storable and in order, as columns."""
    return {
        "digest": text_digest(storable_text(set_name), *names),
        "names": zlib.compress(json.dumps(names, ensure_ascii=False).encode(), 1),
    }


def _judged(verdicts: list[Verdict]) -> dict[str, Any]:
    classes: dict[str, int] = {}
    antibodies: dict[str, int] = {}
    judged = bytearray()
    for one in verdicts:
        place = classes.setdefault(one.nearest_class, len(classes))
        fires = 0 if one.nearest_antibody is None else 1 + antibodies.setdefault(one.nearest_antibody, len(antibodies))
        judged += _JUDGED.pack(one.score, place, fires, bool(one.accepted))
    return {
        "classes": [storable_text(name) for name in classes],
        "antibodies": list(antibodies),
        "judged": bytes(judged),
    }


def names_of(raw: bytes) -> list[str]:
    """Return the names of a list's samples. Raises SetupError for what is no list."""
    try:
        unpacked = zlib.decompressobj()
        names = json.loads(unpacked.decompress(raw, _MOST_BYTES))
        if unpacked.unconsumed_tail or not all(isinstance(name, str) for name in names):
            raise ValueError("it is no list of names")
    except (zlib.error, TypeError, ValueError) as error:
        raise SetupError(f"names of samples that are stored cannot be read ({error}); see: immuno db check") from None
    return [plain_text(name) for name in names]


def verdict_at(place: int, set_name: str, sample: str, row: Mapping[str, Any]) -> Verdict:
    """Return the verdict on the sample at a place of its list; `row` has the columns of `verdicts`."""
    try:
        score, of_class, fires, accepted = _JUDGED.unpack_from(row["judged"], place * _JUDGED.size)
        antibody = row["antibodies"][fires - 1] if fires else None
        return Verdict(set_name, sample, score, bool(accepted), plain_text(row["classes"][of_class]), antibody)
    except (struct.error, IndexError):
        raise SetupError(f"the verdicts on '{set_name}' that are stored are not whole; see: immuno db check") from None


def oddity_of(row: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a row of one of the two tables that is of the right types; None where nothing is."""
    if "names" in row:
        names = [storable_text(name) for name in names_of(row["names"])]
        keys = [_key(name) for name in names]
        if not 0 < len(names) == row["count"] <= MOST or keys != sorted(keys):
            return "'names' is not a list of so many samples in their order"
        if (row["first"], row["last"]) != (keys[0], keys[-1]):
            return "'first' and 'last' are not those of its samples"
        if row["digest"] != text_digest(storable_text(row["set_name"]), *names):
            return "'digest' is not that of its samples"
        return None
    judged, places = row["judged"], (row["classes"], row["antibodies"])
    if not judged or len(judged) % _JUDGED.size or not all(isinstance(one, str) for some in places for one in some):
        return "'judged' is not 13 bytes for each sample, or what it names no names"
    for score, of_class, fires, accepted in _JUDGED.iter_unpack(judged):
        if of_class >= len(places[0]) or fires > len(places[1]) or accepted > 1 or not isinstance(score, float):
            return "'judged' names a class or an antibody that is not there"
    return None
