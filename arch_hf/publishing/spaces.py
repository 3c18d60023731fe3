"""Spaces: the static leaderboard, and the benchmark's metrics as modules for `evaluate.load`."""

import ast
import shutil
import tempfile
from importlib.resources import files
from pathlib import Path

from arch_hf.errors import UserError
from arch_hf.publishing.hub import Upload, command_again

LEADERBOARD = "leaderboard.html"
LEADERBOARD_CARD = """\
---
title: ARCH leaderboard
emoji: 🔊
colorFrom: blue
colorTo: green
sdk: static
app_file: leaderboard.html
pinned: false
short_description: Frozen audio encoders on 12 corpora
tags:
- leaderboard
- audio
---

Linear probes on frozen audio encoders: speech, music and acoustic events, the 12 corpora of
[ARCH](https://arxiv.org/abs/2405.00934). Written by `arch-hf report` and uploaded by `arch-hf publish leaderboard`.
"""
METRICS = ("accuracy", "macro_f1", "map")
METRIC_CARD = """\
---
title: {name}
emoji: 📏
colorFrom: blue
colorTo: green
sdk: static
pinned: false
tags:
- evaluate
- metric
---

{summary}

A module of the [evaluate](https://huggingface.co/docs/evaluate) library; it needs arch-hf, whose formula it wraps.

```python
import evaluate

metric = evaluate.load("{namespace}/{name}")
```
"""


def push_leaderboard(report_dir: Path, repo_id: str, dry_run: bool = False) -> str:
    """Upload what `arch-hf report` wrote as a static Space; returns its URL. With `dry_run`: only say what would go there.

    Raises:
        UserError: the folder holds no leaderboard.html, or the Hub refuses.
    """
    report_dir = Path(report_dir)
    if not (report_dir / LEADERBOARD).is_file():
        raise UserError(
            f"no {LEADERBOARD} in {report_dir}: write it first with arch-hf report RESULTS_DIR --output {report_dir}"
        )
    with tempfile.TemporaryDirectory(prefix="arch-hf-") as stage:
        folder = Path(stage) / "leaderboard"
        shutil.copytree(report_dir, folder, ignore=shutil.ignore_patterns(".*"))
        (folder / "README.md").write_text(LEADERBOARD_CARD, encoding="utf-8")
        only = ["README.md", "leaderboard.*", "*.png", "*.svg", "*.css", "*.js", "*.json"]
        upload = Upload(
            folder, repo_id, "space", "Update the leaderboard", space_sdk="static", only=only, dry_run=dry_run
        )
        again = command_again("leaderboard", report_dir, repo_id=repo_id, dry_run=dry_run)
        return upload.send(safe=f"The report is safe in {report_dir}; to go on: {again}")


def push_metrics(namespace: str, names: list[str] | None = None, dry_run: bool = False) -> list[str]:
    """Upload the `evaluate` modules of arch_hf.probing.metrics as Spaces, for `evaluate.load("NAMESPACE/NAME")` where arch-hf is installed.

    Args:
        namespace: user or organisation.
        names: which ones; all by default.
        dry_run: only say what would go there.

    Returns:
        Their URLs, or for each that nothing was sent.

    Raises:
        UserError: there is no such metric, or the Hub refuses.
    """
    if unknown := [name for name in names or [] if name not in METRICS]:
        raise UserError(f"no metric {unknown[0]}: there are {', '.join(METRICS)}")
    urls = []
    for name in names or METRICS:
        source = (files("arch_hf.probing.metrics") / f"{name}.py").read_text(encoding="utf-8")
        summary = ast.get_docstring(ast.parse(source))
        with tempfile.TemporaryDirectory(prefix="arch-hf-") as stage:
            folder = Path(stage) / name
            folder.mkdir()
            (folder / f"{name}.py").write_text(source, encoding="utf-8")
            card = METRIC_CARD.format(name=name, namespace=namespace, summary=summary)
            (folder / "README.md").write_text(card, encoding="utf-8")
            repo_id = f"{namespace}/{name}"
            upload = Upload(folder, repo_id, "space", "Update the metric", space_sdk="static", dry_run=dry_run)
            again = command_again("metrics", *(names or ()), namespace=namespace, dry_run=dry_run)
            urls.append(upload.send(safe=f"To go on: {again}"))
    return urls
