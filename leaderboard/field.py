"""The field as others state it, in our words: its systems, here or not, and published numbers that no card has."""

from __future__ import annotations

import csv
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ASTRAY = "average does not follow"
"""The note on such a line."""
DATA = Path(__file__).resolve().parent / "data"


@dataclass(frozen=True)
class System:
    """A published system. `families`: those of ours that hold it, of which some may be of a newer or older version;
    `reason`: why it cannot be run where none of them is registered."""

    name: str
    modality: str
    families: tuple[str, ...]
    reason: str
    repository: str
    """owner/name on GitHub; empty where there is none."""

    def here(self, registered: Collection[str]) -> tuple[str, ...]:
        return tuple(name for name in self.families if name in registered)


@dataclass(frozen=True)
class Reduction:
    """Scores that were printed of one method of token reduction at one budget, as {benchmark: score}."""

    method: str
    model: str
    kept: str
    of: str
    scores: tuple[tuple[str, str], ...]
    printed_average: str
    recomputed_average: str
    source: str
    whose: str
    """own: the method's authors' result; copied: by others, of others; re-run: by others, with the method's code;
    read second hand: in a note on the paper."""
    note: str

    @property
    def astray(self) -> bool:
        """Whether the printed average is not that of the scores that are printed beside it."""
        return self.note == ASTRAY


@dataclass(frozen=True)
class Elsewhere:
    """Numbers that were printed of a system, or a setting, of which no card here is: {metric: value as printed}."""

    system: str
    conditions: str
    numbers: tuple[tuple[str, str], ...]
    source: str
    note: str


def _lines(file: str) -> list[dict[str, str]]:
    with (DATA / file).open(encoding="utf-8", newline="") as source:
        return list(csv.DictReader(source))


def _pairs(cell: str) -> tuple[tuple[str, str], ...]:
    """From "GQA=61.9; MMB=64.7"."""
    return tuple((name, value) for name, _, value in (pair.rpartition("=") for pair in cell.split("; ")))


@cache
def elsewhere() -> tuple[Elsewhere, ...]:
    """Published numbers that no card has."""
    return tuple(
        Elsewhere(r["system"], r["conditions"], _pairs(r["numbers"]), r["source"], r["note"])
        for r in _lines("claims.csv")
    )


@cache
def systems() -> tuple[System, ...]:
    """Every system of the field that we know of, by name."""
    return tuple(
        System(r["system"], r["modality"], tuple(r["families"].split()), r["reason"], r["repository"])
        for r in _lines("systems.csv")
    )


@cache
def reductions() -> tuple[Reduction, ...]:
    """Published numbers of reducers, in the order of their sources."""
    return tuple(
        Reduction(
            r["method"],
            r["model"],
            r["kept"],
            r["of"],
            _pairs(r["scores"]),
            r["printed_average"],
            r["recomputed_average"],
            r["source"],
            r["whose"],
            r["note"],
        )
        for r in _lines("reduction.csv")
    )
