"""Text that can be printed and kept in JSON, whatever a file system or a command line held."""

from __future__ import annotations

import re
import unicodedata

from vtbench.types.secrets import redacted

_LONE = re.compile("[\ud800-\udfff]")


def readable(text: str) -> str:
    r"""The text with every byte that is no UTF-8 written as \xNN, and every secret as its name.

    Python reads such bytes of file names and arguments as lone surrogates (PEP 383), which no encoding takes: printing
    and writing them would fail.
    """
    text = redacted(text)
    if text.isascii():
        return text
    return _LONE.sub(lambda match: _escaped(ord(match[0])), text)


def _escaped(code: int) -> str:
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


LONGEST = 2000
"""Characters of a sentence."""


def one_line(text: str) -> str:
    r"""A sentence as it can be shown: line breaks and tabs as spaces, other control characters as \xNN, the middle of a
    very long one left out. Names of tensors and files, and what servers say, may hold anything."""
    if not text.isprintable():
        text = re.sub(r"\s*[\r\n\t\v\f\x85\u2028\u2029]\s*", " ", text)
        text = "".join(_control_as_code(c) for c in text)
    if len(text) > LONGEST:
        text = f"{text[: LONGEST * 3 // 4]} … {text[-LONGEST // 4 :]}"
    return text.strip()


def _control_as_code(c: str) -> str:
    """What moves a terminal's cursor or turns the direction of writing round, as its number. What joins the letters of
    some scripts (ZWNJ, ZWJ) stays."""
    if unicodedata.category(c) not in ("Cc", "Cf", "Cs") or c in "\u200c\u200d":
        return c
    return f"\\x{ord(c):02x}" if ord(c) < 256 else f"\\u{ord(c):04x}"


def as_the_system_has_it(text: str) -> str:
    r"""The inverse of `readable` for names of files: \xNN is the byte again, as Python hands it to the system."""
    return re.sub(r"\\x([89a-f][0-9a-f])", lambda match: chr(0xDC00 + int(match[1], 16)), text)


def bytes_in_words(count: int) -> str:
    """A number of bytes as people say it: 820 MB, 1.6 GB."""
    value, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "bytes" or value >= 10 else f"{value:.1f} {unit}"
