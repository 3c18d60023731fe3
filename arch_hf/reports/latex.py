"""The leaderboard as LaTeX tables in the layout of the paper's Table 2.

The file compiles by itself and can be `\\input` into a paper that loads booktabs, graphicx and xcolor with the option `table`.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby

from arch_hf.reports import escape
from arch_hf.reports.board import DOMAINS, PAPER, Board, Cell, Column, Row, View, layer_tables, percent

ROWS_PER_TABLE = 45  # what fits on a page

# After \begin{document} LaTeX lets \@nodocument to \relax: then the file is being \input, and its own preamble is passed over.
_PREAMBLE = r"""% Made by arch-hf report. Compiles by itself; to \input it, load booktabs, graphicx and xcolor (with the option table).
\expandafter\ifx\csname @nodocument\endcsname\relax\else
\documentclass[a4paper]{article}
\usepackage[utf8]{inputenc}
\usepackage[margin=15mm,landscape]{geometry}
\usepackage{booktabs}
\usepackage{graphicx}
\usepackage[table]{xcolor}
\newcommand{\archalone}{}
\begin{document}
\pagestyle{empty}
\fi
"""
_END = r"""
\ifdefined\archalone\expandafter\enddocument\fi
"""


def render(board: Board) -> str:
    """The file's text."""
    parts = [_PREAMBLE]
    for view in board.views:
        if view.layer == -1:
            parts += _scores(view)
            parts += _summaries(view)
    parts += _differences(board.views[0])
    parts += [_layers(table) for table in layer_tables(board)]
    return "\n".join(parts) + _END


def _scores(view: View) -> Iterable[str]:
    columns = _shown(view)
    metrics = [escape.latex(column.title) for column in columns if column.metric == "map_macro"]
    caption = (
        f"ARCH, protocol {escape.latex(view.title)}. Accuracy in percent; macro mAP for {', '.join(metrics)}. Bold: best of its size class. "
        rf"Shaded: best of all. $\diamond$: pre-trained on AudioSet. {_marks(view)}"
    )
    yield from _tables(view.rows, columns, caption, lambda row, column: _cell(row.cells.get(column.key)))


def _marks(view: View) -> str:
    marks = []
    if any(row.published for row in view.rows):
        marks.append(rf"\textsuperscript{{p}}: published ({PAPER}).")
    if any(cell.caveat is not None for row in view.rows for cell in row.cells.values()):
        marks.append(r"\textsuperscript{*}: incomplete, not ranked.")
    return " ".join(marks)


def _shown(view: View) -> list[Column]:
    return list(view.columns)


def _tables(rows: Sequence[Row], columns: Sequence[Column], caption: str, cell) -> Iterable[str]:
    for start in range(0, len(rows), ROWS_PER_TABLE):
        part = rows[start : start + ROWS_PER_TABLE]
        body = []
        for _, group in groupby(part, key=lambda row: row.size):
            lines = [_line([_name(row), row.size or "--", *(cell(row, column) for column in columns)]) for row in group]
            body.append("\n".join(lines))
        more = f" (continued, {start // ROWS_PER_TABLE + 1})" if start else ""
        yield _table(caption + more, "ll" + "c" * len(columns), _heads(columns), "\n\\midrule\n".join(body))


def _heads(columns: Sequence[Column]) -> str:
    """Two header lines: the domains over their corpora, with a rule under each, then the corpora."""
    groups, rules, start = [], [], 3
    for domain, of_domain in groupby(columns, key=lambda column: column.domain):
        width = len(list(of_domain))
        groups.append(rf"\multicolumn{{{width}}}{{c}}{{{DOMAINS.get(domain, DOMAINS['other'])}}}")
        rules.append(rf"\cmidrule(lr){{{start}-{start + width - 1}}}")
        start += width
    return (
        _line(["", "", *groups])
        + "\n"
        + " ".join(rules)
        + "\n"
        + _line(["Model", "Size", *(escape.latex(c.title) for c in columns)])
    )


def _table(caption: str, columns: str, heads: str, body: str) -> str:
    return "\n".join(
        [
            r"\begin{table*}[p]",
            r"\centering",
            rf"\caption{{{caption}}}",
            r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            heads,
            r"\midrule",
            body,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table*}",
            "",
        ]
    )


def _name(row: Row) -> str:
    name = escape.latex(row.name)
    if row.revision:
        name += f" ({escape.latex(row.revision[:12])})"
    return name + (r"\,$\diamond$" if row.audioset else "") + (r"\,\textsuperscript{p}" if row.published else "")


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return "--"
    text = f"{percent(cell.value):.2f}"
    if cell.caveat is not None:
        return text + r"\textsuperscript{*}"
    text = rf"\textbf{{{text}}}" if cell.best_of_size else text
    return rf"\cellcolor{{gray!25}}{text}" if cell.best else text


def _summaries(view: View) -> Iterable[str]:
    """Domain averages and ranks, of the models that have all twelve."""
    rows = [row for row in view.rows if row.rank]
    caption = rf"ARCH, protocol {escape.latex(view.title)}. Means over the corpora of a domain and over all twelve, and ranks. {_marks(view)}"
    heads = _line(["Model", "Size", *DOMAINS_OF_MEANS, "All twelve", "Mean rank", "Rank"])
    for start in range(0, len(rows), ROWS_PER_TABLE):
        lines = [_line([_name(row), row.size or "--", *_summary(row)]) for row in rows[start : start + ROWS_PER_TABLE]]
        yield _table(caption, "llcccccc", heads, "\n".join(lines))


DOMAINS_OF_MEANS = tuple(DOMAINS[key] for key in ("events", "music", "speech"))


def _summary(row: Row) -> list[str]:
    averages = [f"{percent(row.averages[key]):.2f}" for key in ("events", "music", "speech", "all")]
    return [*averages, f"{row.mean_rank:.2f}", str(row.rank)]


def _differences(view: View) -> Iterable[str]:
    rows = [row for row in view.own_rows if any(cell.delta is not None for cell in row.cells.values())]
    columns = [column for column in view.columns if column.domain != "other"]
    caption = f"Ours minus published ({PAPER}), protocol {escape.latex(view.title)}, in points."
    yield from _tables(rows, columns, caption, lambda row, column: _delta(row.cells.get(column.key)))


def _delta(cell: Cell | None) -> str:
    return "--" if cell is None or cell.delta is None else f"${percent(cell.delta):+.2f}$"


def _layers(table) -> str:
    caption = rf"Layers of {escape.latex(table.model_id)}, protocol {escape.latex(table.protocol)}, in percent."
    heads = _line(["Corpus", *("last" if layer == -1 else str(layer) for layer in table.layers)])
    lines = [
        _line([escape.latex(column.title), *(_plain(table.cells.get((column.key, layer))) for layer in table.layers)])
        for column in table.columns
    ]
    return _table(caption, "l" + "c" * len(table.layers), heads, "\n".join(lines))


def _plain(cell: Cell | None) -> str:
    if cell is None:
        return "--"
    return f"{percent(cell.value):.2f}" + (r"\textsuperscript{*}" if cell.caveat is not None else "")


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"
