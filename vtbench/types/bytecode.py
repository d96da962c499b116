"""What runs is the text that is hashed, not bytecode that Python kept of an older one.

Python takes a file's .pyc for its text where the time of the last change, in whole seconds, and the size are the same.
A file that is edited twice in a second, or replaced by one of its size with its times kept (rsync -t, an archive),
would run as it was under the hash of what it is.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import marshal
import os
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType

LIBRARIES = ("site-packages", "dist-packages")
"""Names of folders of installed packages."""
BY_HASH = 0b11
"""Flags of bytecode that is valid where its text has the hash that it states (PEP 552)."""
HEADER = 16
"""Bytes of a .pyc before its code: a mark of Python's version, flags, the text's time and size (PEP 552)."""


def is_library(path: Path) -> bool:
    """True within folders of installed packages and of Python itself."""
    return bool({*LIBRARIES} & {*path.parts}) or path.is_relative_to(_standard_library())


@functools.cache
def _standard_library() -> str:
    # Not by sysconfig, which from Python 3.13 on imports a file to answer: whether that is a library's is asked here.
    return os.path.dirname(os.path.abspath(os.__file__))


@functools.cache
def compile_own_files() -> None:
    """From now on this process takes what is no library's from its text, however it is imported (beside a file, by a
    path, within a function): a file of somebody's own is compiled, and of vtbench's own, which are many, the bytecode
    is kept with a hash of the text (PEP 552) instead of its time and size."""
    kept = SourceFileLoader.get_code

    def get_code(self: SourceFileLoader, fullname: str) -> CodeType | None:
        path = self.get_filename(fullname)
        if is_library(Path(path)):
            return kept(self, fullname)
        text = self.get_data(path)
        if fullname.partition(".")[0] == "vtbench":
            return _hashed(self, path, text)
        code: CodeType = self.source_to_code(text, path)
        return code

    SourceFileLoader.get_code = get_code  # type: ignore[method-assign, assignment]


def _hashed(loader: SourceFileLoader, path: str, text: bytes) -> CodeType:
    """The text's code, from bytecode that states the text's hash, or compiled and kept so."""
    head = importlib.util.MAGIC_NUMBER + BY_HASH.to_bytes(4, "little") + importlib.util.source_hash(text)
    place = Path(importlib.util.cache_from_source(path))
    with contextlib.suppress(OSError):
        data = place.read_bytes()
        if data.startswith(head) and (code := _code(data)) is not None:
            return code
    compiled: CodeType = loader.source_to_code(text, path)
    if not sys.dont_write_bytecode:
        # A folder that cannot be written costs time only.
        with contextlib.suppress(OSError):
            place.parent.mkdir(exist_ok=True)
            part = place.with_name(f"{place.name}.{os.getpid()}")
            part.write_bytes(head + marshal.dumps(compiled))
            os.replace(part, place)
    return compiled


def is_stale(path: Path, text: bytes) -> bool:
    """Whether Python keeps bytecode for this file, and would take it for the file's, that is another text's. Such
    bytecode is deleted where it may be."""
    kept = Path(importlib.util.cache_from_source(str(path)))
    try:
        data, source, compiled = kept.read_bytes(), path.stat(), kept.stat()
    except OSError:
        return False
    flags, seconds, size = (int.from_bytes(data[k : k + 4], "little") for k in (4, 8, 12))
    if flags or seconds != int(source.st_mtime) & 0xFFFFFFFF or size != source.st_size & 0xFFFFFFFF:
        return False
    if compiled.st_mtime_ns > source.st_ctime_ns:
        return False
    if _code(data) == compile(text, str(path), "exec", dont_inherit=True, optimize=sys.flags.optimize):
        with contextlib.suppress(OSError):
            # So that the next process need not compile it.
            os.utime(kept)
        return False
    with contextlib.suppress(OSError):
        kept.unlink()
    return True


def _code(data: bytes) -> CodeType | None:
    try:
        code = marshal.loads(data[HEADER:])
    except (ValueError, EOFError, TypeError):
        return None
    return code if isinstance(code, CodeType) else None
