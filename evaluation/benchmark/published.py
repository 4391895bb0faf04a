"""What papers report on ImageNet-1K with CLIP ViT-B/16, to be shown beside our own figures. Nothing is fitted to it.

Methods differ in what they use (only names, training images, the unlabelled test stream), and papers differ in which
FPR95 they mean: IDpos, the share of outliers accepted where 95 % of known images are (our `fpr95_id`), or OODpos, the
share of known images rejected where 95 % of outliers are (our `fpr95_ood`). A figure stands under the one it is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

from evaluation.benchmark.fields import Part, Share, Text
from immuno_core.config.run import RunConfig

ENCODER: Final = ("ViT-B-16", "openai")


class Figure(NamedTuple):
    """FPR95 and AUROC of a method on a set, in per cent, as printed; None where the paper gives none."""

    fpr95: float | None
    auroc: float | None


class Published(Part):
    """A figure that a paper gives for a set, as shares. Papers mean one of two FPR95s."""

    method: str
    set: str
    fpr95_id: Share = None
    fpr95_ood: Share = None
    auroc: Share = None
    source: Text = ""


class Paper(NamedTuple):
    """The figures of one method."""

    method: str
    source: str
    convention: str
    """Of its FPR95: "fpr95_id", "fpr95_ood", or "" where it is not stated and the FPR95 is left out."""
    figures: dict[str, Figure]


FOUR = ("inaturalist", "sun", "places", "textures")


def _four(*pairs: tuple[float | None, float | None]) -> dict[str, Figure]:
    return {name: Figure(*pair) for name, pair in zip(FOUR, pairs, strict=True)}


PAPERS: Final = (
    Paper(
        "MCM",
        "Ming et al., NeurIPS 2022 (arXiv 2211.13445); class names only",
        "fpr95_id",
        _four((30.91, 94.61), (37.59, 92.57), (44.69, 89.77), (57.77, 86.11)),
    ),
    Paper(
        "GL-MCM",
        "Miyai et al. (arXiv 2304.04521); class names only",
        "fpr95_id",
        _four((15.2, 96.7), (30.4, 93.1), (38.9, 89.9), (57.9, 83.6)),
    ),
    Paper(
        "NegLabel",
        "Jiang et al., ICLR 2024 (arXiv 2403.20078); class names and WordNet",
        "fpr95_id",
        _four((1.91, 99.49), (20.53, 95.49), (35.59, 91.64), (43.56, 90.22)),
    ),
    Paper(
        "CSP",
        "Conjugated Semantic Pool, NeurIPS 2024; class names and WordNet",
        "fpr95_id",
        _four((1.54, 99.60), (13.66, None), (29.32, None), (25.52, None)),
    ),
    Paper(
        "NegRefine",
        "Ansari et al., ICCV 2025 (arXiv 2507.09795); class names, WordNet and an LLM filter",
        "fpr95_id",
        _four((1.51, 99.57), (22.93, 94.64), (39.10, 90.42), (21.15, 94.69)),
    ),
    Paper(
        "LoCoOp-GL, 16-shot",
        "Miyai et al., NeurIPS 2023; trained on ID images",
        "fpr95_id",
        _four((16.05, 96.86), (23.44, 95.07), (32.87, 91.98), (42.28, 90.19)),
    ),
    Paper(
        "AdaNeg",
        "NeurIPS 2024; adapts to the unlabelled test stream",
        "fpr95_ood",
        _four((0.55, 99.71), (10.62, 97.35), (33.92, 94.17), (26.70, 95.56)),
    ),
    Paper(
        "ANTS",
        "Zhu et al., CVPR 2026 (arXiv 2509.03951); a multimodal LLM and the unlabelled test stream",
        "fpr95_ood",
        _four((0.54, 99.75), (5.43, 98.77), (20.21, 96.10), (18.52, 96.38)),
    ),
    Paper(
        "TANL",
        "CVPR 2026; adapts to the unlabelled test stream",
        "fpr95_ood",
        {"inaturalist": Figure(0.42, None), "sun": Figure(3.53, None)},
    ),
    Paper(
        "MCM (near sets)",
        "as later papers report it; which FPR95 they mean is not stated, so only AUROC is given",
        "",
        {"ssbhard": Figure(None, 64.15), "ninco": Figure(None, 69.85), "imageneto": Figure(None, 79.52)},
    ),
    Paper(
        "NegLabel (near sets)",
        "as later papers report it; which FPR95 they mean is not stated, so only AUROC is given",
        "",
        {"ssbhard": Figure(None, 68.60), "ninco": Figure(None, 73.79)},
    ),
    Paper(
        "Immuno-VLM",
        "Fang, Fang & Ji, ICML 2026 (arXiv 2605.30745), read from a leaderboard page; few ID images and a trained "
        "adapter; encoder and splits are not stated there",
        "",
        {"inaturalist": Figure(None, 89.1), "imageneto": Figure(None, 88.7)},
    ),
)
_OTHER_NAMES: Final = {"dtd": "textures", "texture": "textures", "inat": "inaturalist", "places365": "places"}


def published(config: RunConfig) -> tuple[Published, ...]:
    """Return the published figures for the outlier sets of a configuration, which are named as it names them.

    Nothing where the classes are not "imagenet1k" or the encoder is not CLIP ViT-B/16. Sets go by name, whatever its
    case and hyphens.
    """
    if config.classes.names != "imagenet1k" or (config.encoder.model, config.encoder.pretrained) != ENCODER:
        return ()
    named = {_plain(source.name or ""): source.name for source in config.data.ood}
    return tuple(
        Published(
            method=paper.method,
            set=named[name],
            fpr95_id=_share(figure.fpr95) if paper.convention == "fpr95_id" else None,
            fpr95_ood=_share(figure.fpr95) if paper.convention == "fpr95_ood" else None,
            auroc=_share(figure.auroc),
            source=paper.source,
        )
        for paper in PAPERS
        for name, figure in paper.figures.items()
        if name in named
    )


def by_source(figures: Iterable[Published], sets: Collection[str]) -> list[tuple[str, str, dict[str, Published]]]:
    """Return for each method and source the figures by set; those without a set of `sets` are left out."""
    found: dict[tuple[str, str], dict[str, Published]] = {}
    for figure in figures:
        if figure.set in sets:
            found.setdefault((figure.method, figure.source), {}).setdefault(figure.set, figure)
    return [(method, source, of_sets) for (method, source), of_sets in found.items()]


def _plain(name: str) -> str:
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    return _OTHER_NAMES.get(plain, plain)


def _share(percent: float | None) -> float | None:
    return None if percent is None else round(percent / 100, 6)
