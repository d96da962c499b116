"""One writer at a time: a lock that the kernel drops with its process, and what a killed writer left behind."""

from __future__ import annotations

import contextlib
import errno
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vtbench.results.files import disk_error
from vtbench.types.errors import VtbenchError

RANDOM = r"[a-z0-9_]{8}"
"""What tempfile puts behind the beginning of a name."""


class Held:
    """The lock of what is written at `path`, in the file `place`. Use as a context manager, or `take` and `drop`."""

    def __init__(self, place: Path, path: Path, patience: float = 1) -> None:
        self.place, self.path, self.patience = place, path, patience
        self._lock: Any = None

    def take(self) -> None:
        import filelock

        try:
            self.place.parent.mkdir(parents=True, exist_ok=True)
            # A soft lock would outlive a kill, so a file system without real ones is refused. A little patience:
            # a writer that ends at this moment removes the file that was about to be locked.
            lock = filelock.FileLock(self.place, timeout=self.patience, poll_interval=0.02, fallback_to_soft=False)
            lock.acquire()
        except filelock.Timeout:
            raise VtbenchError(
                f"another process is writing {self.path}: wait for it, or choose another --out"
            ) from None
        except OSError as bad:
            if bad.errno in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
                raise VtbenchError(
                    f"{self.path} lies on a file system that cannot lock files: choose an --out on another"
                ) from bad
            raise disk_error(bad, self.place if self.place.parent.is_dir() else self.path) from bad
        self._lock = lock

    def drop(self, *, gone: bool = False) -> None:
        """gone: its file went with the folder; one that lies there by now is another process's."""
        if self._lock is None:
            return
        if not gone:
            with contextlib.suppress(OSError):
                self.place.unlink()
        self._lock.release()
        self._lock = None

    def __enter__(self) -> Held:
        self.take()
        return self

    def __exit__(self, *_: object) -> None:
        self.drop()


def sweep(folder: Path, names: Iterable[str]) -> None:
    """Removes what a killed writer left in `folder`: what is called like one of `names` with eight characters of
    tempfile's behind. For the holder of the lock alone; what cannot be removed stays."""
    left = re.compile(f"(?:{'|'.join(map(re.escape, names))}){RANDOM}")
    with contextlib.suppress(OSError):
        for path in [p for p in folder.iterdir() if left.fullmatch(p.name)]:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    path.unlink()
