"""Sequences whose elements are made whenever they are asked for, so that no more than one of them need be in memory."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar, overload

T = TypeVar("T")


class Anew(Sequence[T]):
    """What a subclass gives is `at` and `__len__`; slices are lists. Changing an element changes nothing here."""

    @abstractmethod
    def at(self, index: int) -> T:
        """The element at `index`, from 0 to below the length."""

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self.at(k) for k in range(len(self))[index]]
        return self.at(range(len(self))[index])


class From(Anew[T]):
    """The elements of a sequence from one place on, none of them copied."""

    def __init__(self, whole: Sequence[T], first: int) -> None:
        self._whole, self._first = whole, first

    def __len__(self) -> int:
        return max(0, len(self._whole) - self._first)

    def at(self, index: int) -> T:
        return self._whole[self._first + index]

    def __iter__(self) -> Iterator[T]:
        return itertools.islice(self._whole, self._first, None)
