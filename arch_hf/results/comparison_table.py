"""Comparisons as text for the terminal."""

from arch_hf.probing.estimate import LEVEL, TINY, Estimate
from arch_hf.results.comparison import Comparison, Difference, p_phrase, p_text, too_few
from arch_hf.results.folder_comparison import ComparedCorpus, ComparedFolders
from arch_hf.results.text import METRIC_NAMES, align, percent

HOW = "Paired t test over the units, by the jackknife (docs/statistics.md); it holds the choice of test clips, not that of training clips or of seeds."


def comparison_text(comparison: Comparison) -> str:
    """Two results on one corpus, every metric."""
    rows = [["metric", "A", "B", "A − B", "95% interval", "p"]]
    rows += [[each.metric, *_scores(each), *_estimate_cells(each.estimate)] for each in comparison.differences]
    units = (
        "clips"
        if comparison.n_units == comparison.n_clips
        else f"clips in {comparison.n_units} units (speakers, recordings, albums ...)"
    )
    lines = [_heading(comparison.names, comparison.same_encoder), "", align(rows), "", comparison.verdict]
    lines.append(f"{comparison.n_clips} test {units}. {HOW}")
    estimate = comparison.headline.estimate
    if estimate.has_verdict and estimate.standard_error < TINY and not comparison.same_encoder:
        lines.append(
            "A − B is the same without any one unit: the interval has no width, and does not say that it would be so for others."
        )
    if comparison.unlike_seeds:
        lines.append(f"{comparison.unlike_seeds}.")
    if comparison.left_out:
        lines.append(f"{comparison.left_out} clips were scored by one of the two only and are left out.")
    lines += [
        f"{caveat}; its probe may have learned from other clips than the other's" for caveat in comparison.caveats
    ]
    return "\n".join(lines)


def folders_text(compared: ComparedFolders) -> str:
    """Two models over their corpora: a line for each, then the means."""
    rows = [["corpus", "metric", "units", "A", "B", "A − B", "95% interval", "p", "p (Holm)", "better"]]
    rows += [_corpus_row(each) for each in compared.corpora]
    rows += [
        _mean_row(f"mean of {domain}", estimate, compared.domains_holm.get(domain))
        for domain, estimate in compared.domains.items()
        if len(compared.domains) > 1
    ]
    if len(compared.corpora) > 1:
        rows.append(_mean_row(f"mean of all {len(compared.corpora)}", compared.overall))
        rows.append(_mean_row("another corpus", compared.elsewhere))
    lines = [
        f"{_heading(compared.names, compared.same_encoder)}\n{compared.title}, percent",
        "",
        align(rows),
        "",
        _verdict(compared),
        HOW,
    ]
    lines.append(
        "The interval and p of a line are of that line alone; p (Holm) is corrected for the number of corpora (or of domains), and says which is better."
    )
    if len(compared.corpora) > 1:
        lines[-1] += " The means are those of other test clips of these corpora, the last line that of other corpora."
    return "\n".join(lines)


def _heading(names: tuple[str, str], same_encoder: bool) -> str:
    same = "\nA and B are the same encoder (the same weights, configuration and code)." if same_encoder else ""
    return f"A: {names[0]}\nB: {names[1]}{same}"


def _verdict(compared: ComparedFolders) -> str:
    wins = [[each.corpus for each in compared.corpora if each.better == side] for side in (0, 1)]
    few = [each.corpus for each in compared.corpora if each.p_holm is None]
    parts = [f"{'AB'[side]} is better on {', '.join(won)}" for side, won in enumerate(wins) if won]
    if not parts and len(few) < len(compared.corpora):
        parts = ["No difference is shown on any corpus"]
    parts += [f"{'no' if parts else 'No'} verdict is possible on {', '.join(few)} (fewer than 6 units)"] if few else []
    if len(compared.corpora) > 1:
        better = (
            "no difference shown"
            if not compared.overall.differs
            else f"{'A' if compared.overall.value > 0 else 'B'} is better"
        )
        parts.append(
            f"over all: {better} ({p_phrase(compared.overall.p)})"
            if compared.overall.has_verdict
            else f"over all: {too_few(compared.overall.n_units)}"
        )
    return "; ".join(parts) + "."


def _corpus_row(each: ComparedCorpus) -> list[str]:
    head, estimate = each.headline, each.headline.estimate
    better = "too few units" if each.p_holm is None else "–" if each.better is None else "AB"[each.better]
    cells = [each.corpus, METRIC_NAMES[head.metric], str(estimate.n_units), *_scores(head)]
    return [*cells, *_estimate_cells(estimate), p_text(each.p_holm), better]


def _mean_row(name: str, estimate: Estimate, p_holm: float | None = None) -> list[str]:
    """A mean over corpora; without a corrected p it is a test of its own, and its own p says which is better."""
    p = estimate.p if p_holm is None else p_holm
    better = "too few units" if p is None else "–" if p >= LEVEL else "A" if estimate.value > 0 else "B"
    return [name, "", str(estimate.n_units), "", "", *_estimate_cells(estimate), p_text(p_holm), better]


def _scores(each: Difference) -> list[str]:
    return [percent(each.first), percent(each.second)]


def _estimate_cells(estimate: Estimate) -> list[str]:
    """The difference in points, its interval, its p."""
    low, high = estimate.ci95 or (None, None)
    shown = (
        f"{100 * max(low, -1.0):+.2f} – {100 * min(high, 1.0):+.2f}" if low is not None and high is not None else "–"
    )
    return [f"{100 * estimate.value:+.2f}", shown, p_text(estimate.p)]
