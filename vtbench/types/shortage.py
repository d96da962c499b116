"""What this process or its machine is short of: no fault of the file that was being read.

An image that cannot be read is a marked row, and the run goes on. Where no file can be opened, or memory is used up,
rows would be marked by chance: such an error ends the command instead, and the same command goes on.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
from collections.abc import Iterator

from vtbench.types.errors import VtbenchError

try:
    # Now: its own file cannot be opened either where none can be.
    import resource
except ImportError:
    # Windows has no such limits.
    resource = None  # type: ignore[assignment]

ROOM = 1 << 30
"""Bytes that hold the largest picture that is read: where so many are free, a file that wants more wants too much."""
_OF_IMPORTS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
GO_ON = "what is finished is kept, and the same command goes on"


class Short(VtbenchError):
    """The process or the machine lacks something; the sentence says what, and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code=1)


def shortage(bad: BaseException, what: object) -> Short | None:
    """The error to end with, if what was raised while `what` was read is a lack of this process or machine, or arose
    from one; else None. What a library makes of an error keeps it as its cause or context."""
    for one in _chain(bad):
        lack = one if isinstance(one, Short) else _lack(one)
        if lack is not None:
            return lack if isinstance(lack, Short) else Short(f"{lack} ({what} was being read; {GO_ON})")
    return None


def refuse_shortage(bad: BaseException, what: object) -> None:
    """Raises Short where what was raised is a lack of this process or machine."""
    short = shortage(bad, what)
    if short is not None:
        raise short from (None if short is bad else bad)


@contextlib.contextmanager
def shortage_refused(what: object) -> Iterator[None]:
    """Around what a caller takes for something else when it raises, as for a file that holds nothing."""
    try:
        yield
    except Exception as bad:
        refuse_shortage(bad, what)
        raise


def wants_memory(bad: BaseException) -> bool:
    """Whether memory was refused, to this process or to one file that asks for too much."""
    return any(isinstance(one, MemoryError) for one in _chain(bad))


def _chain(bad: BaseException) -> Iterator[BaseException]:
    """What was raised, and what it arose from."""
    seen: set[int] = set()
    one: BaseException | None = bad
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__


def _lack(bad: BaseException) -> str | None:
    """What is lacking, and what to do about it."""
    if isinstance(bad, MemoryError):
        return None if _has_room() else _no_memory()
    number = bad.errno if isinstance(bad, OSError) else None
    if isinstance(bad, ImportError):
        # Of a compiled module that cannot be opened, the system's word is the end of what is said.
        number = next((n for n in _OF_IMPORTS if str(bad).endswith(os.strerror(n))), None)
    if number == errno.EMFILE:
        most = f" than {_limit('RLIMIT_NOFILE')}" if _limit("RLIMIT_NOFILE") else ""
        return f"this process may have no more{most} files open: raise that by ulimit -n, or give fewer --readers"
    if number == errno.ENFILE:
        return "the system may have no more files open: close other programs, or raise its limit (fs.file-max)"
    if number == errno.ENOMEM:
        return _no_memory()
    if number in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        what = "the disk is full" if number == errno.ENOSPC else "the disk quota is used up"
        return f"{what}: free space"
    return None


def _no_memory() -> str:
    allowed = _limit("RLIMIT_AS")
    of = f" of the {allowed} bytes that it may have (ulimit -v)" if allowed else ""
    return f"this process gets no more memory{of}: close other programs, raise the limit, or give fewer --readers"


def _limit(name: str) -> int | None:
    """A limit of this process; None where it has none."""
    if resource is None:
        return None
    soft, _ = resource.getrlimit(getattr(resource, name))
    return None if soft == resource.RLIM_INFINITY else soft


def _has_room() -> bool:
    """Whether this process may have ROOM bytes more; none of them is touched."""
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    try:
        mmap.mmap(-1, ROOM, **private).close()
    except (OSError, ValueError, MemoryError):
        return False
    return True
