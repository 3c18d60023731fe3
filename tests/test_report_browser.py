"""The page in a real browser, where there is one: it sorts, filters, shows intervals by keyboard, and asks the network for nothing."""

import json
from pathlib import Path

import pytest
from browser import BROWSER, drive
from comparison_samples import classified, write_sample

from arch_hf.reports import TEXT_FORMATS, load_board
from arch_hf.reports.board import reference_protocol
from arch_hf.results.comparison import compare

VERSION = reference_protocol()[1]

# Runs in the page after its own scripts, works it as a reader would, and leaves what it saw in the document.
DRIVER = """
const seen = { errors: [] };
const column = () => [...document.querySelectorAll("#board tbody tr")].map((tr) => tr.querySelector(".model").textContent);
const press = (key) => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
const head = (title) => [...document.querySelectorAll("#board .sort")].find((button) => button.textContent.startsWith(title));
const chip = (text) => [...document.querySelectorAll(".chip")].find((label) => label.textContent === text).querySelector("input");
try {
  seen.start = column();
  head("ESC-50").click();
  seen.best = column()[0];
  seen.sorted = head("ESC-50").closest("th").getAttribute("aria-sort");
  head("ESC-50").click();
  seen.worst = column()[0];
  chip("Base").click();
  seen.withoutBase = column().length;
  chip("Base").click();
  chip("Speech").click();
  seen.slurp = head("SLURP") === undefined;
  chip("Speech").click();
  document.getElementById("search").value = "<b>alert";
  document.getElementById("search").dispatchEvent(new Event("input"));
  seen.found = column();
  head("Model").focus();
  press("ArrowDown");
  const titles = [...document.querySelectorAll("tr.heads th")].map((th) => th.textContent);
  for (let step = titles.findIndex((title) => title.startsWith("ESC-50")); step > 0; step--) press("ArrowRight");
  seen.tip = document.getElementById("tip").textContent;
  seen.described = document.activeElement.getAttribute("aria-describedby");
  press("Enter");
  seen.classes = [...document.querySelectorAll("#classes tbody th")].map((th) => th.textContent);
  document.getElementById("protocol").value = "strict VERSION";
  document.getElementById("protocol").dispatchEvent(new Event("change"));
  document.getElementById("tab-board").click();
  document.getElementById("search").value = "";
  document.getElementById("search").dispatchEvent(new Event("input"));
  seen.strict = column();
  seen.strictHeads = [...document.querySelectorAll("#board tr.heads th")].map((th) => th.textContent);
  seen.strictGroups = [...document.querySelectorAll("#board tr.groups th")].map((th) => th.textContent);
  document.getElementById("protocol").value = "arch-v1 VERSION";
  document.getElementById("protocol").dispatchEvent(new Event("change"));
  document.getElementById("tab-compare").click();
  const compared = () => [...document.querySelectorAll("#compared tbody tr")].map((tr) => [...tr.children].map((cell) => cell.textContent));
  const choose = (id, value) => {
    document.getElementById(id).value = value;
    document.getElementById(id).dispatchEvent(new Event("change"));
  };
  const place = (name) => [...document.getElementById("first").options].find((option) => option.textContent.startsWith(name)).value;
  choose("first", place("us/a"));
  choose("second", place("us/b"));
  seen.compared = compared();
  document.getElementById("swap").click();
  seen.swapped = compared();
  choose("second", place("HuBERT"));
  seen.published = compared();
  seen.why = document.getElementById("compare-status").textContent;
  URL.createObjectURL = (blob) => {
    seen.blob = blob.size;
    return "about:blank#";
  };
  HTMLAnchorElement.prototype.click = function () {
    seen.download = this.download;
  };
  document.getElementById("compare-download").click();
  seen.links = [...document.querySelectorAll("#board a.model")].map((a) => a.href);
  document.getElementById("tab-layers").click();
  seen.layers = document.querySelectorAll("#layer-chart polyline").length;
  seen.bestLayers = document.querySelectorAll("#layers td.size-best").length;
  document.getElementById("tab-intervals").click();
  document.getElementById("interval-corpus").value = 0;
  document.getElementById("interval-corpus").dispatchEvent(new Event("change"));
  seen.intervals = document.querySelectorAll("#intervals .range").length;
  seen.wider = document.documentElement.scrollWidth - innerWidth;
  seen.injected = document.querySelectorAll("main b:not(.legend b), main img").length + Number(document.title !== "ARCH leaderboard");
  seen.requests = performance.getEntriesByType("resource").length;
} catch (error) {
  seen.errors.push(String(error), error.stack);
}
"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed")
@pytest.mark.parametrize("size", ["1400,900", "500,800"], ids=["desktop", "narrow"])
def test_page_in_a_browser(tmp_path, size):
    name = "<b>alert('x')</b> & \"me\""
    for corpus, score in (("esc50", 0.99), ("us8k", 0.4)):
        for protocol in ("arch-v1", "strict"):
            for layer in (-1, 4):
                write_result(
                    tmp_path / "results" / f"{corpus}.{protocol}.layer{layer}.json",
                    name,
                    corpus,
                    score,
                    protocol,
                    layer,
                )
    write_result(tmp_path / "results/words.json", name, "me/words", 0.7, "strict", -1)
    protocol = {"name": "arch-v1", "version": VERSION}
    for number, (model, share) in enumerate((("us/a", 0.9), ("us/b", 0.6))):
        for units in (12, 4):
            corpus = {12: "vivae", 4: "emovo"}[units]
            predictions = classified(share, n_units=units, per_unit=30, seed=number)
            write_sample(tmp_path / "results", predictions, model, corpus, protocol=protocol)
    page = TEXT_FORMATS["html"](load_board(tmp_path / "results"))
    driver = DRIVER.replace("errors: []", "errors: problems").replace("VERSION", VERSION)
    seen = drive(page, driver, tmp_path, size)
    assert seen["errors"] == []
    assert (
        sorted(seen["start"][:3]) == [name, "us/a", "us/b"]
        and seen["start"][3] == "HuBERT-AS ◇"
        and len(seen["start"]) == 19
    )
    assert (seen["best"], seen["sorted"], seen["worst"]) == (name, "descending", name)
    assert seen["withoutBase"] == 11 and seen["slurp"] and seen["found"] == [name]
    assert "95% interval 98.00 to 99.50" in seen["tip"] and seen["described"] == "tip"
    assert seen["classes"] == ["dog", name]  # the worse first
    assert [head.split("ARCH")[0] for head in seen["strictHeads"]] == [
        "Model",
        "Size",
        "Rank",
        "ESC-50",
        "US8K",
        "me/words",
    ]
    assert seen["strictGroups"] == ["Acoustic events"]  # with a corpus of our own
    assert seen["strict"] == [name] and seen["layers"] == 2 and seen["intervals"] == 1
    assert seen["bestLayers"] == 4  # one score at both layers of two corpora
    vivae, emovo, *means = seen["compared"]
    found = compare(*(tmp_path / "results" / f"us__{letter}" / "vivae.json" for letter in "ab")).headline.estimate
    assert [vivae[0], vivae[1], vivae[4], vivae[6], vivae[9]] == [
        "VIVAEaccuracy",
        f"{100 * found.value:+.2f}",
        "< 0.001",
        "A",
        "12",
    ]
    assert vivae[3] == " to ".join(f"{100 * bound:+.2f}" for bound in found.ci95)
    assert emovo[3:7] == ["–", "–", "–", "too few units (4)"] and [mean[0] for mean in means] == [
        "Mean of all",
        "Another corpus",
    ]
    assert seen["swapped"][0][1] == f"−{100 * found.value:.2f}" and seen["swapped"][0][6] == "B"
    assert "no interval" in seen["why"] and seen["published"][0][3:7] == ["–", "–", "–", "–"]
    assert seen["download"] == "comparison.csv" and seen["blob"] > 100
    assert len(seen["links"]) == 16 and "https://huggingface.co/facebook/hubert-base-ls960" in seen["links"]
    assert seen["wider"] <= 0 and seen["injected"] == 0 and seen["requests"] == 0


FLAT = """
document.getElementById("tab-intervals").click();
document.getElementById("interval-corpus").value = 0;
document.getElementById("interval-corpus").dispatchEvent(new Event("change"));
const row = state.view.rows.find((row) => !row[ROW.published]);
const seen = { errors: problems, intervals: document.getElementById("intervals").textContent, tip: explain(row, state.view.columns[0], row[ROW.cells][0]) };
"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed")
def test_an_interval_without_width_says_that_it_holds_for_these_clips_alone(tmp_path):
    path = tmp_path / "results" / "esc50.json"
    write_result(path, "me/perfect", "esc50", 1.0, "arch-v1", -1)
    result = json.loads(path.read_text())
    result["metrics"]["accuracy"]["ci95"] = [1.0, 1.0]
    path.write_text(json.dumps(result))
    seen = drive(TEXT_FORMATS["html"](load_board(path.parent)), FLAT, tmp_path)
    assert seen["errors"] == [] and "100.00 to 100.00 (these clips alone)" in seen["intervals"]
    assert "it holds for these clips alone" in str(seen["tip"])


def write_result(path: Path, name: str, corpus: str, score: float, protocol: str, layer: int) -> None:
    path.parent.mkdir(exist_ok=True)
    classes = [{"class": name, "n_test": 9, "recall": 0.9}, {"class": "dog", "n_test": 9, "recall": 0.4}]
    result = {
        "schema_version": 1,
        "complete": True,
        "model": {"id": name, "n_parameters": 94_000_000, "n_layers": 6},
        "dataset": {"id": corpus, "domain": "events", "task": "single_label", "n_clips": 18},
        "protocol": {"name": protocol, "version": VERSION},
        "layer": layer,
        "metrics": {"accuracy": {"mean": score, "std": 0.01, "ci95": [score - 0.01, score + 0.005]}},
        "per_class": classes,
        "confusion": [[8, 1], [5, 4]],
    }
    path.write_text(json.dumps(result), encoding="utf-8")


SEVERAL = """
document.getElementById("tab-layers").click();
const select = document.getElementById("layer-model");
select.value = [...select.options].find(({ value }) => value.startsWith("corpus ")).value;
select.dispatchEvent(new Event("change"));
const seen = { errors: problems, labels: [...document.querySelectorAll("#layer-chart text")].slice(-2).map((text) => text.textContent) };
for (const theme of ["light", "dark"]) {
  document.documentElement.dataset.theme = theme;
  seen[theme] = [...document.querySelectorAll("#layer-chart polyline")].map((line) => getComputedStyle(line).stroke);
}
"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed")
def test_the_lines_of_several_models_are_seen_and_told_apart(tmp_path):
    names = ("a-long-organisation/first-model", "a-long-organisation/other-model")
    for name, score in zip(names, (0.7, 0.4), strict=True):
        for layer in (0, 3, -1):
            path = tmp_path / "results" / f"{name.split('/')[1]}.layer{layer}.json"
            write_result(path, name, "esc50", score, "arch-v1", layer)
    seen = drive(TEXT_FORMATS["html"](load_board(tmp_path / "results")), SEVERAL, tmp_path)
    assert seen["errors"] == [] and seen["labels"] == ["first-model", "other-model"]
    for theme in ("light", "dark"):
        assert len(set(seen[theme])) == 2 and all(colour.startswith("rgb(") for colour in seen[theme])


ADDRESS = """
const seen = { errors: problems };
const chip = (text) => [...document.querySelectorAll(".chip")].find((label) => label.textContent === text).querySelector("input");
const look = () => ({
  rows: [...document.querySelectorAll("#board tbody tr .model")].map((name) => name.textContent),
  protocol: document.getElementById("protocol").value,
  speech: chip("Speech").checked,
  sorted: document.querySelector("#board th[aria-sort=descending], #board th[aria-sort=ascending]")?.textContent,
  tab: document.querySelector("[role=tab][aria-selected=true]").id,
});
seen.opened = look();
if (!location.hash) {
  writeAddress();
  seen.plain = location.hash;
  const choose = (id, value) => {
    document.getElementById(id).value = value;
    document.getElementById(id).dispatchEvent(new Event(id === "search" ? "input" : "change", { bubbles: true }));
  };
  choose("protocol", "strict VERSION");
  choose("search", "us/");
  chip("Speech").click();
  [...document.querySelectorAll("#board .sort")].find((button) => button.textContent.startsWith("US8K")).click();
  writeAddress();
  seen.hash = location.hash;
  seen.left = look();
  location.hash = "";
  readAddress();
  seen.back = look();
}
"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed")
def test_the_address_of_a_view_opens_it_again(tmp_path):
    for name, scores in (("us/one", (0.9, 0.3)), ("us/two & more", (0.5, 0.6)), ("them/three", (0.7, 0.7))):
        for corpus, score in zip(("esc50", "us8k"), scores, strict=True):
            path = tmp_path / "results" / f"{corpus}.{name.split('/')[1]}.json"
            write_result(path, name, corpus, score, "strict", -1)
    page, driver = TEXT_FORMATS["html"](load_board(tmp_path / "results")), ADDRESS.replace("VERSION", VERSION)
    seen = drive(page, driver, tmp_path)
    assert seen["errors"] == [] and seen["plain"] == ""
    assert seen["left"]["rows"] == ["us/two & more", "us/one"] and seen["left"]["sorted"].startswith("US8K")
    assert seen["back"] == seen["opened"] != seen["left"]
    again = drive(page, driver, tmp_path, address=seen["hash"])
    assert again["errors"] == [] and again["opened"] == seen["left"]
    strange = drive(
        page, driver, tmp_path, address="#tab=nothing&protocol=arch-v9&sort=score-gone&without=sizes%20Huge"
    )
    assert strange["errors"] == [] and strange["opened"]["rows"] == seen["opened"]["rows"]
    again = drive(page, driver, tmp_path, address="#tab=intervals&interval-corpus=US8K")
    assert again["opened"]["tab"] == "tab-intervals"
