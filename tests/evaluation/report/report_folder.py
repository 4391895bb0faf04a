"""Makes results folders like those of a benchmark: scores come from normal distributions, rows from the scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from sklearn.metrics import average_precision_score, roc_auc_score

from cluster.records import ActorDeath, EmbeddingSummary, ShardStats
from immuno_core.records import FailedImage

BEFORE, AFTER = "mcm", "calibrated + fused"
SETS = {"near": 900, "contextual": 900, "far": 400, "near_unseen": 900, "contextual_unseen": 900}
# Distance of the outliers from the known images in standard deviations, in the order of SETS.
METHODS: dict[str, tuple[int, float, tuple[float, ...]]] = {
    "max cosine": (0, 0.958, (1.9, 1.1, 2.6, 1.7, 1.0)),
    "mcm": (0, 0.958, (1.3, 0.5, 1.6, 1.2, 0.55)),
    "energy": (0, 0.958, (1.5, 0.9, 2.4, 1.35, 0.8)),
    "S_DIS": (212, 0.951, (1.7, 1.2, 2.1, 1.3, 1.0)),
    "neglabel": (212, 0.958, (2.0, 1.5, 2.8, 1.6, 1.2)),
    "calibrated": (212, 0.958, (2.9, 2.6, 3.0, 2.0, 1.75)),
    "calibrated + fused": (212, 0.957, (3.1, 2.75, 3.1, 2.15, 1.9)),
}
KNOWN = 1200

HOSTILE = "\"'><script>window.hacked=1</script><img src=x onerror=window.hacked=1>{{7*7}}\u202eאבג"
"""What a hostile model, file or class could be called: tags, quotes, a template, and a switch to right-to-left."""


def make_scores() -> dict[str, NDArray[np.float64]]:
    """The content of scores.npz: every method on the known images and on every set."""
    draw = np.random.default_rng(0)
    scores: dict[str, NDArray[np.float64]] = {}
    for method, (_, _, distances) in METHODS.items():
        scores[f"{method}|id"] = 0.27 + 0.02 * draw.standard_normal(KNOWN)
        for (name, size), distance in zip(SETS.items(), distances, strict=True):
            scores[f"{method}|{name}"] = 0.27 + 0.02 * (draw.standard_normal(size) - distance)
    return scores


def fpr95(kept: NDArray[np.float64], judged: NDArray[np.float64]) -> float:
    """Share of `judged` at or above the threshold that keeps 95 % of `kept`."""
    threshold = np.sort(kept)[::-1][int(np.ceil(0.95 * kept.size)) - 1]
    return float(np.mean(judged >= threshold))


def make_rows(scores: dict[str, NDArray[np.float64]]) -> list[dict[str, Any]]:
    """Rows as the benchmark writes them."""
    rows = []
    for method, (antibodies, accuracy, _) in METHODS.items():
        known = scores[f"{method}|id"]
        for name in SETS:
            outliers = scores[f"{method}|{name}"]
            truth = np.r_[np.ones(known.size), np.zeros(outliers.size)]
            both = np.r_[known, outliers]
            rows.append(
                {
                    "method": method,
                    "params": {"beta": 2.5} if antibodies else {},
                    "seed": 0,
                    "ood": name,
                    "n_id": known.size,
                    "n_ood": outliers.size,
                    "auroc": float(roc_auc_score(truth, both)),
                    "aupr_in": float(average_precision_score(truth, both)),
                    "aupr_out": float(average_precision_score(1 - truth, -both)),
                    "fpr95_id": fpr95(known, outliers),
                    "fpr95_ood": fpr95(-outliers, -known),
                    "id_accuracy": accuracy,
                    "antibodies": antibodies,
                    "extra": {},
                }
            )
    return rows


def make_results(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A whole results.json; its gallery names the pictures that `write_folder` draws."""
    return {
        "run_id": "0197f3a2-6c1e-7d10-9a53-5f0f2b7c1d11",
        "title": "Mini-world: 16 known classes against look-alikes and impossible places",
        "created": "2026-03-14T09:26:53+00:00",
        "seed": 0,
        "before": BEFORE,
        "after": AFTER,
        "config_digest": "4f1c0d7e9b2a5c83d6e0f7184b3a92c5d1e6f8a70b9c2d3e4f5a6b7c8d9e0f11",
        "git_sha": "df618e2a90c14b7",
        "encoder": {
            "model": "miniworld-rn",
            "pretrained": None,
            "dim": 128,
            "logit_scale": 36.6034,
            "image_size": 64,
            "precision": "fp32",
            "weights_digest": "9c56cc51b374c3ba189210d5b6d4bf57790d351c96c47c02190ecf1e430635ab",
        },
        "versions": {"python": "3.11.9", "torch": "2.13.0", "open_clip_torch": "3.3.0", "ray": "2.60.0"},
        "verdict": {},
        "rows": rows,
        "skipped": [
            {"set_name": "far", "path": "cactus/0031.png", "reason": "truncated file"},
            {"set_name": "far", "path": "tent/0007.png", "reason": "not an image"},
            {"set_name": "id", "path": "cat/0112.png", "reason": "empty file"},
        ],
        "left_out": {"gl_mcm": "it needs patch embeddings, and so an encoder"},
        "overlap": [
            {"set": "near", "count": 1203, "first": "wolf/0009.png", "of_set": "id", "how": "the same embedding"},
            {"set": "far", "count": 1, "first": "tent/0002.png", "of_set": "far-feedback", "how": "the same file"},
        ],
        "embedding": _embedding(),
        "test_reads": [
            {
                "when": "2026-03-14T09:26:41+00:00",
                "run_id": "0197f3a2-6c1e-7d10-9a53-5f0f2b7c1d11",
                "sets": ["id", *SETS],
                "reason": "bench configs/miniworld.toml",
            }
        ],
        "session": _session(),
        "antibodies": _antibodies(),
        "gallery": _gallery(),
        "a_key_of_a_later_version": {"ignored": True},
    }


def write_folder(folder: Path, results: dict[str, Any], scores: dict[str, NDArray[np.float64]] | None) -> Path:
    """Write results.json, scores.npz (where given) and the pictures of the gallery."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    if scores is not None:
        np.savez(folder / "scores.npz", **scores)
    for number, item in enumerate(results.get("gallery", [])):
        _draw(folder / item["image"], number)
    return folder


def _embedding() -> dict[str, Any]:
    """What the embedders themselves would write."""
    return EmbeddingSummary(
        embedded=1997,
        from_store=4000,
        quarantined=(
            FailedImage("far", "cactus/0031.png", "truncated file"),
            FailedImage("near", "wolf/0002.png", "killed the embedding process"),
        ),
        shards=8,
        retries=3,
        deaths=(
            ActorDeath("gpu-7", 4711, "the images from wolf/0001.png on", "Worker exit type: SYSTEM_ERROR"),
            ActorDeath("", 0, "loading the encoder", "its node has died", node_lost=True),
        ),
        nodes_lost=1,
        batches_halved=2,
        seconds=4.0,
        stats=ShardStats(1999, 2, 4.0, 7.0, 1.0, 2.0, 2),
    ).as_dict()


_GUIDELINES = (
    "Name things that share the outline of the class but are another object. Two or three words each.",
    "Outlines alone miss half of the mis-accepted images: they show the right object in a place where it cannot be.\n\n"
    "- For every class, name at least four contexts that are impossible for it.\n"
    "- Keep the object's name in the text: “a fish in a kitchen”, not “a kitchen”.",
    "Name materials and colours as well.",
    "Contexts work best when short. Prefer “at night”, “in the snow” to whole sentences, and give every class one "
    "look-alike from its own surroundings.",
)


def _session() -> dict[str, Any]:
    near, contextual = (0.662, 0.41, 0.296, 0.33, 0.214, 0.181), (0.894, 0.81, 0.452, 0.47, 0.301, 0.237)
    accepted = (True, True, True, False, True, True)
    reasons = (
        "the classifier without antibodies",
        "mean FPR95 fell by 16.8 points",
        "mean FPR95 fell by 23.6 points; no set became worse",
        "mean FPR95 rose by 2.6 points: texts about materials fire on known classes",
        "mean FPR95 fell by 11.7 points",
        "mean FPR95 fell by 4.9 points",
    )
    guideline = (0, 0, 1, 2, 1, 3)
    bank = (0, 54, 109, 109, 158, 212)
    return {
        "name": "miniworld-first",
        "llm": "openai:qwen3-8b",
        "seed": 0,
        "sense": "No evidence that this model helps. Its 9 texts against 9 random words",
        "generations": [
            {
                "number": g,
                "accepted": accepted[g],
                "reason": reasons[g],
                "fpr95": {"near": near[g], "contextual": contextual[g]},
                "mean_fpr95": (near[g] + contextual[g]) / 2,
                "id_accuracy": 0.957,
                "proposed": 192 if g else 0,
                "kept": (0, 54, 55, 41, 49, 54)[g],
                "bank": bank[g],
                "guideline": _GUIDELINES[guideline[g]] if g else "",
            }
            for g in range(6)
        ],
    }


_PAIRS = (
    ("cat", "fox"),
    ("cat", "owl"),
    ("fish", "whale"),
    ("car", "van"),
    ("sailboat", "ship"),
    ("apple", "pumpkin"),
    ("clock", "compass"),
    ("plane", "bird"),
    ("moon", "banana"),
    ("tree", "lollipop"),
)
_PLACES = ("in a kitchen", "at night", "in the sky", "on the road")


def _antibodies() -> list[dict[str, Any]]:
    draw = np.random.default_rng(1)
    texts = [("look_alike", guards, f"a {other}") for guards, other in _PAIRS]
    texts += [("contextual", guards, f"a {guards} {place}") for guards, _ in _PAIRS for place in _PLACES]
    return [
        {
            "id": f"ab-{number:03d}",
            "text": text,
            "kind": kind,
            "guards": guards,
            "generation": 1 + number % 5,
            "gain": float(draw.beta(1, 14)),
            "harm": float(draw.beta(1, 600)),
            "fired_outliers": int(draw.integers(0, 90)),
            "fired_id": int(draw.integers(0, 3)),
        }
        for number, (kind, guards, text) in enumerate(texts)
    ]


def _gallery() -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    for number in range(18):
        guards, other = _PAIRS[number % len(_PAIRS)]
        contextual = number % 2 == 1
        still = number >= 12
        items.append(
            {
                "set": "contextual" if contextual else "near",
                "image": f"images/{number:02d}.png",
                "label": guards if contextual else other,
                "nearest_class": guards,
                "score_before": 0.0641 + 0.0003 * number,
                "threshold_before": 0.0632,
                "accepted_before": True,
                "score_after": 0.2702 if still else 0.1911 - 0.004 * number,
                "threshold_after": 0.2377,
                "accepted_after": still,
                "antibody": None if still else f"a {guards} {_PLACES[number % 4]}" if contextual else f"a {other}",
            }
        )
    return items


def _draw(path: Path, number: int) -> None:
    """A 64 x 64 picture; every fifth one is a larger photograph-like gradient."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(number)
    sky, ground, thing = (tuple(int(v) for v in draw.integers(40, 230, 3)) for _ in range(3))
    picture = Image.new("RGB", (64, 64), sky)
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, 44, 64, 64), fill=ground)
    pen.ellipse((16, 20, 48, 50), fill=thing, outline="black")
    pen.polygon([(18, 26), (22, 10), (32, 22)], fill=thing, outline="black")
    pen.polygon([(46, 26), (42, 10), (32, 22)], fill=thing, outline="black")
    if number % 5 == 4:
        picture = picture.resize((480, 320), Image.Resampling.BICUBIC)
    picture.save(path)


def make_hostile(value: Any) -> Any:
    """Append HOSTILE to every string, and to the keys of free dictionaries; times and pictures stay valid."""
    keep = {"image", "before", "after", "created", "when", "status"}
    free = {"encoder", "versions", "fpr95", "acceptance", "bank_minus", "per_set", "left_out", "chosen"}

    def spoil(node: Any, key: str) -> Any:
        if isinstance(node, dict):
            return {k + HOSTILE if key in free and k not in {"mean", "sd"} else k: spoil(v, k) for k, v in node.items()}
        if isinstance(node, list):
            return [spoil(item, key) for item in node]
        return node + HOSTILE if isinstance(node, str) and key not in keep else node

    return spoil(value, "")
