"""numpy's archives of arrays, opened for what they hold: what a header states is checked before room is made for it."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from vtbench.types.errors import VtbenchError
from vtbench.types.foreign import reading

if TYPE_CHECKING:
    import numpy as np

LARGEST = 1 << 30
"""Bytes that an archive may unfold to whatever its size; more only up to `RATIO` times its size."""
RATIO = 50
"""Numbers hardly compress; what unfolds to more than so many times its size was made to fill a memory."""


@dataclass(frozen=True)
class Header:
    """What an .npy says of itself."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(source: IO[bytes]) -> Header:
    """Reads the header; the file stands at the first value afterwards. Raises ValueError for what is none."""
    import numpy as np

    version = np.lib.format.read_magic(source)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    header = Header(*reader(source))
    if any(type(n) is not int or n < 0 for n in header.shape):
        raise ValueError(f"its shape is {header.shape}")
    return header


def read_array(source: IO[bytes], size: int) -> np.ndarray[Any, Any]:
    """The array of an .npy of `size` bytes, none of objects; Python's own unpickler is never asked."""
    import numpy as np

    header = read_header(source)
    if header.dtype.hasobject:
        raise ValueError("it holds Python objects, which are never unpickled")
    if header.size > size:
        raise ValueError(f"it states {header.size} bytes and has {size}")
    data = source.read(header.size)
    if len(data) < header.size:
        raise ValueError("it ends early")
    return np.frombuffer(data, header.dtype).reshape(header.shape, order="F" if header.fortran else "C")


def members(archive: zipfile.ZipFile, path: Path) -> list[zipfile.ZipInfo]:
    """The arrays of an archive, which is refused where they would unfold to far more than it holds."""
    parts = archive.infolist()
    size = sum(part.file_size for part in parts)
    if size > max(LARGEST, RATIO * path.stat().st_size):
        raise VtbenchError(f"{path} unfolds to {size} bytes, far more than its {path.stat().st_size} can hold: refused")
    return parts


def names_in_npz(path: Path) -> list[str]:
    """The members of an .npz: `arr_0.npy`, `mu.npy`, …"""
    with reading(path, ".npz"), zipfile.ZipFile(path) as archive:
        return archive.namelist()


def read_arrays(path: Path, names: Iterable[str]) -> dict[str, np.ndarray[Any, Any]]:
    """{name: array} of those of `names` that an .npz holds."""
    with reading(path, ".npz"), zipfile.ZipFile(path) as archive:
        wanted = {f"{name}.npy": name for name in names}
        out = {}
        for part in members(archive, path):
            if part.filename in wanted:
                with archive.open(part) as source:
                    out[wanted[part.filename]] = read_array(source, part.file_size)
        return out
