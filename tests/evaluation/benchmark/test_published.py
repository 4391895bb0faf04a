"""Published figures stand beside ours for the encoder and the sets that they were measured on, and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evaluation.benchmark.methods import check_methods
from evaluation.benchmark.presets import expand
from evaluation.benchmark.published import published
from evaluation.scores.registry import SCORES
from immuno_core.config.run import RunConfig, read_config
from tests.configs import make_config

PRESETS = sorted(Path("configs").glob("imagenet1k-*.toml"))


def test_the_figures_are_shares_under_the_fpr95_that_they_are() -> None:
    rows = published(read_config(Path("configs/imagenet1k-vitb16.toml")))
    by_name = {(row.method, row.set): row for row in rows}
    mcm = by_name["MCM", "inaturalist"]
    assert (mcm.fpr95_id, mcm.fpr95_ood, mcm.auroc) == (0.3091, None, 0.9461)
    adaneg = by_name["AdaNeg", "textures"]
    assert (adaneg.fpr95_id, adaneg.fpr95_ood, adaneg.auroc) == (None, 0.267, 0.9556)
    assert by_name["CSP", "sun"].auroc is None
    assert by_name["NegLabel (near sets)", "ssb_hard"].auroc == 0.686
    assert by_name["Immuno-VLM", "imagenet_o"].fpr95_id is None
    assert all(row.source for row in rows)
    assert all(value is None or 0 < value < 1 for row in rows for value in (row.fpr95_id, row.auroc))


def test_the_means_are_those_that_the_papers_print() -> None:
    printed = {"MCM": 42.74, "GL-MCM": 35.5, "NegLabel": 25.40, "CSP": 17.51, "NegRefine": 21.17, "ANTS": 11.20}
    four = published(read_config(Path("configs/imagenet1k-vitb16.toml")))
    for method, mean in printed.items():
        values = [row.fpr95_id or row.fpr95_ood for row in four if row.method == method]
        assert 100 * sum(value for value in values if value) / 4 == pytest.approx(mean, abs=0.11), method


def changed(**changes: Any) -> RunConfig:
    sections = {
        "encoder": {"model": "ViT-B-16", "pretrained": "openai"},
        "classes": {"names": "imagenet1k"},
        "data": {"id": "x", "ood": {"SSB-hard": "x", "DTD": "x"}},
    }
    return make_config(**sections | changes)


def test_sets_go_by_name_and_others_have_no_figures() -> None:
    assert {row.set for row in published(changed())} == {"SSB-hard", "DTD"}
    assert published(changed(encoder={"model": "ViT-B-32", "pretrained": "openai"})) == ()
    assert published(changed(classes={"names": "classes.txt"})) == ()
    assert published(changed(data={"id": {"path": "x"}, "ood": [{"name": "mine", "path": "x"}]})) == ()


# ---- the configurations that they stand beside


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_every_method_of_a_preset_can_be_made(path: Path) -> None:
    planned = expand(read_config(path).methods)
    assert {one.method.name for one in planned} <= set(SCORES)
    check_methods(planned)


def test_the_presets_measure_on_the_same_data_with_the_counts_of_the_sets() -> None:
    configs = [read_config(path) for path in PRESETS]
    assert [path.stem.removeprefix("imagenet1k-") for path in PRESETS] == ["siglip", "vitb16", "vitb32", "vitl14"]
    assert all(config.data == configs[0].data for config in configs)
    data = configs[0].data
    assert data.fit is not None
    assert (data.fit.expected, data.id.expected, data.feedback[0].expected) == (16_000, 50_000, 1_763)
    assert {source.name: source.expected for source in data.ood} == {
        "inaturalist": 10_000,
        "sun": 10_000,
        "places": 10_000,
        "textures": 5_640,
        "ninco": 5_879,
        "ssb_hard": 49_000,
        "openimage_o": 15_869,
        "imagenet_o": 2_000,
    }
    assert data.feedback[0].path not in {source.path for source in data.ood}
