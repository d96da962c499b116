"""Values of images by their place in a list: what a mean is paired by, 24 bytes an image."""

from __future__ import annotations

import math
from array import array
from collections.abc import Collection, Iterator


class Column(Collection[int]):
    """One value and weight of each of so many images. It is the collection of the places that have a value, in the
    order in which they came; `why` says of others that were measured why they have none."""

    def __init__(self, images: int) -> None:
        self.values, self.weights = array("d", [math.nan]) * images, array("d", [1.0]) * images
        self.why: dict[int, str] = {}
        self._places = array("q")

    def add(self, place: int, value: float | None, weight: float = 1.0, why: str | None = None) -> None:
        if value is None:
            self.why[place] = why or "not measured"
            return
        if place not in self:
            self._places.append(place)
        self.values[place], self.weights[place] = value, weight

    def in_order(self) -> Column:
        """The same, its places from the first on."""
        self._places = array("q", sorted(self._places))
        return self

    def measured(self, place: int) -> bool:
        """Whether the image has a value, or a reason for having none."""
        return place in self or place in self.why

    def mean(self) -> float | None:
        """Of the values by their weights; None where these are nothing."""
        total = sum(self.weights[place] for place in self)
        return sum(self.values[place] * self.weights[place] for place in self) / total if total > 0 else None

    def __contains__(self, place: object) -> bool:
        return isinstance(place, int) and not math.isnan(self.values[place])

    def __iter__(self) -> Iterator[int]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
