"""A file by its address: with a bar, resumed where an earlier try stopped, verified before it gets its name, and once
for all processes that want it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from vtbench.images import web
from vtbench.models.terminal import console
from vtbench.results.files import flushed
from vtbench.types.errors import Unavailable, VtbenchError
from vtbench.types.foreign import reading

BEGIN = 15.0
"""Seconds in which a server must begin to answer: where packets are dropped, a run goes on without the file."""
STALL = 60.0
"""Seconds in which a download must go on (`web.CHUNK` bytes, 1 kB/s)."""
LARGEST = 1 << 37
"""Bytes of a download at most, 137 GB: above every checkpoint of a tokenizer or generator."""


def digests(path: Path) -> dict[str, str]:
    """{path inside it: sha256} of a folder's files but hidden ones, in sorted order; of a file {"": its sha256}.

    Raises VtbenchError for what is neither: a pipe would be waited for, and a device has no end.
    """
    if path.is_dir():
        parts = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
        return {part.relative_to(path).as_posix(): digests(part)[""] for part in parts}
    with reading(path, "a file", "give one that can be read"):
        if not path.is_file():
            raise VtbenchError(f"{path} is no regular file: give one")
        with path.open("rb") as source:
            return {"": hashlib.file_digest(source, "sha256").hexdigest()}


def digest_over(sums: Mapping[str, str]) -> str:
    """One sha256 over `digests`: a file's own, or that of a folder's names and contents."""
    if {*sums} == {""}:
        return sums[""]
    return hashlib.sha256("".join(f"{name}\0{digest}\n" for name, digest in sums.items()).encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """sha256 of a file, or of a folder's files (names and contents, in sorted order). Raises VtbenchError for what is
    neither."""
    return digest_over(digests(path))


def fetch_file(url: str, target: Path, *, sha256: str | None) -> Path:
    """Downloads the file to `target`, if no other process did so meanwhile.

    sha256: what the file must have, whole or its first digits; where upstream states none, it is taken as it comes.
    Raises Unavailable where the server does not give it; VtbenchError for another hash, and where it cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(target):
            return target if target.is_file() else _receive(url, target, sha256)
    except OSError as bad:
        raise VtbenchError(
            f"{target} could not be written ({bad.strerror or bad}): free space, or set VTBENCH_CACHE to another folder"
        ) from bad


@contextlib.contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Waits until no other process downloads this file; the kernel drops the lock of one that dies."""
    import filelock

    lock = filelock.FileLock(target.with_name(target.name + ".lock"), fallback_to_soft=False)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        print(f"another process downloads {target.name}: waiting for it", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _receive(url: str, target: Path, sha256: str | None) -> Path:
    part = target.with_name(target.name + ".part")
    have = part.stat().st_size if part.exists() else 0
    try:
        with _shown(target.name) as begins:
            web.download(url, part, have, begin=BEGIN, stall=STALL, most=LARGEST, begins=begins)
    except web.Refused as bad:
        # 416: the part is whole already, and nothing is left to ask for.
        if bad.status != 416 or not have:
            again = ": run the command again, it goes on where it stopped" if bad.again else ""
            raise Unavailable(f"{target.name} could not be downloaded: {bad}{again}") from bad
    if _is_web_page(part):
        part.unlink()
        raise Unavailable(
            f"{url} gave a web page in place of {target.name}: get the file with a browser, and give its path"
        )
    if sha256 is not None and not (digest := sha256_file(part)).startswith(sha256):
        part.unlink()
        raise VtbenchError(
            f"{url} gave sha256 {digest}, wanted {sha256}: the file was deleted; try again or ask upstream"
        )
    flushed(part)
    os.replace(part, target)
    return target


def _is_web_page(path: Path) -> bool:
    """Whether somebody asks for a word first, as hosts of shared files do: no weights begin like that."""
    with path.open("rb") as source:
        return source.read(1024).lstrip().lower().startswith((b"<!doctype html", b"<html"))


@contextlib.contextmanager
def _shown(name: str) -> Iterator[Callable[[int, int | None], Callable[[int], None]]]:
    """A progress bar that begins when the bytes that are there, and those in all, are known."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    bar = Progress(*columns, TimeRemainingColumn(), console=console())

    def begins(have: int, total: int | None) -> Callable[[int], None]:
        bar.start()
        job = bar.add_task(name, total=total, completed=have)
        return lambda count: bar.advance(job, count)

    try:
        yield begins
    finally:
        if bar.tasks:
            bar.stop()
