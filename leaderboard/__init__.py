"""Runs -> static HTML. Part of vtbench: import it as `vtbench.leaderboard`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from vtbench.leaderboard.site import write_site

if not __name__.startswith("vtbench."):
    # Imported under its bare name it would be a second copy of every module, with a registry of its own.
    raise ImportError(
        "import vtbench.leaderboard, not leaderboard: the folder stands at the top level but belongs to vtbench"
    )


def build(runs: Sequence[Path], out: Path, left_out: dict[Path, str] | None = None) -> Path:
    """Writes the site of every run at or below `runs` to the folder `out` and returns its index page.

    The same runs give the same bytes. `out` is replaced as a whole if it is a site of vtbench, created if it is not
    there, and refused if it is anything else. A run that is damaged is left out of the page and noted in `left_out`
    with the reason, or warned of where that is None; VtbenchError if none is left.
    """
    bad = {} if left_out is None else left_out
    page = write_site([Path(r) for r in runs], Path(out), bad)
    for why in bad.values() if left_out is None else ():
        warnings.warn(f"left out of the page: {why}", stacklevel=2)
    return page
