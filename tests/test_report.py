"""Reports: the marks of Table 2, what may be compared with what, and names that try to do harm."""

import csv
import html
import importlib.util
import io
import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from report_samples import VERSION, board_of, make_result

import arch_hf.reports
from arch_hf.cli import main
from arch_hf.reports import TEXT_FORMATS, load_board
from arch_hf.reports.columns import TWELVE_KEYS
from arch_hf.reports.page import page_data
from arch_hf.results.table2 import TABLE2_MODELS

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
    ].domain == "other"
    assert [row.revision for row in view.own_rows if row.model_id == "a/b"] == [None, "f" * 40]


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
    assert main(["report", str(results), "--output", str(tmp_path / "out")]) == 0
    errors = capsys.readouterr().err
    left_out = {re.match(r"left out: (.*?\.json)", line)[1].split("/")[-1] for line in errors.splitlines()}
    assert left_out == {"newer.json", "text_version.json", "above_one.json", "class_not_a_number.json", "no_score.json", "foreign.json",
                        "broken.json", "bytes.json", "deep.json", "esc50.json"}  # fmt: skip
    assert "us/ours | B | **70.00** |" in (tmp_path / "out" / "leaderboard.md").read_text()


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


def test_the_space_shows_the_page_of_a_results_dataset(tmp_path, monkeypatch):
    path = Path(__file__).parents[1] / "space" / "app.py"
    spec = importlib.util.spec_from_file_location("space_app", path)
    app = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(app)
    (tmp_path / "esc50.json").write_text(json.dumps(make_result(model='"><script>')), encoding="utf-8")
    asked = []
    monkeypatch.setattr(
        app, "snapshot_download", lambda *args, **options: asked.append((args, options)) or str(tmp_path)
    )
    frame = app.build_frame("us/results")
    assert asked == [(("us/results",), {"repo_type": "dataset", "allow_patterns": "*.json"})]
    source = re.search(r'srcdoc="([^"]*)"', frame)[1]
    assert html.unescape(source) == TEXT_FORMATS["html"](load_board(tmp_path)) and "<" not in source

    def refuse(*args, **options):
        raise OSError("no network")

    monkeypatch.setattr(app, "snapshot_download", refuse)
    assert "us/results cannot be read" in app.build_frame("us/results")
