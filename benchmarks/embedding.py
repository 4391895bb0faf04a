"""Images per second: this pipeline against a plain loop and against the model alone, in one run.

    python benchmarks/embedding.py [--device cpu|cuda] [--model miniworld vit] [--images N] [--repetitions R]
                                   [--quick] [--json]

(a) loop      one process: torch's DataLoader with open_clip's own preprocessing, and the model; the best of several
              numbers of loader processes, found first. They stay up between repetitions.
(b) model     the model alone, on batches that are ready on its device.
(c) pipeline  RayEmbedder: real actors on a private cluster, from a list of files to stored and assembled embeddings.

Everything is brought up and warmed up before it is timed; a, b and c take turns. Each has the whole machine: torch uses
every core in a and b, the default configuration decides in c. Ray would run its actors at a lower priority than other
programs; here they have that of the loop, so that whatever else runs disturbs all three alike.

The models are the mini-world's, on its 64 x 64 PNG files, and a ViT with random weights (ViT-B-32 in fp32 on a CPU,
ViT-B-16 in bf16 on a GPU) on drawn 500 x 375 JPEG files.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import open_clip
import torch
from pictures import write_pictures
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from cluster import RayEmbedder
from cluster.actors.actor import ShardReceipt
from cluster.actors.schedule import Work
from cluster.records import EmbeddedImages, ShardStats, total
from cluster.store.shards import Shard
from immuno_core.config.run import ClusterConfig, EncoderConfig
from immuno_core.records import ImageSet, Sample

BATCH = {"cpu": 64, "cuda": 256}
"""Images in a batch, of all three. A batch of the pipeline does not reach beyond its shard."""
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Case(NamedTuple):
    """A model and its images."""

    name: str
    encoder: EncoderConfig
    folder: Path
    """The model's."""
    shard_size: int
    """Small enough that every actor has several shards: what follows the last of them is no steady state."""
    sets: tuple[list[str], ...]
    """A list of files for each repetition: the pipeline would not embed one twice."""


class Loop:
    """(a), and the model for (b)."""

    def __init__(self, case: Case, device: torch.device, batch: int) -> None:
        self.device, self.batch = device, batch
        self.dtype = DTYPES[case.encoder.precision]
        self.model, _, self.preprocess = open_clip.create_model_and_transforms(
            f"local-dir:{case.folder}", precision=case.encoder.precision, device=device
        )
        self.model.eval()
        self.loaders: dict[int, DataLoader[torch.Tensor]] = {}

    def embed(self, files: Sequence[str], workers: int) -> float:
        """Embed every file; return the images per second. The first call with a number of workers starts them."""
        if workers not in self.loaders:
            self.loaders[workers] = DataLoader(
                Files(self.preprocess),
                batch_size=self.batch,
                sampler=Order(),
                num_workers=workers,
                persistent_workers=workers > 0,
                multiprocessing_context="spawn" if workers else None,
                pin_memory=self.device.type == "cuda",
            )
        loader = self.loaders[workers]
        loader.sampler.files = list(files)  # type: ignore[attr-defined]
        started = time.perf_counter()
        with torch.inference_mode():
            rows = [self.rows(images.to(self.device, self.dtype, non_blocking=True)).cpu().numpy() for images in loader]
        expect(len(np.concatenate(rows)), len(files))
        return len(files) / (time.perf_counter() - started)

    def rows(self, images: torch.Tensor) -> torch.Tensor:
        """(n, 3, h, w) -> (n, d) float32 unit rows."""
        return torch.nn.functional.normalize(self.model.encode_image(images).float(), dim=-1)

    def model_alone(self, files: Sequence[str]) -> float:
        """(b): embed one ready batch as often as the files would take; return the images per second."""
        images = torch.stack([self.preprocess(Image.open(file)) for file in files[: self.batch]])
        images = images.to(self.device, self.dtype)
        turns = max(1, len(files) // self.batch)
        with torch.inference_mode():
            self.rows(images).cpu()
            started = time.perf_counter()
            for _ in range(turns):
                rows = self.rows(images)
            rows.cpu()
        return turns * len(images) / (time.perf_counter() - started)


class Files(Dataset[torch.Tensor]):
    """What the loader's processes run: a file's name is its index, so that they need not be started for each list."""

    def __init__(self, preprocess: Callable[[Image.Image], torch.Tensor]) -> None:
        self.preprocess = preprocess

    def __getitem__(self, file: str) -> torch.Tensor:  # type: ignore[override]
        with Image.open(file) as image:
            return self.preprocess(image)


class Order:
    """A sampler of a list that changes between repetitions."""

    files: list[str] = []  # noqa: RUF012 - set before each repetition

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)


class Pipeline(RayEmbedder):
    """(c), which keeps what its actors say of each shard."""

    stats: list[ShardStats] = []  # noqa: RUF012 - emptied before each repetition

    def _collect(self, shard: Shard, receipt: ShardReceipt) -> EmbeddedImages:
        self.stats.append(receipt.stats)
        return super()._collect(shard, receipt)

    def bring_up(self) -> int:
        """Start every actor and have it load its model; return how many there are."""
        pool = self.started()
        wanted = pool._plan.actors
        while len(pool.places) < wanted:
            list(pool.run([Work("info", (), "asking")] * (2 * wanted)))
        return wanted

    def embed(self, files: Sequence[str], name: str) -> float:
        """Embed every file; return the images per second."""
        self.stats = []
        samples = tuple(Sample(file, file, "") for file in files)
        started = time.perf_counter()
        features = self.embed_images(ImageSet(name, "fit", "id", samples, digest=name))
        seconds = time.perf_counter() - started
        expect(len(features), len(files))
        return len(files) / seconds


class Stages(NamedTuple):
    """Where the pipeline's time went, over all repetitions."""

    actors: int
    decode_threads: int
    model_rate: float
    """Images per second that the models did while they were at work, all actors together."""
    decode_rate: float
    """Images per second that the decode workers could have delivered at the speed they worked at."""
    model_busy: float
    """Share of the actors' time in which the model was at work."""
    model_waits: float
    """Share of the actors' time in which it waited for decoded images."""
    limit: str


def stages_of(stats: Sequence[ShardStats], seconds: float, actors: int, threads: int) -> Stages:
    """Work out which stage limits from what the actors measured in `seconds` of the driver's time."""
    sums = total(stats)
    waits, busy = sums.wait_seconds / (actors * seconds), sums.model_seconds / (actors * seconds)
    limit = "the model" if busy > 0.9 else "decoding" if waits > 0.1 else "neither: starting and collecting shards"
    return Stages(
        actors,
        threads,
        model_rate=actors * sums.images / sums.model_seconds,
        decode_rate=actors * threads * sums.images / sums.decode_seconds,
        model_busy=busy,
        model_waits=waits,
        limit=limit,
    )


def measure(case: Case, device: str, repetitions: int) -> dict[str, Any]:
    """Time a, b and c in turn on one case."""
    with tempfile.TemporaryDirectory(prefix="bench-") as store:
        cluster = ClusterConfig(store=Path(store), shard_size=case.shard_size)
        encoder = case.encoder.model_copy(update={"batch_size": BATCH[device], "device": device})
        with Pipeline(encoder, cluster, ray_address="local") as pipeline:
            actors = pipeline.bring_up()
            settings = pipeline.started()._settings
            pipeline.embed(case.sets[-1], "warm-up")
            loop = Loop(case, torch.device(device), BATCH[device])
            workers = best_workers(loop, case.sets[-1])
            rates: dict[str, list[float]] = {"loop": [], "model": [], "pipeline": []}
            stats: list[ShardStats] = []
            seconds = 0.0
            for repetition in range(repetitions):
                files = case.sets[repetition]
                rates["loop"].append(loop.embed(files, workers))
                rates["model"].append(loop.model_alone(files))
                rates["pipeline"].append(pipeline.embed(files, f"repetition {repetition}"))
                stats += pipeline.stats
                seconds += len(files) / rates["pipeline"][-1]
    stages = stages_of(stats, seconds, actors, settings.decode_threads)
    ratios = {
        f"pipeline/{other}": [c / x for c, x in zip(rates["pipeline"], rates[other], strict=True)]
        for other in ("loop", "model")
    }
    return {
        "case": case.name,
        "images": len(case.sets[0]),
        "loader_processes": workers,
        "images_per_second": {name: spread(values) for name, values in rates.items()},
        "ratios": {name: spread(values) for name, values in ratios.items()},
        "stages": stages._asdict(),
    }


def best_workers(loop: Loop, files: Sequence[str], counts: Sequence[int] = ()) -> int:
    """Return the number of loader processes, of `counts` or else all worth trying, with which the loop is fastest."""
    cores = os.cpu_count() or 1
    counts = counts or sorted({0, 1, 2, *(n for n in (4, 8, 16) if n <= cores)})
    rates = {}
    for count in counts:
        loop.embed(files[: 2 * loop.batch], count)  # starts them
        rates[count] = loop.embed(files, count)
        print(f"  loop with {count} loader processes: {rates[count]:.1f} images/s", file=sys.stderr)
    best = max(rates, key=rates.__getitem__)
    for count in counts:
        if count != best:
            del loop.loaders[count]
    return best


def expect(found: int, wanted: int) -> None:
    """End the program if images were lost: a rate of fewer images would say nothing."""
    if found != wanted:
        raise SystemExit(f"{found} of {wanted} images were embedded")


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the least, the middle and the largest of some values."""
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def miniworld_case(folder: Path, images: int, repetitions: int) -> Case:
    """The shipped model, on images of its world."""
    from evaluation.miniworld.drawing.scene import render
    from evaluation.miniworld.model import CHECKPOINT
    from evaluation.miniworld.vocabulary import CATEGORIES, SEEN_CONTEXTS

    rng = np.random.default_rng(0)
    drawn = folder / "drawn"
    drawn.mkdir(parents=True)
    for i in range(min(images, 500)):
        picture = render(CATEGORIES[i % len(CATEGORIES)], SEEN_CONTEXTS[i % len(SEEN_CONTEXTS)], rng)
        picture.save(drawn / f"{i:05}.png")
    return Case(
        "miniworld", EncoderConfig(model="miniworld"), CHECKPOINT, 256, linked(drawn, folder, images, repetitions)
    )


def vit_case(folder: Path, images: int, repetitions: int, *, on_gpu: bool) -> Case:
    """A ViT with random weights, on photo-sized JPEGs."""
    name, precision, shard_size = ("ViT-B-16", "bf16", 256) if on_gpu else ("ViT-B-32", "fp32", 32)
    model = folder / "model"
    write_random_model(model, name)
    drawn = folder / "drawn"
    write_pictures(drawn, min(images, 200), size=(500, 375))
    encoder = EncoderConfig(model=f"local-dir:{model}", precision=precision)  # type: ignore[arg-type]
    return Case(f"{name} {precision}", encoder, model, shard_size, linked(drawn, folder, images, repetitions))


def write_random_model(folder: Path, name: str) -> None:
    """Write one of open_clip's architectures with random weights, as a folder for local-dir:."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    torch.manual_seed(0)
    model = open_clip.create_model(name)
    config = {"model_cfg": open_clip.get_model_config(name), "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    weights = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")


def linked(drawn: Path, folder: Path, images: int, repetitions: int) -> tuple[list[str], ...]:
    """Return a list of `images` files for each repetition and one for warming up, all of them links to drawn ones."""
    originals = sorted(drawn.iterdir())
    sets = []
    for repetition in range(repetitions + 1):
        into = folder / f"set-{repetition}"
        into.mkdir()
        files = [into / f"{i:06}{originals[0].suffix}" for i in range(images)]
        for i, file in enumerate(files):
            os.link(originals[i % len(originals)], file)
        sets.append([str(file) for file in files])
    return tuple(sets)


def say(result: dict[str, Any]) -> None:
    """Print a case."""
    names = {
        "loop": f"(a) loop, {result['loader_processes']} loader processes",
        "model": "(b) model alone",
        "pipeline": "(c) pipeline",
        "pipeline/loop": "(c) / (a)",
        "pipeline/model": "(c) / (b)",
    }
    print(f"{result['case']}: {result['images']} images a repetition" + " " * 14 + "min   median      max")
    for values, form in ((result["images_per_second"], "9.1f"), (result["ratios"], "9.3f")):
        for name, one in values.items():
            print(f"  {names[name]:42}" + "".join(f"{one[key]:{form}}" for key in ("min", "median", "max")))
    stages = Stages(**result["stages"])
    print(
        f"  {stages.actors} actors, each with {stages.decode_threads} decode thread(s): the models were at work "
        f"{stages.model_busy:.0%} of the time,\n  at {stages.model_rate:.1f} images/s, and waited for images "
        f"{stages.model_waits:.0%} of it; decoding at {stages.decode_rate:.1f} images/s\n  what limits: {stages.limit}"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--model", choices=("miniworld", "vit"), nargs="*", default=["miniworld", "vit"])
    parser.add_argument("--images", type=int, help="in a repetition; default: by device and model")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="few images, two repetitions: does it run at all?")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    given = parser.parse_args()
    logging.disable(logging.WARNING)  # open_clip's, that weights are random
    os.environ.setdefault("RAY_worker_niceness", "0")
    on_gpu = given.device == "cuda"
    repetitions = 2 if given.quick else given.repetitions
    default = {"miniworld": 40_000, "vit": 20_480} if on_gpu else {"miniworld": 8192, "vit": 256}
    results = []
    with tempfile.TemporaryDirectory(prefix="embedding-") as work:
        for name in given.model:
            images = given.images or (default[name] // 4 if given.quick else default[name])
            folder = Path(work) / name
            if name == "miniworld":
                case = miniworld_case(folder, images, repetitions)
            else:
                case = vit_case(folder, images, repetitions, on_gpu=on_gpu)
            results.append(measure(case, given.device, repetitions))
            if not given.json:
                say(results[-1])
    if given.json:
        print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
