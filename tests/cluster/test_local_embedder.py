"""An embedder does nothing twice, loses nothing that was finished, and keeps the order of what it was given."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster import EncoderSpec, LocalEmbedder
from cluster.actors.actor import ShardReceipt
from cluster.actors.schedule import Work as Piece
from cluster.encoder.encoder import Encoder, MeasuredImages
from cluster.store.shards import write_shard
from evaluation.data.sources import Listing
from immuno_core.errors import ImmunoError, SetupError
from immuno_core.features import embed_whole
from immuno_core.images import MadeImage
from tests.configs import make_config

from .tiny_models import image_set, write_images, write_tiny_model


class Work:
    """Counts what the encoder is really asked to do."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.images: list[str] = []
        self.texts: list[str] = []
        measure_images, embed_texts = Encoder.measure_image_files, Encoder.embed_texts

        def counted_images(encoder: Encoder, paths: Sequence[str]) -> MeasuredImages:
            self.images += paths
            return measure_images(encoder, paths)

        def counted_texts(encoder: Encoder, texts: Sequence[str]) -> object:
            self.texts += texts
            return embed_texts(encoder, texts)

        monkeypatch.setattr(Encoder, "measure_image_files", counted_images)
        monkeypatch.setattr(Encoder, "embed_texts", counted_texts)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    return Work(monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_images(tmp_path / "images", {"cat": 5, "dog": 5})


@pytest.fixture
def spec(tiny_encoder_dir: Path) -> EncoderSpec:
    return EncoderSpec(f"local-dir:{tiny_encoder_dir}")


def test_three_spellings_of_one_folder_are_embedded_once(spec: EncoderSpec, folder: Path, work: Work) -> None:
    (folder.parent / "a" / "b").mkdir(parents=True)
    listed = Listing()
    rows = []
    for start, path in ((".", "images"), ("a", "../images"), ("a/b", "../../images")):
        source = make_config(folder.parent / start, data={"id": path, "ood": {"near": path}}).data.id
        images = listed.images(source, name="id", role="id", split="test", seed=0, classes=())
        rows.append(LocalEmbedder(spec, folder.parent / "store").embed_images(images).features)
        plain = [str(folder.parent / start / path / sample.id) for sample in images.samples]
        by_hand = replace(
            images, samples=tuple(replace(one, path=where) for one, where in zip(images.samples, plain, strict=True))
        )
        rows.append(LocalEmbedder(spec, folder.parent / "store").embed_images(by_hand).features)
    assert len(work.images) == 10
    assert all(np.array_equal(one, rows[0]) for one in rows)


def test_a_set_comes_back_in_the_order_of_its_samples(spec: EncoderSpec, folder: Path) -> None:
    images = image_set(folder)
    features = LocalEmbedder(spec, shard_size=4).embed_images(images)
    assert (features.name, features.split, features.skipped) == ("animals", "fit", ())
    assert features.ids == tuple(sample.id for sample in images.samples)
    assert features.label_names == ("cat",) * 5 + ("dog",) * 5
    alone = LocalEmbedder(spec, shard_size=1).embed_images(images)
    np.testing.assert_allclose(features.features, alone.features, atol=1e-6)


def test_unreadable_images_are_skipped_and_listed(spec: EncoderSpec, folder: Path) -> None:
    (folder / "cat" / "003.png").write_text("no image")
    (folder / "dog" / "000.png").write_bytes(b"")
    features = LocalEmbedder(spec, shard_size=4).embed_images(image_set(folder))
    assert len(features) == 8
    assert features.label_names == ("cat",) * 4 + ("dog",) * 4
    assert [(skipped.set_name, Path(skipped.path).name, skipped.reason) for skipped in features.skipped] == [
        ("animals", "003.png", "not an image"),
        ("animals", "000.png", "the file is empty"),
    ]
    assert features.paths == tuple(
        str(path) for path in sorted(folder.glob("*/*")) if path.read_bytes()[:4] == b"\x89PNG"
    )


def test_a_set_without_any_readable_image_is_refused(spec: EncoderSpec, tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.png").write_text("no image")
    with pytest.raises(SetupError, match=r"none of the 1 images of 'animals' can be read \(first: .*a.png: not an im"):
        LocalEmbedder(spec).embed_images(image_set(tmp_path))


def test_a_second_run_embeds_nothing(spec: EncoderSpec, folder: Path, tmp_path: Path, work: Work) -> None:
    (folder / "cat" / "003.png").write_text("no image")
    images = image_set(folder)
    first = LocalEmbedder(spec, tmp_path / "store", shard_size=4)
    features, texts = first.embed_images(images), first.embed_texts(["a cat", "a dog"])
    assert len(work.images) == 10
    work.images.clear()
    work.texts.clear()
    second = LocalEmbedder(spec, tmp_path / "store", shard_size=4)
    again = second.embed_images(images)
    np.testing.assert_array_equal(again.features, features.features)
    assert (again.skipped, again.ids) == (features.skipped, features.ids)
    np.testing.assert_array_equal(second.embed_texts(["a dog", "a cat"]), texts[::-1])
    assert second.encoder == first.encoder
    assert (work.images, work.texts) == ([], [])


def test_in_half_precision_a_second_run_gives_the_very_same_rows(
    spec: EncoderSpec, folder: Path, tmp_path: Path, work: Work
) -> None:
    images = image_set(folder)
    first = LocalEmbedder(spec, tmp_path / "store", shard_size=4, store_dtype="float16").embed_images(images)
    again = LocalEmbedder(spec, tmp_path / "store", shard_size=4, store_dtype="float16").embed_images(images)
    np.testing.assert_array_equal(first.features, again.features)
    assert len(work.images) == 10
    whole = LocalEmbedder(spec, tmp_path / "store", shard_size=4).embed_images(images)
    assert len(work.images) == 20
    assert 0 < np.abs(whole.features - again.features).max() < 5e-4


def test_by_content_a_copy_of_the_images_is_not_embedded(
    spec: EncoderSpec, folder: Path, tmp_path: Path, work: Work
) -> None:
    (folder / "cat" / "003.png").write_text("no image")
    first = LocalEmbedder(spec, tmp_path / "store", file_identity="content").embed_images(image_set(folder))
    copy = shutil.copytree(folder, tmp_path / "copy")
    again = LocalEmbedder(spec, tmp_path / "store", file_identity="content").embed_images(image_set(copy))
    assert len(work.images) == 10
    np.testing.assert_array_equal(first.features, again.features)
    assert [skipped.path for skipped in again.skipped] == [str(copy / "cat" / "003.png")]


def test_only_what_was_lost_or_changed_is_embedded_again(
    spec: EncoderSpec, folder: Path, tmp_path: Path, work: Work
) -> None:
    images = image_set(folder)
    paths = [sample.path for sample in images.samples]
    before = LocalEmbedder(spec, tmp_path / "store", shard_size=4).embed_images(images)
    shards = sorted((tmp_path / "store").glob("*/images/*/*.safetensors"), key=lambda path: path.stat().st_mtime_ns)

    work.images.clear()
    shards[1].write_bytes(shards[1].read_bytes()[:-7])
    mended = LocalEmbedder(spec, tmp_path / "store", shard_size=4).embed_images(images)
    assert work.images == paths[4:8]
    np.testing.assert_array_equal(mended.features, before.features)

    work.images.clear()
    Path(paths[8]).unlink()
    write_images(folder / "again", {"dog": 2}, seed=5)
    (folder / "again" / "dog" / "001.png").rename(paths[9])
    after = LocalEmbedder(spec, tmp_path / "store", shard_size=4).embed_images(images)
    assert work.images == paths[8:]
    assert after.ids == (*before.ids[:8], "dog/004.png")
    assert [(skipped.path, skipped.reason) for skipped in after.skipped] == [(paths[8], "No such file or directory")]
    np.testing.assert_array_equal(after.features[:8], before.features[:8])
    assert np.abs(after.features[8] - before.features[9]).max() > 0.01


def test_a_run_that_was_interrupted_resumes_where_it_was(
    spec: EncoderSpec, folder: Path, tmp_path: Path, work: Work
) -> None:
    images = image_set(folder)

    class StopAfterTwo:
        done = 0

        def start(self, total: int, description: str) -> None:
            assert (total, description) == (10, "embedding images of animals")

        def advance(self, count: int) -> None:
            self.done += 1
            if self.done == 2:
                raise KeyboardInterrupt

        def stop(self) -> None:
            self.done = -1

    progress = StopAfterTwo()
    with pytest.raises(KeyboardInterrupt):
        LocalEmbedder(spec, tmp_path / "store", shard_size=2, progress=progress).embed_images(images)
    assert progress.done == -1
    assert len(work.images) == 4
    work.images.clear()
    LocalEmbedder(spec, tmp_path / "store", shard_size=2).embed_images(images)
    assert work.images == [sample.path for sample in images.samples[4:]]


def test_a_new_text_is_the_only_one_embedded(spec: EncoderSpec, tmp_path: Path, work: Work) -> None:
    texts = [f"a thing number {i}" for i in range(40)]
    embedder = LocalEmbedder(spec, tmp_path / "store")
    rows = embedder.embed_texts([*texts, *texts])
    np.testing.assert_array_equal(rows[:40], rows[40:])
    LocalEmbedder(spec, tmp_path / "store").embed_texts(["another", *texts])
    assert work.texts == [*texts, "another"]
    assert embedder.embed_texts([]).shape == (0, 16)


def test_texts_that_were_cut_are_known_from_the_store(spec: EncoderSpec, tmp_path: Path, work: Work) -> None:
    short, long = "a cat", "a very " * 30 + "red fox"
    assert LocalEmbedder(spec, tmp_path / "store").cut_texts([long, short, long]) == (long,)
    work.texts.clear()
    second = LocalEmbedder(spec, tmp_path / "store")
    second.embed_texts([short, long])
    assert second.cut_texts([short]) == ()
    assert second.cut_texts([short, long]) == (long,)
    assert work.texts == []
    with pytest.raises(SetupError, match=r"1 of the 2 class names have more tokens .*first: 'a very a very"):
        embed_whole(second, [short, long], what="class names")
    np.testing.assert_array_equal(embed_whole(second, [short], what="class names"), second.embed_texts([short]))


def test_another_model_in_the_same_folder_has_embeddings_of_its_own(folder: Path, tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "model")
    spec, images = EncoderSpec(f"local-dir:{model}"), image_set(folder)
    before = LocalEmbedder(spec, tmp_path / "store").embed_images(images).features
    shutil.rmtree(model)
    write_tiny_model(model, seed=1)
    after = LocalEmbedder(spec, tmp_path / "store").embed_images(images).features
    assert np.abs(after - before).max() > 0.1


def test_a_model_that_is_not_the_one_on_record_is_refused_once(spec: EncoderSpec, folder: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    LocalEmbedder(spec, store).embed_texts(["a cat"])
    (record,) = (store / "encoders").iterdir()
    record.write_text(json.dumps({**json.loads(record.read_text()), "weights_digest": "of yesterday"}))
    with pytest.raises(SetupError, match="not those on record: run the command again"):
        LocalEmbedder(spec, store).embed_images(image_set(folder))
    assert len(LocalEmbedder(spec, store).embed_images(image_set(folder))) == 10


def test_a_relative_path_of_a_model_is_made_absolute(tiny_encoder_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_encoder_dir.parent)
    embedder = LocalEmbedder(EncoderSpec(f"local-dir:{tiny_encoder_dir.name}"))
    assert embedder.encoder.model == f"local-dir:{tiny_encoder_dir}"


def test_without_a_store_nothing_stays_behind(spec: EncoderSpec) -> None:
    with LocalEmbedder(spec) as embedder:
        folder = embedder.store.root
        embedder.embed_texts(["a cat"])
    assert len(embedder.embed_texts(["a cat"])) == 1
    del embedder
    assert not folder.exists()


class OfAnotherMachine(LocalEmbedder):
    """Its actor stores what it embeds by itself, as one on another machine does."""

    def _run(self, work: Sequence[Piece]) -> Generator[tuple[int, object], None, None]:
        for index, receipt in super()._run(work):
            if isinstance(receipt, ShardReceipt) and receipt.embedded is not None:
                write_shard(self.store, self.encoder, work[index].arguments[0], receipt.embedded)
                receipt = receipt._replace(embedded=None)
            yield index, receipt


def test_a_file_remembered_as_absent_is_found_once_its_folder_is_opened(
    spec: EncoderSpec, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As NFS does: a name that was looked up in vain stays absent until somebody opens the folder."""
    absent: set[str] = set()
    exists, walk = Path.exists, os.walk

    def cached(path: Path) -> bool:
        if not exists(path):
            absent.add(str(path))
        return str(path) not in absent

    def opened(top: Path, **options: Any) -> Any:
        absent.clear()
        return walk(top, **options)

    monkeypatch.setattr(Path, "exists", cached)
    monkeypatch.setattr(os, "walk", opened)
    embedder = OfAnotherMachine(spec, tmp_path / "store", shard_size=4)
    assert len(embedder.embed_images(image_set(folder)).features) == 10
    monkeypatch.setattr("cluster.embedder._PAUSES", (0.0, 0.0))
    monkeypatch.setattr(Path, "exists", lambda path: path.suffix != ".safetensors" and exists(path))
    with pytest.raises(ImmunoError, match=r"just written to the embedding store .* cannot be read back"):
        OfAnotherMachine(spec, tmp_path / "other", shard_size=4).embed_images(image_set(folder))


def test_an_image_that_is_made_of_others_is_embedded_like_one_and_kept_until_either_changes(
    spec: EncoderSpec, folder: Path, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    made = MadeImage("cutmix", ("cat/000.png", "dog/000.png"), 16, 0)
    first, second = (replace(one, path=str(made)) for one in image_set(folder).samples[:2])
    images = replace(image_set(folder), samples=(first, replace(second, path=str(made._replace(seed=1)))))
    rows = LocalEmbedder(spec, folder.parent / "store").embed_images(images).features
    (folder.parent / "plain").mkdir()
    for i in range(2):
        (folder.parent / "plain" / f"{i}.png").write_bytes(made._replace(seed=i).png())
    drawn = replace(
        images, samples=tuple(replace(first, path=str(folder.parent / "plain" / f"{i}.png")) for i in range(2))
    )
    assert np.array_equal(LocalEmbedder(spec).embed_images(drawn).features, rows)
    work.images.clear()
    LocalEmbedder(spec, folder.parent / "store").embed_images(images)
    assert not work.images
    (folder / "dog" / "000.png").write_bytes((folder / "dog" / "001.png").read_bytes())
    again = LocalEmbedder(spec, folder.parent / "store").embed_images(images).features
    assert len(work.images) == 2
    assert not np.array_equal(again, rows)


def test_an_image_made_of_one_that_is_not_there_is_left_out(spec: EncoderSpec, folder: Path) -> None:
    made = MadeImage("moved", (str(folder / "cat" / "000.png"), str(folder / "nowhere.png")), 16, 0)
    one, *others = image_set(folder).samples
    images = replace(image_set(folder), samples=(replace(one, path=str(made)), *others))
    (left_out,) = LocalEmbedder(spec).embed_images(images).skipped
    assert (left_out.path, left_out.reason) == (str(made), "No such file or directory")


def test_seconds_are_measured_anew_and_leave_the_store_alone(
    spec: EncoderSpec, folder: Path, tmp_path: Path, work: Work
) -> None:
    embedder = LocalEmbedder(spec, tmp_path / "store")
    paths = [sample.path for sample in image_set(folder).samples]
    embedder.embed_texts(["a cat"])
    embedder.embed_images(image_set(folder))
    before = sorted(tmp_path.rglob("*.safetensors"))
    work.images.clear()
    assert all(seconds > 0 for seconds in embedder.seconds_anew(["a cat", "a dog"], paths))
    assert work.images == [*paths[:1], *paths]  # the first, before the clock, loads the model
    assert sorted(tmp_path.rglob("*.safetensors")) == before
