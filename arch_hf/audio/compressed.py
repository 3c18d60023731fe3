"""FLAC and Ogg: how much audio a file really holds, told by its own frames and pages and not by its header.

libsndfile reads a FLAC as far as its header says and an Ogg file to the end of its first stream, and passes over pages that are damaged.
Here is seen what is there.
"""

import functools
import struct
import zlib
from dataclasses import replace

from arch_hf.audio.parts import Part, Source
from arch_hf.errors import AudioError

_TAIL = 1 << 18  # a FLAC frame is hardly ever as long


def flac(source: Source, start: int, thorough: bool) -> list[Part]:
    """A FLAC stream. Its end is found by its last frame, which knows its own place."""
    head = source.at(start, 42)
    if len(head) < 42:
        raise AudioError("truncated: the file ends before its audio begins")
    stated = int.from_bytes(head[21:26], "big") & 0xFFFFFFFFF
    part = Part(start, source.size)
    if thorough and (second := source.find(b"fLaC\0\0\0\x22", start + 42)) >= 0:
        raise AudioError(f"holds a second FLAC stream (at byte {second}): split them")
    block = int.from_bytes(head[10:12], "big")
    end, frame = _flac_end(source, start, block, stated)
    if end is None and stated == 0:
        raise AudioError("truncated: the file ends within a frame")
    if end is None or end == stated:
        return [replace(part, frames=stated, doubtful=lambda: _crc16(frame) != 0, suspect=end is None)]
    if stated > end:
        raise AudioError(f"truncated: the header promises {stated} samples, the file holds {end}")
    known = int.from_bytes(head[21:26], "big") & ~0xFFFFFFFFF | end
    return [replace(part, frames=end, patches=((start + 21, known.to_bytes(5, "big")),))]


def _flac_end(source: Source, start: int, block: int, stated: int) -> tuple[int | None, bytes]:
    """How many samples there are up to the end of the last frame, and that frame; None where the file does not end with a whole frame."""
    tail = source.at(max(start + 42, source.size - _TAIL), _TAIL)
    if tail[-128:-125] == b"TAG":  # ID3v1
        tail = tail[:-128]
    place = len(tail)
    while (place := tail.rfind(b"\xff", 0, place)) >= 0:
        end = _flac_frame(tail, place, block)
        if end is not None and (end == stated or _crc16(tail[place:]) == 0):
            return end, tail[place:]
    return None, b"\xff"


def _flac_frame(data: bytes, place: int, block: int) -> int | None:
    """The number of the sample behind the frame whose header stands at `place`; None if none stands there (RFC 9639, 9.1)."""
    head = data[place : place + 16]
    if len(head) < 6 or head[1] & 0xFE != 0xF8 or head[3] & 1:
        return None
    size, rate = head[2] >> 4, head[2] & 15
    if size == 0 or rate == 15:
        return None
    n_bytes = 8 - (head[4] ^ 0xFF).bit_length() if head[4] & 0x80 else 1  # as UTF-8 does
    if n_bytes == 0 or (n_bytes == 1 and head[4] & 0x80) or len(head) < 4 + n_bytes + 5:
        return None
    number = head[4] & (0x7F if n_bytes == 1 else 0xFF >> (n_bytes + 1))
    for byte in head[5 : 4 + n_bytes]:
        if byte & 0xC0 != 0x80:
            return None
        number = number << 6 | byte & 0x3F
    rest = 4 + n_bytes
    if size in (6, 7):
        samples = int.from_bytes(head[rest : rest + size - 5], "big") + 1
        rest += size - 5
    else:
        samples = 192 if size == 1 else 576 << (size - 2) if size < 6 else 256 << (size - 8)
    rest += {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if _crc8(head[:rest]) != head[rest]:
        return None
    return (number if head[1] & 1 else number * block) + samples


@functools.cache
def _table(polynomial: int, width: int) -> list[int]:
    top, mask, table = 1 << (width - 1), (1 << width) - 1, []
    for byte in range(256):
        value = byte << (width - 8)
        for _ in range(8):
            value = (value << 1 ^ polynomial if value & top else value << 1) & mask
        table.append(value)
    return table


def _crc8(data: bytes) -> int:
    table, value = _table(0x07, 8), 0
    for byte in data:
        value = table[value ^ byte]
    return value


def _crc16(data: bytes) -> int:
    """0 over a whole FLAC frame, its own checksum included."""
    table, value = _table(0x8005, 16), 0
    for byte in data:
        value = (value << 8 & 0xFF00) ^ table[value >> 8 ^ byte]
    return value


_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _page_checksum(page: bytes) -> int:
    """Ogg's CRC-32: zlib's with the bits of each byte, and of the result, the other way round, from 0 and without a last inversion."""
    page = page[:22] + bytes(4) + page[26:]
    turned = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(turned.to_bytes(4, "little").translate(_REVERSED), "big")


def ogg(source: Source, start: int, thorough: bool) -> list[Part]:
    """An Ogg file: a part for each of its streams, one after the other (a chain). With `thorough`, each page's checksum is looked at.

    Each page counts on from the one before, and the last of a stream says that it is: so a cut shows, and a lost page too.
    """
    parts: list[Part] = []
    numbers: dict[int, int] = {}  # of the streams that are open: the next page
    place, first, opening = start, start, True
    while place < source.size:
        head = source.at(place, 27)
        if head[:4] != b"OggS":
            if place > start and not numbers and source.find(b"OggS", place) < 0:
                break  # what follows the end is a tag, or padding
            raise AudioError("truncated: the file ends within a page" if len(head) < 27 else _damaged(place))
        if len(head) < 27:
            raise AudioError("truncated: the file ends within a page")
        flags, _, serial, number, checksum, n_segments = struct.unpack("<BqIIIB", head[5:])
        end = place + 27 + n_segments + sum(source.at(place + 27, n_segments))
        if end > source.size:
            raise AudioError("truncated: the file ends within a page")
        if thorough and _page_checksum(source.at(place, end - place)) != checksum:
            raise AudioError(_damaged(place))
        if flags & 2:  # begins a stream
            if not opening and not numbers:
                parts.append(Part(first, place))
                first = place
            elif not opening:
                raise AudioError("truncated: a stream has no end before the next begins")
            opening = True
        elif number != numbers.get(serial):
            raise AudioError(_damaged(place))
        else:
            opening = False
        numbers[serial] = number + 1
        if flags & 4:  # ends it
            del numbers[serial]
            opening = False
        place = end
    if numbers:
        raise AudioError(
            "truncated: no page ends the Ogg stream (a recording that was broken off; if that is all: ffmpeg -i IN -c copy OUT)"
        )
    return [*parts, Part(first, place)]


def _damaged(place: int) -> str:
    return f"damaged: bytes are wrong or missing at byte {place}"
