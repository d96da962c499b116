"""The entry point: every verb by its name, and the one place where what a user can mend becomes a sentence."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from vtbench.cli import verbs as verbs
from vtbench.cli.apps import app, complain, complain_at_length, say, show_tracebacks
from vtbench.types import interrupts
from vtbench.types.errors import VtbenchError
from vtbench.types.foreign import cause
from vtbench.types.outside import own_output
from vtbench.types.shortage import shortage
from vtbench.types.version import VERSION


def print_version(wanted: bool) -> None:
    if wanted:
        say(f"vtbench {VERSION}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Say where in the code an error arose; may stand anywhere.")
    ] = False,
) -> None:
    """Options of the command as a whole."""


def main() -> None:
    """Runs the command; standard output is its answer alone."""
    with own_output() as own, interrupts.remembered():
        _run(own)


def _run(own: bool) -> None:
    """One sentence and an exit code for what a user can mend. own: the process is this command's alone."""
    # Idle OpenMP workers sleep rather than spin: reading, the model and the metrics share the cores. Read by the
    # library when it is loaded, so it must stand here, before torch; who set it keeps their choice.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    debug = _taken_out("--debug")
    end: BaseException
    if debug:
        show_tracebacks()
    try:
        app()
        return
    except VtbenchError as bad:
        complain(bad)
        end, code = bad, bad.code
    except OSError as bad:
        # Whatever lies outside a run's folder: a site, a statistics file, a cache.
        from vtbench.results.files import trouble

        said = trouble(bad)
        complain(said)
        end, code = bad, said.code
    except (KeyboardInterrupt, SystemExit) as bad:
        # Typer turns Ctrl-C into the exit code of an interruption, and says nothing.
        if isinstance(bad, SystemExit) and bad.code != 130:
            raise
        complain("stopped; finished batches are kept, run the same command again to go on")
        end, code = bad, 130
    except Exception as bad:
        # What reaches this place was foreseen by nobody.
        fault = f"a fault of vtbench or of a library ({cause(bad)}): run it again with --debug, and report what it says"
        short = shortage(bad, "what the command is made of")
        complain(short or fault)
        end, code = bad, 2 if short is None else short.code
    if debug:
        complain_at_length(end)
    if own and code == 130:
        interrupts.leave(code)
    sys.exit(code)


def _taken_out(flag: str) -> bool:
    """Whether the flag was typed, wherever: before a verb, where Typer wants it, or behind."""
    typed = sys.argv[1 : sys.argv.index("--") if "--" in sys.argv else None]
    if flag not in typed:
        return False
    sys.argv.remove(flag)
    return True
