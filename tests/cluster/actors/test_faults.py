"""On a cluster of several machines: whoever dies, the rows are bit for bit those of an undisturbed run.

Nothing here waits for a moment to strike: a fault happens when so many images are stored, and no sooner.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.cluster.tiny_models import write_images

from .fault_driver import SHARD
from .scripts import ROOT, start_script

pytestmark = [pytest.mark.ray, pytest.mark.long]


class Answer:
    """What the driver said of one embedding."""

    def __init__(self, said: dict[str, Any], features: NDArray[np.float32]) -> None:
        self.ids: list[str] = said["ids"]
        self.skipped: dict[str, str] = said["skipped"]
        self.features = features
        self.tried: int = said["tried"]
        self.embedded: int = said["embedded"]
        self.shards: int = said["shards"]
        self.retries: int = said["retries"]
        self.nodes_lost: int = said["nodes_lost"]
        self.deaths: list[dict[str, Any]] = said["deaths"]


class Lab:
    """A cluster with an embedder on it, in another process, and images with bad ones among them."""

    def __init__(self, model: Path, folder: Path) -> None:
        self.model, self.store, self.images, self._out = model, folder / "store", folder / "images", folder / "out.npy"
        write_images(self.images, {"cat": 30, "dog": 30}, seed=3)
        (self.images / "cat/004.png").write_bytes(b"")
        (self.images / "cat/017.png").write_bytes((self.images / "cat/017.png").read_bytes()[:200])
        (self.images / "dog/009.png").write_text("no image at all")
        (self.images / "dog/021.png").write_bytes(huge_png())
        command = [sys.executable, "-m", "tests.cluster.actors.fault_driver", f"local-dir:{model}", str(self.store)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.answers: list[Answer] = []
        self.address: str = self._read()["address"]

    def embed(self, **fault: Any) -> Answer:
        said = self.ask(do="embed", images=str(self.images), out=str(self._out), **fault)
        self.answers.append(Answer(said, np.load(self._out)))
        return self.answers[-1]

    def ask(self, **command: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return self._read()

    def shards(self) -> list[Path]:
        return sorted(self.store.glob("*/images/*/*.safetensors"))

    def forget(self) -> None:
        for path in self.shards():
            path.unlink()

    def close(self) -> None:
        self.process.communicate(timeout=120)  # the end of its input ends it

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the driver ended with {self.process.wait(timeout=60)}"
        read: dict[str, Any] = json.loads(line)
        return read


def huge_png() -> bytes:
    """A small file that says it holds 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    side = (60_000).to_bytes(4, "big")
    header = side + side + bytes([8, 2, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


@pytest.fixture(scope="module")
def lab(tiny_encoder_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(tiny_encoder_dir, tmp_path_factory.mktemp("faults"))
    yield lab
    lab.close()


@pytest.fixture(scope="module")
def undisturbed(lab: Lab) -> Answer:
    return lab.embed()


def same(one: Answer, other: Answer) -> bool:
    return np.array_equal(one.features, other.features) and (one.ids, one.skipped) == (other.ids, other.skipped)


def test_bad_images_are_left_out_with_their_reasons(undisturbed: Answer) -> None:
    assert undisturbed.skipped["004.png"] == "the file is empty"
    assert undisturbed.skipped["009.png"] == "not an image"
    assert "exceeds limit" in undisturbed.skipped["021.png"]
    assert set(undisturbed.skipped) == {"004.png", "009.png", "017.png", "021.png"}
    assert undisturbed.features.shape == (56, 16)
    assert (undisturbed.tried, undisturbed.embedded, undisturbed.shards) == (60, 56, 15)
    assert (undisturbed.deaths, undisturbed.retries, undisturbed.nodes_lost) == ([], 0, 0)


def test_an_actor_is_killed(lab: Lab, undisturbed: Answer) -> None:
    lab.forget()
    disturbed = lab.embed(after=3 * SHARD, fault="actor")
    assert same(disturbed, undisturbed)
    (death,) = disturbed.deaths
    assert death["host"]
    assert "the images from" in death["over"]
    assert not death["node_lost"]
    assert disturbed.retries >= 1
    assert disturbed.nodes_lost == 0


def test_a_machine_is_killed(lab: Lab, undisturbed: Answer) -> None:
    lab.forget()
    disturbed = lab.embed(after=3 * SHARD, fault="node")
    assert same(disturbed, undisturbed)
    assert disturbed.nodes_lost == 1, disturbed.deaths
    assert all(death["node_lost"] for death in disturbed.deaths)


def test_a_shard_is_truncated_on_disk(lab: Lab, undisturbed: Answer) -> None:
    before = {path: path.stat().st_ino for path in lab.shards()}
    assert len(before) == 15
    spoilt = lab.shards()[5]
    spoilt.write_bytes(spoilt.read_bytes()[:-7])
    mended = lab.embed()
    assert same(mended, undisturbed)
    assert mended.tried == SHARD
    assert {path for path, inode in before.items() if path.stat().st_ino != inode} <= {spoilt}


def test_the_driver_is_killed_and_started_again(lab: Lab, undisturbed: Answer) -> None:
    lab.forget()
    program = start_script(
        """
        import sys, time
        from pathlib import Path
        from cluster import RayEmbedder
        from immuno_core.progress import SilentProgress
        from immuno_core.config.run import ClusterConfig, EncoderConfig
        from tests.cluster.tiny_models import image_set

        class Progress(SilentProgress):
            done = 0
            def advance(self, count):
                self.done += count
                if self.done == 12:
                    print("twelve", flush=True)
                    time.sleep(600)

        address, model, store, folder = sys.argv[1:]
        cluster = ClusterConfig(actors=1, num_cpus=0.25, shard_size=4, store=Path(store))
        encoder = EncoderConfig(model=model, batch_size=4)
        with RayEmbedder(encoder, cluster, ray_address=address, progress=Progress()) as embedder:
            embedder.embed_images(image_set(Path(folder)))
        """,
        lab.address,
        f"local-dir:{lab.model}",
        str(lab.store),
        str(lab.images),
    )
    with program:
        assert program.stdout is not None
        assert program.stdout.readline() == "twelve\n"
        program.send_signal(signal.SIGKILL)
        program.communicate(timeout=60)
    finished = {path: path.stat().st_ino for path in lab.shards()}
    assert 3 <= len(finished) < 15
    again = lab.embed()
    assert same(again, undisturbed)
    # Its actors may have finished what they had in hand: that counts too.
    assert again.tried <= 60 - SHARD * len(finished)
    assert {path: path.stat().st_ino for path in finished} == finished


def test_metrics_reach_whoever_scrapes_them(lab: Lab, undisturbed: Answer) -> None:
    deaths = sum(len(answer.deaths) for answer in lab.answers)
    wanted = {
        "ray_immuno_images_embedded_total": sum(answer.embedded for answer in lab.answers),
        "ray_immuno_images_quarantined_total": sum(answer.tried - answer.embedded for answer in lab.answers),
        "ray_immuno_shards_finished_total": sum(answer.shards for answer in lab.answers),
        # What was never counted is not there.
        **({"ray_immuno_actor_deaths_total": deaths} if deaths else {}),
    }
    deadline = time.monotonic() + 60  # Ray exports what it was told a moment later
    while not wanted.items() <= (found := lab.ask(do="scrape")).items():
        assert time.monotonic() < deadline, (found, wanted)
        time.sleep(0.2)
    assert found["ray_immuno_actors"] >= 1
    assert found["ray_immuno_images_per_second"] > 0
