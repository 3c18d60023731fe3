"""The leaderboard as LaTeX tables in the layout of the paper's Table 2.

The file compiles by itself and can be `\\input` into a paper that loads booktabs, graphicx and xcolor with the option `table`.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby

from arch_hf.reports import escape
from arch_hf.reports.columns import PAPER
from arch_hf.reports.rows import Board
from arch_hf.reports.tables import Entry, Head, Label, Line, Table, domain_title, report_tables

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
    return "\n".join([_PREAMBLE, *(part for table in report_tables(board) for part in _pages(table))]) + _END


def _pages(table: Table) -> Iterable[str]:
    """A table in parts that fit on a page each, every one with its caption and heads."""
    caption = " ".join(
        [f"ARCH, {escape.latex(table.title)}, in percent.", *_legend(table), *map(escape.latex, table.notes)]
    )
    for start in range(0, len(table.lines), ROWS_PER_TABLE):
        groups = groupby(table.lines[start : start + ROWS_PER_TABLE], key=lambda line: line.group)
        body = "\n\\midrule\n".join("\n".join(map(_body_line, lines)) for _, lines in groups)
        more = f" (continued, {start // ROWS_PER_TABLE + 1})" if start else ""
        yield _table(caption + more, "l" + "c" * len(table.heads), _heads(table.heads), body)


def _legend(table: Table) -> list[str]:
    """A sentence for each mark that stands in the table."""
    labels, entries = [line.label for line in table.lines], list(table.entries)
    marks = [
        (any(entry.best_of_size for entry in entries), "Bold: best of its size class, or of the layers."),
        (any(entry.best for entry in entries), "Shaded: best of all."),
        (any(label.audioset for label in labels), r"$\diamond$: pre-trained on AudioSet."),
        (any(label.published for label in labels), rf"\textsuperscript{{p}}: published ({PAPER})."),
        (any(entry.incomplete for entry in entries), r"\textsuperscript{*}: incomplete, not ranked."),
    ]
    return [sentence for used, sentence in marks if used]


def _heads(heads: Sequence[Head]) -> str:
    """The heads; where they stand under domains, a line above with the domains, and a rule under each."""
    names = _line(["", *(_text(head.text) for head in heads)])
    if not any(head.domain for head in heads):
        return names
    groups, rules, start = [""], [], 2
    for domain, of_domain in groupby(heads, key=lambda head: head.domain):
        width = len(list(of_domain))
        title = escape.latex(domain_title(domain)) if domain else ""
        groups.append(rf"\multicolumn{{{width}}}{{c}}{{{title}}}" if domain else " & " * (width - 1))
        rules += [rf"\cmidrule(lr){{{start}-{start + width - 1}}}"] if domain else []
        start += width
    return "\n".join([_line(groups), " ".join(rules), names])


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


def _body_line(line: Line) -> str:
    return _line([_label(line.label), *map(_entry, line.entries)])


def _label(label: Label) -> str:
    name = escape.latex(label.text)
    return name + (r"\,$\diamond$" if label.audioset else "") + (r"\,\textsuperscript{p}" if label.published else "")


_SYMBOLS = {"–": "--", "±": r"$\pm$", "Δ": r"$\Delta$"}  # what stands in our own cells and heads


def _text(text: str) -> str:
    """Words of ours and names from outside: symbols of ours as LaTeX has them, the rest escaped."""
    return " ".join(_SYMBOLS.get(word) or escape.latex(word) for word in text.split(" "))


def _entry(entry: Entry) -> str:
    is_signed = entry.text[:1] in ("+", "-") and entry.text[1:2].isdigit()
    text = f"${entry.text}$".replace("±", r"\pm") if is_signed else _text(entry.text)
    text = rf"\textbf{{{text}}}" if entry.best_of_size else text
    text = rf"\cellcolor{{gray!25}}{text}" if entry.best else text
    return text + (r"\textsuperscript{*}" if entry.incomplete else "")


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"
