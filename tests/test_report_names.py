"""Names that try to do harm (markup, formulas, LaTeX, right-to-left text) stay text in every format of a report."""

import csv
import io
import json
import re
import shutil
import subprocess

import pytest
from report_samples import VERSION, board_of, make_result

from arch_hf.reports import TEXT_FORMATS, write_report
from arch_hf.reports.latex import render as render_latex

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
    for table in text.split("## ")[1:]:
        lines = [line for line in table.splitlines() if line.startswith("|")]
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1, table
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
    changes = [{}, {"layer": 3, "facts": {"n_layers": 5}}]
    board = board_of(*(make_result("us8k", 0.5, name, per_class=classes, **change) for change in changes))
    files = {path.name for path in write_report(board, tmp_path)}
    plots = {
        "accuracy_vs_gflop",
        "accuracy_vs_parameters",
        "confusion_script_x_1_us8k",
        "critical_difference",
        "intervals",
    }
    plots |= {f"layers_arch-v1_{VERSION}", "radar"}
    assert files == {f"{plot}.{kind}" for plot in plots for kind in ("png", "svg")} | {
        f"leaderboard.{kind}" for kind in TEXT_FORMATS
    }
    assert {path.name for path in tmp_path.iterdir()} == files
    assert "<script" not in (tmp_path / "intervals.svg").read_text(encoding="utf-8")


def test_a_long_title_fits_a_narrow_figure():
    figure_class = pytest.importorskip("matplotlib.figure").Figure
    from arch_hf.reports.plots_style import entitle

    for width in (3.75, 30.0):
        figure = figure_class(figsize=(width, 2))
        entitle(figure, "ARCH, strict 2.0, score (%) by relative depth (band: 95% interval)")
        (title,) = figure.texts
        assert title.get_window_extent().width <= figure.bbox.width
    assert title.get_fontsize() == 12
