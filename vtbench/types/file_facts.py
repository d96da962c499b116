"""What shows that a file holds what it held: whoever changes its bytes changes one of these facts."""

from __future__ import annotations

import os
import time

YOUNG = 2.0
"""Seconds. A file that changed less than so long ago is not remembered: another change might leave its times as they
are, where a file system counts them in steps (FAT: two seconds)."""
Facts = tuple[int, int, int, int]
"""(size, times of change of the contents and of the file in nanoseconds, inode)."""


def facts_of(state: os.stat_result) -> Facts:
    return state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino


def age(state: os.stat_result) -> float:
    """Seconds since the file last changed, by its own times."""
    return time.time() - max(state.st_mtime, state.st_ctime)
