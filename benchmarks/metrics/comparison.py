"""One number of ours against one that was computed in another way, and how both are shown."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

NUMPY = f"written out, numpy {np.__version__}"
FLOATS = "float64 both"


@dataclass(frozen=True)
class Comparison:
    """One metric against its reference.

    `difference`: the largest seen, in the metric's unit, or relative to the reference's value; over `tolerance` it is a
    defect. `on`: what both were computed on. `reason`: why there is a difference at all.
    """

    metric: str
    reference: str
    on: str
    difference: float
    tolerance: float
    reason: str
    relative: bool = False

    @property
    def ok(self) -> bool:
        return self.difference <= self.tolerance


def version(package: str) -> str:
    """The package's name and installed version."""
    return f"{package} {importlib.metadata.version(package)}"


def largest(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The largest difference of two numbers of one place."""
    return max(abs(a - b) for a, b in zip(ours, theirs, strict=True))


def relative(ours: float, theirs: float) -> float:
    """The difference relative to their number."""
    return abs(ours / theirs - 1)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """A Markdown table."""

    def line(cells: Sequence[Any]) -> str:
        return "| " + " | ".join(str(c).replace("|", "\\|") for c in cells) + " |"

    return [line(head), "|" + "---|" * len(head), *(line(r) for r in rows), ""]
