"""`vtbench view`: the page of one run, in the browser where there is one."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from vtbench.cli.apps import answer
from vtbench.cli.options import AsJson
from vtbench.cli.progress import BUILDING, stage
from vtbench.types.errors import VtbenchError

NAMED = 3
"""So many of several runs are named where one is wanted."""


def view(
    run: Annotated[Path, typer.Argument(help="A run's folder, or a folder that holds a single one.")],
    out: Annotated[
        Path | None, typer.Option(help="Only write the page, to this folder. Default: beside the run, RUN.page.")
    ] = None,
    no_open: Annotated[bool, typer.Option("--no-open", help="Only write the page, and say where it lies.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the page of one run, open it in the browser, and say where it lies; --json opens nothing."""
    with stage(BUILDING):
        from vtbench import leaderboard

        one = _only_run(run)
        index = leaderboard.build([one], out or one.with_name(f"{one.name}.page"))
    # The page of the run's system has all that the run says; the index is that of many.
    pages = sorted((index.parent / "model").glob("*.html"))
    page = pages[0] if len(pages) == 1 else index
    wanted = out is None and not no_open and not as_json
    opened = wanted and _in_browser(page)
    beside = "" if opened or not wanted else "\nno browser is here to open it: take the folder to one"
    answer({"page": page, "site": index.parent, "opened": opened}, f"page: {page}{beside}", as_json=as_json)


def _only_run(path: Path) -> Path:
    from vtbench.results.record import find_runs

    runs = find_runs([path])
    if len(runs) > 1:
        some = ", ".join(map(str, runs[:NAMED])) + (f" and {len(runs) - NAMED} more" if len(runs) > NAMED else "")
        raise VtbenchError(
            f"{path} holds {len(runs)} runs ({some}): give one, or build a page of all with `vtbench leaderboard build "
            f"{path}`"
        )
    return runs[0].resolve()


def _in_browser(page: Path) -> bool:
    """Whether a browser was asked for the page. Without a screen none is: one of text would take the terminal."""
    import webbrowser

    has_screen = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
    if sys.platform.startswith("linux") and not has_screen:
        return False
    try:
        return webbrowser.open(page.as_uri())
    except webbrowser.Error:
        return False
