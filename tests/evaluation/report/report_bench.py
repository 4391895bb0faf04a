"""A results.json as a full benchmark with `--settle` writes it: 40 methods, 5 outlier sets, controls and a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from evaluation.benchmark.seeds import Distance, summarise
from immuno_core.records import ResultRow
from tests.rows import changed

SETS = {"near": 640, "contextual": 640, "far": 320, "near_unseen": 640, "contextual_unseen": 640}
_HARDNESS = (0.0, 0.3, -0.12, 0.06, 0.38)
CLAIMANT = "immuno_vlm"
CONTROLS = ("noise", "random_words", "shuffled", "neglabel")


def _methods() -> list[tuple[str, str, int, float]]:
    """Label, arm, antibodies, and mean FPR95."""
    without = ["mcm", "max_logit", "energy", "msp", "gl_mcm", "knn", "mahalanobis"]
    without += [f"mcm, T = {t}" for t in (0.01, 0.02, 0.05, 0.1, 0.2)]
    bank = [CLAIMANT, "immuno_vlm_paper", "calibrated", "s_dis", "eoe", "eoe max-logit"]
    bank += [f"ablation: {part}" for part in ("no push", "visual mean only", "text only", "no EVT", "no fused base")]
    bank += [f"calibrated, beta = {b}, max" for b in (1, 2, 3)] + [f"calibrated, beta = {b}, sum" for b in (1, 2, 3)]
    controls = [(f"{CLAIMANT}, {arm.replace('_', ' ')}", arm) for arm in ("none", *CONTROLS)]
    methods = [(name, "", 0, 0.5 + 0.02 * k) for k, name in enumerate(without)]
    methods += [(name, "bank", 333, 0.22 + 0.017 * k) for k, name in enumerate(bank)]
    methods += [(name, arm, 0 if arm == "none" else 333, 0.44 + 0.013 * k) for k, (name, arm) in enumerate(controls)]
    methods += [("neglabel", "neglabel", 812, 0.49), ("csp", "csp", 900, 0.47)]
    methods += [(f"s_dis, lambda = {x}", "bank", 333, 0.4 + x / 10) for x in (0.25, 0.5, 1.0, 2.0)]
    return methods


def make_bench() -> dict[str, Any]:
    """The whole file; numbers are made up and consistent in size only."""
    draw = np.random.default_rng(0)
    rows = [
        _row(label, arm, antibodies, float(np.clip(mean + hardness + draw.normal(0, 0.02), 0.01, 0.98)), name, size)
        for label, arm, antibodies, mean in _methods()
        for (name, size), hardness in zip(SETS.items(), _HARDNESS, strict=True)
    ]
    return {
        "run_id": "0197f3a2-6c1e-7d10-9a53-5f0f2b7c1d11",
        "title": "Mini-world, every score, control and ablation",
        "created": "2026-03-14T09:26:53+00:00",
        "seed": 0,
        "before": "max_logit",
        "after": CLAIMANT,
        "config_digest": "4f1c0d7e9b2a5c83d6e0f7184b3a92c5d1e6f8a70b9c2d3e4f5a6b7c8d9e0f11",
        "git_sha": "df618e2a90c14b7",
        "encoder": {"model": "miniworld-rn", "dim": 128},
        "versions": {"python": "3.11.9", "torch": "2.13.0"},
        "rows": rows,
        "verdict": make_verdict(),
        "leakage_checked": 333,
        "leakage": [
            {"set": "near", "antibody": "ab-017", "text": "a fox", "outlier_class": "fox", "how": "equal"},
            {"set": "near", "antibody": "ab-112", "text": "a small owl", "outlier_class": "owl", "how": "nearly equal"},
            {"set": "near_unseen", "antibody": "ab-017", "text": "a fox", "outlier_class": "fox", "how": "equal"},
        ],
        "published": [
            {
                "method": "MCM",
                "set": "near",
                "fpr95_id": 0.8943,
                "auroc": 0.6415,
                "source": "Ming et al., NeurIPS 2022",
            },
            {"method": "MCM", "set": "far", "fpr95_id": 0.3091, "auroc": 0.9461, "source": "Ming et al., NeurIPS 2022"},
            {"method": "NegRefine", "set": "far", "fpr95_id": 0.0151, "auroc": 0.9957, "source": "ICCV 2025"},
            {"method": "ANTS", "set": "far", "fpr95_ood": 0.0054, "auroc": 0.9975, "source": "CVPR 2026"},
            {"method": "TANL", "set": "a set not measured", "fpr95_id": 0.0042, "auroc": None, "source": "CVPR 2026"},
        ],
        "test_reads": [
            {"when": "2026-03-14T09:26:41+00:00", "run_id": "0197f3a2", "sets": ["id", *SETS], "reason": "benchmark"}
        ],
    }


def make_seeds(seeds: int = 3, distances: Mapping[str, Distance] = MappingProxyType({})) -> dict[str, Any]:
    """The summary of several runs of the benchmark, made by the room that makes it."""
    runs = []
    for seed in range(seeds):
        draw = np.random.default_rng(seed)
        rows = [ResultRow.from_dict({**row, "seed": seed}) for row in make_bench()["rows"]]
        shift = [float(draw.uniform(0, 0.02)) for _ in rows]
        runs.append(
            [changed(row, fpr95_id=min(1.0, row.metrics["fpr95_id"] + by)) for row, by in zip(rows, shift, strict=True)]
        )
    return summarise(runs, distances).model_dump(mode="json")


def _row(label: str, arm: str, antibodies: int, fpr95: float, name: str, size: int) -> dict[str, Any]:
    auroc = 1 - 0.42 * fpr95
    half = 1.96 * (fpr95 * (1 - fpr95) / size) ** 0.5
    extra: dict[str, Any] = {}
    if label.startswith(CLAIMANT):
        extra["chosen"] = {"alpha": 0.9, "w": 0.35, "beta": 2.5, "adapter": False, "radii": [0.0125] * 60}
    if arm == "bank":
        extra["without_leaks"] = {"antibodies": antibodies - 2, "fpr95_id": fpr95 + 0.011, "auroc": auroc - 0.004}
    return {
        "method": label,
        "params": {"beta": 2.5} if antibodies else {},
        "seed": 0,
        "ood": name,
        "n_id": 640,
        "n_ood": size,
        "auroc": auroc,
        "aupr_in": 1 - 0.5 * fpr95,
        "aupr_out": 1 - 0.6 * fpr95,
        "fpr95_id": fpr95,
        "fpr95_ood": min(1.0, fpr95 + 0.06),
        "id_accuracy": 0.957 if antibodies else 0.958,
        "antibodies": antibodies,
        "arm": arm,
        "h_score": 2 * 0.957 * auroc / (0.957 + auroc),
        "oscr": 0.957 * auroc,
        "threshold": 0.2377,
        "acceptance": 0.944,
        "rejection": 1 - fpr95 - 0.004,
        "accepted_accuracy": 0.971,
        "intervals": {
            "fpr95_id": [max(0.0, fpr95 - half), min(1.0, fpr95 + half)],
            "auroc": [auroc - 0.01, min(1.0, auroc + 0.01)],
        },
        "extra": extra,
    }


def make_verdict(status: str = "supported") -> dict[str, Any]:
    """A verdict as `evaluation.benchmark.settle` gives it."""
    shares = {"bank": 0.247, "none": 0.571, "noise": 0.574, "random_words": 0.548, "shuffled": 0.402, "neglabel": 0.495}
    return {
        "status": status,
        "reasons": [
            "the bank accepts 32.4 points fewer outliers than no texts (95 % interval 29.8 to 35.1)",
            "it accepts fewer than each of the 4 controls, the nearest being shuffled (15.5 points)",
            "ID accuracy differs by -0.1 points; the margin is 1 point",
        ],
        "method": CLAIMANT,
        "margin": 0.01,
        "sets": list(SETS),
        "acceptance": {arm: {"value": v, "interval": [v - 0.021, v + 0.022]} for arm, v in shares.items()},
        "bank_minus": {
            arm: {"value": 0.247 - v, "interval": [0.247 - v - 0.027, 0.247 - v + 0.026]}
            for arm, v in shares.items()
            if arm != "bank"
        },
        "per_set": {
            name: {arm: float(np.clip(v + h, 0, 1)) for arm, v in shares.items()}
            for name, h in zip(SETS, _HARDNESS, strict=True)
        },
        "id_accuracy": {
            "bank": 0.957,
            "none": 0.958,
            "difference": {"value": -0.001, "interval": [-0.004, 0.002]},
            "non_inferior": True,
        },
        "accepted_and_right": {
            "bank": 0.917,
            "none": 0.92,
            "difference": {"value": -0.003, "interval": [-0.012, 0.007]},
            "non_inferior": False,
        },
        "references": {"shuffled": "bank_guarded"},
        "left_out": {"csp": "the bank's size was not reached: 120 words were left after mining"},
    }
