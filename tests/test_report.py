"""Reports: the marks of Table 2, what may be compared with what, and names that try to do harm."""

import csv
import html
import importlib.util
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import arch_hf.reports
from arch_hf.cli import main
from arch_hf.encoders.registry import TABLE2_MODELS
from arch_hf.reports import TEXT_FORMATS, load_board, write_report
from arch_hf.reports.board import TWELVE, TWELVE_KEYS, build_board
from arch_hf.reports.latex import render as render_latex
from arch_hf.reports.page import page_data
from arch_hf.reports.reading import parse_result

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
HOSTILE = [
    "</script><script>document.title='hacked'</script>",
    "<img src=x onerror=alert(1)>",
    '=HYPERLINK("http://evil.example")',
    "@sum|a&b`c`*d*_e_[f](http://evil.example)$x$",
    "\\input{/etc/passwd} 100% #1 {~^} \"quoted\" 'single' --",
    "[1cm] star",
    "* starred",
    "נקודה/مختبر",
    "abc\u202egnp.exe\u2066\n| new row |",
    "日本語 é",
]


def make_result(corpus="esc50", score=0.5, model="us/ours", revision=None, **changes) -> dict:
    column = next((column for column in TWELVE if column.key == corpus), None)
    single = column is None or column.metric == "accuracy"
    metric = "accuracy" if single else "map_macro"
    result = {
        "schema_version": 1,
        "complete": True,
        "model": {
            "id": model,
            "revision": revision,
            "weights_sha256": None,
            "class": "HubertModel",
            "n_parameters": 94_371_712,
        },
        "dataset": {
            "id": corpus,
            "config": None,
            "domain": column.domain if column else "events",
            "task": "single_label" if single else "multi_label",
            "n_clips": 100,
            "n_classes": 2,
            "excluded_clips": [],
        },
        "protocol": {"name": "arch-v1", "version": "1.0"},
        "layer": -1,
        "metrics": {metric: {"mean": score, "std": 0.01, "ci95": [max(0.0, score - 0.03), min(1.0, score + 0.02)]}},
        "runs": [{"fold": "fold_1", "seed": 0, "metrics": {metric: score}}],
        "baselines": {"majority": {metric: 0.1}},
        "published": None,
        "per_class": [
            {"class": "cat", "n_test": 50, "recall" if single else "average_precision": score},
            {"class": "dog", "n_test": 0, "recall" if single else "average_precision": 0.0},
        ],
        "confusion": [[30.5, 19.5], [0.0, 0.0]] if single else None,
    }
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = result[key] | value
        else:
            result[key] = value
    return result


def board_of(*results):
    return build_board([parse_result(result) for result in results])


def marks(rows, mark) -> dict[str, list[str]]:
    return {key: [f"{row.name} {row.size}" for row in rows if getattr(row.cells[key], mark)] for key in TWELVE_KEYS}


# Table 2 ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_plots(monkeypatch):
    """They take seconds; one test below draws them."""
    from arch_hf.reports import plots

    monkeypatch.setattr(plots, "write_plots", lambda board, folder: iter(()))


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
    lines = [line for line in (table2 / "leaderboard.md").read_text().splitlines() if "*published* |" in line]
    assert (
        len(lines) == 16
        and sum(line.count("★") for line in lines) == 13
        and sum(line.count("◇") for line in lines) == 4
    )
    assert sum(len(re.findall(r"\*\*[\d.]+\*\*", line)) for line in lines) == 36
    rows = list(csv.DictReader((table2 / "leaderboard.csv").open(encoding="utf-8")))
    for row, model in zip(rows, TABLE2_MODELS, strict=True):
        assert (row["model"], row["source"]) == (model.model_id, "published")
        assert [float(row[f"arch-v1 1.0/last/{key}"]) for key in TWELVE_KEYS] == [
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
    assert "arch-v1 1.0/last/esc50/delta" in TEXT_FORMATS["csv"](board).splitlines()[0]


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
    changes = [{}, {"protocol": {"name": "strict"}}, {"protocol": {"version": "2.0"}}, {"layer": 6}, {"layer": 7}]
    board = board_of(*(make_result(score=0.1 * (n + 1), **change) for n, change in enumerate(changes)))
    seen = {
        (view.protocol, view.version, view.layer): [row.cells["esc50"].value for row in view.own_rows]
        for view in board.views
    }
    assert seen == {
        ("arch-v1", "1.0", -1): [pytest.approx(0.1)],
        ("strict", "1.0", -1): [pytest.approx(0.2)],
        ("arch-v1", "2.0", -1): [pytest.approx(0.3)],
        ("arch-v1", "1.0", 6): [pytest.approx(0.4)],
        ("arch-v1", "1.0", 7): [pytest.approx(0.5)],
    }
    assert board.views[0].title == "arch-v1 1.0, last layer"
    assert not any(
        row.published for view in board.views if view.layer != -1 or view.protocol == "strict" for row in view.rows
    )
    (row,) = (row for row in csv.DictReader(io.StringIO(TEXT_FORMATS["csv"](board))) if row["source"] == "evaluated")
    scores = {name: value for name, value in row.items() if name.endswith("/esc50")}
    assert scores == {
        "arch-v1 1.0/last/esc50": "10.00",
        "strict 1.0/last/esc50": "20.00",
        "arch-v1 2.0/last/esc50": "30.00",
        "arch-v1 1.0/layer 6/esc50": "40.00",
        "arch-v1 1.0/layer 7/esc50": "50.00",
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
    assert left_out == {"newer.json", "text_version.json", "above_one.json", "no_score.json", "foreign.json", "broken.json", "bytes.json",
                        "deep.json", "esc50.json"}  # fmt: skip
    assert "us/ours | B | **70.00** |" in (tmp_path / "out" / "leaderboard.md").read_text()


def test_a_missing_folder_is_one_line(tmp_path, capsys):
    assert main(["report", str(tmp_path / "nowhere"), "--output", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("error: no folder ") and not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "leaderboard.html").mkdir()  # no file can take its place
    assert main(["report", "--output", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("error: cannot write ")
    assert [path.name for path in tmp_path.iterdir()] == ["leaderboard.html"]


def test_plots_without_matplotlib_are_one_line(tmp_path, capsys, monkeypatch):
    for name in ("plots", "plots_detail"):
        monkeypatch.delitem(sys.modules, f"arch_hf.reports.{name}", raising=False)
        monkeypatch.delattr(arch_hf.reports, name, raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as if it were not installed
    assert main(["report", "--output", str(tmp_path)]) == 1
    assert "pip install" in capsys.readouterr().err
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".csv", ".html", ".md", ".tex"]


def test_results_of_the_main_job_are_read(tmp_path):
    from arch_hf import evaluate_model

    options = {"limit": 6, "seeds": 1, "output_dir": tmp_path / "results", "cache_dir": tmp_path / "cache"}
    (result,) = evaluate_model("logmel", ["synthetic_events"], **options)
    board = load_board(tmp_path / "results")
    (row,) = [row for row in board.views[0].own_rows if row.name == "logmel"]
    cell = row.cells["synthetic_events"]
    assert not board.warnings and cell.value == result["metrics"]["accuracy"]["mean"] and cell.caveat
    assert (
        cell.result.classes == tuple(entry["class"] for entry in result["per_class"])
        and cell.result.confusion == result["confusion"]
    )
    assert cell.result.majority == result["baselines"]["majority"]["accuracy"]


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


# Hostile names ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hostile():
    results = []
    for number, name in enumerate(HOSTILE):
        classes = [{"class": name, "n_test": 9, "recall": 0.5}, {"class": "plain", "n_test": 9, "recall": 0.4}]
        results += [
            make_result(key, 0.3 + 0.05 * number, model=name) | {"per_class": classes}
            for key in ("esc50", "us8k", "vivae")
        ]
        results.append(make_result(name, 0.5, model=name) | {"per_class": classes})
        results.append(make_result("esc50", 0.5, model=name, layer=3) | {"per_class": classes})
    results = [r | {"confusion": None} if r["dataset"]["task"] == "multi_label" else r for r in results]
    return board_of(*results)


def test_hostile_names_stay_data_in_the_page(hostile):
    page = TEXT_FORMATS["html"](hostile)
    assert page.lower().count("<script") == 2 and page.lower().count("</script") == 2 and "<img" not in page
    block = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1]
    assert not set("<>&\u2028\u202e") & set(block)
    names = [row[0] for row in json.loads(block)["views"][0]["rows"]]
    assert {HOSTILE[0], HOSTILE[2], HOSTILE[7], HOSTILE[9]} <= set(names)  # whole, letters of every script kept
    assert "innerHTML" not in page and "document.write" not in page and "eval(" not in page


def test_hostile_names_stay_text_in_markdown_and_csv(hostile):
    text = TEXT_FORMATS["md"](hostile)
    scores = text[: text.index("## Layers")].splitlines()
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in scores if line.startswith("|")} == {20 + len(HOSTILE)}
    assert not re.search(r"(?<!\\)[`$]|<|(?<!\\)\]\(|\u202e", text) and "://" not in text
    rows = list(csv.reader(io.StringIO(TEXT_FORMATS["csv"](hostile))))
    assert len({len(row) for row in rows}) == 1
    cells = [cell for row in rows for cell in row]
    assert not [
        cell
        for cell in cells
        if cell[:1] in tuple("=+@\t\r") or (cell[:1] == "-" and not re.fullmatch(r"-[\d.]+", cell))
    ]
    assert any(cell.startswith("'=HYPERLINK") for cell in cells)


def test_hostile_names_stay_text_in_latex(hostile):
    text = render_latex(hostile)
    body = text[text.index(r"\begin{table*}") :]
    assert r"\input" not in body and r"\textbackslash{}input\{/etc/passwd\}" in body
    assert body.isascii() or not re.search(r"[^\x00-\xff]", body)
    unescaped = re.sub(r"\\.", "", body)
    assert unescaped.count("{") == unescaped.count("}") and "$x$" not in body
    assert not re.search(r"\\\\\s*[\[*]", body)  # would be an argument of the line's end


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
def test_latex_compiles_alone_and_inside_a_paper(hostile, tmp_path):
    (tmp_path / "leaderboard.tex").write_text(render_latex(hostile), encoding="utf-8")
    packages = r"\usepackage{booktabs,graphicx}\usepackage[table]{xcolor}"
    paper = rf"\documentclass{{article}}{packages}\begin{{document}}before\input{{leaderboard}}after\end{{document}}"
    (tmp_path / "paper.tex").write_text(paper)
    for name in ("leaderboard", "paper"):
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", f"{name}.tex"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120)
        assert done.returncode == 0, re.findall(r"^!.*|^l\.\d+.*", done.stdout, re.M)


def test_plots_of_hostile_names(tmp_path):
    name = "<script>$x_1$ " + HOSTILE[7]  # markup, matplotlib's mathematics, right to left
    classes = [{"class": name, "n_test": 9, "recall": 0.5}, {"class": "plain", "n_test": 9, "recall": 0.4}]
    changes = [{}, {"layer": 3}]
    board = board_of(*(make_result("us8k", 0.5, name, per_class=classes, **change) for change in changes))
    files = {path.name for path in write_report(board, tmp_path)}
    plots = {
        "accuracy_vs_gflop",
        "accuracy_vs_parameters",
        "confusion_script_x_1_us8k",
        "critical_difference",
        "intervals",
    }
    plots |= {"layers_arch-v1_1.0", "radar"}
    assert files == {f"{plot}.{kind}" for plot in plots for kind in ("png", "svg")} | {
        f"leaderboard.{kind}" for kind in TEXT_FORMATS
    }
    assert {path.name for path in tmp_path.iterdir()} == files
    assert "<script" not in (tmp_path / "intervals.svg").read_text(encoding="utf-8")
