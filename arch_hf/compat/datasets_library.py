"""What of the `datasets` library is not meant for others, or breaks too easily: each with its reason, and what happens without it."""

import contextlib
from collections.abc import Iterator
from typing import Any

import datasets
import huggingface_hub
from datasets import Audio, Dataset, Features, IterableDataset


@contextlib.contextmanager
def audio_as_it_is() -> Iterator[None]:
    """Let `datasets` read folders of audio files without torchcodec.

    It asks for torchcodec as soon as it builds an Audio column from files, also where it only notes their paths or bytes: while this lasts,
    `Audio.encode_example` notes them. Without it (should that method be gone) such folders need torchcodec, and all others read as before.
    """
    original = getattr(Audio, "encode_example", None)
    if original is None:
        yield
        return

    def encode_example(self, value):
        if isinstance(value, str):
            return {"bytes": None, "path": value}
        if isinstance(value, dict) and (value.get("bytes") is not None or value.get("path")):
            return {"bytes": value.get("bytes"), "path": value.get("path")}
        return original(self, value)

    Audio.encode_example = encode_example
    try:
        yield
    finally:
        Audio.encode_example = original


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Make `datasets` look into its cache at once, instead of trying the Hub for a minute first.

    HF_HUB_OFFLINE is read once, at import, into two constants. Without them the cache is found all the same, a minute later.
    """
    places: list[Any] = [
        place for place in (datasets.config, huggingface_hub.constants) if hasattr(place, "HF_HUB_OFFLINE")
    ]
    before = [place.HF_HUB_OFFLINE for place in places]
    for place in places:
        place.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.HF_HUB_OFFLINE = value


def fingerprint_of(dataset: Dataset) -> str | None:
    """What `datasets` calls a dataset's fingerprint: the same for the same files read and changed in the same way. It has no public name.

    Without it, None: what was remembered under it is then read anew in each run.
    """
    return getattr(dataset, "_fingerprint", None)


def features_of(stream: IterableDataset) -> Features:
    """The columns of a stream that does not know them before it is read: `datasets` looks for them in a way of its own, which has no public
    name. Without it, by the types of the first row."""
    if stream.features:
        return stream.features
    with audio_as_it_is():
        resolve = getattr(stream, "_resolve_features", None)
        if resolve is not None:
            return resolve().features
        table = next(iter(stream.with_format("arrow").iter(batch_size=1)))
        return Features.from_arrow_schema(table.schema)
