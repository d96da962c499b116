"""Verbs that keep house: which runs there are and which are out of date, deleting one, and what the cache holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vtbench.cli import text
from vtbench.cli.apps import answer, exit_with
from vtbench.cli.options import AsJson
from vtbench.types.errors import VtbenchError
from vtbench.types.readable import bytes_in_words

GB = 10**9


def runs_list(
    paths: Annotated[list[Path] | None, typer.Argument(help="Runs, or folders that hold runs. Default: out.")] = None,
    as_json: AsJson = False,
) -> None:
    """Runs with model, task, images, date, versions, disk use, and which scores are of another version than here."""
    from vtbench.reporting.inventory import inventory

    listed = inventory(paths or [Path("out")])
    answer([run.as_dict() for run in listed], text.runs(listed), as_json=as_json)
    exit_with(f"{run.path}: {run.why}" for run in listed if run.why)


def runs_rm(runs: Annotated[list[Path], typer.Argument(help="Folders of runs.")], as_json: AsJson = False) -> None:
    """Delete runs. What is no run, a link, being written, or holds other files is refused."""
    from vtbench.results.removal import remove_run

    freed: dict[str, int] = {}
    refused: dict[str, str] = {}
    for path in runs:
        try:
            freed[str(path)] = remove_run(path)
        except VtbenchError as bad:
            refused[str(path)] = str(bad)
    lines = [f"{path}: deleted, {bytes_in_words(size)} freed" for path, size in freed.items()]
    answer({"deleted": freed, "refused": refused}, "\n".join(lines), as_json=as_json)
    exit_with(refused.values())


def cache_list(as_json: AsJson = False) -> None:
    """What the cache holds, folder by folder, and since when it was of no use."""
    from dataclasses import asdict

    from vtbench.results.cache_files import parts
    from vtbench.types.environment import cache_dir

    held = parts()
    answer([asdict(p) for p in held], text.cache(cache_dir(), held), as_json=as_json)


def cache_prune(
    older_than: Annotated[
        float | None, typer.Option(metavar="DAYS", help="What was of no use for so many days. Without any option: 30.")
    ] = None,
    max_size: Annotated[
        float | None, typer.Option(metavar="GB", help="The least recently used, until at most so much is left.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that vtbench makes again by itself.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove features, digests and readings that vtbench makes again; downloads and weights stay. Safe at any time."""
    from vtbench.results.cache_files import prune

    for name, value in (("--older-than", older_than), ("--max-size", max_size)):
        if value is not None and not 0 <= value < float("inf"):
            raise VtbenchError(f"{name} {value}: give 0 or more")
    days = 30.0 if older_than is None and max_size is None and not everything else older_than
    most = None if max_size is None else int(max_size * GB)
    pruned = prune(days=days, most=most, everything=everything, dry=dry_run)
    words = "would be removed" if dry_run else "removed"
    files = f"{pruned.files} file{'' if pruned.files == 1 else 's'} of {bytes_in_words(pruned.size)}"
    facts = {"files": pruned.files, "bytes": pruned.size, "bytes_left": pruned.left, "dry_run": dry_run}
    answer(facts, f"{files} {words}; {bytes_in_words(pruned.left)} left", as_json=as_json)
