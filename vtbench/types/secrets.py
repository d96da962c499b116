"""Keys and tokens: whoever needs one asks here, and from then on no sentence and no record shows it.

A server that is given a key may send it back, whole or cut, as it is or encoded; what it says becomes the reason of a
missing number, which is printed, kept and published.
"""

from __future__ import annotations

import base64
import functools
import html
import json
import os
import urllib.parse
from collections.abc import Iterator

SHORTEST = 8
"""Characters. Shorter values are no secrets: `EMPTY` and `none` are what servers without keys are told."""
PIECE = 8
"""Characters of a secret that are looked for at a time: a part of 15 holds one of its pieces whole."""
PART = 12
"""Characters in a row that count as a part of a secret; fewer may be the prefix that all keys of a kind have."""

_hidden: dict[str, str] = {}
"""{value: name of its variable}"""


def secret(variable: str) -> str | None:
    """The environment variable's value without the space around it, hidden from now on; None where it has none."""
    value = os.environ.get(variable, "").strip()
    if len(value) >= SHORTEST:
        _hidden[value] = variable
    return value or None


def redacted(text: str) -> str:
    """The text with every secret in it, and every longer part of one, written as the name of its variable."""
    for value, name in _hidden.items():
        for form in _forms(value):
            if any(piece in text for piece in _pieces(form)):
                text = _without(text, form, f"[{name}]")
    return text


@functools.lru_cache(maxsize=64)
def _forms(value: str) -> tuple[str, ...]:
    """A secret as it is, and as answers and errors may quote it."""
    quoted = [value, urllib.parse.quote(value, safe=""), json.dumps(value)[1:-1], html.escape(value), repr(value)[1:-1]]
    return tuple(dict.fromkeys([*quoted, value.lower(), value.upper(), value[::-1], *_in_base64(value)]))


def _in_base64(value: str) -> Iterator[str]:
    """What base64 makes of the secret wherever in a text it begins, without the characters that its neighbours share;
    and its bytes as hexadecimal digits."""
    data = value.encode()
    for before in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            whole = encode(b"\0" * before + data).decode().rstrip("=")
            yield whole[-(-before * 8 // 6) : (before + len(data)) * 8 // 6]
    yield data.hex()


@functools.lru_cache(maxsize=1024)
def _pieces(form: str) -> tuple[str, ...]:
    if len(form) < PART:
        return (form,)
    return tuple(form[start : start + PIECE] for start in range(0, len(form) - PIECE + 1, PIECE))


def _without(text: str, form: str, mark: str) -> str:
    """`text` with each run of at least PART characters of `form` (or all of a shorter one) as `mark`."""
    least = min(PART, len(form))
    out: list[str] = []
    place = 0
    while place < len(text):
        length = _common(text, place, form, least)
        out.append(mark if length else text[place])
        place += max(1, length)
    return "".join(out)


def _common(text: str, place: int, form: str, least: int) -> int:
    """How many characters from `place` on stand in `form` in a row; 0 if fewer than `least`."""
    if len(text) - place < least or text[place : place + least] not in form:
        return 0
    length = least
    while place + length < len(text) and text[place : place + length + 1] in form:
        length += 1
    return length
