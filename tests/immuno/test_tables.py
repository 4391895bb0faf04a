"""The terminal's tables: readable at 100 columns whatever is in them, best first, and never markup."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, RenderableType

from evaluation.benchmark.order import Measured
from evaluation.benchmark.published import Published
from evaluation.benchmark.results import Results
from evaluation.benchmark.seeds import Summary, summarise
from evaluation.benchmark.settle import Verdict
from immuno import results as drawable
from immuno.cli import main
from immuno.terminal.output import print_table
from immuno.terminal.results import headline, print_bench, results_table, seeds_table, verdict_lines
from immuno_core.records import ResultRow
from tests.rows import changed, result_row


def row(method: str, ood: str, fpr95: float, **more: Any) -> ResultRow:
    shares = {"auroc": 0.9, "aupr_in": 0.9, "aupr_out": 0.9, "id_accuracy": 0.8}
    return result_row(method, ood, n_id=100, n_ood=100, fpr95_id=fpr95, **shares | more)


def results_of(rows: list[ResultRow], **more: Any) -> Results:
    before, after = Measured(rows).compared()
    return Results(rows=tuple(rows), before=before, after=after, **more)


def shown(table: RenderableType, width: int = 100) -> list[str]:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(table)
    return [line.rstrip() for line in console.export_text().splitlines()]


def line_of(lines: list[str], label: str) -> str:
    return next(line for line in lines if line.startswith(label))


def many(methods: int, sets: int) -> list[ResultRow]:
    """A large benchmark: the k-th method is the k-th worst; intervals and the deployed threshold included."""
    return [
        row(
            f"{'ablation: without part' if m % 3 else 'method'} {m:02d}",
            f"outliers_{s}_of_many",
            (m + 1) / (methods + 1),
            antibodies=9 * (m % 2),
            arm=("", "bank")[m % 2],
            intervals={"fpr95_id": (0.0, 1.0)},
            oscr=0.7,
            h_score=0.75,
            threshold=0.2,
            acceptance=0.94,
            rejection=0.6,
            accepted_accuracy=0.97,
        )
        for m in reversed(range(methods))
        for s in range(sets)
    ]


@pytest.mark.parametrize("sets", [1, 5, 8])
def test_forty_methods_fit_100_columns_with_nothing_cut(sets: int) -> None:
    lines = shown(results_table(many(40, sets)))
    assert max(len(line) for line in lines) <= 100
    text = "\n".join(lines)
    assert "…" not in text
    for number in range(40):
        assert text.count(f"{100 * (number + 1) / 41:.1f}±50.0/90.0") == sets
    # One table of means and as few of sets as hold them: five fit side by side.
    assert sum(line.startswith("method  ") for line in lines) == 1 + -(-sets // 5)


def test_narrow_cells_do_not_cut_headings_or_group_titles() -> None:
    rows = [row("a", "contextual_unseen", 0.5), row("b", "contextual_unseen", 0.4, antibodies=1)]
    lines = shown(results_table([*rows, row("a", "averyverylongnameinoneword", 0.5)]))
    assert "contextual" in " ".join(lines[lines.index("") :]).split()
    assert "Without antibodies" in lines
    assert "…" not in "".join(lines)
    assert "averyverylongn" in "".join(lines)


def test_the_best_mean_is_first_in_each_group() -> None:
    lines = shown(
        results_table(
            [
                row("plain", "near", 0.7),
                row("noise in its place", "near", 0.1, antibodies=3, arm="noise"),
                row("worse bank", "near", 0.6, antibodies=3, arm="bank"),
                row("better bank", "near", 0.2, antibodies=3, arm="bank"),
                row("mined", "near", 0.3, antibodies=8, arm="neglabel"),
            ]
        )
    )
    order = ["With the bank", "better bank", "worse bank", "Without antibodies", "plain", "With mined words", "mined"]
    order += ["Controls", "noise in its place"]
    first_table = lines[: lines.index("")]
    places = [next(k for k, line in enumerate(lines) if line.startswith(start)) for start in order]
    assert places == sorted(places)
    assert first_table


def test_means_are_over_near_and_contextual_and_worst_is_over_all_sets() -> None:
    rows = [row("m", s, v, auroc=a) for s, v, a in (("near", 0.2, 0.8), ("contextual", 0.4, 0.6), ("far", 0.9, 0.1))]
    lines = shown(results_table(rows))
    assert lines[0] == "Sealed test, per cent: means over near, contextual"
    assert line_of(lines, "m ").split() == ["m", "30.0", "90.0", "50.0", "70.0", "80.0"]


def test_a_method_that_lacks_a_set_has_no_mean_and_stands_last() -> None:
    lines = shown(results_table([row("half", "near", 0.1), row("whole", "near", 0.9), row("whole", "contextual", 0.9)]))
    assert lines.index(line_of(lines, "whole")) < lines.index(line_of(lines, "half"))
    assert line_of(lines, "half").split() == ["half", "–", "10.0", "–", "–", "80.0"]


def test_the_deployed_threshold_is_shown_where_there_is_one() -> None:
    assert "ID kept" not in "\n".join(shown(results_table([row("m", "near", 0.1)])))
    deployed = row("m", "near", 0.1, threshold=0.2, acceptance=0.941, rejection=0.612, accepted_accuracy=0.973)
    lines = shown(results_table([deployed]))
    assert line_of(lines, "m ").split()[-3:] == ["94.1", "97.3", "61.2"]
    assert "OOD rej." in " ".join(" ".join(lines).split()) or "rej." in lines[2]


def test_means_over_near_and_far_sets_and_the_worst_class_stand_beside_the_mean() -> None:
    rows = [row("m", name, value) for name, value in (("a", 0.1), ("b", 0.3), ("c", 0.8), ("d", 0.5))]
    rows[0] = changed(rows[0], fpr95_worst_class=0.9)
    lines = shown(results_table(rows, distances={"a": "near", "b": "near", "c": "far"}))
    assert line_of(lines, "m ").split()[:5] == ["m", "42.5", "80.0", "20.0", "80.0"]
    assert "worst near far" in " ".join(lines[1].split())
    assert any("Near, far" in line for line in lines)
    plain = shown(results_table([changed(one, fpr95_worst_class=0.9) for one in rows]))
    assert line_of(plain, "m ").split()[:4] == ["m", "42.5", "80.0", "90.0"]
    assert not any("Near, far" in line for line in plain)


def test_how_many_labelled_images_were_used_is_a_count() -> None:
    rows = [row("m", "near", 0.1, known_used=12_345.0, outliers_used=0.0), row("n", "near", 0.2)]
    lines = shown(results_table(rows))
    assert line_of(lines, "m ").split()[-2:] == ["12,345", "0"]
    assert line_of(lines, "n ").split()[-2:] == ["–", "–"]
    assert any("ID seen" in line for line in lines)


def test_what_used_labelled_outliers_is_marked_and_remarks_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    few = {"remarks": ["183 words"]}
    rows = [
        row("knn", "near", 0.5),
        row("knn, chosen", "near", 0.4, extra={"uses_feedback": True}),
        row("NegLabel", "near", 0.6, extra=few),
        row("CSP", "near", 0.7, extra=few),
    ]
    lines = shown(results_table(rows))
    assert [line.split("  ")[0] for line in lines if line.startswith("knn")] == ["knn, chosen †", "knn"] * 2
    assert lines[-1].startswith("† outliers of the feedback")
    assert not any("†" in line for line in shown(results_table(rows[:1])))
    print_bench(results_of(rows))
    assert "NegLabel; CSP: 183 words" in capsys.readouterr().out
    summary = summarise([rows, [changed(one, seed=1) for one in rows]])
    again = Summary.model_validate(summary.model_dump())
    assert sum("†" in line for line in shown(seeds_table(again))) == 2


def test_published_figures_stand_under_ours_and_the_rest_at_the_end() -> None:
    figures = [
        {"method": "MCM", "set": "sun", "fpr95_id": 0.3759, "fpr95_ood": None, "auroc": 0.9257, "source": "a"},
        {"method": "ANTS", "set": "sun", "fpr95_id": None, "fpr95_ood": 0.0543, "auroc": 0.9877, "source": "b"},
        {"method": "TANL", "set": "not measured", "fpr95_id": 0.1, "auroc": None, "source": "c"},
    ]
    lines = shown(
        results_table([row("mcm", "sun", 0.4), row("max_logit", "sun", 0.5)], [Published(**f) for f in figures])
    )
    detail = lines[lines.index("") :]
    kept = [line for line in detail if "/" in line and "FPR95" not in line]
    assert [line.split() for line in kept] == [
        ["mcm", "40.0/90.0"],
        ["MCM", "(published)", "37.6/92.6"],
        ["max_logit", "50.0/90.0"],
        ["ANTS", "(published)", "*5.4/98.8"],
    ]
    assert lines[-1].startswith("* FPR95 OOD: known images rejected")
    assert "TANL" not in "\n".join(lines)


def test_nothing_to_show_is_no_error() -> None:
    assert shown(results_table([]))[0].startswith("Sealed test")


def test_texts_are_never_markup(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "[red]m[/red] [link=x]"
    published = [Published(method=hostile, set="[b]s", fpr95_id=0.1, auroc=0.5)]
    print_table(results_table([row("[bold]x[/bold]", "[b]s", 0.5), row(hostile + "y", "[b]s", 0.6)], published))
    out, err = capsys.readouterr()
    assert "[bold]x[/bold]" in out
    assert "[b]s" in out
    assert "(published)" in out
    assert err == ""


# Several seeds


def spread(mean: float, sd: float | None) -> dict[str, float | None]:
    return {"mean": mean, "sd": sd}


def test_seeds_are_shown_as_mean_and_deviation_best_headline_mean_first() -> None:
    def of(method: str, ood: str, fpr95: float) -> dict[str, Any]:
        return {"method": method, "arm": "", "ood": ood, "fpr95_id": spread(fpr95, 0.01), "auroc": spread(0.9, 0.002)}

    summary: dict[str, Any] = {
        "seeds": [0, 1, 2],
        "rows": [
            *(of("worse", name, 0.5) for name in ("near", "contextual", "far")),
            *(of("better", name, value) for name, value in (("near", 0.2), ("contextual", 0.4), ("far", 0.96))),
        ],
        "means": [of("worse", "", 0.5), of("better", "", 0.52)],
    }
    lines = shown(seeds_table(Summary(**summary)))
    assert any("standard deviation over the seeds 0, 1, 2" in line for line in lines)
    assert lines.index(line_of(lines, "better")) < lines.index(line_of(lines, "worse"))
    cells = ["30.0", "52.0±1.0/90.0±0.2", "20.0±1.0/90.0±0.2", "40.0±1.0/90.0±0.2", "96.0±1.0/90.0±0.2"]
    found = [cell for line in lines if line.startswith("better") for cell in line.split()[1:]]
    assert found == cells
    assert max(len(line) for line in lines) <= 100


def test_several_seeds_show_the_means_of_near_and_far_sets_beside_the_mean() -> None:
    runs = [[row("m", name, share, seed=k) for name, share in (("a", 0.1 + k / 10), ("b", 0.5))] for k in (0, 1)]
    lines = shown(seeds_table(summarise(runs, {"a": "near", "b": "far"})))
    titles = [title.strip() for line in lines if line.startswith("method") for title in line[30:].split("   ") if title]
    cells = [cell for line in lines if line.startswith("m ") for cell in line.split()[1:]]
    found = dict(zip([title for title in titles if title], cells, strict=True))
    assert (found["all near"], found["all far"]) == ("15.0±7.1/90.0±0.0", "50.0±0.0/90.0±0.0")


def test_a_single_seed_and_what_was_not_measured_have_no_deviation() -> None:
    one = {"method": "m", "arm": "", "fpr95_id": spread(0.25, None), "auroc": None}
    lines = shown(seeds_table(Summary.model_validate({"seeds": [4], "rows": [{**one, "ood": "sun"}], "means": [one]})))
    assert set(line_of(lines, "m ").split()[1:]) == {"25.0/–"}


# The verdict


def verdict(**changes: Any) -> Verdict:
    whole: dict[str, Any] = {
        "status": "supported",
        "reasons": ["fewer outliers are accepted", "and [bold]more[/bold]"],
        "method": "immuno_vlm",
        "margin": 0.01,
        "acceptance": {
            "bank": {"value": 0.247, "interval": [0.22, 0.27]},
            "none": {"value": 0.571, "interval": [0.55, 0.59]},
        },
        "bank_minus": {
            "none": {"value": -0.324, "interval": [-0.35, -0.29]},
            "random_words": {"value": 0.01, "interval": None},
        },
        "id_accuracy": {
            "bank": 0.957,
            "none": 0.958,
            "difference": {"value": -0.001, "interval": [-0.004, 0.002]},
            "non_inferior": True,
        },
        "accepted_and_right": {
            "bank": 0.90,
            "none": 0.92,
            "difference": {"value": -0.02, "interval": [-0.03, -0.01]},
            "non_inferior": False,
        },
        "references": {"random_words": "bank_guarded"},
        "left_out": {"csp": "too few words"},
    }
    return Verdict(**{**whole, **changes})


def test_the_verdict_says_what_why_and_by_how_much() -> None:
    assert verdict_lines(verdict()) == [
        "verdict: SUPPORTED (immuno_vlm)",
        "  - fewer outliers are accepted",
        "  - and [bold]more[/bold]",
        "  outliers accepted, per cent [95 % interval]; the bank: 24.7 [22.0, 27.0]",
        "    none          57.1 [55.0, 59.0]   bank minus it: -32.4 [-35.0, -29.0]",
        "    random words                  –   bank guarded minus it: +1.0",
        "  ID accuracy 95.8 -> 95.7: -0.1 [-0.4, +0.2], not inferior at a margin of 1.0 points",
        "  accepted and right 92.0 -> 90.0: -2.0 [-3.0, -1.0], not shown to be as good at a margin of 1.0 points",
        "  left out: csp (too few words)",
    ]


def test_long_reasons_wrap_at_100_columns() -> None:
    lines = verdict_lines(Verdict(status="refuted", reasons=("word " * 60,), left_out={"csp": "word " * 60}))
    assert max(map(len, lines)) <= 100
    assert " ".join(lines).split().count("word") == 119  # the last one is in brackets


def test_without_a_verdict_there_are_no_lines() -> None:
    assert verdict_lines(Verdict()) == []


def test_a_verdict_with_only_a_status_is_one_line() -> None:
    assert verdict_lines(Verdict(status="undecided")) == ["verdict: UNDECIDED"]


def test_terminal_and_page_name_the_same_methods_and_sets() -> None:
    shares = {
        "eoe": {"near": 0.565, "sun": 0.7},
        "mcm": {"near": 0.581, "sun": 0.8},
        "knn": {"near": 0.7, "sun": 0.6},
        "immuno_vlm": {"near": 0.48, "sun": 0.3},
    }
    with_bank = {"arm": "bank", "antibodies": 9}
    rows = [
        row(method, name, share, **(with_bank if method in ("eoe", "immuno_vlm") else {}))
        for method, by_set in shares.items()
        for name, share in by_set.items()
    ]
    results = results_of(rows, unseen=("sun",))
    assert headline(results) == [
        "FPR95, near: 58.1 % (mcm) -> 48.0 % (immuno_vlm), ratio 0.83",
        "FPR95, unseen: 60.0 % (knn) -> 30.0 % (immuno_vlm), ratio 0.50",
        "ID accuracy: 80.0 % -> 80.0 %",
    ]
    page = results.measured.headline(results.before, results.after)
    assert (page.main.best_method, page.before, page.after) == ("mcm", "mcm", "immuno_vlm")
    assert page.unseen is not None
    assert (page.unseen.sets, page.unseen.best_method, page.unseen.best) == (("sun",), "knn", 0.6)


def test_a_headline_is_not_said_twice_and_says_nothing_without_a_comparison() -> None:
    rows = [row("mcm", "sun", 0.5), row("ours", "sun", 0.2, antibodies=3)]
    assert len(headline(results_of(rows, unseen=("sun",)))) == 2
    assert headline(results_of(rows[:1], unseen=("sun",))) == []
    assert headline(results_of(rows[1:])) == []


def test_texts_and_pixels_are_told_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        row("immuno_vlm", "near", 0.2, antibodies=9, arm="bank"),
        row("immuno_vlm / pixels", "near", 0.4, antibodies=9, arm="pixels"),
    ]
    told = {"antibodies": 9, "seconds": 0.00044, "passes": 1.0, "tower": "text", "bytes": 25.8, "tokens": 1234.0}
    print_bench(results_of(rows, costs={"texts": told, "pixels": {"passes": 1.0, "tower": "image", "bytes": 9308.0}}))
    out = capsys.readouterr().out
    assert "FPR95 20.0 %, 0.44 ms, 1 pass of the text tower, 26 bytes, 1,234 tokens of the chat model\n" in out
    assert "pixels (immuno_vlm / pixels), each antibody: FPR95 40.0 %, 1 pass of the image tower, 9,308 bytes\n" in out


def test_a_folder_is_printed_as_a_table_for_a_paper_and_plotted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row("a_b", "near", 0.5), row("ours", "near", 0.25, antibodies=2)]
    gain = [{"text": "x", "gain": 0.1, "harm": 0.0}]
    results_of(rows).model_copy(update={"antibodies": Results(rows=(), antibodies=gain).antibodies}).save(tmp_path)
    cells = {
        "latex": r"a\_b & \textbf{80.0} & 50.0 / \textbf{90.0} \\",
        "markdown": r"| a\_b | **80.0** | 50.0 / **90.0** |",
    }
    for form, cell in cells.items():
        with pytest.raises(SystemExit) as ended:
            main(["report", str(tmp_path), "--table", form])
        assert not ended.value.code
        assert cell in capsys.readouterr().out
        assert drawable.Results.read(tmp_path).table(form).count("ours") == 1  # type: ignore[arg-type]
    assert not (tmp_path / "report.html").exists()
    with pytest.raises(SystemExit):
        main(["plot", str(tmp_path), "--format", "svg", "--out", str(tmp_path / "new")])
    assert capsys.readouterr().out.split() == [str(tmp_path / "new" / "effects.svg")]
    assert drawable.Results.read(tmp_path).plot(forms=["pdf"]) == {"effects": (tmp_path / "plots" / "effects.pdf",)}
