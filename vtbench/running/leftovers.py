"""What a cluster of this machine would leave behind: processes that have a file of its folder open, and the folder.

The command that began it removes both when it ends. Of one that is killed nobody would: a process beside it waits for
its end, and does it then.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

END = 4.0
"""Seconds that workers of this machine have to end before they are killed."""
PROGRAM = (
    "import sys; sys.path[:] = sys.argv[2:]; from vtbench.running.leftovers import remove_at_the_end_of_my_parent; "
    "remove_at_the_end_of_my_parent(sys.argv[1])"
)


def end_all(folder: Path, but: frozenset[int] = frozenset()) -> None:
    """Ends whatever has a file of the folder open, this process and those in `but` aside."""
    until = time.monotonic() + END
    while (processes := with_files_in(folder) - but) and time.monotonic() < until:
        for process in processes:
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.02)


def with_files_in(folder: Path) -> frozenset[int]:
    """Other processes that have a file of the folder open; none where the system has no /proc."""
    out = set()
    for opened in Path("/proc").glob("[0-9]*/fd"):
        names = []
        # Those of other users, and of processes that end meanwhile, cannot be read.
        with contextlib.suppress(OSError):
            for file in opened.iterdir():
                with contextlib.suppress(OSError):
                    names.append(os.readlink(file))
        if any(name.startswith(f"{folder}{os.sep}") for name in names):
            out.add(int(opened.parent.name))
    return frozenset(out) - {os.getpid()}


def alive(process: int) -> bool:
    """Whether there is such a process; one that has ended and waits to be asked how is gone."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True


@contextlib.contextmanager
def removed_if_killed(folder: Path) -> Iterator[None]:
    """While this lasts: should this process end in any way, the folder is removed and what has a file of it open ends.
    Without it where no process can be begun, or none be found by its files: the next command does it then."""
    guard: subprocess.Popen[bytes] | None = None
    if Path("/proc/self/fd").is_dir() and sys.executable:
        with contextlib.suppress(OSError):
            guard = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(folder), *map(os.path.abspath, sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=os.sep,
                # Ctrl-C, and whoever kills the group of the command, reach others.
                start_new_session=True,
            )
    try:
        yield
    finally:
        if guard is not None:
            guard.kill()
            guard.communicate()


def remove_at_the_end_of_my_parent(folder: str) -> None:
    """The whole life of the process beside a command: its end of the pipe closes however the command ends."""
    parent = os.getppid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # A scheduler sends them to all processes of a job before it kills them.
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 1):
        pass
    end_all(Path(folder), frozenset((parent,)))
    shutil.rmtree(folder, ignore_errors=True)
