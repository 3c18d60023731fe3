"""MP3: how much audio a file really holds, told by its own frames.

Where the first frame is no list of facts (Xing's, LAME's or Fraunhofer's), libsndfile takes the file's size and the first frame's bit rate for
an estimate of the length, and stops reading there. It also passes over bytes between frames, and ends at the last frame that is whole.
"""

import functools
from dataclasses import dataclass, replace

from arch_hf.audio.parts import Part, Source
from arch_hf.errors import AudioError

# [version 1 or 2][layer], kbit/s by index 1 to 14
_BIT_RATES = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SAMPLES = {(1, 1): 384, (1, 2): 1152, (1, 3): 1152, (2, 1): 384, (2, 2): 1152, (2, 3): 576}
_KIND = 0xFFFE0C00  # the bits of a frame's header that all frames share: version, layer, rate


@functools.lru_cache(4096)
def _frame(header: int) -> tuple[int, int]:
    """(bytes, samples) of the MPEG audio frame with this header, whose last 9 bits do not matter; (0, 0) if it is none."""
    version, layer, rate, bits = header >> 19 & 3, 4 - (header >> 17 & 3), header >> 10 & 3, header >> 12 & 15
    if header >> 21 != 0x7FF or version == 1 or layer == 4 or rate == 3 or bits in (0, 15):
        return 0, 0
    kind = (1 if version == 3 else 2), layer
    hertz = (44100, 48000, 32000)[rate] >> (0 if version == 3 else 1 if version == 2 else 2)
    kbits, samples, padding = _BIT_RATES[kind][bits - 1], _SAMPLES[kind], header >> 9 & 1
    if layer == 1:
        return (12000 * kbits // hertz + padding) * 4, samples
    return samples // 8 * 1000 * kbits // hertz + padding, samples


def is_mpeg(head: bytes) -> bool:
    """Whether these bytes begin an MPEG audio frame.

    Examples:
        >>> is_mpeg(bytes.fromhex("fffb9064")), is_mpeg(b"RIFF")
        (True, False)
    """
    return len(head) >= 4 and _frame(int.from_bytes(head[:4], "big") & ~0x1FF)[0] > 0


_TAG_BYTES = 1500  # what may stand behind the last frame: a tag that nobody knows, a part of a frame


@dataclass(frozen=True)
class _Facts:
    """What the first frame says: `frames` and `n_bytes` of audio behind it (None: it does not), and where the next frame begins."""

    frames: int | None
    n_bytes: int | None
    end: int


def mpeg(source: Source, start: int, thorough: bool) -> list[Part]:
    """An MPEG audio file (MP3, or layer I or II) whose first frame stands at `start`. Its frames are counted, unless the first of them
    says how many bytes there are, and these are there."""
    header = int.from_bytes(source.at(start, 4), "big")
    length, samples = _frame(header & ~0x1FF)
    facts = _facts(source.at(start, length), start)
    part = Part(start, source.size)
    if facts and not thorough and facts.frames and facts.n_bytes:
        behind = source.size - start - facts.n_bytes
        if 0 <= behind <= _TAG_BYTES:
            return [part]
    frames = _count_frames(source, facts.end if facts else start, header & _KIND)
    if facts and facts.frames is not None:
        if frames < facts.frames - 2:
            raise AudioError(f"truncated: the header promises {facts.frames} frames, the file holds {frames}")
        if frames <= facts.frames + 2:
            return [part]
        start = facts.end  # it says too little, and the decoder would believe it
    # The decoder's estimate of the length is the file's size over that of the first frame: zeros behind the end make it large enough.
    header = int.from_bytes(source.at(start, 4), "big")
    length = _frame(header & ~0x1FF)[0]
    padding = max(0, (frames + 2) * (length + 1) - (source.size - start))
    return [replace(part, start=start, padding=padding, frames=frames * samples)]


def _facts(frame: bytes, start: int) -> _Facts | None:
    if len(frame) < 4:
        return None
    mono, mpeg1 = frame[3] >> 6 == 3, frame[1] & 8
    side = (17 if mono else 32) if mpeg1 else (9 if mono else 17)
    place = 4 + side
    end = start + len(frame)
    if frame[place : place + 4] in (b"Xing", b"Info") and not any(frame[6:place]):
        flags = int.from_bytes(frame[place + 4 : place + 8], "big")
        counts = [int.from_bytes(frame[place + i : place + i + 4], "big") for i in (8, 12)]
        frames = counts.pop(0) if flags & 1 else None
        return _Facts(frames, counts[0] if flags & 2 else None, end)
    if frame[36:40] == b"VBRI":
        n_bytes, frames = (int.from_bytes(frame[i : i + 4], "big") for i in (46, 50))
        return _Facts(frames, n_bytes, end)
    return None


def _count_frames(source: Source, start: int, kind: int) -> int:
    """How many whole frames of one kind follow one another from `start` to the end, tags apart.

    Raises:
        AudioError: where other bytes stand between them.
    """
    data = source.at(start, source.size - start)
    n_bytes, place, frames = len(data), 0, 0
    while place + 4 <= n_bytes:
        header = int.from_bytes(data[place : place + 4], "big")
        length = _frame(header & ~0x1FF)[0] if header & _KIND == kind else 0
        if length:
            if place + length > n_bytes:
                break  # cut within its last frame, which is no more than some hundredths of a second
            frames += 1
            place += length
            continue
        if tag := _tag(data, place):
            place += tag
            continue
        if (onward := _next_frames(data, place, kind)) >= 0:
            raise AudioError(f"damaged: {onward - place} bytes at byte {start + place} are no MP3 frame")
        if n_bytes - place > _TAG_BYTES and any(data[place:]):
            raise AudioError(f"damaged: the last {n_bytes - place} bytes are no MP3 frames like those before")
        break
    return frames


def _tag(data: bytes, place: int) -> int:
    """The length of the tag that stands there: ID3, or APE's."""
    head = data[place : place + 32]
    if head[:3] == b"ID3" and len(head) >= 10:
        return id3_length(head)
    if head[:3] == b"TAG":
        return 128
    if head[:8] == b"APETAGEX":
        return 32 + int.from_bytes(head[12:16], "little")
    return 0


def id3_length(head: bytes) -> int:
    """The length of an ID3 tag (version 2) from its first 10 bytes: 7 bits of each of 4, and a footer where it has one."""
    size = functools.reduce(lambda total, byte: total << 7 | byte & 0x7F, head[6:10], 0)
    return 10 + size + (10 if head[5] & 0x10 else 0)


def _next_frames(data: bytes, place: int, kind: int) -> int:
    """Where frames of this kind go on: two of them in a row; -1 if nowhere."""
    while (place := data.find(b"\xff", place + 1)) >= 0:
        header = int.from_bytes(data[place : place + 4], "big")
        length = _frame(header & ~0x1FF)[0] if header & _KIND == kind else 0
        if length and int.from_bytes(data[place + length : place + length + 4], "big") & _KIND == kind:
            return place
    return -1
