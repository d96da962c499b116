"""The entry point: every verb by its name, and the one place where what a user can mend becomes a sentence."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from vtbench.cli import authors, geneval, housekeeping, look, measure, study
from vtbench.cli.apps import adapter_app, app, cache_app, complain, geneval_app, leaderboard_app, runs_app, say
from vtbench.types.errors import VtbenchError
from vtbench.types.version import VERSION

# In the order of `vtbench --help`.
app.command("list")(look.list_)
app.command()(measure.evaluate)
app.command()(measure.score)
app.command()(measure.generate)
app.command()(measure.statistics)
app.command()(authors.check)
app.command()(study.quickstart)
app.command()(measure.merge)
app.command()(study.compare)
app.command()(study.explain)
app.command()(look.doctor)
app.command()(look.identify)
app.add_typer(leaderboard_app, name="leaderboard")
leaderboard_app.command("build")(study.leaderboard_build)
app.add_typer(runs_app, name="runs")
runs_app.command("list")(housekeeping.runs_list)
runs_app.command("rm")(housekeeping.runs_rm)
app.add_typer(cache_app, name="cache")
cache_app.command("list")(housekeeping.cache_list)
cache_app.command("prune")(housekeeping.cache_prune)
app.add_typer(adapter_app, name="adapter")
adapter_app.command("parity")(authors.adapter_parity)
adapter_app.command("manifest")(authors.adapter_manifest)
app.add_typer(geneval_app, name="geneval")
geneval_app.command("score")(geneval.geneval_score)
geneval_app.command("detect")(geneval.geneval_detect)
geneval_app.command("prompts")(geneval.geneval_prompts)


def print_version(wanted: bool) -> None:
    if wanted:
        say(f"vtbench {VERSION}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options of the command as a whole."""


def main() -> None:
    """Runs the command: one sentence and an exit code for what a user can mend."""
    # Idle OpenMP workers sleep rather than spin: reading, the model and the metrics share the cores. Read by the
    # library when it is loaded, so it must stand here, before torch; who set it keeps their choice.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except VtbenchError as bad:
        complain(bad)
        sys.exit(bad.code)
    except OSError as bad:
        # Whatever lies outside a run's folder: a site, a statistics file, a cache.
        from vtbench.results.files import trouble

        complain(trouble(bad))
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as end:
        # Typer turns Ctrl-C into the exit code of an interruption, and says nothing.
        if isinstance(end, SystemExit) and end.code != 130:
            raise
        complain("stopped; finished batches are kept, run the same command again to go on")
        sys.exit(130)
