"""Names from outside (models, datasets, classes) made harmless in each format that a report is written in."""

import json
import re

from arch_hf.terminal import visible

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"{\char34}",
    "'": r"{\char39}",
    "`": r"\textasciigrave{}",
    "-": "-{}",
    "[": "{[}",  # after a line's \\\\ they would be its optional argument, or its star
    "]": "{]}",
    "*": "{*}",
}


def markdown(text: str) -> str:
    """Text as a Markdown table cell: no markup, no HTML, no link, no mention.

    Examples:
        >>> markdown("a|b_<script>@me")
        'a\\\\|b\\\\_&lt;script&gt;&#64;me'
    """
    text = re.sub(r"([\\`*_\[\]|~$#!])", r"\\\1", visible(text).replace("&", "&amp;"))
    text = text.replace("<", "&lt;").replace(">", "&gt;").replace("@", "&#64;")
    return text.replace("://", ":&#47;&#47;").replace("www.", "www&#46;")


def csv_text(text: str) -> str:
    """Text as a CSV cell that no spreadsheet takes for a formula: an apostrophe goes before `=`, `+`, `-` and `@`.

    Examples:
        >>> csv_text("=1+1"), csv_text("a=b")
        ("'=1+1", 'a=b')
    """
    text = visible(text)
    return "'" + text if text.lstrip()[:1] in tuple("=+-@") else text


def latex(text: str) -> str:
    """Text for LaTeX. A character that pdfLaTeX's standard fonts lack is printed as its code point.

    Examples:
        >>> latex("50% & é " + chr(0x5D0))
        '50\\\\% \\\\& é (U+05D0)'
    """
    return "".join(_latex_char(char) for char in visible(text))


def _latex_char(char: str) -> str:
    if char in _LATEX:
        return _LATEX[char]
    is_latin_1_letter = 0xC0 <= ord(char) <= 0xFF and char.isalpha() and char not in "ÐÞðþ"
    return char if char.isascii() or is_latin_1_letter else f"(U+{ord(char):04X})"


def json_in_html(data) -> str:
    """JSON for a `<script type="application/json">` block: nothing in it can end the block or open another.

    Examples:
        >>> json_in_html(["</script>"])
        '["\\\\u003c/script\\\\u003e"]'
    """
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text
