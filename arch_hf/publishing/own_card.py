"""The card of a user's own model, written from its folder and its results."""

import json
import re
import string
import sys
from pathlib import Path

from arch_hf.data.registry import CORPUS_NAMES
from arch_hf.embedding import AudioEncoder
from arch_hf.errors import UserError
from arch_hf.files import shipped, write_atomically
from arch_hf.publishing.card import decode, merge_results
from arch_hf.publishing.entries import PAPER, Entry, collect, one_for_each_claim
from arch_hf.results.text import percent
from arch_hf.terminal import say

BEGIN, END = (
    "<!-- arch-hf results: this part is rewritten by arch-hf publish card -->",
    "<!-- end of arch-hf results -->",
)


def write_card(folder: Path, results_dir: Path, *, repo_id: str | None = None, allow_incomplete: bool = False) -> Path:
    """Write FOLDER/README.md: what the model is, how to load it, its results as a table and as model-index, how to reproduce them.

    Results count if they are of the very weights in the folder, wherever these lay when they were evaluated. A card that
    is there already keeps its text and metadata; only the results in it are written anew.

    Args:
        folder: the checkpoint.
        results_dir: the main job's --output_dir.
        repo_id: the repository that the examples name; by default the folder's name.
        allow_incomplete: also results that lack clips (marked as such).

    Returns:
        The path of the card.

    Raises:
        UserError: no checkpoint, no result of these weights, or a card whose metadata cannot be read.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} is not a folder with a checkpoint (no config.json in it)")
    encoder = AudioEncoder.from_pretrained(str(folder))
    sha = encoder.weights_sha256
    entries, held_back = collect(
        results_dir, f"the weights in {folder}", lambda model: model.weights_sha256 == sha, allow_incomplete
    )
    if not entries:
        raise UserError(f"no result for the card: {'; '.join(held_back)}")
    for reason in held_back:
        say(f"not in the card: {reason}", sys.stderr)
    entries = one_for_each_claim(entries)
    repo_id = repo_id or folder.resolve().name
    path = folder / "README.md"
    card = decode(path.read_bytes()) if path.is_file() else plain_card(folder, encoder.describe(), repo_id)
    card = merge_results(card, [entry.result for entry in entries], repo_id.split("/")[-1])
    write_atomically(path, _with_section(card, _results_section(entries, repo_id)).encode())
    return path


def plain_card(folder: Path, model: dict, repo_id: str) -> str:
    """A card that says what can be seen of a checkpoint (`model`: what `AudioEncoder.describe` tells), how to load it, and that the rest is not
    stated."""
    template = string.Template((shipped("model_cards") / "template.md").read_text(encoding="utf-8"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return template.substitute(
        name=repo_id.split("/")[-1],
        repo_id=repo_id,
        model_type=config.get("model_type", "audio-encoder"),
        model_class=model["class"],
        parameters=f"{model['n_parameters']:,}",
        sampling_rate=model["sampling_rate"],
        embedding_size=model["embedding_size"],
    )


def _with_section(card: str, section: str) -> str:
    if BEGIN in card and END in card:
        return re.sub(re.escape(BEGIN) + r".*?" + re.escape(END), lambda _: section, card, count=1, flags=re.DOTALL)
    return card.rstrip("\n") + "\n\n" + section + "\n"


def _results_section(entries: list[Entry], repo_id: str) -> str:
    rows = "\n".join(_row(entry) for entry in entries)
    protocols = list(dict.fromkeys(entry.args["protocol"] for entry in entries))
    commands = "\n".join(
        f"accelerate launch evaluate.py --model_id {repo_id}{_datasets(entries, name)} --protocol {name}"
        for name in protocols
    )
    return (
        f"{BEGIN}\n## Results\n\nPercentages, from linear probes on frozen embeddings ([ARCH]({PAPER})), measured with arch-hf.\n\n"
        f"| corpus | protocol | metric | score | 95% interval |\n|---|---|---|---|---|\n{rows}\n\n"
        f"To reproduce:\n\n```bash\n{commands}\n```\n\nWeights: SHA-256 `{entries[0].args['weights_sha256']}`\n{END}"
    )


def _datasets(entries: list[Entry], protocol: str) -> str:
    """The flag that names what was evaluated under a protocol."""
    names = dict.fromkeys(each.corpus or each.dataset_id for each in entries if each.args["protocol"] == protocol)
    return "" if set(names) == set(CORPUS_NAMES) else f" --datasets {' '.join(names)}"


def _row(entry: Entry) -> str:
    result, args = entry.result, entry.args
    low, high = args.get("ci95", (None, None))
    interval = f"{percent(low)} to {percent(high)}" if low is not None else ""
    doubt = f" ({args['incomplete']})" if "incomplete" in args else ""
    metric = str(result.metric_name).split(" (")[0]
    protocol = f"{args['protocol']} {args['protocol_version']}"
    return f"| {result.dataset_name}{doubt} | {protocol} | {metric} | {percent(result.metric_value)} | {interval} |"
