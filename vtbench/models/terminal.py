"""Where progress is shown: one console for all of a process, so that what is shown at once stands below each other."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


@functools.cache
def console() -> Console:
    """Standard error, as it is when something is written: the answer, which may be JSON, stands on standard output."""
    from rich.console import Console

    return Console(stderr=True)
