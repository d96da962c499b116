"""Files of the Hugging Face hub's cache: what the hub states of each, and whether it is that.

The cache keeps a file under the digest that the hub states for it, and a link of the file's own name beside: the sha256
of a large one (LFS), git's sha1 of a small one. Where links cannot be made, nothing is stated.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from vtbench.models.downloads import digests
from vtbench.types.errors import VtbenchError

LINKS = 8
"""Links that are followed to a file of the cache; a blob may itself be a link into a store that repositories share."""
STATED = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
SHA256 = 64
"""Digits of a sha256; git's sha1 has 40."""
BLOCK = 1 << 20
"""Bytes that are read at a time."""


class Damaged(VtbenchError):
    """A file of the hub's cache is not what the hub states. file: its link; blob: where it lies."""

    def __init__(self, file: Path, wanted: str, digest: str) -> None:
        self.file, self.blob, self.differs = file, file.resolve(), f"sha256 {digest[:12]}…, the hub states {wanted}"
        super().__init__(
            f"{file.name} of the hub's cache has {self.differs}: delete {self.blob} and run the command again"
        )


def stated(path: Path) -> str | None:
    """The digest that the hub states for a file of its cache: 64 digits of sha256, or 40 of git's sha1."""
    for _ in range(LINKS):
        if not path.is_symlink():
            return None
        path = path.parent / os.readlink(path)
        # Not `resolve`: what lies behind the blob has the name of another digest.
        if path.parent.name == "blobs" and STATED.fullmatch(path.name):
            return path.name
    return None


def verified(place: Path, sums: Mapping[str, str]) -> bool:
    """True if the hub states a digest of every file, and all are that. sums: `digests(place)`, a file's or a folder's.

    Raises Damaged where a file's sha256 is another than the one stated.
    """
    return bool(sums) and all([_is_stated(place / name if place.is_dir() else place, d) for name, d in sums.items()])


def _is_stated(path: Path, digest: str) -> bool:
    wanted = stated(path)
    if wanted is None:
        return False
    if len(wanted) == SHA256 and wanted != digest:
        raise Damaged(path, wanted, digest)
    # A mirror may state a sha1 that is not git's: that says nothing of the file.
    return wanted == digest or _git_sha1(path) == wanted


def _git_sha1(path: Path) -> str:
    """What git calls a file's contents: sha1 over "blob", their length and the bytes."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as source:
        while block := source.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def refuse_damaged(place: Path) -> None:
    """Deletes the file that has just come from the hub and is not what the hub states, and raises VtbenchError."""
    try:
        verified(place, digests(place))
    except Damaged as bad:
        bad.file.unlink(missing_ok=True)
        bad.blob.unlink(missing_ok=True)
        raise VtbenchError(
            f"{bad.file.name} came with {bad.differs}: the file was deleted; try again, or ask who keeps the mirror"
        ) from bad
