"""A run's curves as a picture."""

from pathlib import Path

SHOWN = ("loss", "accuracy", "codebook_perplexity")


def plot_curves(rows: list[dict], path: Path) -> bool:
    """Loss, accuracy and codebook perplexity over steps, in training and on held-out clips; False where matplotlib is not installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(10, 2.6), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, name in zip(figure.subplots(1, len(SHOWN)), SHOWN, strict=True):
        for column, label in ((name, "training"), (f"valid_{name}", "held out")):
            points = [(row["step"], row[column]) for row in rows if row.get(column) is not None]
            if points:
                axis.plot(*zip(*points, strict=True), linewidth=1, label=label)
        axis.set(title=name.replace("_", " "), xlabel="step")
    if any("valid_loss" in row for row in rows):
        figure.axes[0].legend(fontsize="small")
    figure.savefig(path, dpi=120)
    return True
