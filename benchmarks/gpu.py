"""Everything that only a GPU can tell, in one run of a few minutes: `make check-gpu`.

    python -m benchmarks.gpu [--out FILE] [--quick] [--only NAME ...] [--device cuda|cpu]

Each check says `ok`, `failed` or `skipped` with the reason, and what it measured; the report is JSON, on standard
output or in FILE. Exit status 1 where a check failed, 2 where there is no such device. It needs torch, open_clip,
Pillow and safetensors, and neither Ray nor a network: the encoder and the actor's own class run in this process, models
have random weights. What is not installed (Ray, vLLM, a C compiler for torch.compile) is skipped. `--device cpu
--quick` tries the program itself, with the mini-world's model.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import logging
import multiprocessing
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from embedding import BATCH, Case, Loop, best_workers, miniworld_case, stages_of, vit_case

from cluster.actors.actor import ActorSettings, EmbeddingActor
from cluster.encoder.encoder import Encoder, load_encoder
from cluster.encoder.reading import Decoder
from cluster.encoder.spec import EncoderSpec, Precision
from cluster.store.shards import cut, read_shard
from cluster.store.store import EmbeddingStore

LEAST_COSINE = 0.999
"""Of a half-precision embedding with that of float32 on a CPU."""
AT_ONCE = 3
"""Shards in flight in an actor, as the pool has it."""
TEXTS = tuple(f"a photo of a {size} {colour} {thing}." for size in ("small", "big") for colour in
              ("red", "blue", "green", "black") for thing in ("car", "fox", "cup", "tree", "bird", "boat"))  # fmt: skip


class NotHereError(Exception):
    """A check that cannot be made here, and why."""


def require(holds: bool, otherwise: str) -> None:
    """Fail a check with a sentence where something does not hold."""
    if not holds:
        raise RuntimeError(otherwise)


@dataclass(frozen=True)
class Bench:
    """What the checks share."""

    device: str
    folder: Path
    quick: bool

    @cached_property
    def case(self) -> Case:
        """ViT-B-16 with random weights, and lists of photo-sized JPEGs."""
        if self.quick and not self.on_gpu:
            return miniworld_case(self.folder / "miniworld", 96, 2)
        return vit_case(self.folder / "vit", 256 if self.quick else 8192, 1, on_gpu=True)

    @property
    def on_gpu(self) -> bool:
        """Whether the device is one."""
        return self.device.startswith("cuda")

    def spec(self, precision: Precision, *, device: str | None = None, compiled: bool = False) -> EncoderSpec:
        """The model, on a device."""
        model = f"local-dir:{self.case.folder}"
        return EncoderSpec(model, precision=precision, device=device or self.device, compile=compiled)

    @cached_property
    def few(self) -> list[str]:
        """Files for what is not timed."""
        return self.case.sets[0][: 16 if self.quick else 64]

    @cached_property
    def reference(self) -> tuple[np.ndarray, np.ndarray]:
        """Images and texts in float32 on the CPU."""
        encoder = load_encoder(self.spec("fp32", device="cpu"), decode_threads=os.cpu_count() or 1)
        return encoder.embed_image_files(self.few).features, encoder.embed_texts(TEXTS)

    def must_be_gpu(self) -> None:
        """Skip a check that says nothing of a CPU."""
        if not self.on_gpu:
            raise NotHereError("asks for a GPU")


def agreement(found: np.ndarray, wanted: np.ndarray) -> dict[str, float]:
    """Cosines of unit rows with those of the reference; and without what all rows have in common."""
    centred = [rows - wanted.mean(axis=0) for rows in (found, wanted)]
    apart = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in centred]
    return {
        "least_cosine": float((found * wanted).sum(axis=1).min()),
        "least_cosine_without_the_mean": float((apart[0] * apart[1]).sum(axis=1).min()),
    }


def precision(bench: Bench) -> dict[str, Any]:
    """Embeddings of images and texts against float32 on the CPU."""
    images, texts = bench.reference
    measured: dict[str, Any] = {}
    for name, least in (("fp32", 0.99999), ("bf16", LEAST_COSINE), ("fp16", LEAST_COSINE)):
        if name == "fp16" and not bench.on_gpu:
            continue
        encoder = load_encoder(bench.spec(name))  # type: ignore[arg-type]
        measured[name] = {
            "images": agreement(encoder.embed_image_files(bench.few).features, images),
            "texts": agreement(encoder.embed_texts(TEXTS), texts),
        }
        for what, cosines in measured[name].items():
            require(cosines["least_cosine"] >= least, f"{name}, {what}: {cosines['least_cosine']:.6f} < {least}")
    return measured


def batch_size(bench: Bench) -> dict[str, Any]:
    """`batch_size = "auto"`, with all of the memory and with little of it."""
    bench.must_be_gpu()
    plenty = load_encoder(bench.spec("bf16")).batch_size
    torch.cuda.empty_cache()
    with memory_for(bench, images=12):
        scarce = load_encoder(bench.spec("bf16"))
        rows = scarce.embed_image_files(bench.few).features
    require(len(rows) == len(bench.few), f"{len(rows)} of {len(bench.few)} images were embedded with little memory")
    require(scarce.batch_size < plenty, f"{scarce.batch_size} with little memory, {plenty} with all")
    return {"with_all_memory": plenty, "with_little": scarce.batch_size}


def halving(bench: Bench) -> dict[str, Any]:
    """A batch too large for the memory that is left: halved until it fits, with the same rows."""
    bench.must_be_gpu()
    wanted = load_encoder(bench.spec("fp32"), batch_size=16).embed_image_files(bench.few).features
    with memory_for(bench, images=12):
        encoder = load_encoder(bench.spec("fp32"), batch_size=len(bench.few))
        embedded, stats = encoder.measure_image_files(bench.few)
    require(stats.halvings > 0, "memory did not run out")
    require(len(embedded.features) == len(bench.few), f"{len(embedded.failures)} images were lost")
    difference = float(np.abs(embedded.features - wanted).max())
    require(difference < 1e-4, f"rows differ by {difference}")
    return {"halvings": stats.halvings, "batch_size": encoder.batch_size, "largest_difference": difference}


@contextlib.contextmanager
def memory_for(bench: Bench, *, images: int) -> Iterator[None]:
    """Leave this process memory for the model and a batch of about so many images."""
    encoder = load_encoder(bench.spec("fp32"), batch_size=images)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    encoder.embed_image_files(bench.few[:images])
    share = torch.cuda.max_memory_reserved() / torch.cuda.mem_get_info()[1]
    del encoder
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(share)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()


def pinned(bench: Bench) -> dict[str, Any]:
    """Decoded batches lie in pinned memory; what that gains in copying them to the GPU."""
    bench.must_be_gpu()
    encoder = load_encoder(bench.spec("bf16"), batch_size=len(bench.few))
    decoder = Decoder(encoder.preprocessing, encoder.image_shape, threads=os.cpu_count() or 1, pinned=True)
    batch = next(iter(decoder.batches(bench.few, len(bench.few)))).pixels
    require(batch.is_pinned(), "a decoded batch is not in pinned memory")
    pageable = batch.clone()
    require(not pageable.is_pinned(), "its copy is in pinned memory, too")
    rates = {name: copied(pixels) for name, pixels in (("pinned", batch), ("pageable", pageable))}
    return {"GB_per_second": rates, "ratio": rates["pinned"] / rates["pageable"]}


def copied(pixels: torch.Tensor) -> float:
    """GB a second of copies to the GPU: the median of many."""
    seconds = []
    for _ in range(30):
        torch.cuda.synchronize()
        started = time.perf_counter()
        pixels.to("cuda", non_blocking=True)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return pixels.numel() / statistics.median(seconds) / 1e9


def two_actors(bench: Bench) -> dict[str, Any]:
    """Two actors on one device, each in a process of its own, as two fractional Ray actors are."""
    files = bench.case.sets[0][: 64 if bench.quick else 1024]
    halves = (files[::2], files[1::2])
    processes = [
        multiprocessing.get_context("spawn").Process(
            target=embed_half, args=(bench.device, str(bench.case.folder), list(half), str(bench.folder / "shared"))
        )
        for half in halves
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    require(all(process.exitcode == 0 for process in processes), "a process failed")
    store, spec = EmbeddingStore(bench.folder / "shared"), bench.spec("bf16")
    encoder = load_encoder(spec)
    for half in halves:
        parts = [read_shard(store, encoder.info, shard) for shard in cut(half, encoder.info, 64).shards]
        rows = np.concatenate([part.features for part in parts if part is not None])
        require(len(rows) == len(half), f"{len(rows)} of {len(half)} rows are in the store")
        alone = encoder.embed_image_files(half[:64]).features
        cosines = agreement(rows[: len(alone)], alone)["least_cosine"]
        require(cosines >= LEAST_COSINE, f"rows of two actors differ from those of one: {cosines:.6f}")
    return {"images": len(files), "processes": 2}


def embed_half(device: str, folder: str, files: list[str], store: str) -> None:
    """What one of the two processes does."""
    spec = EncoderSpec(f"local-dir:{folder}", precision="bf16", device=device)
    embed_all(actor_of(spec, store, decode_threads=max(1, (os.cpu_count() or 2) // 2)), files, shard_size=64)


def actor_of(spec: EncoderSpec, store: str, *, decode_threads: int) -> EmbeddingActor:
    """The actor's own class, without Ray, that stores what it embeds."""
    place = EmbeddingStore(store)
    mark = place.leave_mark()
    return EmbeddingActor(
        ActorSettings(
            spec,
            batch_size="auto" if spec.device.startswith("cuda") else BATCH["cpu"],
            threads=os.cpu_count() or 1,
            gpus=float(spec.device.startswith("cuda")),
            store=store,
            mark=mark,
            decode_threads=decode_threads,
        )
    )


def embed_all(actor: EmbeddingActor, files: list[str], *, shard_size: int = 256) -> list[Any]:
    """Have an actor embed files, several shards at a time; returns what it measured of each shard."""
    info = actor.info()
    with ThreadPoolExecutor(AT_ONCE) as threads:
        shards = cut(files, info, shard_size).shards
        return [receipt.stats for receipt in threads.map(lambda shard: actor.embed_shard(shard, info), shards)]


def fractional_actors(bench: Bench) -> dict[str, Any]:
    """RayEmbedder with two actors of half a GPU each."""
    if importlib.util.find_spec("ray") is None:
        raise NotHereError("Ray is not installed")
    bench.must_be_gpu()
    from cluster import RayEmbedder
    from immuno_core.config.run import ClusterConfig
    from immuno_core.records import ImageSet, Sample

    files = bench.case.sets[0][:1024]
    samples = tuple(Sample(file, file, "") for file in files)
    config = ClusterConfig(store=bench.folder / "ray", actors=2, num_gpus=0.5, shard_size=64)
    encoder = bench.case.encoder.model_copy(update={"device": "cuda"})
    with RayEmbedder(encoder, config, ray_address="local") as embedder:
        rows = embedder.embed_images(ImageSet("two", "fit", "id", samples, digest="two")).features
    require(len(rows) == len(files), f"{len(rows)} of {len(files)} images were embedded")
    return {"images": len(files), "actors": 2}


def texts(bench: Bench) -> dict[str, Any]:
    """Texts a second, against the model alone on one ready batch."""
    encoder = load_encoder(bench.spec("bf16"))
    many = [f"{text[:-1]}, number {i}." for i in range(8 if bench.quick else 200) for text in TEXTS]
    encoder.embed_texts(many[: len(TEXTS)])
    started = time.perf_counter()
    encoder.embed_texts(many)
    return {"texts": len(many), "texts_per_second": len(many) / (time.perf_counter() - started)}


def throughput(bench: Bench) -> dict[str, Any]:
    """(a) a plain loop, (b) the model alone, (c) actors from files to stored rows; ViT-B-16 in bf16.

    (c) for several numbers of actors that share the device and the cores, as fractional Ray actors do: threads of one
    process wait for one another's turn at Python's lock.
    """
    cores = os.cpu_count() or 1
    warm, *timed = bench.case.sets[::-1]
    loop = Loop(bench.case, torch.device(bench.device), BATCH["cuda" if bench.on_gpu else "cpu"])
    workers = best_workers(loop, warm[: max(64, len(warm) // 8)], counts=sorted({max(1, cores // 2), cores}))
    measured: dict[str, Any] = {
        "images": len(timed[0]),
        "loop": {"images_per_second": loop.embed(timed[0], workers), "processes": workers},
        "model": {"images_per_second": loop.model_alone(timed[0])},
    }
    loop.loaders.clear()
    for actors in (1, 2) if bench.quick else (1, 4):
        if actors <= cores:
            one = measured[f"pipeline, {actors} actors"] = pipeline_rate(bench, timed[0], warm, actors)
            print(f"  pipeline with {actors} actors: {one['images_per_second']:.1f} images/s", file=sys.stderr)
    best = max(one["images_per_second"] for name, one in measured.items() if name.startswith("pipeline"))
    for other in ("loop", "model"):
        measured[f"best pipeline/{other}"] = best / measured[other]["images_per_second"]
    return measured


def pipeline_rate(bench: Bench, files: list[str], warm: list[str], actors: int) -> dict[str, Any]:
    """Images a second from files to stored rows, with all cores decoding, and what limits."""
    threads = max(1, (os.cpu_count() or 1) // actors)
    store = str(bench.folder / f"rates-{actors}")
    context = multiprocessing.get_context("spawn")
    parts = [files[i::actors] for i in range(actors)]
    ready = context.Barrier(actors + 1)
    results: Any = context.Queue()
    processes = [
        context.Process(target=embed_part, args=(bench.spec("bf16"), store, threads, part, warm, ready, results))
        for part in parts
    ]
    for process in processes:
        process.start()
    ready.wait(timeout=180)
    started = time.perf_counter()
    stats = [one for _ in processes for one in results.get(timeout=300)]
    seconds = time.perf_counter() - started
    for process in processes:
        process.join(timeout=60)
    shutil.rmtree(store)
    return {"images_per_second": len(files) / seconds, **stages_of(stats, seconds, actors, threads)._asdict()}


def embed_part(
    spec: EncoderSpec, store: str, threads: int, files: list[str], warm: list[str], ready: Any, results: Any
) -> None:
    """What one process of `pipeline_rate` does."""
    actor = actor_of(spec, store, decode_threads=threads)
    embed_all(actor, warm[: 256 * AT_ONCE])
    ready.wait(timeout=180)
    results.put(embed_all(actor, files))


def compiled(bench: Bench) -> dict[str, Any]:
    """torch.compile: the same vectors but for rounding, and how much faster the model is."""
    if bench.on_gpu and shutil.which("cc") is None and shutil.which("gcc") is None:
        raise NotHereError("torch.compile needs a C compiler")
    images = bench.reference[0]
    files = bench.few if bench.quick else bench.case.sets[0][:2048]
    size = 16 if bench.quick else 256
    seconds: dict[str, float] = {}
    for name, spec in (("plain", bench.spec("bf16")), ("compiled", bench.spec("bf16", compiled=True))):
        encoder: Encoder = load_encoder(spec, batch_size=size, decode_threads=os.cpu_count() or 1)
        started = time.perf_counter()
        rows = encoder.embed_image_files(bench.few).features
        seconds[f"{name}_first_batch"] = time.perf_counter() - started
        seconds[name] = encoder.measure_image_files(files).stats.model_seconds
    cosines = agreement(rows, images)
    require(cosines["least_cosine"] >= LEAST_COSINE, f"compiled rows differ: {cosines['least_cosine']:.6f}")
    return {**cosines, "seconds": seconds, "compiled/plain": seconds["compiled"] / seconds["plain"]}


def vllm_beside(bench: Bench) -> dict[str, Any]:  # noqa: ARG001 - the form of every check
    """A vLLM server beside an embedding actor."""
    missing = [name for name in ("vllm", "ray") if importlib.util.find_spec(name) is None]
    raise NotHereError(f"{' and '.join(missing)} not installed" if missing else "run: make test-vllm on this machine")


CHECKS: tuple[Callable[[Bench], dict[str, Any]], ...] = (
    precision, batch_size, halving, pinned, two_actors, fractional_actors, texts, throughput, compiled, vllm_beside,
)  # fmt: skip
"""In order: what a short stop would leave out is last."""


def machine(device: str) -> dict[str, Any]:
    """What the figures were measured on."""
    found = {"python": platform.python_version(), "torch": torch.__version__, "cores": os.cpu_count()}
    if device.startswith("cuda"):
        free, total = torch.cuda.mem_get_info()
        found |= {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda, "free": free, "memory": total}
    return found


def run(check: Callable[[Bench], dict[str, Any]], bench: Bench) -> dict[str, Any]:
    """Make one check; what it raises is its result."""
    started = time.perf_counter()
    try:
        result: dict[str, Any] = {"state": "ok", "measured": check(bench)}
    except NotHereError as reason:
        result = {"state": "skipped", "reason": str(reason)}
    except Exception as error:
        logging.getLogger("gpu").exception("%s", check.__name__)
        result = {"state": "failed", "reason": f"{type(error).__name__}: {error}"}
    return {"check": check.__name__, **result, "seconds": round(time.perf_counter() - started, 1)}


def main() -> int:
    """Make the checks, print and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the JSON there instead of printing it")
    parser.add_argument("--quick", action="store_true", help="few images: does it run at all?")
    parser.add_argument("--only", nargs="*", choices=[check.__name__ for check in CHECKS])
    parser.add_argument("--device", default="cuda")
    given = parser.parse_args()
    if given.device.startswith("cuda") and not torch.cuda.is_available():
        print(
            "torch sees no GPU here; on a machine with one run: make check-gpu (or try --device cpu)", file=sys.stderr
        )
        return 2
    logging.getLogger("root").addFilter(lambda record: record.levelno > logging.WARNING)
    report: dict[str, Any] = {"machine": machine(given.device), "quick": given.quick, "checks": []}
    with tempfile.TemporaryDirectory(prefix="gpu-") as folder:
        bench = Bench(given.device, Path(folder), given.quick)
        for check in CHECKS:
            if given.only is None or check.__name__ in given.only:
                result = run(check, bench)
                report["checks"].append(result)
                if given.out is not None:  # after each: a run that is cut off has told what it knows
                    given.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
                what = result.get("reason") or json.dumps(result["measured"])
                print(f"{result['state']:8}{result['check']:20}{result['seconds']:6.1f} s  {what}", file=sys.stderr)
    if given.out is None:
        print(json.dumps(report, indent=1))
    return int(any(result["state"] == "failed" for result in report["checks"]))


if __name__ == "__main__":
    sys.exit(main())
