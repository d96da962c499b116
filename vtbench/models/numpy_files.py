"""numpy's files as checkpoints: an .npz of named arrays, or an .npy whose one object is a dictionary of them."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from vtbench.images.npz import members, read_header
from vtbench.models.pickles import read_plain_pickle
from vtbench.types.errors import VtbenchError
from vtbench.types.foreign import reading

if TYPE_CHECKING:
    import torch

START = b"\x93NUMPY"


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
    with reading(path, "numpy's", "it is damaged"):
        if not zipfile.is_zipfile(path):
            with path.open("rb") as source:
                return _array(source, path.stat().st_size, path)
        with zipfile.ZipFile(path) as archive:
            out = {}
            for part in members(archive, path):
                with archive.open(part) as source:
                    out[part.filename.removesuffix(".npy")] = _array(source, part.file_size, path)
            return out


def _array(source: IO[bytes], size: int, path: Path) -> torch.Tensor | Any:
    """One .npy of `size` bytes: numbers as a tensor, an object as what it holds."""
    import numpy as np
    import torch

    header = read_header(source)
    if header.dtype.hasobject:
        return read_plain_pickle(source.read(size))
    if header.dtype.kind not in "fiub" or header.size > size:
        raise VtbenchError(
            f"{path} holds an array of {header.dtype} and shape {list(header.shape)}, which is none of numbers it holds"
        )
    array = np.frombuffer(source.read(header.size), dtype=header.dtype)
    array = array.reshape(header.shape, order="F" if header.fortran else "C")
    return torch.from_numpy(np.array(array, dtype=header.dtype.newbyteorder("="), order="C"))
