"""What the cache holds, and what of it may go: only what vtbench makes again by itself, never what somebody put there.

Every file carries a checksum, is written beside its place, flushed and renamed, and is read by somebody who has it open
or makes it anew: damage, a power cut, removing one at any moment, a cache that cannot be written, all that costs time
and never a number.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtbench.types.environment import cache_dir

MADE_AGAIN: Mapping[str, str] = {
    "features": "features of originals, for the next model",
    "hashes": "digests of suites' files",
    "names": "names and shapes of released weights",
    "readings": "texts that were read off images",
    "unfinished": "rows and features of commands that were stopped, from which they go on",
}
IN_WORK = "unfinished"
"""The one of them whose files grow while a command works."""
SUFFIXES = (".f32", ".txt", ".json")
"""Of the files in these folders; what is called otherwise is somebody's own."""
STAYS: Mapping[str, str] = {
    "weights": "checkpoints that were downloaded",
    "metrics": "weights of metrics' networks",
    "prompts": "prompts that were downloaded",
    "code": "digests of code that you have named yourself",
}
"""What `prune` leaves alone."""
DAY = 86_400.0
"""Seconds."""


@dataclass(frozen=True)
class CacheFile:
    """A file of the cache: its bytes, and when it was last of use (seconds since 1970)."""

    path: Path
    size: int
    used: float


@dataclass(frozen=True)
class Part:
    """One folder of the cache. oldest: when its least recently used file was of use; None where it is empty."""

    name: str
    what: str
    files: int
    size: int
    oldest: float | None
    pruned: bool
    """Whether `prune` looks at it."""


def write_cache(path: Path, content: Iterable[bytes]) -> bool:
    """Writes a file of the cache; False where that cannot be done, which costs time only. `content` may read from
    elsewhere: what it raises is raised."""
    name = ""
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            out = os.fdopen(handle, "wb")
        except OSError:
            return False
        with out:
            for block in content:
                try:
                    out.write(block)
                except OSError:
                    return False
            try:
                out.flush()
                os.fsync(out.fileno())
                os.replace(name, path)
            except OSError:
                return False
        name = ""
        return True
    finally:
        if name:
            with contextlib.suppress(OSError):
                os.unlink(name)


def write_checked(path: Path, value: Any) -> bool:
    """Keeps a value of JSON in the cache, with the sha256 of its text; False where that cannot be done."""
    text = json.dumps(value, ensure_ascii=True)
    return write_cache(path, [f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}".encode()])


def read_checked(path: Path) -> Any:
    """What `write_checked` kept; None where it is not there, cannot be read, or is not what was written."""
    try:
        stated, _, text = path.read_text(encoding="ascii").partition("\n")
        return json.loads(text) if hashlib.sha256(text.encode()).hexdigest() == stated else None
    except (OSError, ValueError, RecursionError):
        return None


def parts() -> list[Part]:
    """Every known folder of the cache."""
    out = []
    for known, pruned in ((MADE_AGAIN, True), (STAYS, False)):
        for name, what in known.items():
            files = list(_files(name))
            oldest = min((f.used for f in files), default=None)
            out.append(Part(name, what, len(files), sum(f.size for f in files), oldest, pruned))
    return out


def _files(name: str) -> Iterator[CacheFile]:
    """The regular files of one folder of the cache; links and what vanishes meanwhile are passed over."""
    root = cache_dir() / name
    if root.is_symlink():
        return
    for place, _, names in os.walk(root):
        for file in names:
            path = Path(place) / file
            with contextlib.suppress(OSError):
                facts = path.lstat()
                if stat.S_ISREG(facts.st_mode):
                    # Where reading leaves no time, that of writing stands; features renew it when they are used.
                    yield CacheFile(path, facts.st_size, max(facts.st_mtime, facts.st_atime))


@dataclass(frozen=True)
class Pruned:
    """Files that went, and their bytes; `left`: bytes of what stayed of the same kinds."""

    files: int
    size: int
    left: int


def prune(*, days: float | None = None, most: int | None = None, everything: bool = False, dry: bool = False) -> Pruned:
    """Removes what was of no use for `days`, and then the least recently used until at most `most` bytes are left;
    everything: all of it. Files that a process is writing (a day old at most) stay. dry: removes nothing."""
    now = time.time()
    files = sorted((f for name in MADE_AGAIN for f in _files(name) if _is_pruned(f, now)), key=lambda f: f.used)
    old = [f for f in files if everything or (days is not None and now - f.used >= days * DAY)]
    rest = files[len(old) :]
    excess = 0 if most is None else max(0, sum(f.size for f in rest) - most)
    while rest and excess > 0:
        excess -= rest[0].size
        old.append(rest.pop(0))
    gone = old if dry else list(_removed(old))
    return Pruned(len(gone), sum(f.size for f in gone), sum(f.size for f in files) - sum(f.size for f in gone))


def _is_pruned(file: CacheFile, now: float) -> bool:
    """Whether vtbench wrote it, and is not writing it: such files begin with a dot or `tmp`, or are unfinished work."""
    if file.path.name.startswith((".", "tmp")) or cache_dir() / IN_WORK in file.path.parents:
        return now - file.used >= DAY
    return file.path.suffix in SUFFIXES


def _removed(files: Iterable[CacheFile]) -> Iterator[CacheFile]:
    for file in files:
        with contextlib.suppress(OSError):
            # Whoever used it since it was listed keeps it.
            facts = file.path.lstat()
            if max(facts.st_mtime, facts.st_atime) <= file.used:
                file.path.unlink()
                yield file
