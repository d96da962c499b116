"""What an image file may be: a regular file, of so many bytes and pixels. Nothing else is opened, or decoded."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from vtbench.types.errors import VtbenchError

PIXEL_LIMIT = 1 << 28
"""268 million pixels (16,384 x 16,384), 805 MB as RGB: above every photograph that is scored, below a bomb."""
FILE_LIMIT = 1 << 30
"""Bytes of one image file (1 GiB): above PIXEL_LIMIT pixels of 8-bit RGB without any compression."""
_KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


class BadImage(VtbenchError):
    """A file that is no image, or half of one, or over the limit."""


def within_limit(width: int, height: int, name: str) -> None:
    """Refuses a picture of more pixels than the limit, by its header."""
    if width * height > PIXEL_LIMIT:
        raise BadImage(f"{name} is refused: {width} x {height} pixels, the limit is {PIXEL_LIMIT}: cut or shrink it")


def within_file_limit(size: int, name: str) -> None:
    """Refuses a file, or a member of an archive, of more bytes than the limit."""
    if size > FILE_LIMIT:
        raise BadImage(f"{name} is refused: it has {size} bytes, the limit of an image file is {FILE_LIMIT}: shrink it")


def open_regular(path: Path, name: str) -> BinaryIO:
    """The file, open for reading. Raises BadImage for what is no regular file or over the limit, without opening it (a
    pipe would be waited for, a device may never end); OSError as `open` does."""
    _check(path.stat(), name)
    # It may have become a pipe in between: that would be opened without waiting, and refused by what it is.
    source = open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0)))  # noqa: SIM115
    try:
        _check(os.fstat(source.fileno()), name)
    except BadImage:
        source.close()
        raise
    return source


def read_regular(path: Path, name: str) -> bytes:
    """The bytes of a file that `open_regular` opens."""
    with open_regular(path, name) as source:
        return source.read()


def inside(path: Path, folders: Iterable[Path]) -> bool:
    """Whether a path, links followed, lies in one of the folders: what somebody else wrote may name nothing else."""
    try:
        real = path.resolve(strict=True)
        return any(real.is_relative_to(folder.resolve()) for folder in folders)
    except (OSError, ValueError, RuntimeError):
        return False


def read_inside(stated: str, folders: Sequence[Path], name: str) -> bytes:
    """The bytes of a file that a record names, absolute or below one of its own `folders`. Raises BadImage for every
    other, whether it is there or not; OSError as `open` does."""
    for folder in folders:
        if "\0" not in stated and inside(path := folder / stated, folders):
            return read_regular(path, name)
    raise BadImage(
        f"{name} is said to be the file {stated[:200]!r}, which is none of its own data set's: it is not read"
    )


def _check(facts: os.stat_result, name: str) -> None:
    if not stat.S_ISREG(facts.st_mode):
        what = _KINDS.get(stat.S_IFMT(facts.st_mode), "a folder")
        raise BadImage(f"{name} is no regular file but {what}: replace or remove it")
    within_file_limit(facts.st_size, name)
