"""The ARCH leaderboard as a Space: the page of `arch-hf report`, made from a dataset of results on the Hub.

The dataset's id comes from the Space's variable ARCH_RESULTS. Visitors get the page that is ready; a thread looks for a new commit of the dataset every
minute, and makes the page anew when there is one.
"""

import gzip
import os
import threading
import time
from dataclasses import dataclass
from html import escape

from huggingface_hub import HfApi, snapshot_download

from arch_hf.reports import load_board
from arch_hf.reports.page import render

RESULTS = os.environ.get("ARCH_RESULTS", "arch/results")
EVERY_S = 60
FILES = ["data/*.parquet", "*.json"]  # rows, and results as the main job writes them


@dataclass(frozen=True)
class Page:
    """The page, gzipped, of one commit of the dataset; or, without a commit, why there is none."""

    commit: str | None
    html: bytes


class Leaderboard:
    """The page of a dataset's last commit. What cannot be read leaves the page as it was."""

    def __init__(self, dataset_id: str = RESULTS):
        self.dataset_id = dataset_id
        self.page = Page(None, gzip.compress(b"<!doctype html><p>The results are being read: reload in a moment."))

    def refresh(self) -> Page:
        """The page of the dataset as it is now."""
        try:
            commit = HfApi().dataset_info(self.dataset_id).sha
            if commit != self.page.commit:
                folder = snapshot_download(self.dataset_id, repo_type="dataset", revision=commit, allow_patterns=FILES)
                board = load_board(folder)
                for warning in board.warnings:
                    print(f"left out: {warning}", flush=True)
                self.page = Page(commit, gzip.compress(render(board).encode(), 6))
        except Exception as error:  # the Hub, the network, a file of somebody's: the page must outlive them all
            print(f"{self.dataset_id} cannot be read: {type(error).__name__}: {error}", flush=True)
            if self.page.commit is None:
                why = f"The dataset {escape(self.dataset_id)} cannot be read ({escape(type(error).__name__)})."
                self.page = Page(None, gzip.compress(f"<!doctype html><p>{why}".encode()))
        return self.page

    def keep_fresh(self) -> None:
        while True:
            self.refresh()
            time.sleep(EVERY_S)


def create_app():
    """The web application: one page."""
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.routing import Route

    board = Leaderboard()
    threading.Thread(target=board.keep_fresh, daemon=True).start()

    async def show(request):
        page = board.page
        if page.commit is None:
            return Response(page.html, 503, {"Content-Encoding": "gzip", "Retry-After": "5"}, media_type="text/html")
        headers = {"ETag": f'"{page.commit}"', "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(page.html, headers=headers | {"Content-Encoding": "gzip"}, media_type="text/html")
        return Response(gzip.decompress(page.html), headers=headers, media_type="text/html")

    return Starlette(routes=[Route("/", show)])
