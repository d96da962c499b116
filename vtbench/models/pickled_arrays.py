"""numpy arrays in pickles, rebuilt from their bytes by this file's own constructors: nothing of a pickle runs."""

from __future__ import annotations

import contextlib
import contextvars
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

PLAIN = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1")
"""numpy's short names of the numbers that are also torch's; objects, texts and records are none."""


_left: contextvars.ContextVar[int] = contextvars.ContextVar("bytes left", default=0)


@contextlib.contextmanager
def room_for(size: int) -> Iterator[None]:
    """While a file of `size` bytes is read: what is built of it may take a few times as much, and no more. A pickle may
    build a large array as often as it likes from bytes that stand in it once."""
    before = _left.set(ROOM * size + SMALL)
    try:
        yield
    finally:
        _left.reset(before)


def take_room(size: int) -> None:
    """Called before `size` bytes are built."""
    left = _left.get() - size
    if left < 0:
        raise ValueError("it builds many times what it holds")
    _left.set(left)


ROOM = 4
SMALL = 1 << 20
"""Bytes."""


class PickledDtype:
    """Stands for numpy.dtype: its short name, and the order of its bytes."""

    def __init__(self, text: Any = "", *_: Any) -> None:
        self.text, self.order = str(text), "="

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|", "="):
            self.order = state[1]


class PickledArray:
    """Stands for numpy.ndarray: `tensor` where it holds plain numbers, else `items`, its objects."""

    def __init__(self, *_: Any) -> None:
        self.tensor: torch.Tensor | None = None
        self.items: list[Any] = []

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) == 5:
            _, shape, dtype, fortran, content = state
            if isinstance(content, list):
                self.items = content
            else:
                self.tensor = _tensor(content, dtype, shape, "F" if fortran else "C")


def _tensor(content: Any, dtype: Any, shape: Any, order: str) -> torch.Tensor | None:
    """The numbers as a tensor of its own; None where these are no plain numbers, or not so many."""
    import numpy as np
    import torch

    if not isinstance(content, bytes | bytearray) or not isinstance(dtype, PickledDtype) or dtype.text not in PLAIN:
        return None
    if not isinstance(shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in shape):
        return None
    kind = np.dtype(f"{dtype.order if dtype.order in ('<', '>') else '='}{dtype.text}")
    if len(content) != math.prod(shape) * kind.itemsize:
        return None
    take_room(len(content))
    array = np.frombuffer(content, dtype=kind).reshape(shape, order="F" if order == "F" else "C")
    return torch.from_numpy(np.array(array, dtype=kind.newbyteorder("="), order="C"))


def _reconstruct(*_: Any) -> PickledArray:
    return PickledArray()


def _frombuffer(content: Any = None, dtype: Any = None, shape: Any = None, order: Any = "C", *_: Any) -> PickledArray:
    array = PickledArray()
    array.tensor = _tensor(content, dtype, shape, str(order))
    return array


def _encode(text: Any = "", *_: Any) -> bytes | None:
    """How protocols before 3 keep bytes: as the characters of the same numbers."""
    if not isinstance(text, str):
        return None
    take_room(len(text))
    return text.encode("latin1")


CONSTRUCTORS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "dtype"): PickledDtype,
    ("_codecs", "encode"): _encode,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _frombuffer for core in ("core", "_core")},
}
"""(module, name) in a pickle -> what is called in its place, in numpy before 2 and since."""
