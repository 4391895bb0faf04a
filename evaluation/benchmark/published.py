"""What papers report on ImageNet-1K with CLIP ViT-B/16, to be shown beside our own figures. Nothing is fitted to it.

Methods differ in what they use (only names, training images, the unlabelled test stream), and papers differ in which
FPR95 they mean: IDpos, the share of outliers accepted where 95 % of known images are (our `fpr95_id`), or OODpos, the
share of known images rejected where 95 % of outliers are (our `fpr95_ood`). In published.csv a figure, in per cent as
printed, stands under the one it is; where a paper does not say which, its FPR95 is left out.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final

from evaluation.benchmark.fields import Part, Share, Text
from evaluation.benchmark.order import bare_name
from immuno_core.config.run import RunConfig

ENCODER: Final = ("ViT-B-16", "openai")


class Published(Part):
    """A figure that a paper gives for a set, as shares. Papers mean one of two FPR95s."""

    method: str
    set: str
    fpr95_id: Share = None
    fpr95_ood: Share = None
    auroc: Share = None
    source: Text = ""


_OTHER_NAMES: Final = {"dtd": "textures", "texture": "textures", "inat": "inaturalist", "places365": "places"}


def published(config: RunConfig) -> tuple[Published, ...]:
    """Return the published figures for the outlier sets of a configuration, which are named as it names them.

    Nothing where the classes are not "imagenet1k" or the encoder is not CLIP ViT-B/16. Sets go by name, whatever its
    case and hyphens.
    """
    if config.classes.names != "imagenet1k" or (config.encoder.model, config.encoder.pretrained) != ENCODER:
        return ()
    bare = {bare_name(source.name or ""): source.name for source in config.data.ood}
    named = {_OTHER_NAMES.get(name, name): own for name, own in bare.items()}
    lines = csv.DictReader((Path(__file__).with_name("published.csv")).read_text(encoding="utf-8").splitlines())
    return tuple(
        Published(
            method=line["method"],
            set=named[line["set"]],
            source=line["source"],
            **{
                name: round(float(line[name]) / 100, 6) if line[name] else None
                for name in ("fpr95_id", "fpr95_ood", "auroc")
            },
        )
        for line in lines
        if line["set"] in named
    )


def by_source(figures: Iterable[Published], sets: Collection[str]) -> list[tuple[str, str, dict[str, Published]]]:
    """Return for each method and source the figures by set; those without a set of `sets` are left out."""
    found: dict[tuple[str, str], dict[str, Published]] = {}
    for figure in figures:
        if figure.set in sets:
            found.setdefault((figure.method, figure.source), {}).setdefault(figure.set, figure)
    return [(method, source, of_sets) for (method, source), of_sets in found.items()]
