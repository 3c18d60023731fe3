"""How long until a visitor of the Space sees the first row of a leaderboard of thousands of results?

    pip install starlette uvicorn websocket-client
    python benchmarks/leaderboard.py [--models 420] [--files 60]

Puts the results of N invented models (benchmarks/report.py) into a dataset of so many files on a Hub that this program plays, starts the Space
on it, and lets Chromium open the page: once with an empty cache, then again. Prints how long the Space takes to be ready, and when the first row is
in the page and painted.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from report import make_results

from arch_hf.results.folder import read_results
from arch_hf.results.rows import row_of, write_rows

ROOT = Path(__file__).parents[1]
PORTS = {"space": 7861, "browser": 9333}
SEEN = """
new Promise((resolve) => {
  const look = () => document.querySelector("#board tbody tr") ? requestAnimationFrame(() => setTimeout(() => resolve(JSON.stringify({
    ready: performance.now(),
    painted: performance.getEntriesByType("paint").find(({ name }) => name === "first-contentful-paint")?.startTime,
    bytes: performance.getEntriesByType("navigation")[0].transferSize,
    rows: document.querySelectorAll("#board tbody tr").length,
  })))) : setTimeout(look, 5);
  look();
})
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=420)
    parser.add_argument("--files", type=int, default=60, help="of the dataset")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        folder = Path(temporary)
        files = dataset(folder / "results", args.models, args.files)
        print(f"{12 * args.models} results in {len(files)} files, {sum(map(len, files.values())) / 1e6:.1f} MB")
        sys.path.insert(0, str(ROOT / "tests"))
        from hub_server import HubServer

        hub = stack.enter_context(HubServer())
        hub.create("datasets", "arch/results", files)
        start = time.perf_counter()
        stack.enter_context(program([sys.executable, "-m", "uvicorn", "--factory", "app:create_app", "--port", str(PORTS["space"]), "--log-level", "error"], hub, folder))  # fmt: skip
        wait_for(f"http://127.0.0.1:{PORTS['space']}/")
        print(f"the Space is ready after {time.perf_counter() - start:.1f} s")
        browser = shutil.which("chromium") or shutil.which("google-chrome")
        flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--remote-debugging-port={PORTS['browser']}",
            "--remote-allow-origins=*",
        ]
        stack.enter_context(
            program([browser, *flags, f"--user-data-dir={folder / 'profile'}", "about:blank"], hub, folder)
        )
        visits = [visit(f"http://127.0.0.1:{PORTS['space']}/?{number}") for number in range(args.rounds)]
        print(f"first visit: {visits[0]}")
        for what in ("ready", "painted"):
            times = sorted(seen[what] for seen in visits)
            print(f"first row {what}: {times[0]:.0f} to {times[-1]:.0f} ms, median {times[len(times) // 2]:.0f}")


def dataset(folder: Path, n_models: int, n_files: int) -> dict[str, bytes]:
    """The files of the dataset: path -> content."""
    make_results(folder, n_models)
    found, _ = read_results(folder)
    rows = [row_of(filed.result, filed.path.name) for filed in found]
    return {f"data/{number:03d}.parquet": write_rows(rows[number::n_files]) for number in range(n_files)}


@contextlib.contextmanager
def program(command: list[str], hub, folder: Path):
    """A program that runs until the end of the block, and uses the Hub that this one plays."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "space"), *sys.path])
    environment = os.environ | {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(folder / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "PYTHONPATH": paths,
    }
    running = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        running.terminate()
        running.wait(20)


def wait_for(url: str) -> None:
    for _ in range(1200):
        try:
            urllib.request.urlopen(url).read()
            return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    raise SystemExit(f"{url} does not answer")


def visit(url: str) -> dict:
    """Open a page in a tab of its own; what it says of itself once its first row is painted."""
    import websocket

    wait_for(f"http://127.0.0.1:{PORTS['browser']}/json/version")
    ask = urllib.request.Request(f"http://127.0.0.1:{PORTS['browser']}/json/new?about:blank", method="PUT")
    tab = json.load(urllib.request.urlopen(ask))
    socket = websocket.create_connection(tab["webSocketDebuggerUrl"], timeout=60)

    def call(number: int, method: str, **params) -> dict:
        socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while (answer := json.loads(socket.recv())).get("id") != number:
            pass
        return answer["result"]

    call(1, "Page.navigate", url=url)
    time.sleep(0.2)
    seen = call(2, "Runtime.evaluate", expression=SEEN, awaitPromise=True)
    socket.close()
    return json.loads(seen["result"]["value"])


if __name__ == "__main__":
    main()
