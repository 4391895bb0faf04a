"""What `immuno refine` prints of sessions: generations, cost, effects, prompts, comparisons. Texts are escaped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from agents import PromptVersion
from db import AntibodyStore, EffectRecord, GenerationRecord, SessionRecord
from immuno.terminal.output import cell, percentage
from immuno.terminal.results import print_table
from immuno_core.text import printable


def prompt_rows(tree: Sequence[PromptVersion]) -> list[dict[str, Any]]:
    """Return what `--json` prints."""
    return [asdict(one) | {"kept": one.kept, "measured": one.measured} for one in tree]


def print_prompts(tree: Sequence[PromptVersion]) -> None:
    """Print the versions as a tree, each with its trials and with what it changed in its parent."""
    if not tree:
        return print_table(Text("no prompt yet: the session has no generation"))
    branches: dict[int, Tree] = {}
    roots: list[Tree] = []
    for one in tree:
        label = Text("\n").join(_label(one))
        if one.parent is None:
            branches[one.version] = Tree(label)
            roots.append(branches[one.version])
        else:
            branches[one.version] = branches[one.parent].add(label)
    for root in roots:
        print_table(root)
    return None


def _label(one: PromptVersion) -> Iterator[Text]:
    if not one.trials:
        state, style = "not tried yet", "dim"
    else:
        tried = ", ".join(str(trial.generation) for trial in one.trials)
        change = "" if one.measured is None else f", change {100 * one.measured:+.1f} points"
        state, style = f"{'kept' if one.kept else 'not kept'}: generation {tried}{change}", "bold" if one.kept else ""
    yield Text(f"version {one.version}: {state}", style)
    if one.reason:
        yield Text(printable(one.reason), "dim")
    # A model wrote these, or who made a file that was imported: Text shows what looks like markup.
    for line in (one.diff or one.guideline).splitlines():
        yield Text(printable(line), "green" if line.startswith("+") else "red" if line.startswith("-") else "")


_EFFECTS_SHOWN = 8
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
    helped: tuple[EffectRecord, ...]
    harmed: tuple[EffectRecord, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            **self.line.as_dict(),
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
        helped=_most(effects, "gain"),
        harmed=_most(effects, "harm"),
    )


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
            "generations": str(line.session.generations),
            "AUROC, %": "→".join(map(percentage, line.mean_auroc)),
            "FPR95, %": "→".join(map(percentage, line.mean_fpr95)),
            "bank": str(line.bank),
            "calls": _count(line.spent.calls),
            "tokens": _count(line.spent.prompt_tokens + line.spent.completion_tokens),
            "cost": _money(line.spent.cost_usd),
            "created": f"{line.session.created_at:%m-%d %H:%M}",
        }
        for line in lines
    ]
    table = session_table(
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


def print_session(view: SessionView) -> None:
    """Print a session: what it is, its generations, what they cost, what helped and harmed."""
    record, spent = view.line.session, view.line.spent
    about = [f"session {record.name}: {record.status}, seed {record.seed}, encoder {record.encoder.model}"]
    about.append(f"chat model {record.llm or 'not recorded'}" + (f", from {record.parent}" if record.parent else ""))
    tokens = f"{_count(spent.prompt_tokens)} tokens in, {_count(spent.completion_tokens)} out"
    about.append(
        f"{_count(spent.calls)} calls, {tokens}, {_money(spent.cost_usd) or 'no price given'}, {_time(spent.seconds)}"
    )
    if (seen := _visual(view)) is not None:
        about.append(seen)
    parts: list[Any] = [Text("\n".join(map(printable, about))), Text(""), generations_table(view.generations), Text("")]
    parts.append(_costs(view.generations))
    kept = [one for one in view.generations if one.accepted]
    if kept and (sense := kept[-1].metrics.get("sense")):
        parts += [Text(""), Text(printable(f"The bank of generation {kept[-1].number}: {sense['said']}"))]
    for title, effects, what in (("helped most", view.helped, "gain"), ("harmed most", view.harmed, "harm")):
        if effects:
            parts += [Text(""), _effects(title, effects, what)]
    print_table(Group(*parts))


def _visual(view: SessionView) -> str | None:
    """What the last visual antibodies that were kept gave; None without any."""
    for one in reversed(view.generations):
        tried = one.metrics.get("visual") if one.accepted else None
        if isinstance(tried, Mapping) and tried.get("kept"):
            return f"generation {one.number}: {tried.get('reason')}"
    return None


def generations_table(generations: Sequence[GenerationRecord]) -> Table:
    """One line per generation: what it proposed and kept, FPR95 on each feedback set, and the AUROC that decides."""
    sets = list(_by_set(generations[0])) if generations else []
    table = Table(
        title="Feedback split by generation, per cent: FPR95, and the mean AUROC, which decides", title_justify="left"
    )
    for column in ("generation", "proposed", "kept", "bank"):
        table.add_column(column, justify="right")
    for name in (*sets, "mean", "AUROC"):
        table.add_column(cell(name), justify="right")
    table.add_column("decision")
    for generation in generations:
        metrics = generation.metrics
        table.add_row(
            str(generation.number),
            *(str(count) for count in (generation.proposed, generation.kept, generation.bank)),
            *(percentage(_by_set(generation).get(name)) for name in sets),
            percentage(metrics.get("mean_fpr95")),
            percentage(generation.mean_auroc),
            cell(generation.reason),
        )
    return table


def _by_set(generation: GenerationRecord) -> Mapping[str, float]:
    """FPR95 by feedback set; imported banks have none."""
    found = generation.metrics.get("fpr95")
    return found if isinstance(found, Mapping) else {}


def _costs(generations: Sequence[GenerationRecord]) -> Table:
    table = session_table("Cost", ("generation",), ("calls", "tokens in", "tokens out", "cost", "time"))
    for one in generations:
        spent = Spent.of([one])
        counts = (spent.calls, spent.prompt_tokens, spent.completion_tokens)
        table.add_row(str(one.number), *map(_count, counts), _money(spent.cost_usd), _time(spent.seconds))
    return table


def _effects(title: str, effects: Sequence[EffectRecord], what: str) -> Table:
    table = session_table(title, ("antibody", "guards", "on"), (what,))
    for one in effects:
        cells = (one.antibody_text or "", one.guards or "", one.outlier_set)
        table.add_row(*map(cell, cells), f"{100 * getattr(one, what):.1f} %")
    return table


def session_table(title: str, words: Sequence[str] = (), numbers: Sequence[str] = ()) -> Table:
    """Return an empty table with columns of words, which fold, and then of numbers."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    for name in words:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def _count(number: int) -> str:
    return f"{number:,}"


def _money(dollars: float) -> str:
    return f"${dollars:,.4f}" if dollars else ""


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
