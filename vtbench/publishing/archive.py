"""The file of a submission: a zip whose bytes follow from its files alone, opened as if it had been made to do harm.

It holds what a page needs and what its numbers are computed again from, and beside them SHA256SUMS of these files. Its
entries have no time, no owner and no order of their own; records are packed by bzip2, whose output has been the same
since 1997, and what is packed already is stored as it is.
"""

from __future__ import annotations

import hashlib
import io
import re
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from vtbench.results.files import disk_error, open_regular, write_atomic
from vtbench.results.record import PARTS
from vtbench.results.sums import SUMS, as_text, of_bytes, sum_of
from vtbench.types.errors import VtbenchError
from vtbench.types.foreign import reading
from vtbench.types.readable import bytes_in_words, readable

NEEDED = (*PARTS, SUMS)
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}"
MEMBER = re.compile(
    rf"run\.json|rows\.jsonl|scores\.jsonl|{SUMS}|tokens\.(?:bin|idx)|samples/{NAME}\.(?:png|json)"
    rf"|features/{NAME}\.(?:f32|f32\.crc|npz)"
)
"""All that a submission may hold: nothing that is run, nothing hidden, no folder but these two."""
DEVICES = re.compile(r"(?i)(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?")
"""What Windows keeps for itself."""
LARGEST = 1 << 30
"""Bytes that all files of a submission unfold to."""
RATIO = 200
"""Rows pack to a tenth; what unfolds to more than so many times its bytes was made to fill a disk."""
FEW = 1 << 20
"""Bytes below which that is no matter."""
MOST = 500
"""Files: a run keeps six pairs of pictures, and features of a few networks."""
READ = 1 << 20
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)


def pack(files: Mapping[str, bytes], out: Path) -> None:
    """Writes the submission of these files, by their paths in the run's folder. The same files give the same bytes."""
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    contents = {**files, SUMS: as_text(sums).encode()}
    _check_names(list(contents))
    total = sum(map(len, contents.values()))
    if total > LARGEST:
        raise VtbenchError(
            f"the run's files take {bytes_in_words(total)}, and a submission holds {bytes_in_words(LARGEST)} at most: "
            "--small leaves tokens and features out"
        )
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name in sorted(contents):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, (stat.S_IFREG | 0o644) << 16
            entry.compress_type = zipfile.ZIP_BZIP2 if name.endswith((".json", ".jsonl")) else zipfile.ZIP_STORED
            archive.writestr(entry, contents[name], compresslevel=9)
    write_atomic(out, sink.getvalue())


def unpack(file: Path, folder: Path) -> dict[str, str]:
    """Writes the submission's files below `folder`, which is there and empty, and returns their {path: sha256}.

    Nothing is written elsewhere, and no more than the archive states. VtbenchError for whatever is no submission: other
    names, links, folders, names twice, encrypted or damaged parts, files that unfold to too much, or that are not those
    of its own SHA256SUMS.
    """
    with reading(file, "a submission", "it is no whole zip file: submit the run again"):
        entries = _written(file, folder)
    stated = of_bytes((folder / SUMS).read_bytes(), f"{SUMS} of {file}")
    there = {entry.filename: sum_of(folder / entry.filename) for entry in entries}
    there.pop(SUMS)
    differing = sorted({name for name in {*stated, *there} if stated.get(name) != there.get(name)})
    if differing:
        raise VtbenchError(
            f"{file}: {readable(differing[0])} is not the file that its {SUMS} states: it was changed, submit again"
        )
    return there


def _written(file: Path, folder: Path) -> list[zipfile.ZipInfo]:
    with open_regular(file, LARGEST) as source, zipfile.ZipFile(source) as archive:
        entries = archive.infolist()
        _check(entries, file)
        for entry in entries:
            _write(archive, entry, folder, file)
        return entries


def _check(entries: list[zipfile.ZipInfo], file: Path) -> None:
    """Refuses the archive by what its directory states, before anything is unfolded."""
    if len(entries) > MOST:
        raise VtbenchError(f"{file} holds {len(entries)} files, and a submission {MOST} at most: it is none")
    for entry in entries:
        mode = entry.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG) or entry.is_dir():
            raise VtbenchError(
                f"{file}: {readable(entry.filename)!r} is a link, a folder or a device: only files enter"
            )
        if entry.flag_bits & 0x1 or entry.compress_type not in METHODS:
            raise VtbenchError(f"{file}: {readable(entry.filename)!r} is encrypted, or packed as no submission is")
    _check_names([entry.filename for entry in entries], str(file))
    lacking = [name for name in NEEDED if name not in {entry.filename for entry in entries}]
    if lacking:
        raise VtbenchError(f"{file} holds no {lacking[0]}, so it is no submission: make one with leaderboard submit")
    size = sum(entry.file_size for entry in entries)
    packed = file.stat().st_size
    if size > LARGEST or (size > FEW and size > packed * RATIO):
        raise VtbenchError(
            f"{file} has {bytes_in_words(packed)} and would unfold to {bytes_in_words(size)}: it is refused unopened"
        )


def _check_names(names: list[str], where: str = "the run") -> None:
    """Refuses names that no submission has: those of other places, hidden ones, devices, the same one twice."""
    seen: set[str] = set()
    for name in names:
        parts = PurePosixPath(name).parts
        if not MEMBER.fullmatch(name) or any(DEVICES.fullmatch(part) or part.endswith(".") for part in parts):
            raise VtbenchError(
                f"{where} holds a file {readable(name)!r}, which is none of a run's that may be submitted"
            )
        if name.lower() in seen:
            raise VtbenchError(f"{where} holds {name} twice: one of them would hide the other")
        seen.add(name.lower())


def _write(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path, file: Path) -> None:
    """One file, as long as the directory says it is and no longer. Its checksum is looked at when its end is read."""
    target = folder / entry.filename
    target.parent.mkdir(exist_ok=True)
    left = entry.file_size
    with archive.open(entry) as source, target.open("xb") as sink:
        while data := source.read(min(READ, left + 1)):
            left -= len(data)
            if left < 0:
                raise VtbenchError(f"{file}: {entry.filename} is longer than the archive states: it is refused")
            try:
                sink.write(data)
            except OSError as bad:
                raise disk_error(bad, target) from bad
    if left:
        raise VtbenchError(f"{file}: {entry.filename} is shorter than the archive states: it is cut off")
