"""Verbs by which results leave and enter: verify, submit, add, diff, a local server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vtbench.cli.apps import answer, exit_with
from vtbench.cli.options import AsJson
from vtbench.cli.progress import stage
from vtbench.types.errors import VtbenchError

VERIFYING = "hashing files and computing scores again"
UNCHECKED = 3
"""Exit code where nothing wrong was seen and not all could be checked."""


def verify(
    runs: Annotated[list[Path], typer.Argument(help="Runs, or folders that hold runs.")], as_json: AsJson = False
) -> None:
    """Whether runs are what they were finished with: every file's sha256, every score from the rows.

    Exit code 0: verified. 1: changed, or does not add up. 3: nothing wrong was seen, but not all can be checked.
    """
    with stage(VERIFYING):
        from vtbench.publishing.verify import verify as verify_one
        from vtbench.results.record import find_runs

        verified = [verify_one(path) for path in find_runs(runs)]
    text = "\n".join(one.text() for one in verified)
    answer([one.as_dict() for one in verified], text, as_json=as_json)
    verdicts = {one.verdict for one in verified}
    if "changed" in verdicts:
        raise typer.Exit(1)
    if "unchecked" in verdicts:
        raise typer.Exit(UNCHECKED)


def submit(
    run: Annotated[Path, typer.Argument(help="A finished run's folder.")],
    out: Annotated[
        Path | None, typer.Option(help="The file, or a folder for it. Default: the run's name and .zip.")
    ] = None,
    small: Annotated[
        bool, typer.Option("--small", help="Leave tokens and features out: fewer scores can be computed again.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """One file of a run, to be added to a leaderboard: verified, without paths, user names and keys."""
    with stage(VERIFYING):
        from vtbench.publishing.submission import submit as submit_one

        submission = submit_one(run, out, small=small)
    answer(submission.as_dict(), submission.text(), as_json=as_json)


def add(
    submissions: Annotated[list[Path], typer.Argument(metavar="FILE...", help="What `submit` wrote.")],
    runs: Annotated[Path, typer.Option("--to", metavar="DIR", help="The folder of runs that the page is built from.")],
    as_json: AsJson = False,
) -> None:
    """Put submissions into a maintainers' folder of runs: what does not add up, or is there already, is refused."""
    added: dict[str, dict[str, object]] = {}
    refused: dict[str, str] = {}
    lines = []
    with stage(VERIFYING):
        from vtbench.publishing.submission import add as add_one

        for file in submissions:
            try:
                entry = add_one(file, runs)
            except VtbenchError as bad:
                refused[str(file)] = str(bad)
            else:
                added[str(file)] = entry.as_dict()
                lines.append(entry.text())
    answer({"added": added, "refused": refused}, "\n".join(lines), as_json=as_json)
    exit_with(refused.values())


def diff(
    old: Annotated[Path, typer.Argument(help="Runs, or a site, as they were.")],
    new: Annotated[Path, typer.Argument(help="The same as they are now.")],
    accept: Annotated[bool, typer.Option("--accept", help="Take jumps that look impossible, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Which runs came and went, and which numbers changed; a number that jumps is refused.

    Exit code 1: a number jumped (a PSNR by over 3 dB, one between 0 and 1 by over 0.1, another by half of itself).
    """
    with stage("reading runs"):
        from vtbench.publishing.changes import changes

        seen = changes(old, new)
    answer(seen.as_dict(), seen.text(), as_json=as_json)
    if not accept:
        exit_with(
            f"{change.what}: {change.metric} jumps from {change.old:.5g} to {change.new:.5g} ({change.why}): look into "
            "it, or give --accept"
            for change in seen.implausible
        )


def serve(
    site: Annotated[Path, typer.Argument(help="A folder that `leaderboard build` wrote.")],
    port: Annotated[int, typer.Option(help="0: any that is free.")] = 8000,
    as_json: AsJson = False,
) -> None:
    """Show a page at an address of this machine, for this machine alone, until Ctrl-C."""
    from vtbench.publishing.server import Server

    server = Server(site, port)
    answer({"address": server.address}, f"{server.address} (Ctrl-C ends it)", as_json=as_json)
    server.until_stopped()
