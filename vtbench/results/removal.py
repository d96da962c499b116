"""Deleting a run: only what is one, whole, and nobody is writing."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from vtbench.results.folder import FEATURES, FILES, INFO, RunFolder
from vtbench.results.record import read_info
from vtbench.types.errors import VtbenchError

FOLDERS = frozenset((FEATURES, "samples", "images", "generated"))
"""All that a run's folder holds; anything else is somebody's own."""


def disk_use(folder: Path) -> int:
    """Bytes of the files at or below a folder; links are not followed."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(place, name)).st_size
    return total


def remove_run(path: Path) -> int:
    """Deletes the run in `path`; returns the bytes that it took. Raises VtbenchError, and deletes nothing, if the path
    is a link or no run, if another process is writing it, or if it holds what vtbench did not write."""
    path = Path(os.path.abspath(path.expanduser()))
    if path.is_symlink():
        raise VtbenchError(f"{path} is a link: give the run's folder itself, or remove the link by hand")
    if not path.is_dir() or not os.path.lexists(path / INFO):
        raise VtbenchError(f"{path} is no run (it holds no {INFO}): nothing was deleted")
    if (path / INFO).is_symlink() or not (path / INFO).is_file():
        raise VtbenchError(f"{path / INFO} is no file of its own, so this is no run as vtbench writes it: left alone")
    # A record that cannot be read may be anybody's run.json.
    read_info(path / INFO)
    foreign = sorted(p.name for p in path.iterdir() if not _is_ours(p))
    if foreign:
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        raise VtbenchError(
            f"{path} holds {', '.join(foreign[:3])}{more}, which vtbench did not write: move that away; nothing "
            "was deleted"
        )
    with RunFolder(path) as folder:
        freed = disk_use(path)
        folder.remove()
    return freed


def _is_ours(path: Path) -> bool:
    """Whether a run's folder holds this by itself; what is being written has a dot and a file's name in front."""
    if path.is_symlink():
        return False
    if path.is_dir():
        return path.name in FOLDERS
    return path.name in FILES or path.name.startswith((".rows.", *(f".{name}." for name in FILES)))
