"""Which antibodies a benchmark measures, where they come from, and the words that its controls draw from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.memory import as_bank
from agents.vocabulary import load_vocabulary
from db.generations import chosen_generation
from db.records import EffectRecord, GenerationRecord, SessionRecord
from evaluation.bank import Bank, read_bank_file
from evaluation.classes import fill_template
from evaluation.mining import WordList
from immuno.config import RunConfig
from immuno.errors import SetupError
from immuno.workflow import Workplace


@dataclass(frozen=True, slots=True)
class BankInUse:
    """The bank, and the session and generation it was taken from where it was."""

    bank: Bank
    session: SessionRecord | None
    generation: GenerationRecord | None


def word_template(config: RunConfig) -> str:
    """Return the prompt in which controls say single words: as the bank says its texts.

    A bank whose template is "{}" holds whole prompts; its words are said as class names are.
    """
    template = config.antibodies.template
    return config.classes.template if template == "{}" else template


def word_list(config: RunConfig) -> WordList:
    """Return the words of the configuration's `antibodies.words`, else the vocabulary shipped here.

    Raises SetupError naming a file that is missing, unreadable or empty.
    """
    folder = config.antibodies.words
    if folder is None:
        shipped = load_vocabulary()
        return WordList(shipped.nouns, shipped.attributes)
    if folder.is_file():
        return WordList(_lines(folder), ())
    adjectives = folder / "adjectives.txt"
    return WordList(_lines(folder / "nouns.txt"), _lines(adjectives) if adjectives.exists() else ())


def _lines(path: Path) -> tuple[str, ...]:
    """The entries of a list with one word per line, underscores as blanks (WordNet's way), each once."""
    try:
        found = path.read_text(encoding="utf-8-sig").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        raise SetupError(
            f"no word list at {path}; antibodies.words is a text file with a noun per line, or a folder with nouns.txt "
            "and adjectives.txt"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"cannot read {path} as UTF-8 text: {error}") from None
    said = (" ".join(line.replace("_", " ").split()) for line in found if not line.startswith("#"))
    words = tuple(dict.fromkeys(word for word in said if word))
    if not words:
        raise SetupError(f"{path} holds no words; write one per line")
    return words


def session_history(place: Workplace, used: BankInUse) -> dict[str, Any] | None:
    """The session behind the bank, generation by generation, as the report shows it; None where there is none."""
    if used.session is None:
        return None
    generations = place.store.generations(used.session.id)
    return {
        "name": used.session.name,
        "llm": used.session.config.get("refine", {}).get("llm", ""),
        "seed": used.session.seed,
        "generations": [
            {
                "number": one.number,
                "accepted": one.accepted,
                "reason": one.reason,
                "fpr95": one.metrics["fpr95"],
                "mean_fpr95": one.metrics["mean_fpr95"],
                "id_accuracy": one.metrics["id_accuracy"],
                "proposed": one.proposed,
                "kept": one.kept,
                "bank": one.bank,
                # The one it was written by: reflection writes the next generation's.
                "guideline": before.guideline,
            }
            for before, one in zip((generations[0], *generations), generations, strict=False)
        ],
    }


def listed_antibodies(place: Workplace, used: BankInUse) -> list[dict[str, Any]]:
    """The bank with each antibody's solo effect on the feedback split, over all its outlier sets."""
    if used.session is None or used.generation is None:
        return [
            {"id": key, "text": text, "kind": kind, "guards": guards}
            for key, text, kind, guards in zip(
                used.bank.ids, used.bank.texts, used.bank.kinds, used.bank.guards, strict=True
            )
        ]
    effects: dict[str, list[EffectRecord]] = {}
    for effect in place.store.effects(used.session.id, generation=used.generation.number, scope="solo"):
        if effect.antibody_id is not None:
            effects.setdefault(effect.antibody_id, []).append(effect)
    rows = []
    for one in place.store.bank(used.generation.id).antibodies:
        found = effects.get(one.id, [])
        rows.append(
            {
                "id": one.id,
                "text": one.text,
                "kind": one.kind,
                "guards": one.guards,
                "generation": one.generation,
                "gain": max((effect.gain for effect in found), default=None),
                "harm": max((effect.harm for effect in found), default=None),
                "fired_outliers": sum(effect.fired_outliers for effect in found),
                "fired_id": max((effect.fired_id for effect in found), default=0),
            }
        )
    return rows


def bank_in_use(place: Workplace) -> BankInUse:
    """The bank that the configuration names; empty where it names none."""
    wanted, dim = place.config.antibodies, place.embedder.encoder.dim
    if wanted.file is not None:
        proposals = read_bank_file(wanted.file)
        texts = fill_template(wanted.template, [one.text for one in proposals])
        return BankInUse(Bank.of(proposals, place.embedder.embed_texts(texts)), None, None)
    if wanted.session is None:
        return BankInUse(Bank.empty(dim), None, None)
    session = place.store.session(wanted.session)
    if session.encoder.digest != place.embedder.encoder.digest:
        raise SetupError(
            f"session '{session.name}' embedded its antibodies with {session.encoder.model}, "
            f"not with the configuration's {place.embedder.encoder.model}; use the encoder it was made with"
        )
    generation = chosen_generation(place.store, session, wanted.generation)
    stored = place.store.bank(generation.id)
    return BankInUse(as_bank(stored) if len(stored) else Bank.empty(dim), session, generation)
