"""JSON and lines of JSON on disk: written atomically, read with one sentence for what is damaged."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vtbench.types.errors import VtbenchError
from vtbench.types.readable import readable


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
    if bad.errno in _FULL:
        return NotWritten(f"{_FULL[bad.errno]}: {path} could not be written; free space and run the same command again")
    link = _dangling(path)
    if link is not None:
        return NotWritten(f"{path} could not be written ({link} is a link that leads nowhere): choose another --out")
    return NotWritten(f"{path} could not be written ({bad.strerror or bad}): choose another --out or mend its rights")


def read_error(bad: OSError, path: Path) -> VtbenchError:
    """The sentence for a failed read."""
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
    if bad.filename is None or bad.filename2 is not None:
        return VtbenchError(f"{path} cannot be read or written ({bad.strerror or bad}): mend its rights")
    with contextlib.suppress(OSError):
        if bad.errno in (errno.EACCES, errno.EPERM, errno.EISDIR) and os.access(path, os.R_OK):
            return disk_error(bad, path)
    return read_error(bad, path)


def write_atomic(path: Path, text: str | bytes) -> None:
    """Writes beside `path` and renames: a reader sees the old file or the new one, never half of one."""
    data = text.encode() if isinstance(text, str) else text
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as out:
                out.write(data)
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


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large for a number")
    return value


def loads(text: str | bytes) -> Any:
    """JSON as its standard says: NaN and Infinity, and numbers that would become infinite, raise ValueError."""
    return json.loads(text, parse_constant=_no_constant, parse_float=_finite)


def read_json(path: Path) -> Any:
    try:
        return loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise VtbenchError(f"{path} does not exist: give the folder of a run (it holds run.json)") from None
    except RecursionError:
        raise VtbenchError(f"{path} is nested too deeply to be a result: the file is damaged") from None
    except ValueError as bad:
        raise VtbenchError(f"{path} is not valid JSON ({bad}): the file is damaged") from bad
    except OSError as bad:
        raise read_error(bad, path) from bad


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file; a torn last line is left out, a broken line before it is an error."""
    if not path.exists():
        return
    try:
        with path.open("rb") as source:
            for number, line in enumerate(source, 1):
                if not line.endswith(b"\n"):
                    return
                yield _object(line, f"{path} line {number}")
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
