"""What `immuno refine` prints of sessions: generations, cost, effects, prompts, comparisons. Texts are escaped."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from agents import PromptVersion
from db import AntibodyStore, EffectRecord, GenerationRecord, SessionRecord
from immuno.terminal.generations import generation_tables, money, sparkline, time
from immuno.terminal.output import cell, percentage, plain_table, print_table
from immuno_core.text import printable


def prompt_rows(tree: Sequence[PromptVersion]) -> list[dict[str, Any]]:
    """Return what `--json` prints."""
    return [asdict(one) | {"kept": one.kept, "measured": one.measured} for one in tree]


def print_prompts(tree: Sequence[PromptVersion], *, verbose: bool = False) -> None:
    """Print the versions, each with its trials and with what it changed in its parent; `verbose`: as a whole diff."""
    if not tree:
        return print_table(Text("no prompt yet: the session has no generation"))
    table = plain_table("Change: of the mean FPR95 on the half that confirms, in points; below 0 is better")
    for name in ("version", "from", "tried in", "change"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("kept", "what changed"):
        table.add_column(name, overflow="fold")
    for one in tree:
        # A model wrote these, or who made a file that was imported: Text shows what looks like markup.
        said = (one.diff or one.guideline).splitlines() if verbose else _changed(one)
        lines = [Text(printable(line), _SHADES.get(line[:1], "")) for line in said]
        table.add_row(
            str(one.version),
            "" if one.parent is None else str(one.parent),
            ", ".join(str(trial.generation) for trial in one.trials),
            "" if one.measured is None else f"{100 * one.measured:+.1f}",
            "" if not one.trials else "kept" if one.kept else "no",
            Text("\n").join(lines),
        )
    return print_table(table)


_SHADES = {"+": "green", "-": "red"}
_NUMBER = re.compile(r"[-+]?\d+(?:[.,]\d+)*")


def _changed(one: PromptVersion) -> list[str]:
    """What a version changed: items that came and went of lines that are lists, and lines that are new or gone.

    Not what differs by numbers alone, which do in every generation, and not what stayed.
    """
    if one.parent is None:
        return one.guideline.splitlines()
    lines = {sign: [line[2:] for line in one.diff.splitlines() if line.startswith(f"{sign} ")] for sign in "-+"}
    gone, new = ({_NUMBER.sub("#", line): line for line in lines[sign]} for sign in "-+")
    old = {line.partition(": ")[0]: line for form, line in gone.items() if form not in new and ": " in line}
    said = []
    for form, line in new.items():
        head = line.partition(": ")[0]
        if form in gone:
            continue
        if ": " in line and head in old:
            before, after = (_items(each) for each in (old.pop(head), line))
            for sign, some, others in (("+", after, before), ("-", before, after)):
                if items := [each for each in some if each not in others]:
                    said.append(f"{sign} {head}: {', '.join(items)}")
        else:
            said.append(f"+ {line}")
    stayed = {line.partition(": ")[0] for line in new.values() if ": " in line}
    said += [f"- {line}" for form, line in gone.items() if form not in new and line.partition(": ")[0] not in stayed]
    return said or ["nothing but numbers"]


def _items(line: str) -> list[str]:
    return line.partition(": ")[2].rstrip(".").split(", ")


_EFFECTS_SHOWN = 8
_EFFECTS_BRIEF = 3
"""Without -v."""
_OF_A_GENERATION = (
    "number",
    "parent",
    "accepted",
    "reason",
    "proposed",
    "kept",
    "bank",
    "prompt_version",
    "git_sha",
    "versions",
)


@dataclass(frozen=True, slots=True)
class Spent:
    """What calls of the chat model came to; `cost_usd` is 0 where no price is configured."""

    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    seconds: float
    """From the start to the end of the generations."""

    @classmethod
    def of(cls, generations: Iterable[GenerationRecord]) -> Spent:
        """Add up generations."""
        some = list(generations)
        return cls(
            calls=sum(one.calls for one in some),
            prompt_tokens=sum(one.prompt_tokens for one in some),
            completion_tokens=sum(one.completion_tokens for one in some),
            cost_usd=sum(one.cost_usd for one in some),
            seconds=sum((one.finished_at - one.started_at).total_seconds() for one in some),
        )


@dataclass(frozen=True, slots=True)
class SessionLine:
    """A session with the first and the best of its generations, and what it cost."""

    session: SessionRecord
    first: GenerationRecord | None
    best: GenerationRecord | None
    """The last that was accepted: by AUROC each is better than those before, or no worse within chance."""
    bank: int
    spent: Spent

    @property
    def mean_fpr95(self) -> tuple[float | None, float | None]:
        """Of the first and of the best."""
        first, best = (one.metrics.get("mean_fpr95") if one else None for one in (self.first, self.best))
        return first, best

    @property
    def mean_auroc(self) -> tuple[float | None, float | None]:
        """Of the first and of the best."""
        first, best = (one.mean_auroc if one else None for one in (self.first, self.best))
        return first, best

    def as_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        record = self.session
        return {
            "session": record.name,
            "status": record.status,
            "llm": record.llm,
            "parent": record.parent,
            "seed": record.seed,
            "encoder": record.encoder.model,
            "generations": record.generations,
            "best": record.best,
            "mean_fpr95": dict(zip(("first", "best"), self.mean_fpr95, strict=True)),
            "mean_auroc": dict(zip(("first", "best"), self.mean_auroc, strict=True)),
            "bank": self.bank,
            **asdict(self.spent),
            "created_at": record.created_at.isoformat(),
            "updated_at": record.updated_at.isoformat(),
        }


@dataclass(frozen=True, slots=True)
class SessionView:
    """A session, its generations, and the antibodies of its best bank that helped and harmed most."""

    line: SessionLine
    generations: tuple[GenerationRecord, ...]
    kinds: Mapping[str, int]
    """Of the best bank, how many of each kind."""
    helped: tuple[EffectRecord, ...]
    harmed: tuple[EffectRecord, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            **self.line.as_dict(),
            "bank_by_kind": dict(self.kinds),
            "by_generation": [
                {
                    **{name: getattr(one, name) for name in _OF_A_GENERATION},
                    **asdict(Spent.of([one])),
                    "metrics": one.metrics,
                }
                for one in self.generations
            ],
            "helped": [_effect(one, "gain") for one in self.helped],
            "harmed": [_effect(one, "harm") for one in self.harmed],
        }


def _effect(one: EffectRecord, what: str) -> dict[str, Any]:
    return {"text": one.antibody_text, "guards": one.guards, "set": one.outlier_set, what: getattr(one, what)}


def session_lines(
    sessions: Sequence[SessionRecord], generations: Sequence[GenerationRecord]
) -> tuple[SessionLine, ...]:
    """Return one line for each session, given the generations of all."""
    by_session: dict[str, list[GenerationRecord]] = {one.id: [] for one in sessions}
    for one in generations:
        by_session[one.session_id].append(one)
    return tuple(_line(one, by_session[one.id]) for one in sessions)


def _line(session: SessionRecord, generations: Sequence[GenerationRecord]) -> SessionLine:
    best = next((one for one in generations if one.number == session.best), None)
    return SessionLine(
        session=session,
        first=generations[0] if generations else None,
        best=best,
        bank=best.bank if best else 0,
        spent=Spent.of(generations),
    )


def session_view(store: AntibodyStore, session: SessionRecord) -> SessionView:
    """Read what is shown of a session."""
    generations = store.generations(session.id)
    effects = [] if session.best is None else store.effects(session.id, generation=session.best, scope="solo")
    return SessionView(
        line=_line(session, generations),
        generations=generations,
        kinds=_kinds(store, session),
        helped=_most(effects, "gain"),
        harmed=_most(effects, "harm"),
    )


def _kinds(store: AntibodyStore, session: SessionRecord) -> dict[str, int]:
    best = store.best_generation(session.id)
    return dict(Counter(store.bank(best.id).kinds)) if best is not None and best.bank else {}


def _most(effects: Iterable[EffectRecord], what: str) -> tuple[EffectRecord, ...]:
    """The largest effects above 0, of each antibody the largest."""
    best: dict[str, EffectRecord] = {}
    for one in effects:
        value = getattr(one, what)
        if one.antibody_id is not None and value > 0 and value > getattr(best.get(one.antibody_id), what, 0.0):
            best[one.antibody_id] = one
    ranked = sorted(best.values(), key=lambda one: (-getattr(one, what), one.antibody_text or ""))
    return tuple(ranked[:_EFFECTS_SHOWN])


def print_sessions(lines: Sequence[SessionLine]) -> None:
    """Print one line for each session."""
    if not lines:
        return print_table(Text("no sessions yet; begin one with: immuno refine start CONFIG --session NAME"))
    shown: list[str] = []
    rows = [
        {
            "session": line.session.name,
            "status": line.session.status,
            "model": line.session.llm or "",
            "from": line.session.parent or "",
            "gen": str(line.session.generations),
            "AUROC, %": "→".join(map(percentage, line.mean_auroc)),
            "FPR95, %": "→".join(map(percentage, line.mean_fpr95)),
            "bank": str(line.bank),
            "calls": _count(line.spent.calls),
            "tokens": _count(line.spent.prompt_tokens + line.spent.completion_tokens),
            "cost": money(line.spent.cost_usd),
            "created": f"{line.session.created_at:%m-%d %H:%M}",
        }
        for line in lines
    ]
    table = plain_table(
        "Sessions; means over the feedback sets, at first → at best, which AUROC decides (so a bank that was not "
        "accepted may have had a lower FPR95); times are UTC"
    )
    for name in rows[0]:
        if any(row[name] not in ("", "0") for row in rows):
            words = name in ("session", "status", "model", "from")
            # What is short stays on one line; names fold.
            fixed = name not in ("session", "model", "from")
            table.add_column(name, justify="left" if words else "right", overflow="fold", no_wrap=fixed)
            shown.append(name)
    for row in rows:
        table.add_row(*(cell(row[name]) for name in shown))
    return print_table(table)


def print_session(view: SessionView, *, verbose: bool = False) -> None:
    """Print a session: what it is, its generations, what they cost, what helped and harmed."""
    record, spent, line = view.line.session, view.line.spent, view.line
    about = [
        f"session {record.name}: {record.status}, seed {record.seed}, encoder {record.encoder.model}, "
        f"chat model {record.llm or 'not recorded'}" + (f", from {record.parent}" if record.parent else "")
    ]
    bars = sparkline([one.metrics.get("mean_fpr95") for one in view.generations])
    if bars.strip():
        fpr95, auroc = (" → ".join(map(percentage, both)) for both in (line.mean_fpr95, line.mean_auroc))
        about.append(f"FPR95 {bars} {fpr95} %, AUROC {auroc} %")
    if line.best is not None:
        kinds = ", ".join(f"{count:,} {kind.replace('_', '-')}" for kind, count in view.kinds.items())
        about.append(f"bank of generation {line.best.number}: {line.bank:,} antibodies{f': {kinds}' if kinds else ''}")
    tokens = f"{_count(spent.prompt_tokens)} tokens in, {_count(spent.completion_tokens)} out"
    price = money(spent.cost_usd) or "no price given"
    about.append(f"cost: {_count(spent.calls)} calls, {tokens}, {price}, {time(spent.seconds)}")
    if (seen := _visual(view)) is not None:
        about.append(seen)
    parts: list[Any] = [Text("\n".join(map(printable, about))), Text("")]
    parts += generation_tables(view.generations, verbose=verbose)
    kept = [one for one in view.generations if one.accepted]
    if kept and (sense := kept[-1].metrics.get("sense")):
        parts += [Text(""), Text(printable(f"The bank of generation {kept[-1].number}: {sense['said']}"))]
    for title, effects, what in (("helped most", view.helped, "gain"), ("harmed most", view.harmed, "harm")):
        if effects:
            parts += [Text(""), _effects(title, effects if verbose else effects[:_EFFECTS_BRIEF], what)]
    print_table(Group(*parts))


def _visual(view: SessionView) -> str | None:
    """What the last visual antibodies that were kept gave; None without any."""
    for one in reversed(view.generations):
        tried = one.metrics.get("visual") if one.accepted else None
        if isinstance(tried, Mapping) and tried.get("kept"):
            return f"generation {one.number}: {tried.get('reason')}"
    return None


def _effects(title: str, effects: Sequence[EffectRecord], what: str) -> Table:
    table = plain_table(title, ("antibody", "guards", "on"), (f"{what}, %",))
    for one in effects:
        cells = (one.antibody_text or "", one.guards or "", one.outlier_set)
        table.add_row(*map(cell, cells), percentage(getattr(one, what)))
    return table


def _count(number: int) -> str:
    return f"{number:,}"
