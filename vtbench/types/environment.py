"""Where vtbench keeps what it can make again: features of originals, readings, downloaded weights."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """`$VTBENCH_CACHE`, else `$XDG_CACHE_HOME/vtbench`, else `~/.cache/vtbench`. Not created here."""
    given = os.environ.get("VTBENCH_CACHE")
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "vtbench"


def offline() -> bool:
    """True if `VTBENCH_OFFLINE` forbids every use of the network."""
    return os.environ.get("VTBENCH_OFFLINE", "").strip().lower() not in ("", "0", "false", "no")
