"""Reports: the marks of Table 2, what may be compared with what, and names that try to do harm."""

import csv
import io
import json
import math
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from comparison_samples import classified, write_sample
from report_samples import VERSION, board_of, make_result

import arch_hf.reports.page
from arch_hf.cli import main
from arch_hf.reports import TEXT_FORMATS, load_board, write_report
from arch_hf.reports.columns import TWELVE_KEYS
from arch_hf.reports.page import page_data
from arch_hf.results.table2 import TABLE2_MODELS, published_score

# The marks of Table 2, by hand from its numbers: best of each size class in bold, best of all shaded (where two models share
# the best score, both are).
BOLD = {
    "esc50": ["HuBERT-AS B", "W2V2-AS L", "XLS-R XL"],
    "us8k": ["HuBERT-AS B", "W2V2-AS L", "XLS-R XL"],
    "fsd50k": ["HuBERT-AS B", "W2V2-AS L", "XLS-R XL"],
    "vivae": ["HuBERT B", "HuBERT-AS L", "HuBERT XL"],
    "fma_small": ["HuBERT-AS B", "HuBERT-AS L", "XLS-R XL"],
    "magnatagatune": ["HuBERT-AS B", "W2V2-AS L", "XLS-R XL"],
    "irmas": ["HuBERT-AS B", "HuBERT-AS L", "XLS-R XL"],
    "medley_solos_db": ["HuBERT-AS B", "HuBERT-AS L", "XLS-R XL"],
    "ravdess": ["WavLM B", "HuBERT-AS L", "HuBERT XL"],
    "audio_mnist": ["WavLM+ B", "HuBERT L", "HuBERT XL"],
    "slurp": ["D2V B", "HuBERT L", "HuBERT XL"],
    "emovo": ["WavLM B", "WavLM L", "HuBERT XL"],
}
SHADED = {
    "esc50": ["W2V2-AS L"],
    "us8k": ["HuBERT-AS B"],
    "fsd50k": ["W2V2-AS L"],
    "vivae": ["HuBERT-AS L"],
    "fma_small": ["HuBERT-AS L"],
    "magnatagatune": ["W2V2-AS L"],
    "irmas": ["HuBERT-AS L"],
    "medley_solos_db": ["HuBERT-AS L"],
    "ravdess": ["HuBERT XL"],
    "audio_mnist": ["HuBERT L", "HuBERT XL"],
    "slurp": ["HuBERT XL"],
    "emovo": ["HuBERT XL"],
}


def marks(rows, mark) -> dict[str, list[str]]:
    return {key: [f"{row.name} {row.size}" for row in rows if getattr(row.cells[key], mark)] for key in TWELVE_KEYS}


# Table 2 ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def in_a_folder_without_results(tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))


@pytest.fixture
def no_plots(monkeypatch):
    """They take seconds; one test below draws them."""
    from arch_hf.reports import plots

    monkeypatch.setattr(plots, "planned_plots", lambda board: [])


@pytest.fixture
def table2(tmp_path, no_plots):
    assert main(["report", "--output", str(tmp_path)]) == 0
    return tmp_path


def test_table2_has_the_papers_marks(table2):
    rows = load_board(None).views[0].rows
    assert marks(rows, "best_of_size") == BOLD
    assert marks(rows, "best") == SHADED


def test_table2_in_latex_says_the_same(table2):
    text = (table2 / "leaderboard.tex").read_text()
    lines = [line for line in text[: text.index(r"\end{table*}")].splitlines() if r"\textsuperscript{p} &" in line]
    assert len(lines) == 16 and sum(r"$\diamond$" in line for line in lines) == 4
    bold, shaded = {key: [] for key in TWELVE_KEYS}, {key: [] for key in TWELVE_KEYS}
    for line, model in zip(lines, TABLE2_MODELS, strict=True):
        name, size, *cells = line.removesuffix(r" \\").split(" & ")
        assert name.replace("-{}", "-").startswith(model.name) and size == model.size
        assert (r"$\diamond$" in name) == model.name.endswith("-AS")
        for key, cell in zip(TWELVE_KEYS, cells, strict=True):
            assert f"{100 * model.scores[key]:.2f}" in cell
            bold[key] += [f"{model.name} {size}"] if r"\textbf" in cell else []
            shaded[key] += [f"{model.name} {size}"] if r"\cellcolor" in cell else []
    assert (bold, shaded) == (BOLD, SHADED)
    heads = re.search(r"\\toprule\n(.*)\n(.*)\n(.*)\n", text)
    assert re.findall(r"multicolumn\{4\}\{c\}\{(.*?)\}", heads[1]) == ["Acoustic events", "Music", "Speech"]
    assert heads[2].split() == [rf"\cmidrule(lr){{{a}-{a + 3}}}" for a in (3, 7, 11)]


def test_table2_in_markdown_csv_and_page(table2):
    text = (table2 / "leaderboard.md").read_text()
    scores = text[: text.index("## Means and ranks")]
    lines = [line for line in scores.splitlines() if "*published* |" in line]
    assert (
        len(lines) == 16
        and sum(line.count("★") for line in lines) == 13
        and sum(line.count("◇") for line in lines) == 4
    )
    assert sum(len(re.findall(r"\*\*[\d.]+\*\*", line)) for line in lines) == 36
    rows = list(csv.DictReader((table2 / "leaderboard.csv").open(encoding="utf-8")))
    for row, model in zip(rows, TABLE2_MODELS, strict=True):
        assert (row["model"], row["source"]) == (model.model_id, "published")
        assert [float(row[f"arch-v1 {VERSION}/last/{key}"]) for key in TWELVE_KEYS] == [
            round(100 * model.scores[key], 2) for key in TWELVE_KEYS
        ]
    data = page_data(load_board(None))
    cells = [cell for row in data["views"][0]["rows"] for cell in row[11]]
    assert sum(cell[1] & 1 for cell in cells) == 36 and sum(cell[1] >> 1 for cell in cells) == 13


def test_averages_and_ranks():
    rows = load_board(None).views[0].rows
    scores = np.array([[model.scores[key] for key in TWELVE_KEYS] for model in TABLE2_MODELS])
    np.testing.assert_allclose([row.averages["all"] for row in rows], scores.mean(1))
    np.testing.assert_allclose([row.averages["music"] for row in rows], scores[:, 4:8].mean(1))
    above = (scores[None] > scores[:, None]).sum(1)  # of each score: how many in its column are higher
    ranks = above + ((scores[None] == scores[:, None]).sum(1) + 1) / 2
    np.testing.assert_allclose([row.cells["audio_mnist"].rank for row in rows], ranks[:, 9])
    np.testing.assert_allclose([row.mean_rank for row in rows], ranks.mean(1))
    assert [row.rank for row in rows] == [1 + (ranks.mean(1) < mean - 1e-9).sum() for mean in ranks.mean(1)]


# What may be compared with what ----------------------------------------------------------------------------------------


def test_difference_only_where_a_model_is_in_both():
    board = board_of(make_result(score=0.6, model="facebook/hubert-base-ls960"), make_result(score=0.6))
    own = {row.model_id: row.cells["esc50"] for row in board.views[0].own_rows}
    assert own["facebook/hubert-base-ls960"].delta == pytest.approx(0.6 - 0.5890)
    assert own["us/ours"].delta is None
    assert "| facebook/hubert-base-ls960 | +1.10 |" in TEXT_FORMATS["md"](board)
    assert f"arch-v1 {VERSION}/last/esc50/delta" in TEXT_FORMATS["csv"](board).splitlines()[0]


@pytest.mark.parametrize(
    "change",
    [{"complete": False}, {"dataset": {"limit": 5}}, {"dataset": {"n_clips_expected": 2000}}],
    ids=["incomplete", "limited", "clips missing"],
)
def test_incomplete_results_are_marked_and_never_best(change):
    whole = [make_result(key, 0.999) for key in TWELVE_KEYS[1:]]
    board = board_of(make_result("esc50", 0.999, **change), *whole)
    row = board.views[0].own_rows[0]
    cell = row.cells["esc50"]
    assert cell.caveat and not cell.best and not cell.best_of_size and cell.rank is None
    assert row.averages["events"] is None and row.averages["music"] == pytest.approx(0.999) and row.rank is None
    assert marks([r for r in board.views[0].rows if r.published], "best")["esc50"] == SHADED["esc50"]
    assert "99.90†" in TEXT_FORMATS["md"](board) and r"99.90\textsuperscript{*}" in TEXT_FORMATS["tex"](board)
    assert "esc50/incomplete" in TEXT_FORMATS["csv"](board).splitlines()[0]


def test_protocols_versions_and_layers_never_share_a_column():
    changes = [{}, {"protocol": {"name": "strict"}}, {"protocol": {"version": "0.9"}}, {"layer": 6}, {"layer": 7}]
    board = board_of(*(make_result(score=0.1 * (n + 1), **change) for n, change in enumerate(changes)))
    seen = {
        (view.protocol, view.version, view.layer): [row.cells["esc50"].value for row in view.own_rows]
        for view in board.views
    }
    assert seen == {
        ("arch-v1", VERSION, -1): [pytest.approx(0.1)],
        ("strict", VERSION, -1): [pytest.approx(0.2)],
        ("arch-v1", "0.9", -1): [pytest.approx(0.3)],
        ("arch-v1", VERSION, 6): [pytest.approx(0.4)],
        ("arch-v1", VERSION, 7): [pytest.approx(0.5)],
    }
    assert board.views[0].title == f"arch-v1 {VERSION}, last layer"
    assert not any(
        row.published for view in board.views if view.layer != -1 or view.protocol == "strict" for row in view.rows
    )
    (row,) = (row for row in csv.DictReader(io.StringIO(TEXT_FORMATS["csv"](board))) if row["source"] == "evaluated")
    scores = {name: value for name, value in row.items() if name.endswith("/esc50")}
    assert scores == {
        f"arch-v1 {VERSION}/last/esc50": "10.00",
        f"strict {VERSION}/last/esc50": "20.00",
        "arch-v1 0.9/last/esc50": "30.00",
        f"arch-v1 {VERSION}/layer 6/esc50": "40.00",
        f"arch-v1 {VERSION}/layer 7/esc50": "50.00",
    }
    assert "| Corpus | layer 6 | layer 7 | last layer |" in TEXT_FORMATS["md"](board)


def test_other_corpora_and_two_revisions_stand_apart():
    other = make_result("someone/birds", 0.9, dataset={"config": "small"})
    board = board_of(make_result(score=0.4, model="a/b"), make_result(score=0.5, model="a/b", revision="f" * 40), other)
    view = board.views[0]
    assert [column.key for column in view.columns[12:]] == ["someone/birds (small)"] and view.columns[
        12
    ].domain == "events"
    assert [row.revision for row in view.own_rows if row.model_id == "a/b"] == [None, "f" * 40]


def test_own_corpora_stand_under_their_domain_and_columns_without_a_score_are_left_out():
    own = {"protocol": {"name": "strict"}}
    words = make_result("me/words", 0.8, dataset={"domain": "speech"}, **own)
    odd = make_result("me/odd", 0.7, dataset={"domain": "cooking"}, **own)
    board = board_of(make_result("slurp", 0.6, **own), make_result("esc50", 0.9, **own), words, odd)
    assert "| Model | Size | ESC-50 | SLURP | me/words | me/odd |" in TEXT_FORMATS["md"](board)
    assert r"{c}{Acoustic events} & \multicolumn{2}{c}{Speech} & \multicolumn{1}{c}{Other corpora}" in TEXT_FORMATS[
        "tex"
    ](board)
    page = page_data(board)["views"][1]
    assert page["columns"][12:] == [
        ["me/odd", "me/odd", "other", "accuracy"],
        ["me/words", "me/words", "speech", "accuracy"],
    ]
    assert board.views[1].own_rows[0].averages["speech"] is None  # the paper's four


def test_an_interval_of_few_units_is_marked():
    few, many = (make_result(score=0.5, model=f"us/{n}", bootstrap={"unit": "group", "n_units": n}) for n in (4, 6))
    text, data = TEXT_FORMATS["md"](board_of(few, many)), page_data(board_of(few, many))
    assert "| 47.00 – 52.00 | 4, too few |" in text and "| 47.00 – 52.00 | 6 |" in text
    assert text.count("- too few: an interval drawn from fewer than 6 units") == 1
    assert "too few:" not in TEXT_FORMATS["md"](board_of(many))
    cells = [row[11][0] for row in data["views"][0]["rows"] if not row[5]]
    assert [cell[16:] for cell in cells] == [[4], []]


# One row per model -----------------------------------------------------------------------------------------------------


def test_the_same_weights_under_two_names_are_one_row(tmp_path):
    same, other = {"weights_sha256": "ab", "config_sha256": "cd"}, {"weights_sha256": "ef", "config_sha256": "cd"}
    names = {"us/copy": same, "facebook/hubert-base-ls960": same, "us/other": other}
    protocol = {"name": "arch-v1", "version": VERSION}
    for name, facts in names.items():
        for corpus in ("esc50", "us8k") if name != "us/copy" else ("esc50", "vivae"):
            write_sample(tmp_path, classified(0.6), name, corpus, facts=facts, protocol=protocol)
    write_sample(
        tmp_path,
        classified(0.5),
        "us/other",
        name="half",
        facts=other,
        protocol=protocol,
        environment={"dtype": "bfloat16"},
    )
    board = load_board(tmp_path)
    rows = {(row.name, row.variant): row for row in board.views[0].own_rows}
    assert list(rows) == [("facebook/hubert-base-ls960", None), ("us/other", None), ("us/other", "bfloat16")]
    hubert = rows["facebook/hubert-base-ls960", None]
    assert hubert.also == ("us/copy",) and set(hubert.cells) == {"esc50", "us8k", "vivae"} and not board.warnings
    assert hubert.cells["esc50"].delta == pytest.approx(0.6 - 0.5890, abs=0.1)
    assert "facebook/hubert-base-ls960, also us/copy" in TEXT_FORMATS["md"](board)
    assert "us/other [bfloat16]" in TEXT_FORMATS["tex"](board).replace("{[}", "[").replace("{]}", "]")
    (page_row,) = (row for row in page_data(board)["views"][0]["rows"] if row[0] == hubert.name and not row[5])
    assert page_row[12:14] == ["https://huggingface.co/facebook/hubert-base-ls960", "us/copy"]


def test_results_asked_for_twice_show_the_few_shot_scores(tmp_path):
    few = {
        n: {"draws": 3, "metrics": {"accuracy": {"mean": mean, "std": 0.02}}} for n, mean in (("1", 0.25), ("10", 0.5))
    }
    plain = make_result()
    (tmp_path / "esc50.json").write_text(json.dumps(plain))
    (tmp_path / "esc50.shots1-10.json").write_text(json.dumps(plain | {"few_shot": few}))
    board = load_board(tmp_path)
    assert not board.warnings
    assert "| 1-shot | 10-shot |" in TEXT_FORMATS["md"](board) and "| 25.00 ± 2.00 | 50.00 ± 2.00 |" in TEXT_FORMATS[
        "md"
    ](board)
    (row,) = (row for row in csv.DictReader(io.StringIO(TEXT_FORMATS["csv"](board))) if row["source"] == "evaluated")
    prefix = f"arch-v1 {VERSION}/last/esc50"
    assert [row[f"{prefix}/shots_{part}"] for part in ("1", "1_std", "10", "10_std")] == [
        "25.00",
        "2.00",
        "50.00",
        "2.00",
    ]
    assert page_data(board)["views"][0]["rows"][0][11][0][14] == [[1, 25.0, 2.0], [10, 50.0, 2.0]]
    (tmp_path / "esc50.json").write_text(json.dumps(make_result(score=0.7)))
    assert "holds the same model" in load_board(tmp_path).warnings[0]


def test_spreads_over_folds_and_over_seeds_stay_apart():
    values = [("a", 0, 0.1), ("a", 1, 0.3), ("b", 0, 0.5), ("b", 1, 0.7)]
    runs = [{"fold": fold, "seed": seed, "metrics": {"accuracy": value}} for fold, seed, value in values]
    board = board_of(make_result(score=0.4, runs=runs))
    (row,) = (row for row in csv.DictReader(io.StringIO(TEXT_FORMATS["csv"](board))) if row["source"] == "evaluated")
    spreads = [row[f"arch-v1 {VERSION}/last/esc50/std_{over}"] for over in ("folds", "seeds")]
    assert spreads == ["28.28", "14.14"]
    assert "| ESC-50 | 40.00 | 37.00 – 42.00 | – | 28.28 | 14.14 | 10.00 |" in TEXT_FORMATS["md"](board)
    assert "28.28 & 14.14" in TEXT_FORMATS["tex"](board)
    cell = page_data(board)["views"][0]["rows"][0][11][0]
    assert cell[5:7] == [28.28, 14.14] and cell[10] == [2, 2]


def test_ours_come_first_and_many_are_not_printed_one_by_one():
    board = board_of(*(make_result(model=f"us/{number}") for number in range(13)))
    view = board.views[0]
    assert [row.published for row in view.rows] == [False] * 13 + [True] * 16
    assert "13 models are too many to print one by one" in TEXT_FORMATS["md"](board)


# Pairs -----------------------------------------------------------------------------------------------------------------


def test_the_page_holds_the_comparisons_own_numbers(tmp_path, capsys):
    from arch_hf.results.folder_comparison import compare_folders

    protocol = {"name": "arch-v1", "version": VERSION}
    for number, (model, share) in enumerate((("us/a", 0.8), ("us/b", 0.6), ("us/c", 0.7))):
        for place, corpus in enumerate(("esc50", "us8k", "emovo")):
            predictions = classified(
                share, n_units=5 if corpus == "emovo" else 12, per_unit=20, seed=10 * number + place
            )
            domain = "speech" if corpus == "emovo" else "events"
            write_sample(tmp_path, predictions, model, corpus, dataset={"domain": domain}, protocol=protocol)
    board = load_board(tmp_path)
    pairs = page_data(board)["views"][0]["pairs"]
    names = [board.views[0].rows[place].name for place in pairs["rows"]]
    number = [(i, j) for i in range(3) for j in range(i + 1, 3)].index((names.index("us/a"), names.index("us/b")))
    found = dict(zip(pairs["keys"], pairs["found"][number], strict=True))
    (table,), _ = compare_folders(tmp_path / "us__a", tmp_path / "us__b")
    expected = {each.corpus: each.headline.estimate for each in table.corpora}
    expected |= {"events": table.domains["events"], "all": table.overall, "elsewhere": table.elsewhere}
    for key, estimate in expected.items():
        half = estimate.ci95 and round(100 * (estimate.ci95[1] - estimate.value), 2)
        p = estimate.p and float(f"{estimate.p:.2g}")
        assert found[key] == [round(100 * estimate.value, 2), half, p, estimate.n_units]
    assert found["emovo"][1:] == [None, None, 5] and found["vivae"] == 0 and found["music"] == 0
    (tmp_path / "us__c" / "us8k.predictions.safetensors").write_bytes(b"broken")
    assert "paired differences of us/c on us8k" in load_board(tmp_path).warnings[0]


def test_only_what_tested_the_same_clips_is_paired(tmp_path):
    for model, keep in (("us/a", None), ("us/b", np.arange(100))):
        write_sample(tmp_path, classified(0.6), model, keep=keep, protocol={"name": "arch-v1", "version": VERSION})
    pairs = page_data(load_board(tmp_path))["views"][0]["pairs"]
    assert pairs is not None and set(pairs["found"][0]) == {0}


# Plots -----------------------------------------------------------------------------------------------------------------


def test_models_that_the_twelve_tell_apart():
    from scipy.stats import ttest_rel

    from arch_hf.reports.plots_ranks import tell_apart

    found = tell_apart(load_board(None).views[0])
    scores = [[row.cells[key].value for key in TWELVE_KEYS] for row in found.rows]
    assert [np.mean(of_row) for of_row in scores] == sorted(map(np.mean, scores), reverse=True)
    pairs = [(i, j) for i in range(16) for j in range(i + 1, 16)]
    p = {pair: ttest_rel(scores[pair[0]], scores[pair[1]]).pvalue for pair in pairs}
    apart = set()
    for place, pair in enumerate(sorted(p, key=p.get)):
        if p[pair] * (len(pairs) - place) >= 0.05:
            break
        apart.add(pair)
    assert found.pairs == apart and 0 < len(apart) < len(pairs)


def test_layers_of_models_of_different_depth_lie_on_one_axis():
    from arch_hf.reports.layers import layer_tables

    layers = {"us/deep": (25, [0, 12, 24]), "us/small": (7, [0, 3]), "us/unknown": (None, [2, 5])}
    results = [
        make_result(model=name, facts={"n_layers": count}, layer=layer)
        for name, (count, numbered) in layers.items()
        for layer in (*numbered, -1)
    ]
    tables = {table.row.name: table for table in layer_tables(board_of(*results))}
    assert [tables["us/deep"].depth(layer) for layer in (0, 12, 24, -1)] == [0, 0.5, 1, 1]
    assert tables["us/small"].depth(3) == 0.5 and tables["us/unknown"].depth(2) is None
    counted = [make_result(model="us/counted", layer=layer) for layer in (0, 1, 2, -1)]
    assert layer_tables(board_of(*counted))[0].n_layers == 4


def test_every_colour_of_the_page_is_there_in_both_themes():
    style = Path(arch_hf.reports.page.__file__).with_name("page.css").read_text(encoding="utf-8")
    light, *dark = re.findall(
        r":root(?:\[data-theme=\"dark\"\]|:not\(\[data-theme=\"light\"\]\))? \{(.*?)\}", style, re.S
    )
    light, *dark = (dict(re.findall(r"(--[\w-]+): ([^;]+);", block)) for block in (light, *dark))
    dark = [block for block in dark if "--paper" in block]  # by the system, and by the button
    assert len(dark) == 2 and dark[0] == dark[1]
    assert {name for name, value in light.items() if value.startswith("#")} == set(dark[0])
    assert set(re.findall(r"var\((--[\w-]+)\)", style)) <= set(light)


@pytest.mark.parametrize(
    ("limits", "line"),
    [
        ((None, None, None), "10.00 | **30.00** | 20.00"),
        ((5, 5, 5), "10.00† | **30.00†** | 20.00†"),
        ((None, 5, None), "10.00 | 30.00† | **20.00**"),
        ((5, 9, 5), "10.00† | 30.00† | 20.00†"),
    ],
    ids=["whole", "the same part", "one of a part", "unlike parts"],
)
def test_the_best_layer_is_best_among_those_of_the_same_clips(limits, line):
    changes = [{"dataset": {"limit": limit}} if limit else {} for limit in limits]
    scores = zip((0.1, 0.3, 0.2), (0, 1, -1), changes, strict=True)
    board = board_of(*(make_result(score=score, layer=layer, **change) for score, layer, change in scores))
    assert f"| ESC-50 | {line} |" in TEXT_FORMATS["md"](board)


def test_plots_say_whom_they_leave_out_and_why(tmp_path):
    results = [make_result(key, model="us/all") for key in TWELVE_KEYS]
    results += [make_result("esc50", model="us/<one>", layer=layer) for layer in (-1, 2)]
    board = board_of(*results)
    texts = {
        path.name: path.read_text(encoding="utf-8") for path in write_report(board, tmp_path) if path.suffix == ".svg"
    }
    notes = {
        "radar.svg": "with comparable scores on fewer than three of the twelve: us/&lt;one",
        "critical_difference.svg": "without comparable scores on all twelve: us/&lt;one",
        "accuracy_vs_parameters.svg": "without comparable scores on every corpus of the mean: us/&lt;one",
    }
    for name, note in notes.items():
        assert f"Left out, {note}" in texts[name]
    assert "beyond 5 lines" in texts["radar.svg"] and not any(name.startswith("layers") for name in texts)
    assert [warning for warning in board.warnings if "confusion matrices" in warning]


def test_a_model_without_a_shared_corpus_takes_no_plot_away():
    from arch_hf.reports.plots_views import cost_points

    results = [make_result(key, model="us/two") for key in ("esc50", "us8k")]
    limited = make_result("esc50", model="us/limited", dataset={"limit": 9})
    for more in ([limited], [limited, make_result("emovo", model="us/other")]):
        costs = cost_points(board_of(*results, *more).views[0], "n_parameters")
        assert [column.key for column in costs.columns] == ["esc50", "us8k"]
        assert len(costs.points) == 17 and "us/two" in [row.name for row, _, _ in costs.points]
        assert any("every corpus of the mean" in note and more[-1]["model"]["id"] in note for note in costs.notes)


@pytest.mark.skipif(sys.platform != "linux", reason="plots are drawn in other processes on Linux only")
@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_report_leaves_no_processes(tmp_path, kind):
    """The processes that draw notice that nobody is left to draw for."""
    code = "import time\nfrom arch_hf.reports import load_board\nfrom arch_hf.reports.plots import drawing\n"
    code += "with drawing(load_board(None)):\n    print('drawing', flush=True)\n    time.sleep(60)"
    run = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert run.stdout.readline() == "drawing\n"
        workers = _wait_for(lambda: _children(run.pid))
    finally:
        run.send_signal(kind)
        run.wait()
    assert _wait_for(lambda: not [pid for pid in workers if _children_alive(pid)])


def _wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(0.02)
    return found


def _stat(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _children(pid):
    found = {int(path.name): _stat(path.name) for path in Path("/proc").glob("[0-9]*")}
    return [child for child, fields in found.items() if fields and int(fields[1]) == pid]


def _children_alive(pid):
    fields = _stat(pid)
    return fields is not None and fields[0] != "Z"


# Files -----------------------------------------------------------------------------------------------------------------


def test_broken_foreign_and_double_files_are_named(tmp_path, capsys, no_plots):
    results = tmp_path / "results"
    (results / "us__ours").mkdir(parents=True)
    files = {
        "us__ours/esc50.json": make_result(),
        "us__ours/again.json": make_result(score=0.7),
        "newer.json": make_result() | {"schema_version": 99},
        "text_version.json": make_result() | {"schema_version": "1"},
        "above_one.json": make_result(score=1.5),
        "class_not_a_number.json": make_result(
            per_class=[{"class": name, "recall": value} for name, value in (("a", 0.5), ("b", math.nan))]
        ),
        "no_score.json": make_result(metrics={"accuracy": {"mean": None}}),
        "foreign.json": {"hello": "world"},
    }
    for name, content in files.items():
        (results / name).write_text(json.dumps(content), encoding="utf-8")
    (results / "broken.json").write_text('{"schema_version": 1, "mod')
    (results / "bytes.json").write_bytes(b"\xff\xfe\x00")
    (results / "deep.json").write_text("[" * 100_000)
    assert main(["report", str(results), "--output", str(tmp_path / "out")]) == 1
    *errors, last = capsys.readouterr().err.splitlines()
    left_out = {re.match(r"left out: (.*?\.json)", line)[1].split("/")[-1] for line in errors}
    assert last.startswith(
        "error: 8 files left out as damaged, so the report may have holes"
    )  # not foreign, nor double
    assert left_out == {"newer.json", "text_version.json", "above_one.json", "class_not_a_number.json", "no_score.json", "foreign.json",
                        "broken.json", "bytes.json", "deep.json", "esc50.json"}  # fmt: skip
    assert "us/ours | B | **70.00** |" in (tmp_path / "out" / "leaderboard.md").read_text()


def test_files_that_are_no_results_are_named_and_no_fault(tmp_path, capsys, no_plots):
    (tmp_path / "foreign.json").write_text('{"hello": "world"}')
    (tmp_path / "esc50.json").write_text(json.dumps(make_result()))
    assert main(["report", str(tmp_path), "--output", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().err == "left out: foreign.json: not an arch-hf result\n"


def test_a_score_in_place_of_a_damaged_one_is_marked_in_its_cell(tmp_path, no_plots):
    results = tmp_path / "results" / "us__ours"
    results.mkdir(parents=True)
    one_seed = make_result(score=0.9, protocol={"seeds": 1})
    for name, content in {
        "esc50.json": json.dumps(make_result())[:-20],
        "esc50.seeds1.json": json.dumps(one_seed),
        "us8k.json": json.dumps(make_result("us8k")),
        "us8k.seeds1.json": json.dumps(make_result("us8k", 0.9))[:-20],
        "esc50.layer3.json": json.dumps(make_result(layer=3)),
    }.items():
        (results / name).write_text(content)
    board = load_board(tmp_path / "results")
    said = "the result of 1 seed in esc50.seeds1.json, in place of esc50.json, which is damaged"
    (row,) = board.views[0].own_rows
    assert {key: cell.caveat for key, cell in row.cells.items()} == {"esc50": said, "us8k": None}
    assert not row.cells["esc50"].best and row.comparable("esc50") is None
    assert board.views[1].own_rows[0].cells["esc50"].caveat is None  # of another layer
    assert f"us/ours, esc50: {said}" in board.views[0].notes and said in json.dumps(page_data(board))
    assert [note.split()[6] for note in board.views[0].notes if note.startswith("left out, since")] == [
        "us__ours/esc50.json:",
        "us__ours/us8k.seeds1.json:",
    ]
    assert "90.00†" in TEXT_FORMATS["md"](board) and len(board.damaged) == 2


def test_a_missing_folder_is_one_line(tmp_path, capsys):
    assert main(["report", str(tmp_path / "nowhere"), "--output", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("error: no folder ") and not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "leaderboard.html").mkdir()  # no file can take its place
    assert main(["report", "--output", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("error: cannot write ")
    assert [path.name for path in tmp_path.iterdir()] == ["leaderboard.html"]


def test_without_arguments_it_reads_what_the_main_job_writes(tmp_path, capsys, monkeypatch, no_plots):
    monkeypatch.chdir(tmp_path)
    Path("results").mkdir()
    Path("results/esc50.json").write_text(json.dumps(make_result()))
    assert main(["report"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "the page: report/leaderboard.html"
    assert "us/ours" in Path("report/leaderboard.md").read_text(encoding="utf-8")


def test_plots_without_matplotlib_are_one_line(tmp_path, capsys, monkeypatch):
    for name in ("plots", "plots_detail", "plots_style", "plots_views"):
        monkeypatch.delitem(sys.modules, f"arch_hf.reports.{name}", raising=False)
        monkeypatch.delattr(arch_hf.reports, name, raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as if it were not installed
    assert main(["report", "--output", str(tmp_path)]) == 0
    assert (
        "left out: the plots, since matplotlib is not installed: pip install 'arch-hf[plots]'"
        in capsys.readouterr().err
    )
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".csv", ".html", ".md", ".tex"]


def test_plots_of_an_earlier_report_are_removed_and_nothing_else(tmp_path):
    first = board_of(make_result(), make_result("us8k"), make_result(layer=2, model="us/<one>"))
    files = [path.name for path in write_report(first, tmp_path)]
    mine = ["confusion_of_mine.png", "radar.txt", "mine.svg"]
    for name in mine:
        (tmp_path / name).write_bytes(b"mine")
    second = load_board(None)
    kept = [path.name for path in write_report(second, tmp_path)]
    assert {path.name for path in tmp_path.iterdir()} == {*kept, *mine}
    gone = sorted(set(files) - set(kept))
    assert gone and {Path(name).suffix for name in gone} == {".png", ".svg"}
    assert second.warnings[-2:] == [
        f"of an earlier report, and removed: {', '.join(gone)}",
        "of an earlier report, by the name, and still there: confusion_of_mine.png",
    ]


def test_plots_are_the_same_each_time_and_however_they_are_drawn(monkeypatch):
    from arch_hf.reports.plots import drawing

    board = load_board(None)
    with drawing(board) as files:
        forked = dict(files)
    monkeypatch.setattr(sys, "platform", "darwin")  # where a fork is not safe: one after the other
    with drawing(board) as files:
        assert dict(files) == forked
    stems = ("accuracy_vs_gflop", "accuracy_vs_parameters", "critical_difference", "radar")
    assert sorted(forked) == [f"{stem}.{kind}" for stem in stems for kind in ("png", "svg")]


def test_results_of_the_main_job_are_read(tmp_path):
    from arch_hf import evaluate_model

    options = {"limit": 6, "seeds": 1, "output_dir": tmp_path / "results", "cache_dir": tmp_path / "cache"}
    (result,) = evaluate_model("logmel", ["synthetic_events"], **options)
    board = load_board(tmp_path / "results")
    (row,) = [row for row in board.views[0].own_rows if row.name == "logmel"]
    cell = row.cells["synthetic_events"]
    assert not board.warnings and cell.value == result.headline.mean and cell.caveat
    assert cell.result == result


def test_a_page_of_results_alone_needs_no_torch(tmp_path):
    """The Space installs neither torch nor transformers."""
    (tmp_path / "esc50.json").write_text(json.dumps(make_result()))
    code = f"import sys\nfrom arch_hf.reports import load_board\nfrom arch_hf.reports.page import render\nrender(load_board({str(tmp_path)!r}))\n"
    code += "assert not {'torch', 'transformers', 'datasets', 'scipy', 'sklearn'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_difference_within_the_papers_unknown_draw_is_shown_as_such():
    model = "facebook/hubert-base-ls960"
    theirs = published_score(model, "ravdess")
    board = board_of(make_result("ravdess", theirs + 0.01, model), make_result("esc50", 0.6, model))
    own = next(row for row in board.views[0].rows if not row.published)
    assert own.cells["ravdess"].uncertainty == 0.039 and own.cells["esc50"].uncertainty is None
    assert "+1.00 ± 3.9" in TEXT_FORMATS["md"](board) and r"$+1.00 \pm 3.9$" in TEXT_FORMATS["tex"](board)
    heads, *lines = csv.reader(TEXT_FORMATS["csv"](board).splitlines())
    place = heads.index(f"arch-v1 {VERSION}/last/ravdess/delta_uncertainty")
    assert "3.90" in {line[place] for line in lines}
    assert not any("esc50/delta_uncertainty" in head for head in heads)


def test_a_column_of_different_numbers_of_seeds_says_so():
    runs = [{"fold": "fold_1", "seed": seed, "metrics": {"accuracy": 0.5}} for seed in range(3)]
    one, three = make_result(model="us/a"), make_result(model="us/b", runs=runs)
    said = "ESC-50: the scores are means of different numbers of seeds (1, 3)"
    assert said in board_of(one, three).views[0].notes
    assert said not in board_of(three, make_result(model="us/c", runs=runs)).views[0].notes
