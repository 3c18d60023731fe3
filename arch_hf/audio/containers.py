"""Containers of plain samples: where their data begin, how many bytes the header states, and whether they are there.

libsndfile takes a file's size for the truth and would pass a truncated file off as a shorter clip; and it takes what a program left
in a header that it could not go back to (it wrote to a pipe) for a size. Each function here reads one family of containers and returns
the file as the decoder should see it.
"""

import re
import struct
from collections.abc import Callable

import numpy as np

from arch_hf.audio.foreign import CONVERT
from arch_hf.audio.parts import Part, Source, check_whole
from arch_hf.errors import AudioError

# What stands for "unknown" where a program wrote to a pipe, give or take a header: sox and espeak, arecord, ffmpeg, GStreamer, ...
_PLACEHOLDERS = (0x7F000000, 0x7FFF0000, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 2_000_000_000, 0xFFFFFFFF)
_HEADER = 4096
_MOST_CHUNKS = 10_000
_UNKNOWN_64 = 1 << 62
_VOC_SOUND = (1, 2, 3, 6, 9)  # samples, more of them, silence, the begin of a loop, samples


def is_placeholder(stated: int) -> bool:
    """Whether a size in a header stands for "unknown".

    Examples:
        >>> is_placeholder(0x7FFFF024), is_placeholder(16000)
        (True, False)
    """
    return stated >= _UNKNOWN_64 or any(abs(stated - size) <= _HEADER for size in _PLACEHOLDERS)


def _data(stated: int, start: int, source: Source, to_the_end: bool = False) -> int | None:
    """Bytes of audio from `start` on, where the header does not know how many; None where it does, and they are there."""
    present = source.size - start
    if present < 0:
        raise AudioError("truncated: the file ends before its audio begins")
    if is_placeholder(stated) and stated > present:
        return present
    check_whole(stated, present, to_the_end)
    return None


def _chunks(source: Source, start: int, order: str, data: bytes) -> dict[bytes, tuple[int, int]]:
    """(place, size) of the contents of the chunks of a RIFF or IFF file, up to the one called `data`.

    Raises:
        AudioError: if there is none of that name.
    """
    chunks: dict[bytes, tuple[int, int]] = {}
    for _ in range(_MOST_CHUNKS):
        head = source.at(start, 8)
        if len(head) < 8:
            break
        name, size = struct.unpack(f"{order}4sI", head)
        chunks.setdefault(name, (start + 8, size))
        if name == data:
            return chunks
        start += 8 + size + size % 2
    raise AudioError("truncated: the file ends before its audio begins")


def riff(source: Source, start: int) -> Part:
    """WAV as RIFF, RIFX (big-endian) and RF64 (64-bit sizes)."""
    kind = source.at(start, 4)
    order = ">" if kind == b"RIFX" else "<"
    (riff_size,) = struct.unpack(f"{order}I", source.at(start + 4, 4))
    chunks = _chunks(source, start + 12, order, b"data")
    place, size = chunks[b"data"]
    ds64, _ = chunks.get(b"ds64", (0, 0))
    long = kind == b"RF64" and size == 0xFFFFFFFF and len(source.at(ds64, 24)) == 24 and ds64 > 0
    stated = struct.unpack("<8xQ8x", source.at(ds64, 24))[0] if long else size
    present = source.size - place
    form = source.at(chunks.get(b"fmt ", (0, 0))[0], 16) if b"fmt " in chunks else b""
    _check_form(form, order)
    if stated == 0 and present and riff_size + 8 != source.size - start:
        unknown: int | None = present  # the program wrote the header, and never came back to it
    else:
        unknown = _data(stated, place, source)
    if unknown is None:
        _nothing_behind(source, place + stated + stated % 2)
        _nothing_behind(source, start + 8 + riff_size + riff_size % 2)
        if kind == b"RIFF":
            _check_adpcm(form, source, place, stated)
        return Part(start, source.size)
    if long:
        patches = (ds64, struct.pack("<QQQ", source.size - start - 8, unknown, 0))
        return Part(start, source.size, patches=(patches,))
    sizes = (start + 4, source.size - start - 8), (place - 4, unknown)
    patched = tuple((where, struct.pack(f"{order}I", min(n, 0xFFFFFFFF))) for where, n in sizes)
    return Part(start, source.size, patches=patched)


def _check_form(form: bytes, order: str) -> None:
    """Refuse a header that contradicts itself: libsndfile would go by the number of channels, others by the size of a block."""
    if len(form) < 16:
        return
    tag, channels, _, _, block, bits = struct.unpack(f"{order}HHIIHH", form)
    plain = tag in (1, 3, 6, 7, 0xFFFE)  # whole numbers, floats, A-law, mu-law, extensible
    if plain and block and channels and (block % channels or 8 * block < channels * bits):
        raise AudioError(f"damaged: its header says {channels} channels of {bits} bits in blocks of {block} bytes")


def _check_adpcm(form: bytes, source: Source, start: int, stated: int) -> None:
    """Each block of an ADPCM file begins with what decodes the rest: an index into a table, which has so many entries."""
    if len(form) < 16:
        return
    tag, channels, _, _, block, _ = struct.unpack("<HHIIHH", form)
    entries, first, step = {0x11: (89, 2, 4), 0x02: (7, 0, 1)}.get(tag, (0, 0, 0))  # IMA's, Microsoft's
    if not entries or block < 8 * channels:
        return
    data = source.at(start, stated)
    blocks = np.frombuffer(data, np.uint8, len(data) // block * block).reshape(-1, block)
    places = np.arange(channels) * step + first
    wrong = (blocks[:, places] >= entries).any(1)
    if tag == 0x11:
        wrong |= blocks[:, places + 1].any(1)  # always 0
    if wrong.any():
        raise AudioError(f"damaged: {wrong.sum()} of its {len(blocks)} blocks cannot be what an encoder wrote")


# Of the files that one finds behind another, where something has joined them.
_MAGICS = (
    b"RIFF",
    b"RIFX",
    b"RF64",
    b"FORM",
    b"riff",
    b".snd",
    b"dns.",
    b"caff",
    b"NIST",
    b"Crea",
    b"2BIT",
    b"fLaC",
    b"OggS",
    b" paf",
    b"fap ",
    b"PVF1",
)


def _nothing_behind(source: Source, end: int) -> None:
    if source.at(end, 4) in _MAGICS:
        raise AudioError("holds a second audio file behind the first: split them")


def iff(source: Source, start: int) -> Part:
    """AIFF and AIFF-C, and the Amiga's 8SVX and 16SV."""
    data = b"SSND" if source.at(start + 8, 4) in (b"AIFF", b"AIFC") else b"BODY"
    chunks = _chunks(source, start + 12, ">", data)
    place, size = chunks[data]
    unknown = _data(size, place, source)
    if unknown is None:
        _nothing_behind(source, place + size + size % 2)
        return Part(start, source.size if data == b"SSND" else min(source.size, place + size))
    patches = [(start + 4, struct.pack(">I", source.size - start - 8)), (place - 4, struct.pack(">I", unknown))]
    if b"COMM" in chunks:
        common, _ = chunks[b"COMM"]
        channels, bits = struct.unpack(">H4xH", source.at(common, 8))
        count = (unknown - 8) // max(1, channels * -(-bits // 8))
        patches.append((common + 2, struct.pack(">I", count)))
    return Part(start, source.size, patches=tuple(patches))


def w64(source: Source, start: int) -> Part:
    """Sony's Wave64: chunks are named by 16 bytes, and their sizes of 64 bits count their heads."""
    place = start + 40
    while len(head := source.at(place, 24)) == 24:
        (size,) = struct.unpack("<Q", head[16:])
        if head[:4] == b"data":
            stated = size - 24 if size else _UNKNOWN_64
            unknown = _data(stated, place + 24, source)
            if unknown is None:
                _nothing_behind(source, place + -(-size // 8) * 8)
                return Part(start, min(source.size, place + size))
            sizes = (start + 16, source.size - start), (place + 16, unknown + 24)
            return Part(start, source.size, patches=tuple((where, struct.pack("<Q", n)) for where, n in sizes))
        if size < 24:
            break
        place += -(-size // 8) * 8
    raise AudioError("truncated: the file ends before its audio begins")


def au(source: Source, start: int) -> Part:
    """Sun's .au; little-endian where its magic is turned round."""
    order = ">" if source.at(start, 4) == b".snd" else "<"
    head = source.at(start + 4, 8)
    if len(head) < 8:
        raise AudioError("truncated: the file ends before its audio begins")
    place, stated = struct.unpack(f"{order}II", head)
    unknown = _data(stated or 0xFFFFFFFF, start + place, source, to_the_end=True)
    if unknown is None:
        return Part(start, source.size)
    return Part(start, source.size, patches=((start + 8, struct.pack(f"{order}I", min(unknown, 0xFFFFFFFF))),))


def caf(source: Source, start: int) -> Part:
    """Apple's Core Audio Format; a size of -1 is unknown."""
    place = start + 8
    while len(head := source.at(place, 12)) == 12:
        name, size = struct.unpack(">4sq", head)
        if name == b"data":
            unknown = _data(size if size >= 0 else _UNKNOWN_64, place + 12, source)
            if unknown is None:
                _nothing_behind(source, place + 12 + size)
                return Part(start, source.size)
            return Part(start, source.size, patches=((place + 4, struct.pack(">q", unknown)),))
        if size < 0:
            break
        place += 12 + size
    raise AudioError("truncated: the file ends before its audio begins")


def nist(source: Source, start: int) -> Part:
    """NIST SPHERE: a text of fields, then the samples."""
    head = source.at(start, 1024)
    fields = {name: int(value) for name, value in re.findall(rb"(?m)^(\w+) -i (\d+)", head)}
    size = re.match(rb"NIST_1A\s+(\d+)", head)
    known = all(name in fields for name in (b"sample_count", b"channel_count", b"sample_n_bytes"))
    if size and known:
        stated = fields[b"sample_count"] * fields[b"channel_count"] * fields[b"sample_n_bytes"]
        check_whole(stated, source.size - start - int(size[1]), to_the_end=True)
    return Part(start, source.size)


def voc(source: Source, start: int) -> Part:
    """Creative Voice: blocks of audio, silence and marks; a block of kind 0 ends the file. libsndfile reads one block of audio, and takes what
    stands behind it, the next block's head included, for more samples of it."""
    place = start + int.from_bytes(source.at(start + 20, 2), "little")
    end: int | None = None  # of the one block of audio
    while len(head := source.at(place, 4)) >= 1 and head[0] != 0:
        if len(head) < 4:
            raise AudioError("truncated: the file ends within a block")
        size = int.from_bytes(head[1:], "little")
        if size < 0xFFFFFF - _HEADER:  # else unknown: written to a pipe
            check_whole(size, source.size - place - 4)
        place += 4 + size
        if head[0] in _VOC_SOUND and end is not None:
            raise AudioError(f"a VOC file of several blocks, {CONVERT}")
        end = place if head[0] in _VOC_SOUND else end
    if end is None:
        raise AudioError("truncated: the file ends before its audio begins")
    return Part(start, min(source.size, end + 1))


def avr(source: Source, start: int) -> Part:
    """Audio Visual Research: a header of 128 bytes, which counts the samples."""
    head = source.at(start, 128)
    if len(head) < 128:
        raise AudioError("truncated: the file ends before its audio begins")
    stereo, bits, frames = struct.unpack(">12xHH10xI", head[:30])
    check_whole(frames * (2 if stereo else 1) * -(-bits // 8), source.size - start - 128, to_the_end=True)
    return Part(start, source.size)


def wve(source: Source, start: int) -> Part:
    """Psion's A-law recordings: a header of 32 bytes, which counts the bytes."""
    check_whole(int.from_bytes(source.at(start + 18, 4), "big"), source.size - start - 32, to_the_end=True)
    return Part(start, source.size)


def htk(source: Source, start: int) -> Part:
    """HTK's waveforms: a header of 12 bytes, which counts the samples."""
    samples, _, n_bytes, _ = struct.unpack(">IIHH", source.at(start, 12))
    check_whole(samples * n_bytes, source.size - start - 12, to_the_end=True)
    return Part(start, source.size)


def without_size(source: Source, start: int) -> Part:
    """IRCAM, PAF and PVF state no size: what the file holds is all that anybody knows."""
    return Part(start, source.size)


Reader = Callable[[Source, int], Part]
_READERS: tuple[tuple[Callable[[bytes], bool], Reader], ...] = (
    (lambda h: h[:4] in (b"RIFF", b"RIFX", b"RF64") and h[8:12] == b"WAVE", riff),
    (lambda h: h[:4] == b"FORM" and h[8:12] in (b"AIFF", b"AIFC", b"8SVX", b"16SV"), iff),
    (lambda h: h[:16] == b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00", w64),
    (lambda h: h[:4] in (b".snd", b"dns."), au),
    (lambda h: h[:4] == b"caff", caf),
    (lambda h: h[:7] == b"NIST_1A", nist),
    (lambda h: h[:19] == b"Creative Voice File", voc),
    (lambda h: h[:4] == b"2BIT", avr),
    (lambda h: h[:15] == b"ALawSoundFile**", wve),
    (lambda h: h[:4] in (b" paf", b"fap ", b"PVF1") or h[:2] == b"\x64\xa3", without_size),
    (lambda h: h[8:12] == b"\0\2\0\0", htk),
)


def reader_of(head: bytes) -> Reader | None:
    """The function that reads the container which begins so (24 bytes); None if it is none of these."""
    return next((reader for is_it, reader in _READERS if is_it(head)), None)
