"""What the files of a suite hold: sha256 of every item's bytes, remembered for as long as a file stays as it was.

Two folders alike in names, sizes and times may hold other pictures, and a copy elsewhere holds the same: only the bytes
tell. Reading them takes as long as the disk does, so a digest is kept in the cache under the file's path, size, times
of change and inode; whoever changes a file's bytes changes one of these.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from vtbench.images.ahead import in_batches, read_ahead
from vtbench.images.limits import FILE_LIMIT
from vtbench.types.environment import cache_dir
from vtbench.types.file_facts import YOUNG, age
from vtbench.types.shortage import refuse_shortage

Extent = tuple[int, int]
"""Where an item lies in its file: (offset, length in bytes)."""
WHOLE: Extent = (0, -1)
"""The whole file is the item."""
Chunk = Sequence[tuple[str, Sequence[Extent]]]
"""Files with the extents of their items."""
UNREADABLE = "unreadable"
"""Stands for the digest of what cannot be read; never remembered."""
RULE = 1
"""Goes up when what is remembered comes to mean something else."""
THREADS = 4
ITEMS_AT_ONCE = 64


def digests(files: Iterable[tuple[str, Sequence[Extent]]], root: Path) -> Iterator[str]:
    """sha256 of every item of `files`, in order, as 64 hexadecimal digits, or UNREADABLE. `files`: (path, extents of
    its items); what is known is remembered for all files of `root` together. A file that takes longer than
    `ahead.PATIENCE` is one that cannot be read."""
    memory = Memory(root)
    for chunk in _read(_chunks(files), memory):
        memory.keep(chunk)
        yield from (sha256 for sha256, _ in chunk)


def _read(chunks: Iterable[Chunk], memory: Memory) -> Iterator[list[Digest]]:
    """The digests of every portion. A file whose disk does not answer is UNREADABLE, and those beside it are not."""

    def read(chunk: Chunk) -> list[Digest]:
        return [digest for path, extents in chunk for digest in _of_file(path, extents, memory)]

    def late(chunk: Chunk) -> list[Digest]:
        if len(chunk) == 1:
            return [(UNREADABLE, None)] * len(chunk[0][1])
        return [digest for one in _read([[file] for file in chunk], memory) for digest in one]

    return read_ahead(read, chunks, most=2 * THREADS, threads=THREADS, name="hash", late=late)


def _chunks(files: Iterable[tuple[str, Sequence[Extent]]]) -> Iterator[Chunk]:
    """The files in portions of a few items, so that neither 50,000 small files nor one large shard are one step."""
    chunk: list[tuple[str, Sequence[Extent]]] = []
    items = 0
    for path, extents in files:
        for part in in_batches(extents, ITEMS_AT_ONCE):
            chunk.append((path, part))
            items += len(part)
            if items >= ITEMS_AT_ONCE:
                yield chunk
                chunk, items = [], 0
    if chunk:
        yield chunk


Digest = tuple[str, str | None]
"""(sha256, the key under which it is to be remembered or None)."""


class Memory:
    """Digests of the files below one root, in one file of the cache: a line a digest, `key sha256 check`.

    Several processes may append at once; a line that was torn or damaged is passed over, as its check shows. What
    cannot be written is not remembered.
    """

    def __init__(self, root: Path) -> None:
        name = hashlib.sha256(os.fsencode(os.path.abspath(root))).hexdigest()[:32]
        self._file = cache_dir() / "hashes" / f"{name}.txt"
        self._known = dict(self._lines())

    def _lines(self) -> Iterator[tuple[str, str]]:
        with contextlib.suppress(OSError), self._file.open(encoding="ascii", errors="replace") as source:
            for line in source:
                match = re.fullmatch(r"([0-9a-f]{32}) ([0-9a-f]{64}) ([0-9a-f]{16})\n", line)
                if match and match[3] == _check(match[1], match[2]):
                    yield match[1], match[2]

    def get(self, key: str) -> str | None:
        return self._known.get(key)

    def keep(self, digests: Iterable[Digest]) -> None:
        """Appends what is to be remembered."""
        lines = "".join(f"{key} {sha256} {_check(key, sha256)}\n" for sha256, key in digests if key is not None)
        if not lines:
            return
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            # One unbuffered write in append mode: lines of other processes are not torn apart.
            with self._file.open("ab", buffering=0) as out:
                out.write(lines.encode("ascii"))


def _check(key: str, sha256: str) -> str:
    """What shows that a line of the memory is as it was written: 16 hexadecimal digits."""
    return hashlib.blake2b(f"{key} {sha256}".encode(), digest_size=8).hexdigest()


def _of_file(path: str, extents: Sequence[Extent], memory: Memory) -> list[Digest]:
    try:
        facts = os.stat(path)
        # What the reader refuses is not read for its digest either: a sparse file may state a terabyte.
        largest = max(facts.st_size if extent == WHOLE else extent[1] for extent in extents)
        if not stat.S_ISREG(facts.st_mode) or largest > FILE_LIMIT:
            return [(UNREADABLE, None)] * len(extents)
        known = [memory.get(key) for key in _keys(path, facts, extents)]
        whole = [sha256 for sha256 in known if sha256 is not None]
        if len(whole) == len(extents):
            return [(sha256, None) for sha256 in whole]
        with open(path, "rb") as source:
            before = os.fstat(source.fileno())
            # Taken before the first byte is read: a change that comes later has later times.
            old = age(before) >= YOUNG
            read = [_sha256(source, extent) for extent in extents]
            stayed = _same(before, os.fstat(source.fileno()))
    except OSError as bad:
        refuse_shortage(bad, path)
        return [(UNREADABLE, None)] * len(extents)
    keys = _keys(path, before, extents)
    return [(d, key if old and stayed and d != UNREADABLE else None) for d, key in zip(read, keys, strict=True)]


def _keys(path: str, facts: os.stat_result, extents: Sequence[Extent]) -> list[str]:
    """The names under which a file's digests are remembered: 32 hexadecimal digits each."""
    times = f"{facts.st_size}\0{facts.st_mtime_ns}\0{facts.st_ctime_ns}\0{facts.st_ino}"
    file = hashlib.blake2b(os.fsencode(os.path.abspath(path)) + f"\0{RULE}\0{times}".encode(), digest_size=16)
    keys = []
    for offset, length in extents:
        one = file.copy()
        one.update(f"\0{offset}\0{length}".encode())
        keys.append(one.hexdigest())
    return keys


def _same(a: os.stat_result, b: os.stat_result) -> bool:
    return (a.st_size, a.st_mtime_ns, a.st_ctime_ns) == (b.st_size, b.st_mtime_ns, b.st_ctime_ns)


def _sha256(source: io.BufferedReader, extent: Extent) -> str:
    if extent == WHOLE:
        return hashlib.file_digest(source, "sha256").hexdigest()
    offset, length = extent
    source.seek(offset)
    data = source.read(length)
    return hashlib.sha256(data).hexdigest() if len(data) == length else UNREADABLE
