"""JSON and lines of JSON on disk: written atomically, read with one sentence for what is damaged."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import math
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from vtbench.types.errors import VtbenchError
from vtbench.types.readable import readable
from vtbench.types.shortage import shortage


class NotWritten(VtbenchError):
    """A result could not be written: no fault of the model."""


def plain(value: Any) -> Any:
    """JSON-ready copy, valid UTF-8; NaN and infinities are refused, since missing is null and a reason."""
    if isinstance(value, Mapping):
        return {readable(str(k)): plain(value[k]) for k in value.keys()}  # noqa: SIM118
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    if isinstance(value, (Path, str)):
        return readable(str(value))
    if isinstance(value, bool) or value is None or isinstance(value, int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise VtbenchError(f"a result holds {value}; a missing number is null with a reason", code=1)
        return value
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return readable(str(value))


def dumps(value: Any) -> str:
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False)


_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file size limit is reached",
}
_ONLY_WRITING = (*_FULL, errno.EROFS, errno.ETXTBSY)
_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)


def disk_error(bad: OSError, path: Path) -> VtbenchError:
    """The sentence for a failed write."""
    short = None if bad.errno in _FULL else shortage(bad, path)
    if short is not None:
        return short
    if bad.errno in _FULL:
        return NotWritten(f"{_FULL[bad.errno]}: {path} could not be written; free space and run the same command again")
    link = _dangling(path)
    if link is not None:
        return NotWritten(f"{path} could not be written ({link} is a link that leads nowhere): choose another --out")
    return NotWritten(f"{path} could not be written ({bad.strerror or bad}): choose another --out or mend its rights")


def read_error(bad: OSError, path: Path) -> VtbenchError:
    """The sentence for a failed read."""
    short = shortage(bad, path)
    if short is not None:
        return short
    link = _dangling(path)
    if link is not None:
        return VtbenchError(f"{path} cannot be read ({link} is a link that leads nowhere): mend it, or give another")
    if bad.errno in _NOWHERE:
        return VtbenchError(f"{path} cannot be read ({bad.strerror or bad}): give a path that is there")
    return VtbenchError(f"{path} cannot be read ({bad.strerror or bad}): mend its rights, or give another")


def _dangling(path: Path) -> Path | None:
    """The path itself, or a folder above it, if that is a link that leads nowhere."""
    with contextlib.suppress(OSError):
        return next((p for p in (path, *path.parents) if p.is_symlink() and not p.exists()), None)
    return None


def trouble(bad: OSError) -> VtbenchError:
    """The sentence for a failed access of which only the path is known: what is not there was read, as writing makes
    it; what may be read and is refused was written."""
    path = Path(str(bad.filename or "a file"))
    if bad.errno in _ONLY_WRITING:
        return disk_error(bad, path)
    short = shortage(bad, path)
    if short is not None:
        return short
    if bad.filename is None or bad.filename2 is not None:
        return VtbenchError(f"{path} cannot be read or written ({bad.strerror or bad}): mend its rights")
    with contextlib.suppress(OSError):
        if bad.errno in (errno.EACCES, errno.EPERM, errno.EISDIR) and os.access(path, os.R_OK):
            return disk_error(bad, path)
    return read_error(bad, path)


def write_atomic(path: Path, text: str | bytes | Iterable[str]) -> None:
    """Writes a text, or its pieces, beside `path` and renames: a reader sees the old file or the new one, never half of
    one."""
    parts = (text,) if isinstance(text, str | bytes) else text
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as out:
                out.writelines(part.encode() if isinstance(part, str) else part for part in parts)
                out.flush()
                os.fsync(out.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
            raise
    except OSError as bad:
        raise disk_error(bad, path) from bad


def flushed(path: Path) -> None:
    """Has the file's bytes on the disk before its name is changed: after a power cut a name stands for a whole file."""
    with path.open("rb") as written:
        os.fsync(written.fileno())


FLUSHED_ALONE = 64
"""So many files of a folder are flushed one by one; more are flushed with all that the system holds."""


def settled(folder: Path) -> None:
    """Has on the disk what was written below `folder`, its files and their names: a power cut takes none of it."""
    try:
        below = (Path(place, name) for place, _, names in os.walk(folder) for name in names)
        regular = (path for path in below if path.is_file() and not path.is_symlink())
        files = list(itertools.islice(regular, FLUSHED_ALONE + 1) if hasattr(os, "sync") else regular)
        if len(files) > FLUSHED_ALONE and hasattr(os, "sync"):
            os.sync()
            return
        for path in files:
            flushed(path)
        for place in {path.parent for path in files}:
            flushed_names(place)
    except OSError as bad:
        raise disk_error(bad, folder) from bad


def flushed_names(folder: Path) -> None:
    """Has the names in a folder on the disk, where the system can: a file keeps its new name then."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_json(path: Path, value: Any) -> None:
    write_atomic(path, json.dumps(plain(value), ensure_ascii=False, indent=1, allow_nan=False) + "\n")


def append(path: Path, data: bytes) -> None:
    """Appends all of `data`, however many writes that takes."""
    try:
        with path.open("ab", buffering=0) as out:
            view = memoryview(data)
            while view:
                view = view[out.write(view) :]
    except OSError as bad:
        raise disk_error(bad, path) from bad


LARGEST_RECORD = 1 << 26
"""Bytes of a file that is one record, or holds a run's scores: a thousand times what vtbench writes."""
LONGEST_LINE = 1 << 24
"""Bytes of a line that is one record."""
LONGEST_NUMBER = 309
"""Digits of a whole number: of those with more none has a float, and Python refuses to print the longest."""
DEEPEST = 100
"""Objects and lists within each other: vtbench writes fewer than ten."""


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{_shown(text)} is too large for a number")
    return value


def _whole(text: str) -> int:
    if len(text) > LONGEST_NUMBER:
        raise ValueError(f"{_shown(text)} is too large for a number")
    return int(text)


def _shown(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}…"


_DECODER = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite, parse_int=_whole)
"""Made once: rows are read by the thousand."""


def loads(text: str | bytes, *, names: tuple[str, ...] = ()) -> Any:
    """JSON as its standard says, of a depth and in characters that can be written again: NaN and Infinity, numbers that
    no float holds, and halves of characters (lone surrogates) raise ValueError, deep nesting RecursionError.

    names: keys of an object under which a file's name may stand that is no UTF-8, as os.fsdecode gives it.
    """
    text = text if isinstance(text, str) else text.decode()
    if text.startswith("\ufeff"):
        raise ValueError("it begins with a byte order mark")
    value = _DECODER.decode(text)
    if text.count("{") + text.count("[") > DEEPEST:
        _refuse_deep(value)
    if "\\u" in text:
        _refuse_halves(value, names)
    return value


def _refuse_halves(value: Any, names: tuple[str, ...]) -> None:
    kept = {k: v for k, v in value.items() if k in names} if isinstance(value, dict) else {}
    rest = {k: v for k, v in value.items() if k not in kept} if kept else value
    json.dumps(rest, ensure_ascii=False).encode()
    json.dumps(kept, ensure_ascii=False).encode(errors="surrogateescape")


def _refuse_deep(value: Any) -> None:
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for one in level
            for inner in (one.values() if isinstance(one, dict) else one if isinstance(one, list) else ())
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise RecursionError(f"more than {DEEPEST} levels")


def open_regular(path: Path, largest: int | None = None) -> BinaryIO:
    """The file, open for reading; refused if it is no regular file (a pipe would be waited for, a device may never end)
    or has more bytes than `largest`. OSError as `open` raises it."""
    _check_regular(path, os.stat(path), largest)
    # It may have become a pipe in between: that would be opened without waiting, and refused by what it is.
    source = open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0)))  # noqa: SIM115
    try:
        _check_regular(path, os.fstat(source.fileno()), largest)
    except BaseException:
        source.close()
        raise
    return source


def _check_regular(path: Path, facts: os.stat_result, largest: int | None) -> None:
    if stat.S_ISDIR(facts.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(facts.st_mode):
        raise VtbenchError(f"{path} is no regular file but a pipe, a socket or a device: replace or remove it")
    if largest is not None and facts.st_size > largest:
        raise VtbenchError(f"{path} has {facts.st_size} bytes, wanted a record of at most {largest}: it is no result")


def own_files(folder: Path, names: Sequence[str]) -> None:
    """Refuses links of a run's folder to files outside it: a folder from elsewhere would have them shown, or written
    over. A link that leads nowhere is left to who reads it."""
    for name in names:
        path = folder / name
        if path.is_symlink() and path.exists() and not path.resolve().is_relative_to(folder.resolve()):
            raise VtbenchError(f"{path} is a link to a file outside the run's folder: put the file itself there")


def read_json(path: Path) -> Any:
    try:
        with open_regular(path, LARGEST_RECORD) as source:
            return loads(source.read(LARGEST_RECORD))
    except FileNotFoundError as bad:
        if path.is_symlink():
            raise read_error(bad, path) from bad
        raise VtbenchError(f"{path} does not exist: give the folder of a run (it holds run.json)") from None
    except RecursionError:
        raise VtbenchError(f"{path} is nested too deeply to be a result: the file is damaged") from None
    except ValueError as bad:
        raise VtbenchError(f"{path} is not valid JSON ({bad}): the file is damaged") from bad
    except OSError as bad:
        raise read_error(bad, path) from bad


def read_lines(path: Path, largest: int | None = None) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file of at most `largest` bytes; a torn last line is left out, a broken line
    before it is an error."""
    if not os.path.lexists(path):
        return
    try:
        with open_regular(path, largest) as source:
            name, number = str(path), 0
            while line := source.readline(LONGEST_LINE):
                number += 1
                if not line.endswith(b"\n"):
                    if len(line) == LONGEST_LINE:
                        raise VtbenchError(f"{name} line {number} is longer than any record: the file is damaged")
                    return
                yield _object(line, f"{name} line {number}")
    except OSError as bad:
        raise read_error(bad, path) from bad


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        value = loads(line)
    except RecursionError:
        raise VtbenchError(f"{where} is nested too deeply to be a result: the file is damaged") from None
    except ValueError as bad:
        raise VtbenchError(f"{where} is not JSON ({bad}): the file is damaged") from bad
    if not isinstance(value, dict):
        raise VtbenchError(f"{where} is a {type(value).__name__}, wanted an object: the file is damaged")
    return value
