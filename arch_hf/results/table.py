"""Results as a table on the terminal: the score, its floor and its published neighbour side by side."""

from collections.abc import Sequence

from arch_hf.data.spec import HEADLINE
from arch_hf.results.result import why_not_comparable
from arch_hf.results.text import align, percent

METRIC_NAMES = {"accuracy": "accuracy", "map_macro": "mAP"}


def result_row(result: dict) -> list[str]:
    """One result as cells, under the heads of `results_table`."""
    metric = HEADLINE[result["dataset"]["task"]]
    score, dataset, published = result["metrics"][metric], result["dataset"], result["published"]
    low, high = score["ci95"]
    name = dataset["id"].removeprefix("arch/") + ("" if result["layer"] == -1 else f" (layer {result['layer']})")
    return [
        name,
        dataset["domain"],
        METRIC_NAMES[metric],
        percent(score["mean"]),
        percent(score["std"]),
        f"{percent(low)} – {percent(high)}",
        percent(result["baselines"]["majority"][metric]),
        percent(result["baselines"].get("mfcc", {}).get(metric)),
        percent(published["value"]) if published else "–",
        f"{100 * published['delta']:+.2f}" if published else "–",
        str(dataset["n_clips"]),
    ]


def results_table(results: Sequence[dict]) -> str:
    """The table that the main job prints. Percentages; `floor` is the majority class, `mfcc` the same probe on MFCC
    statistics, `Table 2` the paper's value, where there is one, and `diff` ours minus theirs."""
    heads = ["corpus", "domain", "metric", "score", "std", "95% interval", "floor", "mfcc", "Table 2", "diff", "clips"]
    return align([heads, *map(result_row, results)])


def remarks(result: dict) -> list[str]:
    """What a reader of the score must know: clips left out, and why the score must not stand beside published ones."""
    dataset, lines = result["dataset"], []
    name, excluded = dataset["id"], dataset["excluded_clips"]
    if excluded:
        shown = "; ".join(f"{clip['clip_id']}: {clip['reason']}" for clip in excluded[:5])
        more = f"; and {len(excluded) - 5} more (see the result file)" if len(excluded) > 5 else ""
        lines.append(f"{name}: {len(excluded)} clips not used: {shown}{more}")
    curve = result.get("layer_curve")
    if curve and curve["best"] is not None:
        best = "the last layer" if curve["best"] == -1 else f"layer {curve['best']}"
        lines.append(f"{name}: validation chooses {best}")
    reason = why_not_comparable(result)
    if reason:
        lines.append(f"{name}: not to be compared with published numbers: {reason}")
    return lines
