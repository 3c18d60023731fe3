"""Results as a table on the terminal: the score, its floor and its published neighbour side by side."""

from collections.abc import Mapping, Sequence

from arch_hf.probing.estimate import FEWEST_UNITS, LEVEL, TINY
from arch_hf.probing.record import Score
from arch_hf.results.result import Result
from arch_hf.results.text import METRIC_NAMES, align, difference, percent
from arch_hf.terminal import visible

HEADS = (
    "corpus",
    "domain",
    "metric",
    "score",
    "std folds",
    "std seeds",
    "95% interval",
    "floor",
    "mfcc",
    "Table 2",
    "diff",
    "clips",
)


def result_row(result: Result, shots: Sequence[str] = ()) -> list[str]:
    """One result as cells, under the heads of `results_table`; `shots` are the few-shot columns."""
    metric, score, published = result.metric, result.headline, result.published
    low, high = score.ci95 or (None, None)
    return [
        result.corpus + _at_layer(result),
        result.dataset.domain,
        METRIC_NAMES[metric],
        percent(score.mean),
        percent(score.std_folds),
        percent(score.std_seeds),
        f"{percent(low)} – {percent(high)}",
        *(_few_shot(result, n) for n in shots),
        percent(result.baselines.get("majority", {}).get(metric)),
        percent(result.baselines.get("mfcc", {}).get(metric)),
        percent(published.value) if published else "–",
        difference(published.delta, published.uncertainty) if published else "–",
        str(result.dataset.n_clips),
    ]


def _few_shot(result: Result, shots: str) -> str:
    """The headline metric of the probe on so many clips per class, with the standard deviation over draws."""
    few_shot = result.few_shot.get(shots)
    block = few_shot.metrics.get(result.metric) if few_shot else None
    return "–" if block is None else f"{percent(block['mean'])} ± {percent(block['std'])}"


def _training_free(scores: Mapping[str, Score]) -> str:
    """Each metric with its interval."""
    shown = []
    for metric, score in scores.items():
        low, high = score.ci95 or (None, None)
        shown.append(f"{metric.replace('_', ' ')} {percent(score.mean)} ({percent(low)} – {percent(high)})")
    return ", ".join(shown)


def _at_layer(result: Result) -> str:
    return "" if result.layer == -1 else f" (layer {result.layer})"


def results_table(results: Sequence[Result]) -> str:
    """The table that the main job prints. Percentages; `std folds` and `std seeds` are the sample standard deviations over folds and over seeds,
    `N-shot` is the probe on N clips per class ± the standard deviation over draws, `floor` the majority class, `mfcc` the same probe on MFCC
    statistics, `Table 2` the paper's value, where there is one, and `diff` ours minus theirs, ± the standard deviation that the paper's unknown draw gives it."""
    shots = sorted({n for result in results for n in result.few_shot}, key=int)
    place = HEADS.index("floor")
    heads = [*HEADS[:place], *(f"{n}-shot" for n in shots), *HEADS[place:]]
    return align([heads, *(result_row(result, shots) for result in results)])


def remarks(result: Result) -> list[str]:
    """What a reader of the score must know: clips left out, and why the score must not stand beside published ones."""
    name, excluded, lines = result.dataset.id, result.dataset.excluded_clips, []
    here = name + _at_layer(result)  # what is said of this layer alone
    if excluded:
        shown = "; ".join(f"{clip.clip_id}: {clip.reason}" for clip in excluded[:5])
        more = f"; and {len(excluded) - 5} more (see the result file)" if len(excluded) > 5 else ""
        lines.append(f"{name}: {len(excluded)} {'clip' if len(excluded) == 1 else 'clips'} not used: {shown}{more}")
    lines += [f"{here}: {kind}: {_training_free(scores)}" for kind, scores in result.training_free.items()]
    for kind in result.protocol.get("also", ()):
        if kind not in result.training_free:
            lines.append(f"{name}: there is no {kind} in it to ask for")
    if result.layer_curve and result.layer_curve.best is not None:
        best = result.layer_curve.best
        lines.append(f"{name}: validation chooses {'the last layer' if best == -1 else f'layer {best}'}")
    lines += [f"{here}: {note}" for note in result.probe_notes]
    units = result.bootstrap.get("n_units", FEWEST_UNITS)
    if result.headline.ci95 and units < FEWEST_UNITS:
        kind = ("group" if result.bootstrap.get("unit") == "group" else "clip") + "s" * (units != 1)
        lines.append(
            f"{name}: its interval is drawn from {units} {kind} alone, too few to say how far others would move the score"
        )
    low, high = result.headline.ci95 or (0.0, 1.0)
    if high - low < TINY:
        lines.append(
            f"{here}: its interval has no width, as every resample of these test clips scores alike; it does not say that others would"
        )
        if n := result.bootstrap.get("n_units"):
            lines[-1] += f": up to {1 - LEVEL ** (1 / n):.1%} of all units could be unlike these {n}"
    published = result.published
    if published and not published.is_decided:
        why = f"the paper's split is not known, which alone makes {100 * (published.uncertainty or 0):.1f} points"
        lines.append(f"{name}: no verdict on the difference to Table 2: {why}")
    if result.caveat:
        lines.append(f"{name}: not to be compared with published numbers: {result.caveat}")
    return [visible(line) for line in lines]
