"""The leaderboard as Markdown: for a README or a model card."""

from collections.abc import Sequence

from arch_hf.reports import escape
from arch_hf.reports.columns import PAPER
from arch_hf.reports.rows import Board
from arch_hf.reports.tables import Entry, Label, Table, report_tables

LEGEND = (
    "Scores in percent: accuracy; macro mAP where the column says mAP. **Bold**: best of its size class (B, L, XL), or of the layers. ★: best of all. "
    f"◇: pre-trained on AudioSet. *published*: from {PAPER}. †: incomplete, not ranked. "
    "Averages are over the paper's corpora of a domain, of models with all of them, ranks of those with all twelve; the rank is by mean rank over the twelve."
)


def render(board: Board) -> str:
    """The whole document."""
    parts = ["# ARCH leaderboard", "", LEGEND, ""]
    for table in report_tables(board):
        parts += _table(table)
    return "\n".join(parts).rstrip() + "\n"


def _table(table: Table) -> list[str]:
    heads = ["Model" if not table.title.startswith("Layers of") else "Corpus", *(head.text for head in table.heads)]
    lines = [f"## {escape.markdown(table.title)}", "", _line([escape.markdown(head) for head in heads])]
    lines.append(_line(["---", *["--:"] * len(table.heads)]))
    lines += [_line([_label(line.label), *map(_entry, line.entries)]) for line in table.lines]
    lines += ["", *(f"- {escape.markdown(note)}" for note in table.notes)]
    return [*lines, ""] if table.notes else lines


def _label(label: Label) -> str:
    return escape.markdown(label.text) + (" ◇" if label.audioset else "") + (" *published*" if label.published else "")


def _entry(entry: Entry) -> str:
    text = escape.markdown(entry.text) + ("†" if entry.incomplete else "")
    return (f"**{text}**" if entry.best_of_size else text) + (" ★" if entry.best else "")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
