"""What this process or its machine is short of: no fault of the file that was being read.

An image that cannot be read is a marked row, and the run goes on. Where no file can be opened, or memory is used up,
rows would be marked by chance: such an error ends the command instead, and the same command goes on.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
from collections.abc import Iterator

from vtbench.types.errors import VtbenchError

ROOM = 1 << 30
"""Bytes that hold the largest picture that is read: where so many are free, a file that wants more wants too much."""
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
    if number == errno.EMFILE:
        return (
            f"this process may have no more than {_limit('RLIMIT_NOFILE')} files open: raise that by ulimit -n, or "
            "give fewer --readers"
        )
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
    of = f" of the {allowed} bytes that it may have (ulimit -v)" if allowed.isdigit() else ""
    return f"this process gets no more memory{of}: close other programs, raise the limit, or give fewer --readers"


def _limit(name: str) -> str:
    """A limit of this process, in digits where it has one."""
    try:
        import resource
    except ImportError:
        # Windows has none of these.
        return "so many"
    soft, _ = resource.getrlimit(getattr(resource, name))
    return "so many" if soft == resource.RLIM_INFINITY else str(soft)


def _has_room() -> bool:
    """Whether this process may have ROOM bytes more; none of them is touched."""
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    try:
        mmap.mmap(-1, ROOM, **private).close()
    except (OSError, ValueError, MemoryError):
        return False
    return True
