"""A session over the mini-world with a real, small language model behind llama.cpp's server: `make test-llm`.

The model has 270 million parameters and was taught no conversation: what it names is hardly sense. But it is language,
as servers really send it; the JSON schema is obeyed, what is read is screened, measured and stored.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from agents.session import RefinementSession
from cluster import EncoderSpec, LocalEmbedder
from db.store import open_store
from immuno.workplace import Workplace
from immuno_core.config.run import read_config
from tests.llm.record import ASKED, served

pytestmark = [pytest.mark.llm, pytest.mark.timeout(3600)]

ROOT = Path(__file__).resolve().parents[2]
WORLD = 1000
"""A development world."""
OWN = {"generations": 2, "classes_per_generation": 16, "proposals_per_class": 8}


def test_a_session_over_the_mini_world(tmp_path: Path) -> None:
    config = read_config(ROOT / "configs" / "miniworld.toml").model_copy(update={"seed": WORLD})
    embedder = LocalEmbedder(EncoderSpec.from_config(config.encoder))
    with embedder, open_store(str(tmp_path / "immuno.db")) as store, served() as address:
        place = Workplace(config, lambda: store, embedder)
        settings = config.refine.model_copy(update={**ASKED, **OWN, "base_url": address})
        record = store.create_session("llm", config={}, seed=WORLD, git_sha=None, versions={}, encoder=embedder.encoder)
        generations = RefinementSession(
            record, settings, store, place.space(), embedder, template=config.word_template
        ).run()[1:]
        calls = [one for one in store.llm_calls(record.id) if one.step == "propose"]
        said = [one for one in store.antibodies(record.id) if one.origin == settings.llm]
    asked = sum(kind["asked"] for one in generations for kind in one.metrics["requests"].values())
    lost = sum("malformed" in one.reason for one in said)
    unread = [problem for one in generations for problem in one.metrics["problems"] if "JSON" in problem]
    print(f"\n{len(calls) - len(unread)} of {len(calls)} replies could be read; {len(said) - lost} of {asked} phrases;")
    print("kept:", dict(Counter(one.kind for one in said if one.accepted)))
    print("not kept:", dict(Counter(one.reason.partition(":")[0] for one in said if not one.accepted)))
    for one in generations:
        print(f"generation {one.number}: {one.metrics['requests']}; {one.reason}; {one.metrics['sense']}")
    assert len(generations) == OWN["generations"]
    assert not unread  # the schema is obeyed
    assert len(said) - lost > asked / 2
    assert {one.kind for one in said} == {"look_alike", "contextual"}
    assert all(one.reason for one in said if not one.accepted)
