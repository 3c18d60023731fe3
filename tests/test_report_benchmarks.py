"""The page of all benchmarks: one row per model, whoever measured it."""

import html
import json
import re

import pytest
from report_samples import make_result

from arch_hf.cli import main
from arch_hf.reports import load_board, write_report
from arch_hf.reports.benchmarks import benchmark_table, render
from arch_hf.results.benchmark import BenchmarkScore
from arch_hf.results.published_benchmarks import published_models
from arch_hf.results.result import ModelFacts

SHA = {"weights_sha256": "ab", "config_sha256": "cd"}


def score(**changes) -> BenchmarkScore:
    facts = {
        "benchmark": "MTEB",
        "version": "2.26.24",
        "task": "GTZANGenre",
        "kind": "AudioClassification",
        "metric": "accuracy",
        "protocol": "logistic regression on 8 clips per class, 10 draws",
        "score": 0.61234,
        "model": ModelFacts(id="us/copy", **SHA),
        "encoder": "ef",
        "environment": {"dtype": "float32"},
    }
    return BenchmarkScore(**facts | changes)


@pytest.fixture
def folder(tmp_path):
    results = tmp_path / "results"
    result = make_result(facts=SHA)
    (results / "us__ours").mkdir(parents=True)
    (results / "us__ours/esc50.json").write_text(json.dumps(result))
    score().write(results)
    score(task="<b>mine</b>", score=0.25).write(results)
    return results


def cells(page: str, name: str) -> list[str]:
    (line,) = (line for line in page.split("\n") if f">{name}</th>" in line)
    return re.findall(r"<td[^>]*>([^<]*)</td>", line)


def test_a_model_has_one_row_whatever_it_is_called_and_a_benchmark_its_own_columns(folder):
    page = render(load_board(folder))
    heads = re.findall(r'<th class="group" scope="colgroup" colspan="(\d+)">([^<]*)</th>', page)
    (ours, mteb, mlp, knn) = [(title, int(width)) for width, title in heads]
    assert ours[0].startswith("ARCH, arch-v1 ") and ours[1] == 1
    assert (mteb, mlp[0], knn[0]) == (("MTEB", 20), "X-ARES, MLP", "X-ARES, kNN")  # MAEB's nineteen and one of our own
    own = cells(page, "us/ours")
    assert len(own) == 1 + 20 + mlp[1] + knn[1]
    tasks = [html.unescape(task) for task in re.findall(r'<th scope="col"[^>]*>([^<]*)</th>', page)]
    assert [(task, cell) for task, cell in zip(tasks, own, strict=True) if cell != "–"] == [
        ("esc50", "50.00"),
        ("GTZANGenre", "61.23"),
        ("<b>mine</b>", "25.00"),
    ]
    assert "us/copy" not in page and "<b>" not in page
    assert "AudioClassification, accuracy: logistic regression on 8 clips per class, 10 draws" in page


def test_published_rows_are_marked_with_their_source(folder):
    page = render(load_board(folder))
    hubert = cells(page, r"facebook/hubert-base-ls960 \(published\)".replace("\\", ""))
    assert "69.00" in hubert and "MTEB 1.38.33+2.4.2, revision dba3bb02" in page
    assert "github.com/embeddings-benchmark/results, 20 August 2026" in page
    assert "github.com/jimbozhang/xares, 2 September 2025" in page
    whisper = cells(page, "openai/whisper-base (published)")  # of both tables, in one row
    assert "70.90" in whisper and "45.9" in "".join(whisper)
    table = benchmark_table(load_board(folder))
    assert [row.own for row in table.rows] == sorted((row.own for row in table.rows), reverse=True)
    assert {row.name for row in table.rows if not row.own} == {row.model_id for row in published_models()}


def test_published_numbers_are_fractions_of_the_tasks_of_their_benchmarks():
    found = published_models()
    assert len(found) == 65 + 8
    assert all(0 <= value <= 1 for row in found for value in row.scores.values())
    assert {len(row.scores) for row in found if row.benchmark == "MTEB"} <= {18, 19}
    dasheng = next(row for row in found if row.model_id == "mispeech/dasheng-base" and row.method == "kNN")
    assert dasheng.scores["ESC-50"] == pytest.approx(0.618) and "Clotho" not in dasheng.scores


def test_another_dtype_is_another_row(folder):
    score(environment={"dtype": "bfloat16"}, model=ModelFacts(id="us/half", **SHA)).write(folder)
    assert {row.name for row in benchmark_table(load_board(folder)).rows if row.own} == {"us/ours", "us/half"}


def test_no_encoders_score_takes_the_place_of_anothers(folder):
    """Of one model id: another dtype, another commit. The same encoder's does."""
    model = ModelFacts(id="us/copy", weights_sha256="other", config_sha256="cd")
    others = [{"environment": {"dtype": "bfloat16"}, "encoder": "bf"}, {"model": model, "encoder": "ot"}]
    paths = {score(score=0.5, **changes).write(folder) for changes in [*others, {}, *others]}
    assert len(paths) == 3
    assert len([row for row in benchmark_table(load_board(folder)).rows if row.own]) == 3


def test_of_two_scores_of_one_question_the_newest_is_shown_and_the_other_named(folder):
    score(version="2.25", score=0.1, created="2026-01-01").write(folder / "z")
    score(version="3.0", score=0.9, created="2026-02-01").write(folder / "a")
    page = render(load_board(folder))
    assert "90.00" in cells(page, "us/ours")
    assert 'title="MTEB 3.0; before: 10.00, MTEB 2.25; before: 61.23, MTEB 2.26.24"' in page


def test_the_report_writes_the_page_where_there_are_scores(folder, tmp_path, capsys):
    names = []
    for path in write_report(load_board(folder), tmp_path / "report"):
        names.append(path.name)
        if len(names) == 5:
            break
    assert names[-1] == "benchmarks.html"
    board = load_board(folder / "us__ours")
    assert not board.benchmarks
    damaged = next(folder.rglob("*.benchmark.json"))
    damaged.write_text(damaged.read_text().replace("0.25", "0.95").replace("0.61234", "0.7"))
    assert main(["report", str(folder), "--output", str(tmp_path / "again")]) == 1
    assert "was changed after it was written" in capsys.readouterr().err


def test_the_page_of_an_earlier_report_is_removed_and_ones_own_is_not(folder, tmp_path, monkeypatch):
    from arch_hf.reports import plots

    monkeypatch.setattr(plots, "planned_plots", lambda board: [])
    report = tmp_path / "report"
    assert "benchmarks.html" in [path.name for path in write_report(load_board(folder), report)]
    later = load_board(None)
    written = {path.name for path in write_report(later, report)}
    assert {path.name for path in report.iterdir()} == written and "benchmarks.html" not in written
    assert later.warnings[-1] == "of an earlier report, and removed: benchmarks.html"
    (report / "benchmarks.html").write_text("<title>Mine</title>")
    list(write_report(later, report))
    assert (report / "benchmarks.html").read_text() == "<title>Mine</title>"
