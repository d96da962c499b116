"""The one writer of a run's folder."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from vtbench.results.config import CONFIG, write_config
from vtbench.results.files import (
    disk_error,
    dumps,
    flushed_names,
    read_lines,
    settled,
    write_atomic,
    write_json,
)
from vtbench.results.holding import Held, sweep
from vtbench.results.record import RunInfo, Score, read_info
from vtbench.results.sums import SUMS, read_sums, write_sums
from vtbench.types.errors import VtbenchError

ROWS, SCORES, INFO = "rows.jsonl", "scores.jsonl", "run.json"
TOKENS = ("tokens.bin", "tokens.idx")
FEATURES = "features"
"""The folder of features below a run's."""
FILES = frozenset((INFO, ROWS, SCORES, CONFIG, *TOKENS, SUMS, "lock"))
"""The files that a run's folder holds."""
LITTER = (".rows.", *(f".{name}." for name in (*sorted(FILES), "generate.json", "samples.jsonl")))
"""How files begin that are written beside their place and renamed."""


class RunFolder:
    """Use as a context manager: it holds the lock, which the kernel drops with the process, so that a kill leaves
    nothing to clean."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._held = Held(path / "lock", path)
        self._rows: IO[bytes] | None = None
        self._changes = self._finished = False
        self._sums: dict[str, str] = {}

    def __enter__(self) -> RunFolder:
        self._held.take()
        sweep(self.path, LITTER)
        sweep(self.path / "samples", (".samples.json.",))
        sweep(self.path.parent, (f".{self.path.name}.removed-",))
        for part in (self.path / FEATURES).glob(".*.part.npz"):
            part.unlink(missing_ok=True)
        return self

    def __exit__(self, kind: object = None, *_: object) -> None:
        try:
            self._close_rows()
            if kind is None and self._lacks_sums():
                write_sums(self.path, self._sums)
        finally:
            self._held.drop()

    def _change(self, *names: str, everything: bool = False) -> None:
        """Before files are written. The sums of a finished run go before the first change to it: a kill from here on
        leaves none, and none that do not fit. Those of files that are not written again stay what they were, so that
        new metrics do not vouch for a picture that was changed in between."""
        if not self._changes:
            self._changes = True
            with contextlib.suppress(VtbenchError):
                self._sums = read_sums(self.path) or {}
            (self.path / SUMS).unlink(missing_ok=True)
        for name in self._sums.copy() if everything else names:
            self._sums.pop(name, None)

    def _lacks_sums(self) -> bool:
        """Whether a run is finished and states no sums: one that this writer finished, or one that was killed then."""
        if self._changes:
            return self._finished
        if not (self.path / INFO).is_file() or os.path.lexists(self.path / SUMS):
            return False
        with contextlib.suppress(VtbenchError):
            info = self.info()
            return info is not None and info.finished
        return False

    def _close_rows(self) -> None:
        if self._rows is not None:
            self._rows.close()
            self._rows = None

    @property
    def rows_path(self) -> Path:
        return self.path / ROWS

    def read_rows(self) -> Iterator[dict[str, Any]]:
        """The rows as they were written, one at a time."""
        return read_lines(self.rows_path)

    def info(self) -> RunInfo | None:
        """run.json, or None if the folder is new; another question's folder is for the caller to refuse."""
        path = self.path / INFO
        return read_info(path) if path.exists() else None

    def write_info(self, info: RunInfo) -> None:
        """run.json. A record that says that the run is finished is the last that reaches the disk: a power cut may cost
        a run its last batches, a finished run nothing."""
        self._change(INFO)
        self._finished = info.finished
        if info.finished:
            settled(self.path)
        write_json(self.path / INFO, info.as_dict())
        if info.finished:
            flushed_names(self.path)

    def write_config(self, settings: Mapping[str, Any]) -> None:
        """How this question is asked again; nothing where nobody else can (an object of somebody's process)."""
        if settings:
            self._change(CONFIG)
            write_config(self.path, settings)

    def write_scores(self, scores: Sequence[Score]) -> None:
        self._change(SCORES)
        write_atomic(self.path / SCORES, "".join(dumps(s.as_dict()) + "\n" for s in scores))

    def clear(self) -> None:
        """Removes rows, scores, tokens and features: the images go through the model once more."""
        self._change(everything=True)
        self._close_rows()
        for name in (ROWS, SCORES, *TOKENS):
            (self.path / name).unlink(missing_ok=True)
        for part in (self.path / FEATURES).glob("*"):
            if not part.is_dir():
                part.unlink()

    def remove(self) -> None:
        """Deletes the folder. Renamed first and without its record: nobody reads half a run, even if it stops here."""
        try:
            grave = Path(tempfile.mkdtemp(dir=self.path.parent, prefix=f".{self.path.name}.removed-"))
            self.path.rename(grave / self.path.name)
            (grave / self.path.name / INFO).unlink(missing_ok=True)
            # The next writer of this name clears graves away, this one too.
            shutil.rmtree(grave, ignore_errors=True)
            if grave.exists():
                raise OSError(errno.ENOTEMPTY, "some of its files could not be removed", str(grave))
        except OSError as bad:
            raise disk_error(bad, self.path) from bad
        self._held.drop(gone=True)

    def keep_rows(self, batch: int, most: int | None = None) -> int:
        """Cuts rows.jsonl to whole batches of `batch` rows (a torn line goes too), and to `most` rows at most; returns
        how many stay."""
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
        whole = len(ends) - 1 if most is None else min(len(ends) - 1, most)
        rows = whole // batch * batch
        self.cut(ROWS, ends[rows])
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
        self._change(ROWS)
        text = "".join(dumps(r) + "\n" for r in rows).encode()
        try:
            if self._rows is None:
                self._rows = self.rows_path.open("ab", buffering=0)
            view = memoryview(text)
            while view:
                view = view[self._rows.write(view) :]
        except OSError as bad:
            raise disk_error(bad, self.rows_path) from bad

    def replace_rows(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Writes all rows anew beside the old ones and swaps (used when metrics are added to a finished run)."""
        self._change(ROWS)
        self._close_rows()
        name = ""
        try:
            with self._writes_rows():
                handle, name = tempfile.mkstemp(dir=self.path, prefix=".rows.")
            with os.fdopen(handle, "wb") as out:
                for row in rows:
                    line = (dumps(row) + "\n").encode()
                    with self._writes_rows():
                        out.write(line)
                with self._writes_rows():
                    out.flush()
                    os.fsync(out.fileno())
            with self._writes_rows():
                os.chmod(name, 0o644)
                os.replace(name, self.rows_path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise

    @contextlib.contextmanager
    def _writes_rows(self) -> Iterator[None]:
        """Whatever fails inside is a failed write; outside, where rows and tokens are read, it is not."""
        try:
            yield
        except OSError as bad:
            raise disk_error(bad, self.rows_path) from bad
