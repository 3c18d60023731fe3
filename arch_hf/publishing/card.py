"""Model cards: merging results into a card's `model-index` without touching anything else in it, and writing a card anew.

Values in cards are fractions in [0, 1], the very numbers of the result files: what the Hub's own tools write for accuracy.
"""

import re
from collections.abc import Iterator, Sequence

import yaml
from huggingface_hub import EvalResult, ModelCard
from huggingface_hub.repocard import REGEX_YAML_BLOCK
from huggingface_hub.repocard_data import eval_results_to_model_index
from huggingface_hub.utils import yaml_dump

from arch_hf.errors import UserError

BENCHMARK = "arch-hf"  # in a metric's args: says that an entry is ours to replace


def claim(dataset: dict, metric: dict) -> tuple | None:
    """What one of our metrics is about: dataset, config, protocol, dtype, named columns. None for anybody else's.

    Examples:
        >>> claim({"type": "arch/esc50"}, {"args": {"benchmark": "arch-hf", "protocol": "strict"}})
        ('arch/esc50', 'default', 'strict', 'float32', ())
    """
    args = metric.get("args")
    if not isinstance(args, dict) or args.get("benchmark") != BENCHMARK:
        return None
    options = args.get("options")
    named = tuple(sorted(options.items())) if isinstance(options, dict) else ()
    config, dtype = dataset.get("config") or "default", args.get("dtype") or "float32"
    return dataset.get("type"), config, args.get("protocol"), dtype, named


def rank(args: dict) -> tuple:
    """How much a number is worth: a lower protocol version, or a result that is not whole, never replaces a better one.

    Examples:
        >>> rank({"protocol_version": "1.10"}) > rank({"protocol_version": "1.9"})
        True
        >>> rank({"protocol_version": "1.0", "incomplete": "holds 4 of 9 clips"}) < rank({"protocol_version": "1.0"})
        True
    """
    version = tuple(int(part) for part in re.findall(r"\d+", str(args.get("protocol_version", ""))))
    return version, "incomplete" not in args


def decode(card: bytes) -> str:
    """A card's text, line ends as they are.

    Raises:
        UserError: it is not UTF-8.
    """
    try:
        return card.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"README.md is not UTF-8 ({error.reason} at byte {error.start}): save it as UTF-8 first"
        ) from None


def metadata(card: str) -> dict:
    """The metadata of a card, as the Hub's own reader has them ({} without any).

    Raises:
        UserError: they cannot be read.
    """
    match = REGEX_YAML_BLOCK.search(card)
    try:
        data = (yaml.safe_load(match.group(2)) if match else None) or {}
    except (yaml.YAMLError, RecursionError) as error:
        raise _unreadable(" ".join(str(error).split())) from None
    if not isinstance(data, dict):
        raise _unreadable("they are no keys with values")
    return data


def model_index(card: str) -> list[dict]:
    """The `model-index` of a card, as plain data ([] without one).

    Raises:
        UserError: the card's metadata, or its model-index, cannot be read.
    """
    index = metadata(card).get("model-index") or []
    if not isinstance(index, list):
        raise _unreadable("model-index is no list")
    for element in index:
        if not isinstance(element, dict) or not isinstance(element.get("results") or [], list):
            raise _unreadable("model-index has an element that is no list of results")
        for number, result in enumerate(element.get("results") or [], start=1):
            if lacking := _lacking(result):
                where = f"result {number} of {element.get('name', 'a model')!r}"
                raise _unreadable(f"model-index, {where}: {lacking}")
    return index


def _lacking(result: object) -> str | None:
    """What a result of a model-index lacks to be read by the Hub."""
    if not isinstance(result, dict):
        return "it is no mapping"
    for part, keys in (("task", {"type"}), ("dataset", {"type", "name"})):
        if not isinstance(result.get(part), dict):
            return f"it has no {part}"
        if lacking := keys - result[part].keys():
            return f"its {part} has no {' and no '.join(sorted(lacking))}"
    metrics = result.get("metrics")
    if not isinstance(metrics, list):
        return "it has no list of metrics"
    complete = all(isinstance(metric, dict) and {"type", "value"} <= metric.keys() for metric in metrics)
    return None if complete else "a metric of it has no type or no value"


def _unreadable(reason: str) -> UserError:
    return UserError(f"the card's metadata cannot be read ({reason}): mend the top of README.md first")


def published(card: str) -> dict[tuple, dict]:
    """Our entries of a card: claim -> metric args."""
    return {key: metric["args"] for result, metric in _metrics(card) if (key := claim(result["dataset"], metric))}


def merge_results(card: str, results: Sequence[EvalResult], model_name: str) -> str:
    """The card with `results` in its model-index, each in place of the entry that made the same claim.

    Text, other metadata, their order, comments and line ends stay as they are, and so do other people's results, scalar for
    scalar; only comments inside the model-index itself are lost. Merging twice changes nothing.

    Raises:
        UserError: the card's metadata cannot be read.

    Examples:
        >>> result = EvalResult("audio-classification", "arch/esc50", "ESC-50", "accuracy", 0.5, metric_args={"benchmark": "arch-hf"})
        >>> print(merge_results("---\\nlicense: mit # really\\n---\\nMy model\\n", [result], "me/model"))
        ---
        license: mit # really
        model-index:
        - name: me/model
          results:
          - task:
              type: audio-classification
            dataset:
              name: ESC-50
              type: arch/esc50
            metrics:
            - type: accuracy
              value: 0.5
              args:
                benchmark: arch-hf
        ---
        My model
        <BLANKLINE>
    """
    new = [eval_results_to_model_index(model_name, [result])[0]["results"][0] for result in results]
    have = list(_metrics(card))
    wanted = [entry for entry in new if not any(_same(entry, result, metric) for result, metric in have)]
    return _add(card, wanted, model_name)


def copy_results(source: str, target: str, weights_sha256: str | None = None) -> str:
    """The card `target` with every result of the card `source` that it does not speak of itself; none of ours that was measured on other weights
    than `weights_sha256`.

    Raises:
        UserError: the metadata of one of them cannot be read.
    """
    own = [(_without_value(result, metric), claim(result["dataset"], metric)) for result, metric in _metrics(target)]
    about, claims = [entry for entry, _ in own], {key for _, key in own if key}
    lacking = [
        {**result, "metrics": [metric]}
        for result, metric in _metrics(source)
        if claim(result["dataset"], metric) not in claims
        and _without_value(result, metric) not in about
        and not (claim(result["dataset"], metric) and _is_of_others(metric["args"], weights_sha256))
    ]
    return _add(target, lacking, model_index(source)[0].get("name", "model")) if lacking else target


def _is_of_others(args: dict, weights_sha256: str | None) -> bool:
    measured = args.get("weights_sha256")
    return None not in (measured, weights_sha256) and measured != weights_sha256


def _metrics(card: str) -> Iterator[tuple[dict, dict]]:
    """Every (result, metric of it) of a card's model-index."""
    for element in model_index(card):
        for result in element.get("results") or []:
            for metric in result["metrics"]:
                yield result, metric


def _without_value(result: dict, metric: dict) -> tuple:
    return result["task"], result["dataset"], result.get("source"), {k: v for k, v in metric.items() if k != "value"}


def _add(card: str, entries: list[dict], model_name: str) -> str:
    """The card with the entries in its model-index, each in place of what claims the same."""
    if not entries:
        return card
    claims = {key for entry in entries if (key := claim(entry["dataset"], entry["metrics"][0]))}
    match = REGEX_YAML_BLOCK.search(card)
    line_break = "\r\n" if "\r\n" in card else "\n"
    head = match.group(2) if match else ""
    head = _edit_metadata(head, entries, claims, model_name).replace("\r\n", "\n").replace("\n", line_break)
    if match:
        merged = card[: match.start(2)] + head.removesuffix(line_break) + card[match.end(2) :]
    else:
        merged = f"---{line_break}{head.removesuffix(line_break)}{line_break}---{line_break}{card}"
    _check_reads_back(card, merged, entries, claims)
    return merged


def _check_reads_back(before: str, after: str, entries: list[dict], claims: set[tuple]) -> None:
    """See that whoever reads the new card finds what was put in, and everything else as it was.

    Raises:
        UserError: not so; the card has a form that cannot be merged into.
    """
    advice = "its metadata have a form into which no result can be merged; write them in plain block style, or add the results by hand"
    try:
        old, new = metadata(before), metadata(after)
        theirs = [(r, m) for r, m in _metrics(before) if claim(r["dataset"], m) not in claims]
        expected = [_as_read(*pair) for pair in theirs] + [_as_read(entry, entry["metrics"][0]) for entry in entries]
        read_back = [_as_read(*pair) for pair in _metrics(after)]
        others = [{key: value for key, value in data.items() if key != "model-index"} for data in (old, new)]
        whole = others[0] == others[1] and _sorted(read_back) == _sorted(expected)
        ModelCard(after)  # the Hub's own reader, which is stricter about results
    except (UserError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"README.md could not be read any more with the results in it ({error}): {advice}") from None
    if not whole:
        raise UserError(f"README.md would not be read as it is meant with the results in it: {advice}")


def _as_read(result: dict, metric: dict) -> tuple[dict, dict]:
    return {key: value for key, value in result.items() if key != "metrics"}, metric


def _sorted(pairs: list[tuple[dict, dict]]) -> list[str]:
    return sorted(yaml_dump([result, metric]) for result, metric in pairs)


def _same(entry: dict, result: dict, metric: dict) -> bool:
    return entry["metrics"] == [metric] and entry["dataset"] == result["dataset"] and entry["task"] == result["task"]


def _edit_metadata(head: str, entries: list[dict], claims: set[tuple], model_name: str) -> str:
    """YAML text with another model-index. It works on the parsed nodes, so that what is kept is written as it was."""
    root = yaml.compose(head, Loader=yaml.SafeLoader)
    if root is None:
        root = yaml.MappingNode("tag:yaml.org,2002:map", [])
    here = [(key, value) for key, value in root.value if key.value == "model-index"]
    if len(here) > 1:
        raise _unreadable(f"the key model-index stands {len(here)} times in it, and only the last would be read")
    added = yaml_dump({"model-index": [{"name": model_name, "results": entries}]}, sort_keys=False)
    if not here:
        # before a line that ends the document, if there is one: what follows it is not read
        end = re.search(r"^\.\.\.\s*$", head, re.MULTILINE)
        head, rest = (head[: end.start()], head[end.start() :]) if end else (head, "")
        return head + ("" if not head or head.endswith("\n") else "\n") + added + rest
    key, index = here[0]
    if not index.value:
        return head[: key.start_mark.index] + added + head[_end(head, index) :]
    for element in index.value:
        results = _child(element, "results")
        if isinstance(results, yaml.SequenceNode):
            results.value = [node for node in results.value if not _replaced(node, claims)]
    results = _child(index.value[0], "results")
    nodes = yaml.compose(yaml_dump(entries, sort_keys=False), Loader=yaml.SafeLoader).value
    if isinstance(results, yaml.SequenceNode):
        results.value += nodes
        results.flow_style = False
    else:
        index.value[0].value += yaml.compose(yaml_dump({"results": entries}), Loader=yaml.SafeLoader).value
    block = yaml.MappingNode("tag:yaml.org,2002:map", [(key, index)], flow_style=False)
    text = yaml.serialize(block, allow_unicode=True, width=float("inf"))
    return head[: key.start_mark.index] + text + head[_end(head, index) :]


def _child(node: yaml.Node, name: str) -> yaml.Node | None:
    return next((value for key, value in node.value if key.value == name), None)


def _replaced(result: yaml.Node, claims: set[tuple]) -> bool:
    """Take our replaced metrics out of a result; True when none is left in it."""
    metrics, dataset = _child(result, "metrics"), _child(result, "dataset")
    if metrics is None or dataset is None:
        return False
    metrics.value = [node for node in metrics.value if claim(_plain(dataset), _plain(node)) not in claims]
    return not metrics.value


def _plain(node: yaml.Node):
    return yaml.SafeLoader("").construct_document(node)


def _end(head: str, node: yaml.Node) -> int:
    """Where the node's own lines end: blank lines and comments below it belong to what follows."""
    end = head[: node.end_mark.index]
    kept = end.splitlines(keepends=True)
    while kept and (not kept[-1].strip() or kept[-1].lstrip().startswith("#")):
        kept.pop()
    return len("".join(kept))
