"""Audio columns of `datasets` as bytes and, where somebody's code looks at the samples, decoded by us: no torchcodec, no FFmpeg."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import soundfile
from datasets import Audio, Dataset

from arch_hf.audio import decode, resample
from arch_hf.errors import AudioError, UserError
from arch_hf.files import audio_digest
from arch_hf.integrations.clips import Clips


class DecodedOnDemand:
    """One clip of an audio column as `datasets` gives it, without its decoder: ["array"], mono float32 [samples], and ["sampling_rate"].

    Examples:
        >>> from arch_hf.audio import encode_wav
        >>> clip = DecodedOnDemand({"bytes": encode_wav(np.zeros(8000, np.float32), 8000), "path": None}, 16000)
        >>> clip["array"].shape, clip["sampling_rate"]
        ((16000,), 16000)
    """

    def __init__(self, stored: dict[str, Any], sampling_rate: int | None = None):
        self.stored, self._rate = stored, sampling_rate

    def __getitem__(self, key: str) -> np.ndarray | int:
        try:
            samples, rate = decode(encoded(self.stored))
        except AudioError as error:
            raise RuntimeError(str(error)) from None  # as torchcodec does, which the code of others counts on
        if key == "sampling_rate":
            return self._rate or rate
        if key == "array":
            return resample(samples, rate, self._rate or rate)
        raise KeyError(key)


@contextlib.contextmanager
def decoded_by_us() -> Iterator[None]:
    """Let rows of an audio column be looked at without torchcodec, whoever does it.

    Some tasks of mteb filter their clips by the samples as they load; `datasets` would import torchcodec for them.
    """
    original = Audio.decode_example

    def decode_example(self, value, token_per_repo_id=None):
        return DecodedOnDemand(value, self.sampling_rate) if isinstance(value, dict) else value

    Audio.decode_example = decode_example
    try:
        yield
    finally:
        Audio.decode_example = original


def encoded(audio: Any) -> bytes:
    """The encoded bytes of one clip, in whatever form a dataset holds it: {"bytes", "path"}, {"array", "sampling_rate"} (an array
    [samples] or [channels, samples]; it becomes a WAV of float32), or an object with these two.

    Raises:
        AudioError: there is no audio in it, or its file cannot be read.

    Examples:
        >>> encoded({"array": np.zeros(4, np.float32), "sampling_rate": 8000})[:4]
        b'RIFF'
    """
    if isinstance(audio, DecodedOnDemand):
        audio = audio.stored
    if isinstance(audio, dict) and audio.get("bytes") is not None:
        return audio["bytes"]
    if isinstance(audio, dict) and audio.get("path") is not None:
        try:
            return Path(audio["path"]).read_bytes()
        except OSError as error:
            raise AudioError(f"cannot read {audio['path']} ({error.strerror})") from None
    try:
        samples, rate = np.asarray(audio["array"], np.float32), int(audio["sampling_rate"])
    except (KeyError, TypeError, ValueError):
        raise AudioError("no audio") from None
    file = io.BytesIO()
    soundfile.write(file, samples.T, rate, format="WAV", subtype="FLOAT")
    return file.getvalue()


def clips_of(rows: Any, column: str, where: str) -> Clips:
    """The clips of one column of a dataset, whose rows are looked at undecoded where it is one of `datasets`.

    Args:
        rows: a `datasets.Dataset`, or anything with a length whose rows hold `column` in a form that `encoded` takes.
        column: the audio column.
        where: what the dataset is, for messages.
    """
    if isinstance(rows, Dataset) and isinstance(rows.features[column], Audio):
        stored = rows.select_columns([column]).cast_column(column, Audio(decode=False)).with_format("arrow")
        contents = _contents(stored, column)

        def audio(i: int) -> bytes:
            return encoded(stored[i][column][0].as_py())
    else:
        contents = (encoded(rows[i][column]) for i in range(len(rows)))

        def audio(i: int) -> bytes:
            return encoded(rows[i][column])

    digests: list[bytes] = []
    try:
        digests.extend(map(audio_digest, contents))
    except AudioError as error:
        raise UserError(f"{where}, clip {len(digests)}: {error}") from None
    return Clips(audio, digests, lambda i: f"{where}, clip {i}")


def _contents(rows: Dataset, column: str) -> Iterator[pa.Buffer | bytes]:
    """The bytes of every clip, where they lie; `rows` come as Arrow tables."""
    for batch in rows.iter(batch_size=256):
        stored = batch[column]
        for content, path in zip(pc.struct_field(stored, "bytes"), pc.struct_field(stored, "path"), strict=True):
            yield content.as_buffer() if content.is_valid else encoded({"path": path.as_py()})
