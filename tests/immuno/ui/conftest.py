"""A record with all that the explorer shows: a session on drawn images, hostile texts, a run, and its pages."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from cluster import EncoderSpec, LocalEmbedder
from db import AntibodyStore, SessionRecord, new_id, open_store
from db.records import EffectDraft, GenerationDraft
from immuno.ui.app import make_app
from immuno_core.config.run import config_as_dict
from immuno_core.records import Antibody, Verdict
from tests.configs import make_config
from tests.db.build import FINISHED, STARTED, effect
from tests.rows import result_row

HOSTILE = "<script>alert(1)</script> \x1b[31mred\x1b[0m \u202etxt.exe {{ 7*7 }} =1+1"
"""What a model may write: markup, what steers a terminal, what turns a line around, a template, a formula."""


@dataclass(frozen=True)
class Record:
    path: Path
    images: Path
    session: SessionRecord
    antibody: Antibody
    """In the bank; its text is hostile."""
    visual: Antibody
    run: str


@pytest.fixture(scope="session")
def record(
    tmp_path_factory: pytest.TempPathFactory,
    new_database: Path,
    tiny_encoder_dir: Path,
    tiny_images: Callable[..., Path],
) -> Record:
    folder = tmp_path_factory.mktemp("explorer")
    path = Path(shutil.copy(new_database, folder / "immuno.db"))
    tiny_images(folder / "fit", {"cat": 2, "dog": 2})
    tiny_images(folder / "known", {"cat": 2, "dog": 2}, seed=1)
    tiny_images(folder / "near", {"fox": 3}, seed=2)
    tiny_images(folder / "test", {"cat": 1, "dog": 1}, seed=3)
    tiny_images(folder / "sealed", {"owl": 2}, seed=4)
    config = make_config(
        folder,
        encoder={"model": f"local-dir:{tiny_encoder_dir}"},
        data={
            "fit": "fit",
            "feedback_id": "known",
            "id": "test",
            "feedback": {"near": "near"},
            "ood": {"far": "sealed"},
        },
    )
    embedder = LocalEmbedder(EncoderSpec.from_config(config.encoder))
    hostile = Antibody(HOSTILE, id=new_id(), guards="dog", rationale=HOSTILE, origin="model", cosine=0.5)
    seen = Antibody("", kind="visual", id=new_id(), origin="visual", samples=("near/fox/000.png",), status="accepted")
    turned_down = Antibody("a dog", id=new_id(), guards="dog", status="rejected", reason=HOSTILE)
    rows = embedder.embed_texts(["a fox", "a bear"])
    with open_store(str(path)) as store:
        session = store.create_session(
            f"first {HOSTILE[:26]}",
            config=config_as_dict(config),
            seed=0,
            git_sha="abc",
            versions={},
            encoder=embedder.encoder,
            llm="model",
        )
        for number in range(3):
            accepted = number < 2
            store.save_generation(
                GenerationDraft(
                    session.id,
                    number,
                    number - 1 if number else None,
                    number,
                    {"guideline": f"Name things.\n{HOSTILE}\nversion {number}"},
                    accepted,
                    HOSTILE,
                    STARTED,
                    FINISHED,
                    prompt_parent=number - 1 if number else None,
                    guideline=HOSTILE,
                    metrics={
                        "fpr95": {"near": 0.5 - number / 10},
                        "mean_fpr95": 0.5 - number / 10,
                        "auroc": {"near": 0.9},
                    },
                    antibodies=(hostile, seen, turned_down) if number == 0 else (),
                    vectors={hostile.id: rows[0], seen.id: rows[1]} if number == 0 else {},
                    effects=(EffectDraft(effect("solo"), antibody_id=hostile.id),) if number == 0 else (),
                    verdicts=(
                        Verdict("near", "fox/000.png", 0.1, False, "dog", hostile.id),
                        Verdict("near", "fox/001.png", 0.8, True, "dog", None),
                        Verdict("id", "cat/000.png", 0.2, False, "cat", hostile.id),
                    ),
                    bank=(hostile.id, seen.id),
                )
            )
        run = store.start_run(config={"x": HOSTILE}, config_digest="d" * 64, seed=0, git_sha=None, versions={})
        store.save_results(run.id, [result_row(method=HOSTILE)])
        store.record_test_read(run.id, ["far", HOSTILE], "bench")
        store.finish_run(run.id)
        return Record(path, folder, store.sessions()[0], hostile, seen, run.id)


@pytest.fixture
def store(record: Record) -> Iterator[AntibodyStore]:
    with open_store(str(record.path), read_only=True) as opened:
        yield opened


@pytest.fixture
def client(store: AntibodyStore) -> Iterator[TestClient]:
    with TestClient(make_app(store, hosts={"testserver"})) as opened:
        yield opened


def addresses(record: Record) -> dict[str, str]:
    """Every page, each with something on it."""
    session, own = record.session.id, record.antibody.id
    return {
        "sessions": "/",
        "session": f"/session/{session}",
        "antibodies": "/antibodies?sort=gain",
        "antibody": f"/antibody/{own}",
        "visual": f"/antibody/{record.visual.id}",
        "images": f"/images?session={session}",
        "image": "/image?set=near&sample=fox%2F000.png",
        "compare": f"/compare?a={session}&b={session}",
        "diff": "/diff",
        "search": "/search",
        "sql": "/sql?q=SELECT+text%2C+reason+FROM+antibodies",
        "runs": "/runs",
        "run": f"/run/{record.run}",
        "reads": "/reads",
        "error": "/nothing",
    }
