"""Files that somebody's own code opens while it is imported, loaded or asked.

What an adapter reads beside its code decides its numbers as the code does. Python tells of every file that it opens (an
audit event). What compiled code opens by itself is told of by `compiled_readers`, as far as it knows the library; for
others `results.named_files` looks for the names.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from vtbench.types.compiled_readers import tell_of_them
from vtbench.types.outside import outside

_watching = threading.local()
_hooks: list[bool] = []
"""True once Python was told to tell: a hook cannot be taken away again, so there is one for all."""


class Opened:
    """Absolute paths of what was opened for reading, in order. What the same code wrote before is its own, not read."""

    def __init__(self) -> None:
        self._read: dict[str, None] = {}
        self._written: set[str] = set()

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(self._read)

    def note(self, path: str, *, writes: bool) -> None:
        path = os.path.abspath(path)
        if writes:
            self._written.add(path)
        elif path not in self._written:
            self._read[path] = None


@contextlib.contextmanager
def noting(opened: Opened | None) -> Iterator[None]:
    """Around somebody else's code, as `outside`: notes what this thread opens. None: nothing is noted.
    Threads that the code starts are not followed."""
    if opened is None:
        with outside():
            yield
        return
    if not _hooks:
        _hooks.append(True)
        sys.addaudithook(_hook)
        tell_of_them(_of_compiled_code)
    before = getattr(_watching, "opened", None)
    _watching.opened = opened
    try:
        with outside():
            yield
    finally:
        _watching.opened = before


def _hook(event: str, arguments: Sequence[Any]) -> None:
    opened: Opened | None = getattr(_watching, "opened", None)
    if opened is None or event not in _PATHS:
        return
    # Whatever is raised here would be raised where the file is opened.
    with contextlib.suppress(Exception):
        path, writes = _PATHS[event](arguments)
        if isinstance(path, str | bytes | os.PathLike):
            opened.note(os.fsdecode(path), writes=writes)


def _of_compiled_code(path: Any) -> None:
    _hook("compiled", (path,))


def _of_open(arguments: Sequence[Any]) -> tuple[Any, bool]:
    """(path, mode, flags): made or emptied is written; what is only opened to be changed is read first."""
    flags = arguments[2] if isinstance(arguments[2], int) else 0
    only = flags & (os.O_WRONLY | os.O_RDWR) == os.O_WRONLY
    return arguments[0], bool(only or flags & (os.O_CREAT | os.O_TRUNC))


_PATHS: dict[str, Callable[[Sequence[Any]], tuple[Any, bool]]] = {
    "open": _of_open,
    # Modules of compiled code; others are opened as any file.
    "import": lambda arguments: (arguments[1], False),
    "ctypes.dlopen": lambda arguments: (arguments[0], False),
    "sqlite3.connect": lambda arguments: (arguments[0], False),
    # No event of Python's: `_of_compiled_code`.
    "compiled": lambda arguments: (arguments[0], False),
}
"""Events that name a file -> (the path or anything else, whether it is written)."""
