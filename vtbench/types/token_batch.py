"""What the three kinds of tokens share: the interface, and the refusal of what nobody counts."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vtbench.types.errors import VtbenchError

if TYPE_CHECKING:
    import numpy as np


class Tokens(ABC):
    """A batch of B images as tokens; `size` is (height, width) of the image to return, in pixels."""

    size: tuple[int, int]

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def bits(self) -> np.ndarray[Any, Any]:
        """Bits of every image under a flat prior, (B,) float64."""

    @abstractmethod
    def layout(self) -> dict[str, Any]:
        """All that a decoder can read and that `bits` does not count, as JSON: equal for all images of one size."""

    @abstractmethod
    def pack(self) -> list[bytes]:
        """One self-describing blob per image."""

    @abstractmethod
    def __getitem__(self, index: int) -> Tokens:
        """Image `index` as a batch of one."""

    @staticmethod
    @abstractmethod
    def join(parts: Sequence[Any]) -> Tokens:
        """The parts' images as one batch; they must have one size and layout."""

    @property
    @abstractmethod
    def positions(self) -> list[int | None]:
        """Tokens of every image, as papers count them; None where the word has no meaning (a bitstream)."""


def whole(what: str, numbers: Any) -> tuple[int, ...]:
    """The numbers as Python's own, each at least 1: nothing rides on a type of somebody's."""
    try:
        out = tuple(operator.index(n) for n in numbers)
    except TypeError as bad:
        raise VtbenchError(f"{what} of the tokens is {numbers!r}; give whole numbers") from bad
    if any(n < 1 for n in out):
        raise VtbenchError(f"{what} of the tokens is {out}; give whole numbers of at least 1")
    return out


def pair(what: str, numbers: Any) -> tuple[int, int]:
    out = whole(what, numbers)
    if len(out) != 2:
        raise VtbenchError(f"{what} of the tokens is {out}; give (height, width)")
    return out[0], out[1]


def alike(parts: Sequence[Any]) -> Any:
    """The first of the parts, which must differ in nothing but what is counted for each."""
    first = parts[0]
    for other in parts[1:]:
        if other.layout() != first.layout() or getattr(other, "note", "") != getattr(first, "note", ""):
            raise VtbenchError(f"tokens of two layouts are no batch: {first.layout()} and {other.layout()}", code=1)
    return first
