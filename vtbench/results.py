"""Results on disk: one folder a run with run.json, rows.jsonl, scores.jsonl and sample images.

Rows are appended one whole batch at a time; a torn tail is cut on opening; everything else is written atomically; a
lock keeps a second writer out. Never imports torch.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from vtbench.types.errors import VtbenchError

SCHEMA = 1


def plain(value: Any) -> Any:
    """JSON-ready copy; NaN and infinities are refused, since missing is null and a reason."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, bool) or value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise VtbenchError(f"a result holds {value}; a missing number is null with a reason", code=1)
        return value
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return str(value)


def dumps(value: Any) -> str:
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False)


class NotWritten(VtbenchError):
    """A result could not be written: no fault of the model."""


def disk_error(bad: OSError, path: Path) -> VtbenchError:
    """The sentence for a failed write."""
    full = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up",
            errno.EFBIG: "the file size limit is reached"}  # fmt: skip
    if bad.errno in full:
        return NotWritten(f"{full[bad.errno]}: {path} could not be written; free space and run the same command again")
    return NotWritten(f"{path} could not be written ({bad.strerror or bad}): choose another --out or mend its rights")


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


def write_json(path: Path, value: Any) -> None:
    write_atomic(path, json.dumps(plain(value), ensure_ascii=False, indent=1, allow_nan=False) + "\n")


def check_schema(found: Any, path: Path) -> None:
    if not isinstance(found, int) or isinstance(found, bool):
        raise VtbenchError(f"{path} states no schema number: it is not a result of vtbench")
    if found > SCHEMA:
        raise VtbenchError(
            f"{path} has schema {found}, this vtbench reads up to {SCHEMA}: upgrade vtbench to read this result"
        )


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise VtbenchError(f"{path} does not exist: give the folder of a run (it holds run.json)") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as bad:
        raise VtbenchError(f"{path} is not valid JSON ({bad}): the file is damaged") from bad
    except OSError as bad:
        raise VtbenchError(f"{path} cannot be read ({bad.strerror or bad}): mend its rights") from bad


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a JSONL file; a torn last line is left out, a broken line before it is an error."""
    if not path.exists():
        return
    with path.open("rb") as source:
        for number, line in enumerate(source, 1):
            if not line.endswith(b"\n"):
                return
            try:
                yield json.loads(line)
            except ValueError as bad:
                raise VtbenchError(f"{path} line {number} is not JSON ({bad}): the file is damaged") from bad


@dataclass(frozen=True)
class Score:
    """One metric of one run; `value` None needs `why`. low, high: 95 % interval."""

    task: str
    metric: str
    value: float | None
    n: int
    missing: int = 0
    low: float | None = None
    high: float | None = None
    why: str | None = None
    warning: str | None = None
    unit: str = ""
    better: str | None = None
    version: int = 1
    protocol: str | None = None
    fingerprint: str | None = None
    """16 hexadecimal digits over view, rounding, reference and metric version: numbers of one may be compared."""
    details: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return dict(self.__dict__)


@dataclass(frozen=True)
class Run:
    """A run as read from its folder. `info` is run.json; rows are read lazily."""

    path: Path
    info: Mapping[str, Any]
    scores: tuple[Mapping[str, Any], ...]

    @property
    def name(self) -> str:
        return str(self.info["model"]["name"])

    def rows(self) -> Iterator[dict[str, Any]]:
        return read_lines(self.path / "rows.jsonl")

    def score(self, metric: str) -> Mapping[str, Any] | None:
        return next((s for s in self.scores if s["metric"] == metric), None)


def read_run(path: Path) -> Run:
    """The run in folder `path`; a newer schema is refused."""
    info = read_json(path / "run.json")
    check_schema(info.get("schema") if isinstance(info, dict) else None, path / "run.json")
    return Run(path, info, tuple(read_lines(path / "scores.jsonl")))


def find_runs(paths: Sequence[Path]) -> list[Path]:
    """Every run folder at or below `paths`, in sorted order; a path without any is refused by name."""
    out: list[Path] = []
    for path in paths:
        if (path / "run.json").is_file():
            out.append(path)
            continue
        below = sorted(p.parent for p in path.glob("**/run.json")) if path.is_dir() else []
        if not below:
            raise VtbenchError(
                f"{path} holds no run (no run.json at or below it): give the --out folder of an evaluation"
            )
        out.extend(below)
    return list(dict.fromkeys(out))


class RunFolder:
    """The one writer of a run's folder. Use as a context manager: it holds the lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[str] | None = None
        self._rows: IO[bytes] | None = None

    def __enter__(self) -> RunFolder:
        while self._lock is None:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                lock = (self.path / "lock").open("a")
            except OSError as bad:
                raise disk_error(bad, self.path) from bad
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                raise VtbenchError(
                    f"another process is writing {self.path}: wait for it, or choose another --out"
                ) from None
            except OSError as bad:
                lock.close()
                raise disk_error(bad, self.path / "lock") from bad
            # The writer before us may have removed the file between our opening and our locking it: a lock on a file
            # without a name keeps nobody out, so the name must still be the file that is locked.
            if self._is_ours(lock):
                self._lock = lock
            else:
                lock.close()
        return self

    def _is_ours(self, lock: IO[str]) -> bool:
        try:
            return os.path.samestat(os.fstat(lock.fileno()), os.stat(self.path / "lock"))
        except FileNotFoundError:
            return False

    def __exit__(self, *_: object) -> None:
        if self._rows is not None:
            self._rows.close()
            self._rows = None
        if self._lock is not None:
            # The kernel drops the lock with the process, so a kill leaves nothing to clean; an orderly end tidies up.
            with contextlib.suppress(OSError):
                (self.path / "lock").unlink()
            self._lock.close()
            self._lock = None

    @property
    def rows_path(self) -> Path:
        return self.path / "rows.jsonl"

    def read_rows(self) -> Iterator[dict[str, Any]]:
        return read_lines(self.rows_path)

    def info(self) -> dict[str, Any] | None:
        """run.json, or None if the folder is new; another question's folder is for the caller to refuse."""
        if not (self.path / "run.json").exists():
            return None
        info = read_json(self.path / "run.json")
        check_schema(info.get("schema") if isinstance(info, dict) else None, self.path / "run.json")
        return dict(info)

    def write_info(self, info: Mapping[str, Any]) -> None:
        write_json(self.path / "run.json", {"schema": SCHEMA, **info})

    def write_scores(self, scores: Sequence[Score]) -> None:
        write_atomic(self.path / "scores.jsonl", "".join(dumps(s.as_dict()) + "\n" for s in scores))

    def keep_rows(self, batch: int) -> int:
        """Cuts rows.jsonl to whole batches of `batch` rows (a torn line goes too); returns how many rows stay."""
        if not self.rows_path.exists():
            return 0
        ends: list[int] = [0]
        with self.rows_path.open("rb") as source:
            position = 0
            for line in source:
                position += len(line)
                if not line.endswith(b"\n"):
                    break
                ends.append(position)
        rows = (len(ends) - 1) // batch * batch
        self.cut("rows.jsonl", ends[rows])
        return rows

    def cut(self, name: str, size: int) -> None:
        """Truncates a file of the folder to `size` bytes; shorter already is an inconsistency and refused."""
        path = self.path / name
        if path.stat().st_size < size:
            raise VtbenchError(f"{path} is shorter than its rows say: delete the run's folder and run again")
        try:
            os.truncate(path, size)
        except OSError as bad:
            raise disk_error(bad, path) from bad

    def append_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """One write for one batch."""
        text = "".join(dumps(r) + "\n" for r in rows).encode()
        try:
            if self._rows is None:
                self._rows = self.rows_path.open("ab", buffering=0)
            view = memoryview(text)
            while view:
                view = view[self._rows.write(view) :]
        except OSError as bad:
            raise disk_error(bad, self.rows_path) from bad

    def replace_rows(self, rows: Iterator[Mapping[str, Any]]) -> None:
        """Writes all rows anew beside the old ones and swaps (used when metrics are added to a finished run)."""
        if self._rows is not None:
            self._rows.close()
            self._rows = None
        handle, name = tempfile.mkstemp(dir=self.path, prefix=".rows.")
        try:
            with os.fdopen(handle, "wb") as out:
                for row in rows:
                    out.write((dumps(row) + "\n").encode())
                out.flush()
                os.fsync(out.fileno())
            os.chmod(name, 0o644)
            os.replace(name, self.rows_path)
        except BaseException as bad:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
            if isinstance(bad, OSError):
                raise disk_error(bad, self.rows_path) from bad
            raise
