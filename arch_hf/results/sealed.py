"""Strict JSON that ends with a checksum of itself: a file is as it was written, or known not to be."""

import hashlib
import json
import re
from typing import Any

NO_SEAL = "has no checksum at its end: it is not as arch-hf wrote it"
_BLANK = "0" * 64
_CHECKSUM = re.compile(rb'"checksum": "([0-9a-f]{64})"\n}\n?\Z')


def seal(content: dict[str, Any]) -> bytes:
    """The bytes of a file that holds `content`.

    Raises:
        ValueError: a number in it is not finite.

    Examples:
        >>> why_not_sealed(seal({"score": 0.5})) is None
        True
    """
    text = json.dumps({**content, "checksum": _BLANK}, indent=1, ensure_ascii=False, allow_nan=False)
    data = text.encode() + b"\n"
    head, _, end = data.rpartition(_BLANK.encode())
    return head + hashlib.sha256(data).hexdigest().encode() + end


def why_not_sealed(data: bytes) -> str | None:
    """What is wrong with the checksum of a file, or None when it holds.

    Examples:
        >>> why_not_sealed(seal({"score": 0.5}).replace(b"0.5", b"0.6"))
        'was changed after it was written (its checksum does not match)'
    """
    match = _CHECKSUM.search(data)
    if match is None:
        return NO_SEAL
    blank = data[: match.start(1)] + _BLANK.encode() + data[match.end(1) :]
    if hashlib.sha256(blank).hexdigest() != match[1].decode():
        return "was changed after it was written (its checksum does not match)"
    return None
