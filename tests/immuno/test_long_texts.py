"""Texts that the encoder does not read to their ends are refused wherever they decide something, naming the first."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cluster import EncoderSpec, LocalEmbedder
from db.store import AntibodyStore, open_store
from immuno import embed
from immuno.api import Lab
from immuno.bench import bench
from immuno.cli.db import exchange
from immuno.workplace import Workplace
from immuno_core.errors import SetupError
from tests.cluster.tiny_models import write_images
from tests.configs import make_config, write_config

LONG = "very " * 30 + "red fox"


@pytest.fixture
def store(tmp_path: Path, new_database: Path) -> AntibodyStore:
    (tmp_path / "x.db").write_bytes(new_database.read_bytes())
    return open_store(str(tmp_path / "x.db"))


def place(folder: Path, store: AntibodyStore, encoder: Path, **sections: Any) -> Workplace:
    for number, name in enumerate(("id", "far")):
        write_images(folder / name, {"cat": 2, "dog": 2}, seed=number)
    config = make_config(folder, data={"id": "id", "ood": {"far": "far"}}, **sections)
    return Workplace(config, lambda: store, LocalEmbedder(EncoderSpec(f"local-dir:{encoder}"), folder / "store"))


def test_class_names_template_included(tmp_path: Path, store: AntibodyStore, tiny_encoder_dir: Path) -> None:
    template = {"names": "dataset", "template": f"{LONG} beside a {{}}."}
    with pytest.raises(SetupError, match=r"2 of the 2 class names have more tokens .*first: 'very very") as refused:
        bench(place(tmp_path, store, tiny_encoder_dir, classes=template), out=tmp_path / "out")
    assert "\n" not in str(refused.value)
    assert store.test_reads() == ()


def test_a_bank(tmp_path: Path, store: AntibodyStore, tiny_encoder_dir: Path) -> None:
    (tmp_path / "bank.txt").write_text(f"fox\n{LONG}\n")
    bank = {"file": str(tmp_path / "bank.txt")}
    with pytest.raises(SetupError, match=r"1 of the 2 antibodies of .*bank.txt have more tokens"):
        bench(place(tmp_path, store, tiny_encoder_dir, antibodies=bank, methods=["calibrated"]), out=tmp_path / "out")
    assert store.test_reads() == ()


def test_texts_of_the_api(tmp_path: Path, store: AntibodyStore, tiny_encoder_dir: Path) -> None:
    lab = Lab(place(tmp_path, store, tiny_encoder_dir), ExitStack(), quiet=True)
    assert lab.embed(["a cat"]).shape == (1, 16)
    with pytest.raises(SetupError, match="1 of the 2 texts have more tokens"):
        lab.embed(["a cat", LONG])


@pytest.mark.long  # a cluster of its own
def test_stored_texts_that_are_too_long_are_left_without_an_embedding_and_told(
    tmp_path: Path,
    store: AntibodyStore,
    tiny_encoder_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "bank.txt").write_text(f"fox\n{LONG}\n")
    config = write_config(tmp_path / "x.toml", encoder={"model": f"local-dir:{tiny_encoder_dir}"})
    local = LocalEmbedder(EncoderSpec(f"local-dir:{tiny_encoder_dir}"), tmp_path / "store")
    monkeypatch.setattr(embed, "make_embedder", lambda *_, **__: local)
    arguments = [str(tmp_path / "bank.txt"), "--config", str(config), "--db", str(tmp_path / "x.db")]
    exchange.import_bank.main(arguments, standalone_mode=False)
    out, err = capsys.readouterr()
    assert "2 antibodies, 1 embedded" in out
    assert "1 texts were not embedded: they have more tokens" in err
    assert f"(first: '{LONG[:40]}" in err
