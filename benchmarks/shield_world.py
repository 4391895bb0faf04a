"""Does a shield keep what it promises on images that nobody has seen? Acceptance, a class more, and drift.

    python benchmarks/shield_world.py [--seed 1001] [--classes fish,car,cup] [--known 10000] [--json]

A shield of the mini-world of a development seed, with the bank of configs/miniworld.toml, and images of another world,
drawn for this alone (the known classes are the same in every world):

    acceptance   the share of new known images that score at or above the threshold, which asks for 95 %
    a class more for each of --classes a shield that does not know it; it is added with the images of the fit split and
                 as many again of the feedback split, and judges 100 new ones: accepted before, and now
    drift        looks at a window of 200 over the stream of new known images that found drift (none is right), and over
                 200 streams in which half of 200 images are outliers, how many were found
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cluster import EncoderSpec, LocalEmbedder
from db import open_store
from evaluation.miniworld import Sizes, build, default_root
from evaluation.shield.artefact import Artefact
from evaluation.shield.growth import add_class
from evaluation.shield.head import JudgedArrays
from immuno.shield.exporting import export
from immuno.shield.paths import image_paths
from immuno.shield.shield import Shield
from immuno.workplace import Workplace
from immuno_core.config.run import RunConfig, read_config
from immuno_core.features import FloatArray
from immuno_core.paths import shipped_configs

OTHER_WORLD = 2001
STREAMS = 200
NEW_OF_A_CLASS = 100


def make(config: RunConfig, folder: Path) -> Shield:
    """Export a shield of a configuration into a folder, and load it."""
    embedder = LocalEmbedder(EncoderSpec.from_config(config.encoder), default_root().parent / "shield_world")
    with open_store(str(folder / "x.db")) as record:
        export(Workplace(config, lambda: record, embedder)).save(folder / "shield")
    return Shield.load(folder / "shield")


def without_class(config: RunConfig, seed: int, name: str, folder: Path) -> RunConfig:
    """Return the configuration with its known images in folders that lack a class."""
    for split in ("fit", "feedback"):
        (folder / split).mkdir(parents=True)
        for place in (default_root(seed) / split / "id").iterdir():
            if place.name != name:
                (folder / split / place.name).symlink_to(place, target_is_directory=True)
    data = config.data
    known = data.id.model_copy(update={"builtin": None})
    fit, feedback = (known.model_copy(update={"path": folder / split}) for split in ("fit", "feedback"))
    return config.model_copy(update={"data": data.model_copy(update={"fit": fit, "feedback_id": feedback})})


def embedded(shield: Shield, folder: Path) -> FloatArray:
    """Return the embeddings of the images in a folder."""
    paths = image_paths([str(folder)])
    parts = [shield.embed(paths[start : start + 256]).features for start in range(0, len(paths), 256)]
    whole: FloatArray = np.concatenate(parts)
    return whole


def accepted(artefact: Artefact, features: FloatArray) -> float:
    """Return the share of images at or above the threshold."""
    return float(np.mean(artefact.head.judge(features).score >= artefact.manifest.thresholds.overall.value))


def grown(shield: Shield, seed: int, name: str, new: FloatArray) -> dict[str, float]:
    """Add a class, and judge new images of it before and after."""
    root = default_root(seed)
    images = np.concatenate([embedded(shield, root / split / "id" / name) for split in ("fit", "feedback")])
    found = add_class(shield.artefact, name, shield.embed_texts([name])[0], images, change="")
    return {
        "images": len(images),
        "before": accepted(shield.artefact, new),
        "now": accepted(found.shield, new),
        "named": len(found.named),
        "silenced": len(found.silenced),
    }


def drift(shield: Shield, known: FloatArray, outliers: FloatArray) -> dict[str, int]:
    """Watch a stream of known images, and streams of which half are outliers."""
    rng = np.random.default_rng(0)
    judged, strange = (shield.artefact.head.judge(features) for features in (known, outliers))
    order, watch = rng.permutation(len(known)), shield.watch()
    looks = [watch.add(judged.take(order[start : start + 10])).drifted for start in range(0, len(order), 10)]
    found = 0
    for _ in range(STREAMS):
        half = 100
        rows = [judged.take(rng.choice(len(known), half, replace=False)), strange.take(rng.choice(len(outliers), half))]
        arrays: list[Any] = [np.concatenate(pair) for pair in zip(*rows, strict=True)]
        watch = shield.watch()
        watch.add(judged.take(rng.choice(len(known), 200, replace=False)))
        found += watch.add(JudgedArrays(*arrays).take(rng.permutation(2 * half))).drifted
    return {"known": len(known), "looks": len(looks), "false_alarms": sum(looks), "streams": STREAMS, "found": found}


def measure(seed: int, classes: Sequence[str], known: int) -> dict[str, Any]:
    """Draw, export and measure."""
    sizes = Sizes(
        **dict.fromkeys(Sizes.__dataclass_fields__, 1) | {"test_id": known, "test_near": 400, "test_far": 400}
    )
    other = build(default_root(OTHER_WORLD, sizes), seed=OTHER_WORLD, sizes=sizes)
    build(default_root(seed), seed=seed)
    config = read_config(shipped_configs() / "miniworld.toml").model_copy(update={"seed": seed})
    with tempfile.TemporaryDirectory() as folder:
        shield = make(config, Path(folder))
        new = embedded(shield, other.folder("test", "id"))
        outliers = np.concatenate([embedded(shield, other.folder("test", name)) for name in ("near", "far")])
        result: dict[str, Any] = {
            "seed": seed,
            "acceptance": {"images": len(new), "asked": 0.95, "found": accepted(shield.artefact, new)},
            "outliers_accepted": accepted(shield.artefact, outliers),
            "drift": drift(shield, new, outliers),
            "classes": {},
        }
        for name in classes:
            place = Path(folder) / name
            less = make(without_class(config, seed, name, place), place)
            images = embedded(shield, other.folder("test", "id") / name)[:NEW_OF_A_CLASS]
            result["classes"][name] = grown(less, seed, name, images)
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1001)
    parser.add_argument("--classes", default="fish,car,cup")
    parser.add_argument("--known", type=int, default=10_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.seed, options.classes.split(","), options.known)
    if options.json:
        print(json.dumps(found))
        return
    acceptance, seen = found["acceptance"], found["drift"]
    print(f"acceptance: {100 * acceptance['found']:.1f} % of {acceptance['images']:,} new known images (asked: 95 %)")
    print(f"outliers accepted: {100 * found['outliers_accepted']:.1f} %")
    for name, one in found["classes"].items():
        print(
            f"{name} added with {one['images']} images: of {NEW_OF_A_CLASS} new ones {100 * one['before']:.0f} % were "
            f"accepted, {100 * one['now']:.0f} % are; {one['named']} antibodies left out, {one['silenced']} silenced"
        )
    print(
        f"drift: {seen['false_alarms']} false alarms in {seen['looks']:,} looks at {seen['known']:,} known images; "
        f"found in {seen['found']} of {seen['streams']} windows of 200 of which half are outliers"
    )


if __name__ == "__main__":
    main()
