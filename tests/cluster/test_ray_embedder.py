"""On Ray: the same rows as in one process, in the same order, whatever arrives first and whoever dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import ray

from cluster import EncoderSpec, LocalEmbedder, RayEmbedder
from cluster.actors.actor import ActorPlace
from cluster.actors.schedule import Work
from immuno_core.config.run import ClusterConfig, EncoderConfig
from immuno_core.progress import ProgressReport, ProgressState
from immuno_core.records import ImageSet
from tests.cluster.actors.scripts import run_script, start_script

from .tiny_models import image_set, write_images

pytestmark = pytest.mark.ray

SMALL = ClusterConfig(actors=2, num_cpus=0.25, shard_size=4)
"""Leaves room in the shared cluster for others."""


class Reports(ProgressReport):
    """Remembers what is reported; `on_advance` may interfere."""

    def __init__(self) -> None:
        self.started: list[tuple[int, str]] = []
        self.done = 0
        self.stopped = 0
        self.on_advance: Callable[[], None] = lambda: None

    def start(self, total: int, description: str) -> None:
        self.started.append((total, description))
        self.done = 0

    def advance(self, count: int) -> None:
        self.done += count
        self.on_advance()

    def tell(self, state: ProgressState) -> None:
        self.state = state

    def stop(self) -> None:
        self.stopped += 1


@pytest.fixture(scope="module")
def reports() -> Reports:
    return Reports()


@pytest.fixture(scope="module")
def embedder(
    ray_cluster: str, tiny_encoder_dir: Path, tmp_path_factory: pytest.TempPathFactory, reports: Reports
) -> Iterator[RayEmbedder]:
    """One for the module, because starting an actor costs more than all that the tests ask of it."""
    encoder = EncoderConfig(model=f"local-dir:{tiny_encoder_dir}", batch_size=4)
    cluster = SMALL.model_copy(update={"store": tmp_path_factory.mktemp("ray") / "store"})
    with RayEmbedder(encoder, cluster, progress=reports) as embedder:
        yield embedder


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    """Sixty images in fifteen shards, three of them unreadable."""
    folder = write_images(tmp_path / "images", {"cat": 30, "dog": 30}, seed=7)
    for name in ("cat/001.png", "cat/029.png", "dog/017.png"):
        (folder / name).write_text("no image")
    return image_set(folder)


def both_actors(embedder: RayEmbedder) -> tuple[ActorPlace, ...]:
    """Give the actors work until both have loaded their models."""
    pool = embedder.started()
    while len(pool.places) < 2:
        assert len(list(pool.run([Work("info", (), "asking")] * 4))) == 4
    return pool.places


def test_rows_are_those_of_one_process_in_the_order_of_the_samples(
    embedder: RayEmbedder, images: ImageSet, tiny_encoder_dir: Path, reports: Reports
) -> None:
    both_actors(embedder)
    local = LocalEmbedder(EncoderSpec(f"local-dir:{tiny_encoder_dir}"), batch_size=4, shard_size=4)
    distributed, alone = embedder.embed_images(images), local.embed_images(images)
    np.testing.assert_allclose(distributed.features, alone.features, atol=1e-6)
    assert (distributed.ids, distributed.skipped, len(distributed)) == (alone.ids, alone.skipped, 57)
    assert reports.started[-1] == (60, "embedding images of animals")
    assert reports.done == 60
    texts = ["a cat", "a dog", "a cat"]
    np.testing.assert_allclose(embedder.embed_texts(texts), local.embed_texts(texts), atol=1e-6)
    assert embedder.encoder == local.encoder
    assert reports.started[-1] == (60, "embedding images of animals")  # of two texts not a word


def test_many_texts_are_spread_and_come_back_in_order(embedder: RayEmbedder, reports: Reports) -> None:
    texts = [f"thing {i}" for i in range(2500)]
    rows = embedder.embed_texts(texts)
    assert reports.started[-1] == (2500, "embedding texts")
    np.testing.assert_allclose(rows[[2400, 3]], embedder.embed_texts(["thing 2400", "thing 3"]), atol=1e-6)
    local = LocalEmbedder(embedder.spec)
    np.testing.assert_allclose(rows[::500], local.embed_texts(texts[::500]), atol=1e-6)


def test_only_missing_shards_are_embedded(
    embedder: RayEmbedder, tiny_images: Callable[..., Path], tmp_path: Path, reports: Reports
) -> None:
    images = image_set(tiny_images(tmp_path / "more", {"cow": 20}, seed=11))
    before = embedder.embed_images(images)
    stored = {path: path.stat().st_ino for path in embedder.store.root.glob("*/images/*/*.safetensors")}
    lost = sorted(stored, key=lambda path: path.stat().st_mtime_ns)[-5:]  # this set's
    lost[0].unlink()
    lost[3].write_bytes(lost[3].read_bytes()[:100])
    runs = len(reports.started)
    after = embedder.embed_images(images)
    np.testing.assert_array_equal(after.features, before.features)
    assert reports.started[runs:] == [(8, "embedding images of animals")]
    written = {path for path, inode in stored.items() if path.stat().st_ino != inode}
    assert written <= {lost[0], lost[3]}
    embedder.embed_images(images)
    assert len(reports.started) == runs + 1  # finished: nothing to report


def test_actors_that_cannot_reach_the_store_send_rows_home(
    embedder: RayEmbedder, tmp_path: Path, reports: Reports
) -> None:
    both_actors(embedder)
    (mark,) = embedder.store.root.glob(".driver-*")
    mark.unlink()  # as if the actors were on a machine that does not share this folder
    try:
        images = image_set(write_images(tmp_path / "far", {"cow": 10}, seed=12))
        features = embedder.embed_images(images)
        assert len(features) == 10
        runs = len(reports.started)
        np.testing.assert_array_equal(embedder.embed_images(images).features, features.features)
        assert len(reports.started) == runs
    finally:
        mark.touch()


def test_a_second_run_starts_neither_ray_nor_a_model(embedder: RayEmbedder, images: ImageSet, tmp_path: Path) -> None:
    features = embedder.embed_images(images)
    embedder.embed_texts(["a cat", "a dog"])
    out = run_script(
        """
        import sys
        from pathlib import Path
        from cluster import RayEmbedder
        from immuno_core.config.run import ClusterConfig, EncoderConfig
        from tests.cluster.tiny_models import image_set

        model, store, folder = sys.argv[1:]
        cluster = ClusterConfig(actors=2, shard_size=4, store=Path(store))
        with RayEmbedder(EncoderConfig(model=model), cluster, ray_address="127.0.0.1:1") as embedder:
            features = embedder.embed_images(image_set(Path(folder)))
            print(len(features), len(features.skipped), *features.features[0][:2].tolist())
            print(len(embedder.embed_texts(["a dog", "a cat"])), embedder.encoder.dim)
        print({"ray", "torch", "open_clip"} & set(sys.modules))
        """,
        embedder.spec.model,
        str(embedder.store.root),
        str(tmp_path / "images"),
    )
    first, second, third = out.splitlines()
    assert first.split() == ["57", "3", *(str(value) for value in features.features[0][:2].tolist())]
    assert second == "2 16"
    assert third == "set()"


@pytest.mark.long
def test_ctrl_c_keeps_what_is_finished_and_a_rerun_does_the_rest(
    embedder: RayEmbedder, ray_cluster: str, tmp_path: Path
) -> None:
    images = image_set(write_images(tmp_path / "images", {"cat": 40}, seed=8))
    store = tmp_path / "store"
    program = start_script(
        """
        import sys, time
        from pathlib import Path
        from cluster import RayEmbedder
        from immuno_core.config.run import ClusterConfig, EncoderConfig
        from immuno_core.progress import ProgressReport
        from tests.cluster.tiny_models import image_set

        class Progress(ProgressReport):
            done = 0
            def start(self, total, description):
                print(total, flush=True)
            def advance(self, count):
                self.done += count
                if self.done == 12:
                    print("twelve", flush=True)
                    time.sleep(60)
            def tell(self, state):
                pass
            def stop(self):
                print("stopped", flush=True)

        address, model, store, folder = sys.argv[1:]
        cluster = ClusterConfig(actors=1, num_cpus=0.25, shard_size=4, store=Path(store))
        encoder = EncoderConfig(model=model, batch_size=4)
        with RayEmbedder(encoder, cluster, ray_address=address, progress=Progress()) as embedder:
            embedder.embed_images(image_set(Path(folder)))
        """,
        ray_cluster,
        embedder.spec.model,
        str(store),
        str(tmp_path / "images"),
    )
    with program:
        assert program.stdout is not None
        assert [program.stdout.readline() for _ in range(2)] == ["40\n", "twelve\n"]
        program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=30)
    assert (out, program.returncode) == ("stopped\n", -signal.SIGINT)
    assert err.strip().endswith("KeyboardInterrupt")
    assert ray.is_initialized()  # the cluster it had joined runs on
    assert not list(store.glob(".driver-*"))

    finished = {path: path.stat().st_ino for path in store.glob("*/images/*/*.safetensors")}
    assert 3 <= len(finished) < 10
    work = Reports()
    rerun = LocalEmbedder(embedder.spec, store, batch_size=4, shard_size=4, progress=work)
    features = rerun.embed_images(images)
    assert work.started == [(40 - 4 * len(finished), "embedding images of animals")]
    assert {path: path.stat().st_ino for path in finished} == finished
    np.testing.assert_allclose(features.features, embedder.embed_images(images).features, atol=1e-6)


def test_a_killed_actor_s_work_is_done_by_others(
    embedder: RayEmbedder,
    tmp_path: Path,
    reports: Reports,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    images = image_set(write_images(tmp_path / "killed", {"cat": 60}, seed=9))
    victim = both_actors(embedder)[0]

    def kill() -> None:
        os.kill(victim.pid, signal.SIGKILL)
        reports.on_advance = lambda: None

    reports.on_advance = kill
    features = embedder.embed_images(images)
    assert len(features) == 60
    assert reports.done == 60
    assert victim not in embedder.started().places
    assert f"(process {victim.pid}) died over the images from" in caplog.text
    np.testing.assert_allclose(
        features.features, LocalEmbedder(embedder.spec, batch_size=4).embed_images(images).features, atol=1e-6
    )
    assert capfd.readouterr().out == ""  # which belongs to a command's result
