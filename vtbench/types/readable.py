"""Text that can be printed and kept in JSON, whatever a file system or a command line held."""

from __future__ import annotations

import re

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
