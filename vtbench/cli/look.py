"""Verbs that look at what there is: list, doctor, identify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vtbench.cli import text
from vtbench.cli.apps import answer
from vtbench.cli.diagnosis import diagnosis
from vtbench.cli.options import AsJson
from vtbench.cli.progress import stage
from vtbench.cli.tables import terminal_width
from vtbench.types.errors import VtbenchError, near


def list_(
    what: Annotated[str, typer.Argument(help="models, families, suites, tasks, metrics or reducers.")] = "models",
    pattern: Annotated[
        str | None, typer.Argument(help="Only what has this in its name, alias, family or title; * and ? for a name.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="Of models: codec, discrete, continuous, closed or generator; with commas.")
    ] = None,
    family: Annotated[str | None, typer.Option(help="Models of one family.")] = None,
    ready: Annotated[bool, typer.Option("--ready", help="Only what can be used at once, without a download.")] = False,
    as_json: AsJson = False,
) -> None:
    """What there is, what each needs, and whether it is here. Imports no torch."""
    from vtbench.cli.catalogue import LISTS
    from vtbench.cli.listing import chosen, listing

    if what not in LISTS:
        raise VtbenchError(
            f"there is no list of {what!r}{near(what, LISTS)}: give {', '.join(LISTS)}, or `vtbench list models "
            f"{what}` to look for it among the models"
        )
    entries = LISTS[what]()
    shown = chosen(what, entries, pattern=pattern, kind=kind, family=family, ready=ready)
    answer(shown, listing(what, shown, terminal_width(), of=len(entries)), as_json=as_json)


def doctor(as_json: AsJson = False) -> None:
    """What is installed, which metric weights are here and verified, what a missing thing would enable."""
    with stage("looking at packages, devices and weights"):
        from vtbench.cli import catalogue

        report = catalogue.doctor()
    answer(report, diagnosis(report), as_json=as_json)


def identify(file: Annotated[Path, typer.Argument(help="A checkpoint file.")], as_json: AsJson = False) -> None:
    """Which model a checkpoint is, from its names and shapes."""
    with stage("comparing names and shapes with every model"):
        from vtbench.models.identify import identify_file

        matches = identify_file(file)
    answer([m.as_dict() for m in matches], text.identified(file, matches), as_json=as_json)
    if not matches:
        raise typer.Exit(1)
