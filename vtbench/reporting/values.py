"""Values of a record that somebody else may have written: each is read as what it should be, or as missing."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any


def finite(value: Any) -> float | None:
    """A number that can be shown: None for null, text, NaN and infinities (a file from elsewhere may hold them)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def listed(value: Any) -> list[Any]:
    """A list as a record states it; empty where it states something else."""
    return list(value) if isinstance(value, (list, tuple)) else []


def mapping(value: Any) -> Mapping[str, Any]:
    """A section; empty for whatever is none."""
    return value if isinstance(value, Mapping) else {}


def text(value: Any) -> str | None:
    return None if value is None else str(value)


def whole_number(value: Any) -> int | None:
    number = finite(value)
    return None if number is None else int(number)


def known_fields(of: type, stated: Mapping[str, Any]) -> dict[str, Any]:
    """What a section says of a dataclass' fields; a later version may say more."""
    known = stated.keys()
    return {name: stated[name] for name in _names(of) if name in known}


@functools.cache
def _names(of: type) -> tuple[str, ...]:
    return tuple(f.name for f in fields(of))
