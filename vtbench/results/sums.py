"""SHA256SUMS of a run's folder: the sha256 of every file, written when the run is finished, so that one changed digit
in any of them is found later.

It is the file that `sha256sum` of GNU coreutils writes: `sha256sum --check SHA256SUMS` in the folder says the same
where no vtbench is. It tells a change by accident, or by somebody who forgot it; who means to deceive writes it anew,
and only what is computed again from the rows speaks against him.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from vtbench.results.files import open_regular, read_error, write_atomic
from vtbench.types.errors import VtbenchError
from vtbench.types.readable import readable

SUMS = "SHA256SUMS"
OF_WRITERS = frozenset((SUMS, "lock"))
"""Files that have no sum: this one, and the lock of who is writing."""
LARGEST = 1 << 26
"""Bytes of such a file: half a million names."""
BLOCK = 1 << 20
LINE = re.compile(r"(\\?)([0-9a-f]{64})  (.+)", re.DOTALL)
ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r"}
"""How coreutils writes what would break a line (its manual, "md5sum invocation")."""
SHOWN = 5
"""Files that are named one by one; more are counted."""


def files_below(folder: Path) -> list[str]:
    """Paths, with /, of all files and links at or below the folder, sorted. What is hidden (what is being written, or
    what a desktop leaves) and the folder's own sums are left out."""
    out: list[str] = []
    for place, folders, names in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        folders[:] = [name for name in folders if name not in links and not name.startswith(".")]
        top = Path(place).relative_to(folder)
        out += [(top / name).as_posix() for name in (*names, *links) if not name.startswith(".")]
    return sorted(path for path in out if path not in OF_WRITERS)


def sum_of(path: Path) -> str:
    """The sha256 of a file's bytes, 64 hexadecimal digits."""
    try:
        with open_regular(path) as source:
            digest = hashlib.sha256()
            while block := source.read(BLOCK):
                digest.update(block)
            return digest.hexdigest()
    except OSError as bad:
        raise read_error(bad, path) from bad


def as_text(sums: Mapping[str, str]) -> str:
    """{path: sha256} as the lines of the file, sorted by path."""
    return "".join(_line(path, sums[path]) for path in sorted(sums))


def _line(path: str, value: str) -> str:
    written = "".join(ESCAPES.get(c, c) for c in path)
    return f"{'' if written == path else chr(92)}{value}  {written}\n"


def write_sums(folder: Path, known: Mapping[str, str] | None = None) -> None:
    """The sums of every file of the folder as it is now; of those in `known`, the ones that stand there."""
    known = known or {}
    sums = {path: known.get(path) or sum_of(folder / path) for path in files_below(folder)}
    write_atomic(folder / SUMS, as_text(sums).encode(errors="surrogateescape"))


def read_sums(folder: Path) -> dict[str, str] | None:
    """{path: sha256} as they are stated; None where the folder has no such file. VtbenchError with the line where it is
    none that vtbench writes."""
    path = folder / SUMS
    if not os.path.lexists(path):
        return None
    if path.is_symlink():
        raise VtbenchError(f"{path} is a link: put the file itself there")
    try:
        with open_regular(path, LARGEST) as source:
            data = source.read(LARGEST)
    except OSError as bad:
        raise read_error(bad, path) from bad
    return of_bytes(data, str(path))


def of_bytes(data: bytes, where: str) -> dict[str, str]:
    """{path: sha256} of the lines of such a file. where: what it is called in a complaint."""
    out: dict[str, str] = {}
    lines = data.decode(errors="surrogateescape").split("\n")
    if lines.pop():
        raise VtbenchError(f"{where} ends in the middle of a line: it was cut or changed")
    for number, line in enumerate(lines, 1):
        match = LINE.fullmatch(line)
        name = _unescaped(match[3]) if match and match[1] else match[3] if match else ""
        if match is None or f"{line}\n" != _line(name, match[2]) or name in out:
            raise VtbenchError(f"{where} line {number} is no sha256 and the name of a file: it was changed")
        out[name] = match[2]
    if list(out) != sorted(out):
        raise VtbenchError(f"{where} is not in the order in which vtbench writes it: it was changed")
    return out


def _unescaped(text: str) -> str:
    inverse = {written: c for c, written in ESCAPES.items()}
    return re.sub(r"\\[\\nr]", lambda match: inverse[match[0]], text)


def differences(folder: Path, stated: Mapping[str, str]) -> list[str]:
    """A sentence for each file that is not as its sum says, is not there, or has none; empty if all are as stated."""
    there = files_below(folder)
    gone = sorted(set(stated) - set(there))
    fresh = sorted(set(there) - set(stated))
    links = [path for path in there if path in stated and (folder / path).is_symlink()]
    changed = [path for path in there if path in stated and path not in links and sum_of(folder / path) != stated[path]]
    said = (
        (changed, f"is not the file that {SUMS} states (sha256)"),
        (gone, f"is in {SUMS} and not in the folder"),
        (fresh, f"is in the folder and not in {SUMS}"),
        (links, "is a link, where the run had a file"),
    )
    return [sentence for paths, words in said for sentence in _sentences(paths, words)]


def _sentences(paths: Iterable[str], words: str) -> list[str]:
    names = [readable(path) for path in paths]
    more = [f"{len(names) - SHOWN} more files: each {words}"] if len(names) > SHOWN else []
    return [*(f"{name} {words}" for name in names[:SHOWN]), *more]
