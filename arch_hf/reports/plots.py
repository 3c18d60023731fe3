"""The plots of a report, each as PNG and SVG, drawn by processes of their own where these are cheap to start."""

import gc
import io
import multiprocessing
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from arch_hf.reports.old_files import MARK
from arch_hf.reports.plots_detail import Plan, confusion_plots, intervals
from arch_hf.reports.plots_layers import layer_plots
from arch_hf.reports.plots_ranks import critical_difference, tell_apart
from arch_hf.reports.plots_style import DPI, STYLE, safe_name
from arch_hf.reports.plots_views import cost, cost_points, radar, radar_rows
from arch_hf.reports.rows import Board, View

PNG_LEVEL = 3  # a tenth larger than at 6, in half the time


@contextmanager
def drawing(board: Board) -> Iterator[Iterator[tuple[str, bytes]]]:
    """Start to draw what the board has the scores for; inside, the name and content of each file, as they are ready.

    On Linux a fork shares the board at no cost, and the caller has its hands free. Elsewhere a new process would have to be sent the
    board and import everything again, which takes longer than drawing.
    """
    plan = planned_plots(board)
    if sys.platform != "linux" or not plan:
        yield (file for name, draw in plan for file in draw_files(name, draw))
        return
    fork = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(min(4, os.cpu_count() or 1), fork, initializer=_inherit, initargs=(plan,))
    try:
        drawn = [pool.submit(_draw_inherited, number) for number in range(len(plan))]
        yield (file for files in drawn for file in files.result())
    finally:
        pool.shutdown(cancel_futures=True)


_plan: list[Plan] = []  # in a drawing process: what it draws from


def _inherit(plan: list[Plan]) -> None:
    gc.disable()  # the collector would touch, and so copy, all that is shared; the process ends soon
    _plan[:] = plan
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A process that draws ends when the one that started it has ended, however that was: nobody would take what it draws."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _draw_inherited(number: int) -> list[tuple[str, bytes]]:
    return list(draw_files(*_plan[number]))


def draw_files(name: str, draw: Callable[[], Figure]) -> Iterator[tuple[str, bytes]]:
    """The files of one plot."""
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a script that the font lacks: boxes, not noise
        for kind, image in render(draw()):
            yield f"{name}.{kind}", image


def render(figure: Figure) -> Iterator[tuple[str, bytes]]:
    """The figure as PNG and as SVG, cut to what is drawn: read off the pixels, for to ask matplotlib takes as long as to draw."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())
    drawn = pixels.view(np.uint32)[..., 0] != 0xFFFFFFFF
    (top, *_, bottom), (left, *_, right) = (np.flatnonzero(drawn.any(axis=axis)).tolist() for axis in (1, 0))
    margin, height = round(0.08 * DPI), len(pixels)
    top, left = max(0, top - margin), max(0, left - margin)
    bottom, right = min(height, bottom + margin + 1), right + margin + 1
    buffer = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels[top:bottom, left:right, :3]))
    facts = PngInfo()
    facts.add_text("Software", MARK)
    image.save(buffer, "png", compress_level=PNG_LEVEL, dpi=(DPI, DPI), pnginfo=facts)
    yield "png", buffer.getvalue()
    buffer = io.BytesIO()
    box = Bbox.from_extents(left / DPI, (height - bottom) / DPI, right / DPI, (height - top) / DPI)
    about = {"Date": None, "Creator": MARK}  # no date: the same scores give the same file
    figure.savefig(buffer, format="svg", bbox_inches=box, metadata=about)
    yield "svg", buffer.getvalue().replace(b"'DejaVu Sans'", b"'DejaVu Sans', Verdana, sans-serif")


def planned_plots(board: Board) -> list[Plan]:
    """File name (without its ending) and drawing function of each plot that there are scores for; what takes longest comes first. What is
    left out without a picture to say so on becomes one of the board's warnings."""
    confusions, notes = confusion_plots(board)
    board.warnings += [note for note in notes if note not in board.warnings]
    plots = [plan for view in board.last_layer_views for plan in _view_plots(view, view is board.views[0])]
    return [*plots, *layer_plots(board), *confusions]


def _view_plots(view: View, is_first: bool) -> list[Plan]:
    end = "" if is_first else "_" + safe_name(f"{view.protocol}_{view.version}")
    plots: list[Plan] = []
    if any(cell.result.headline.ci95 for row in view.own_rows for cell in row.own_cells.values()):
        plots.append(("intervals" + end, partial(intervals, view)))
    if radar_rows(view)[0]:
        plots.append(("radar" + end, partial(radar, view)))
    for field, stem in (("gflop_per_second", "accuracy_vs_gflop"), ("n_parameters", "accuracy_vs_parameters")):
        if len(cost_points(view, field).points) > 1:
            plots.append((stem + end, partial(cost, view, field)))
    if len(tell_apart(view).rows) > 2:
        plots.append(("critical_difference" + end, partial(critical_difference, view)))
    return plots
