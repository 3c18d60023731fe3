"""What is printed: names from outside (ids, labels, clips) must not steer the terminal that shows them."""

import sys
import unicodedata
from typing import TextIO

# Control characters, and those that reorder or hide their neighbours (bidirectional overrides and isolates, joiners, line ends of other scripts).
_UNSAFE_CATEGORIES = {"Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn"}


def visible(text: str) -> str:
    """The text with control, bidirectional and other invisible characters spelled out; letters of every script stay.

    Examples:
        >>> visible("a\\nb" + chr(0x202E) + "c" + chr(27) + "[2J")
        'a\\\\x0ab\\\\u202ec\\\\x1b[2J'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_spelled(char) if unicodedata.category(char) in _UNSAFE_CATEGORIES else char for char in text)


def _spelled(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"


_said = 0


def times_said() -> int:
    """How often something was said in this process."""
    return _said


def say(text: object = "", file: TextIO | None = None) -> None:
    """Print lines at once, each made `visible`: to standard output, or to `file`.

    Examples:
        >>> say("clip " + chr(7) + "1\\nclip 2")
        clip \\x071
        clip 2
    """
    global _said
    _said += 1
    print("\n".join(map(visible, str(text).split("\n"))), file=file or sys.stdout, flush=True)
