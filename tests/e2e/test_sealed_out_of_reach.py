"""The agents' room tries to reach the sealed test: it hands it in, imports a way in, and searches what it is given."""

from __future__ import annotations

import ast
import gc
import subprocess
import sys
import types
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.feedback import feedback_of
from agents.session import RefinementSession
from cluster import EncoderSpec, LocalEmbedder, RayEmbedder
from db.store import AntibodyStore, open_store
from evaluation.data.sealed import OpenedTest, SealedTest
from evaluation.space import Bank, Feedback, Space
from immuno.refine import refine
from immuno.workplace import Workplace
from immuno_core.config.run import ClusterConfig, DataConfig, EncoderConfig, RunConfig, SourceConfig
from immuno_core.errors import ImmunoError
from immuno_core.features import FeatureSet
from immuno_core.records import ImageSet, Split
from tests.configs import make_config

ROOT = Path(__file__).resolve().parents[2]
SEALED = "the_sealed_part"


@pytest.fixture
def handed(
    own_engine: None,
    tmp_path: Path,
    tiny_encoder_dir: Path,
    tiny_images: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[RefinementSession]:
    """The session that the front door hands to the agents' room, of a configuration with a sealed test, as it runs."""
    for seed, (name, labels) in enumerate(
        {
            "open/fit": ("cat", "dog"),
            "open/near": ("fox",),
            f"{SEALED}/id": ("cat", "dog"),
            f"{SEALED}/near": ("owl",),
        }.items()
    ):
        tiny_images(tmp_path / name, dict.fromkeys(labels, 4), seed=seed)
    config = make_config(
        tmp_path,
        encoder={"model": f"local-dir:{tiny_encoder_dir}"},
        data={
            "fit": "open/fit",
            "feedback": {"near": "open/near"},
            "id": f"{SEALED}/id",
            "ood": {"near": f"{SEALED}/near"},
        },
        refine={"generations": 1},
    )
    assert SEALED in str(config.data.id.path)
    given: list[RefinementSession] = []
    run = RefinementSession.run

    def watched(session: RefinementSession, *arguments: Any) -> Any:
        given.append(session)
        return run(session, *arguments)

    monkeypatch.setattr(RefinementSession, "run", watched)
    with open_store(str(tmp_path / "immuno.db")) as store:
        embedder = LocalEmbedder(EncoderSpec.from_config(config.encoder), tmp_path / "embeddings")
        refine(Workplace(config, lambda: store, embedder), session="one", resume=None, on_generation=lambda _: None)
        yield given[0]


def is_sealed(found: object) -> bool:
    """Whether holding it is enough to read the sealed test, or to find it on disk."""
    if isinstance(found, FeatureSet | ImageSet):
        return found.split == "test"
    if isinstance(found, str | Path):
        return SEALED in str(found)
    return isinstance(found, SealedTest | OpenedTest | DataConfig | RunConfig | SourceConfig)


def ways_in(start: object, *, most: int = 2_000_000) -> list[str]:
    """Everything sealed that can be reached from an object by whatever it refers to, with the way there.

    References are the interpreter's own (attributes, slots, items, closures, defaults, the objects of bound methods),
    so that no naming convention hides anything. Not followed: modules, classes and the globals of functions; what those
    hold is a matter of imports, which other tests look at.
    """
    found: list[str] = []
    seen = {id(start)}
    waiting: deque[tuple[object, str]] = deque([(start, type(start).__name__)])
    kept = []
    while waiting:
        here, way = waiting.popleft()
        kept.append(here)  # or its id could be given to another object
        assert len(kept) < most
        if is_sealed(here):
            found.append(f"{way}: {here!r:.120}")
            continue
        for there in referred(here):
            if id(there) not in seen:
                seen.add(id(there))
                waiting.append((there, f"{way} > {type(there).__name__}"))
    return found


def referred(here: object) -> list[object]:
    if isinstance(here, types.FunctionType):
        return [*(here.__closure__ or ()), *(here.__defaults__ or ()), *(here.__kwdefaults__ or {}).values()]
    skipped = (types.ModuleType, type, types.FrameType, types.TracebackType)
    if isinstance(here, skipped) or (isinstance(here, dict) and "__builtins__" in here):
        return []
    return [there for there in gc.get_referents(here) if not isinstance(there, skipped)]


def test_nothing_that_the_loop_is_given_leads_to_the_sealed_test(handed: RefinementSession) -> None:
    for given in (handed, handed.space, handed.loop(), handed.loop().compile(), handed.recall()):
        assert ways_in(given) == []
    with RayEmbedder(EncoderConfig(model="miniworld"), ClusterConfig()) as embedder:
        assert ways_in(embedder) == []


def test_the_search_finds_what_there_is_to_be_found(handed: RefinementSession, tmp_path: Path) -> None:
    source = SourceConfig(path=tmp_path / SEALED / "id")
    data = DataConfig(id=source, ood=(SourceConfig(name="near", path=tmp_path / SEALED / "near"),))
    sealed = SealedTest(data, seed=0)
    images = replace(feedback_of(handed.space).known, split="test")

    def closure() -> object:
        return sealed

    record = replace(handed.record, config={"data": {"id": str(source.path)}})
    for hidden in (sealed.open, closure, {"a": [images]}, lambda one=sealed: one, record):
        assert ways_in({"deep": [hidden]})
    before = handed.embedder.__dict__.copy()
    try:
        handed.embedder.__dict__["remembered"] = {"last": images}
        assert ways_in(handed.loop())
    finally:
        handed.embedder.__dict__.clear()
        handed.embedder.__dict__.update(before)


def set_of(split: Split) -> FeatureSet:
    return FeatureSet("x", split, np.eye(2, dtype=np.float32), ("1", "2"), ("cat", "dog"), ("1", "2"))


def test_no_record_of_the_loop_takes_images_of_the_test_split() -> None:
    texts, labels = np.eye(2, dtype=np.float32), np.array([0, 1])
    fit, feedback, sealed = set_of("fit"), set_of("feedback"), set_of("test")
    seen = Feedback(feedback, labels, {"near": feedback})
    space = Space(("cat", "dog"), texts, 100.0, fit, labels, Bank.empty(2), seen)
    for change in ({"known": sealed}, {"outliers": {"near": feedback, "far": sealed}}, {"known": fit}):
        with pytest.raises(ImmunoError, match=r"of the split (test|fit)"):
            replace(seen, **change)  # type: ignore[arg-type]
    for images in (sealed, feedback):
        with pytest.raises(ImmunoError, match=r"of the (sealed test|feedback) split"):
            replace(space, fit=images)
    # Whoever adds a field of images to the records must add it to the tests above.
    of_images = [{field.name for field in fields(one) if "Feature" in str(field.type)} for one in (Space, Feedback)]
    assert of_images == [{"fit"}, {"known", "outliers"}]
    assert {field.name for field in fields(Space) if "Feedback" in str(field.type)} == {"feedback"}


def test_the_outliers_of_the_loop_cannot_be_exchanged_later(handed: RefinementSession) -> None:
    with pytest.raises(TypeError):
        feedback_of(handed.space).outliers["near"] = set_of("test")  # type: ignore[index]
    with pytest.raises(AttributeError):
        feedback_of(handed.space).known = set_of("test")  # type: ignore[misc]
    with pytest.raises(AttributeError):
        handed.space.fit = set_of("test")  # type: ignore[misc]


def test_loading_the_agents_room_loads_nothing_that_reads_images_or_opens_the_test() -> None:
    modules = sorted(
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "agents").rglob("*.py")
        if path.stem != "__init__"
    )
    forbidden = ["evaluation.data.sealed", "evaluation.benchmark.methods", "evaluation.data.sources", "cluster"]
    code = f"""
import importlib, sys
for module in {modules!r}:
    importlib.import_module(module)
print(sorted(set({forbidden!r}) & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_agents_room_asks_the_store_for_nothing_but_its_own_session() -> None:
    """The store also keeps configurations and the results on the sealed test; see the methods left out here."""
    allowed = {
        "accepted", "antibodies", "bank", "claim_session", "effects", "generations", "prompts", "save_generation",
        "set_session_status", "verdicts",
    }  # fmt: skip
    public = {name for name in dir(AntibodyStore) if not name.startswith("_")}
    assert allowed <= public
    assert {"results", "session", "test_reads"} <= public - allowed
    for path in (ROOT / "agents").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value).split(".")[-1] == "store":
                assert node.attr in allowed, f"{path.name}, line {node.lineno}: store.{node.attr}"
