"""What stands in the place of audio, and what to do about it."""

CONVERT = "which libsndfile does not decode; convert it: ffmpeg -i IN OUT.flac"
_SIGNS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file it stands for: git lfs pull"),
    (4, b"ftyp", f"MPEG-4 audio or video (m4a, mp4), {CONVERT}"),
    (0, b"\x1a\x45\xdf\xa3", f"Matroska or WebM, {CONVERT}"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", f"Windows Media (wma, asf), {CONVERT}"),
    (0, b"FLV\x01", f"Flash video, {CONVERT}"),
    (8, b"AVI ", f"an AVI video, {CONVERT}"),
    (0, b"ADIF", f"AAC, {CONVERT}"),
    (0, b"#!AMR", f"AMR, {CONVERT}"),
    (0, b"wvpk", f"WavPack, {CONVERT}"),
    (0, b"MAC ", f"Monkey's Audio, {CONVERT}"),
    (0, b"TTA1", f"True Audio, {CONVERT}"),
    (0, b"MThd", "MIDI, which holds notes and no sound"),
    (0, b"\x00\x05\x16\x07", "what a Mac keeps beside a file (._NAME), not the file"),
    (0, b"PK\x03\x04", "a zip archive: unpack it"),
    (0, b"\x1f\x8b", "compressed by gzip: unpack it"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\x89PNG", "a picture (PNG)"),
    (0, b"\xff\xd8\xff", "a picture (JPEG)"),
    (0, b"PAR1", "a Parquet file"),
)


def what_it_is(head: bytes) -> str | None:
    """What a file is that begins so (some hundred bytes) and holds no audio that can be read; None if nobody knows.

    Examples:
        >>> what_it_is(b"<!DOCTYPE html><html>...")
        'an HTML page: a server answered with it in place of the audio; fetch the file again'
    """
    for place, sign, what in _SIGNS:
        if head[place : place + len(sign)] == sign:
            return what
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return f"AAC, {CONVERT}"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "an HTML page: a server answered with it in place of the audio; fetch the file again"
    if text.startswith((b"<?xml", b"<error", b'{"')):
        return "a text (XML or JSON), perhaps a server's answer in place of the audio; fetch the file again"
    if head and not any(head):
        return "nothing but zeros, as an interrupted copy leaves it; fetch the file again"
    return None
