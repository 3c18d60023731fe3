"""Numbers and tables as plain text."""

from collections.abc import Sequence

from arch_hf.terminal import visible

METRIC_NAMES = {"accuracy": "accuracy", "map_macro": "mAP"}


def align(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as text in columns; the first column to the left, the others to the right, a rule under the first row. What would steer the
    terminal is spelled out.

    Examples:
        >>> print(align([["corpus", "score"], ["esc50", "7.00"]]))
        corpus  score
        ─────────────
        esc50    7.00
    """
    rows = [[visible(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
    return "\n".join([lines[0].rstrip(), "─" * len(lines[0]), *(line.rstrip() for line in lines[1:])])


def difference(value: float, uncertainty: float | None) -> str:
    """A difference of fractions in points, with its uncertainty.

    Examples:
        >>> difference(0.0123, None), difference(-0.0123, 0.039)
        ('+1.23', '-1.23 ± 3.9')
    """
    return f"{hundredths(value):+.2f}" + ("" if uncertainty is None else f" ± {100 * uncertainty:.1f}")


def hundredths(value: float) -> float:
    """A fraction as the percentage that every table, card and page shows: two decimals, halves upwards. Ties are decided on this.

    Examples:
        >>> hundredths(0.58904), hundredths(0.49505)
        (58.9, 49.51)
    """
    return round(100 * value + 1e-9, 2)


def percent(value: float | None) -> str:
    """A fraction as a percentage with two decimals.

    Examples:
        >>> percent(0.4573), percent(0.49505), percent(None)
        ('45.73', '49.51', '–')
    """
    return "–" if value is None else f"{hundredths(value):.2f}"
