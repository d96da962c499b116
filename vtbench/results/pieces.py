"""Long JSON, a piece at a time: rows that are read when asked for are never all in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from vtbench.results.files import plain
from vtbench.types.anew import Anew
from vtbench.types.readable import readable

LONG = 1 << 16
"""Characters that are handed on at a time."""


def pieces(value: Any) -> Iterator[str]:
    """The text of `write_json` in pieces of some length. Of an `Anew` one element is made after the other; everything
    else is looked at first, so that what JSON cannot hold is refused before a piece is given."""
    return _joined(_pieces(_settled(value), 0))


def _settled(value: Any) -> Any:
    """As `plain`, each `Anew` as it is."""
    if isinstance(value, Anew):
        return value
    if isinstance(value, Mapping):
        return {readable(str(k)): _settled(value[k]) for k in value.keys()}  # noqa: SIM118
    if isinstance(value, list | tuple):
        return [_settled(v) for v in value]
    return plain(value)


def _pieces(value: Any, depth: int) -> Iterator[str]:
    """The text of a value that stands at this depth."""
    if not _holds_anew(value) or not len(value):
        yield _whole([] if isinstance(value, Anew) else value, depth)
        return
    between = "\n" + " " * (depth + 1)
    parts = value.items() if isinstance(value, Mapping) else ((None, part) for part in value)
    yield "{" if isinstance(value, Mapping) else "["
    for number, (key, part) in enumerate(parts):
        yield ("," if number else "") + between + ("" if key is None else f"{json.dumps(key, ensure_ascii=False)}: ")
        yield from _pieces(plain(part) if isinstance(value, Anew) else part, depth + 1)
    yield between[:-1] + ("}" if isinstance(value, Mapping) else "]")


def _holds_anew(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_holds_anew, value.values()))
    return isinstance(value, Anew) or (isinstance(value, Sequence) and any(map(_holds_anew, _parts(value))))


def _parts(value: Sequence[Any]) -> Sequence[Any]:
    return () if isinstance(value, str) else value


def _whole(value: Any, depth: int) -> str:
    text = json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False)
    # A text within it has no line breaks of its own: they are escaped.
    return text.replace("\n", "\n" + " " * depth) if depth else text


def _joined(parts: Iterable[str]) -> Iterator[str]:
    waiting, length = list[str](), 0
    for part in parts:
        waiting.append(part)
        length += len(part)
        if length >= LONG:
            yield "".join(waiting)
            waiting, length = [], 0
    yield "".join(waiting)
