"""Which images several runs have in common, and whether they are the same pictures: what a comparison pairs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from vtbench.reporting.image_values import ImageValues, Places, numbered, places_of
from vtbench.reporting.measured import metric_card
from vtbench.reporting.runs import kind
from vtbench.reporting.values import finite
from vtbench.results.record import Run
from vtbench.statistics.intervals import Bounds


def _nowhere() -> Places:
    return np.zeros(0, dtype=np.intp)


@dataclass(frozen=True)
class System:
    """One run of a comparison."""

    name: str
    values: ImageValues
    run: Run
    numbers: Places = field(default_factory=_nowhere)
    """What the images of its rows are called, in order."""
    places: Places = field(default_factory=_nowhere)
    """Where its rows have each of the images, all systems' in one order; -1 where they do not."""
    order: Places = field(default_factory=_nowhere)
    """Of the images that are compared, those that its rows name first, first."""

    def in_order(self, images: NDArray[np.bool_]) -> Places:
        """`order` of these of all images."""
        return np.argsort(places_of(self.numbers, len(images), last=False)[images], kind="stable")

    def bounds(self, metric: str) -> Bounds:
        """What the metric can be, as the run's record of it says."""
        card = metric_card(self.run, metric)
        low, high = (finite(end) for end in card.bounds) if card is not None and len(card.bounds) == 2 else (None, None)
        return low, high


def placed(systems: Sequence[System]) -> list[System]:
    """The systems with the numbers and the places of all their images."""
    numbers, count = numbered([system.values for system in systems])
    return [replace(s, numbers=of, places=places_of(of, count)) for s, of in zip(systems, numbers, strict=True)]


def other_pictures(systems: Sequence[System]) -> NDArray[np.bool_]:
    """Images whose originals are not the same pixels in all runs that state them; a generator's have no original."""
    known = np.zeros(len(systems[0].places), dtype=np.uint64)
    out = np.zeros(len(known), dtype=np.bool_)
    for system in (system for system in systems if kind(system.run) != "generator"):
        pictures, rest = system.values.picture_codes(), np.arange(len(system.values))
        # Once for most runs: a name that several rows have is looked at row by row.
        while len(rest):
            first = np.unique(system.numbers[rest], return_index=True)[1]
            images, codes = system.numbers[rest[first]], pictures[rest[first]]
            before = known[images]
            out[images] |= (before != 0) & (codes != 0) & (before != codes)
            known[images] = np.where(before == 0, codes, before)
            rest = np.delete(rest, first)
    return out


def first_name(systems: Sequence[System], images: NDArray[np.bool_]) -> str | None:
    """Of these images the name that sorts first; None where there are none."""
    names = (system.values.items.of(np.flatnonzero(images[system.numbers])) for system in systems)
    return min(itertools.chain.from_iterable(names), default=None)
