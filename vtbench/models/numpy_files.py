"""numpy's files as checkpoints: an .npz of named arrays, or an .npy whose one object is a dictionary of them."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from vtbench.models.pickles import read_plain_pickle
from vtbench.types.errors import VtbenchError

if TYPE_CHECKING:
    import torch

START = b"\x93NUMPY"
LARGEST = 1 << 30
"""Bytes that an archive may unfold to whatever its size; more only up to `RATIO` times its size."""
RATIO = 50
"""Weights hardly compress; what unfolds to more than so many times its size was made to fill a memory."""


def is_numpy(path: Path, start: bytes) -> bool:
    """Whether a file is numpy's: by its first bytes, or as a zip of .npy files."""
    if start.startswith(START):
        return True
    if not start.startswith(b"PK") or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return bool(names) and all(name.endswith(".npy") for name in names)


def read_numpy(path: Path) -> Any:
    """{name: tensor} of an .npz, or what the one array of an .npy holds; nothing in it runs."""
    try:
        if not zipfile.is_zipfile(path):
            with path.open("rb") as source:
                return _array(source, path.stat().st_size, path)
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            size = sum(part.file_size for part in parts)
            if size > max(LARGEST, RATIO * path.stat().st_size):
                raise VtbenchError(f"{path} unfolds to {size} bytes, far more than weights would: refused")
            out = {}
            for part in parts:
                with archive.open(part) as source:
                    out[part.filename.removesuffix(".npy")] = _array(source, part.file_size, path)
            return out
    except VtbenchError:
        raise
    except Exception as bad:
        raise VtbenchError(f"{path} cannot be read as numpy's ({type(bad).__name__}: {bad}): it is damaged") from bad


def _array(source: IO[bytes], size: int, path: Path) -> torch.Tensor | Any:
    """One .npy of `size` bytes: numbers as a tensor, an object as what it holds."""
    import numpy as np
    import torch
    from numpy.lib import format as npy

    major, _ = npy.read_magic(source)
    read_header = npy.read_array_header_1_0 if major == 1 else npy.read_array_header_2_0
    shape, fortran, dtype = read_header(source)
    if dtype.hasobject:
        return read_plain_pickle(source)
    count = math.prod(shape)
    if dtype.kind not in "fiub" or count * dtype.itemsize > size:
        raise VtbenchError(
            f"{path} holds an array of {dtype} and shape {list(shape)}, which is none of numbers it holds"
        )
    array = np.frombuffer(source.read(count * dtype.itemsize), dtype=dtype).reshape(
        shape, order="F" if fortran else "C"
    )
    return torch.from_numpy(np.array(array, dtype=dtype.newbyteorder("="), order="C"))
