"""One image of a suite, as everybody names it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Item:
    """One image: `id` is its name in rows and pairs; `place` is where the suite finds its bytes.

    sha256_file and sha256_rgb (of shape and pixels, the one that decides) are None where no manifest states them.
    """

    id: str
    place: Any
    sha256_file: str | None = None
    sha256_rgb: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
