"""Models at several layers: a table for each, and where a layer lies in the depth of its model."""

from dataclasses import dataclass

from arch_hf.reports.columns import Column
from arch_hf.reports.rows import Board, OwnCell, Row


@dataclass
class LayerTable:
    """One model under one protocol at every layer that was evaluated; `cells` by (corpus, layer). The last layer (-1) comes last.

    `n_layers` counts the hidden states, the first of which is the output of the convolutions or patches; None where no result says it.
    """

    row: Row
    protocol: str
    n_layers: int | None
    layers: list[int]
    columns: tuple[Column, ...]
    cells: dict[tuple[str, int], OwnCell]

    def depth(self, layer: int) -> float | None:
        """Where a layer lies, from 0 (before the first block) to 1 (the last); None where the number of layers is not known."""
        if layer == -1:
            return 1.0
        return layer / (self.n_layers - 1) if self.n_layers and self.n_layers > 1 else None


def layer_tables(board: Board) -> list[LayerTable]:
    """A table for each of our models that has scores at two layers or more, in the order of the views."""
    tables: dict[tuple, LayerTable] = {}
    for view in board.views:
        for row in view.own_rows:
            key = (row.encoder, view.protocol_title)
            table = tables.setdefault(key, LayerTable(row, view.protocol_title, None, [], (), {}))
            table.layers.append(view.layer)
            table.cells.update({(corpus, view.layer): cell for corpus, cell in row.own_cells.items()})
            table.columns = tuple(c for c in view.columns if c.key in row.cells or c in table.columns)
    with_layers = [table for table in tables.values() if len(table.layers) > 1]
    for table in with_layers:
        table.layers.sort(key=lambda layer: (layer == -1, layer))
        table.n_layers = _count_layers(table)
    return with_layers


def _count_layers(table: LayerTable) -> int | None:
    """The number of hidden states: as the results say; else as counted where all layers were evaluated."""
    said = [cell.result.model.n_layers for cell in table.cells.values() if cell.result.model.n_layers]
    if said:
        return said[0]
    numbered = [layer for layer in table.layers if layer != -1]
    return len(numbered) + 1 if -1 in table.layers and numbered == list(range(len(numbered))) else None
