"""The ARCH leaderboard as a Gradio Space: the page of `arch-hf report`, made from a dataset of results on the Hub.

The dataset's id comes from the Space's variable ARCH_RESULTS. The page is made anew when the dataset has a new commit.
"""

import os
from functools import lru_cache
from html import escape

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError

from arch_hf.reports import load_board
from arch_hf.reports.page import render

RESULTS = os.environ.get("ARCH_RESULTS", "arch/results")


def build_frame(dataset_id: str = RESULTS) -> str:
    """The page in a frame of its own, for a Gradio HTML block; a line that says why where the dataset cannot be had."""
    try:
        folder = snapshot_download(dataset_id, repo_type="dataset", allow_patterns="*.json")
    except (HfHubHTTPError, OSError) as error:
        return f"<p>No results: the dataset {escape(dataset_id)} cannot be read ({escape(type(error).__name__)}).</p>"
    return frame_of(folder)


@lru_cache(maxsize=1)  # a folder is one commit
def frame_of(folder: str) -> str:
    """The frame for a folder of results. Sandboxed: its scripts run, but see neither the Space's page nor its cookies."""
    board = load_board(folder)
    for warning in board.warnings:
        print(f"left out: {warning}")
    style = "width:100%;height:92vh;border:0"
    sandbox = "allow-scripts allow-popups allow-downloads"
    return f'<iframe title="ARCH leaderboard" style="{style}" sandbox="{sandbox}" srcdoc="{escape(render(board))}"></iframe>'


def main() -> None:
    import gradio

    with gradio.Blocks(title="ARCH leaderboard", fill_width=True) as demo:
        page = gradio.HTML()
        demo.load(build_frame, outputs=page)
    demo.launch()


if __name__ == "__main__":
    main()
