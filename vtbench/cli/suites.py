"""Verbs of suites: freeze."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from vtbench.cli.apps import answer, complain, exit_with
from vtbench.cli.options import AsJson
from vtbench.cli.progress import counter


def suite_freeze(
    images: Annotated[str, typer.Argument(metavar="DIR|GLOB", help="The images, as for --images.", show_default=False)],
    out: Annotated[Path, typer.Option(metavar="SUITE.jsonl", help="The manifest: in DIR, or in a folder above it.")],
    name: Annotated[str | None, typer.Option(help="The suite's name. Default: the folder's.")] = None,
    licence: Annotated[str | None, typer.Option(help="The images' licence, as CC0-1.0.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a manifest that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a manifest with the sha256 of every image's file and pixels; --images SUITE.jsonl then verifies them."""
    from vtbench.images.freezing import freeze

    with counter("freeze") as tick:
        frozen = freeze(images, out, name=name, licence=licence, force=force, progress=tick)
    for note in frozen.notes:
        complain(f"{images}: {note}")
    answer(asdict(frozen), f"{frozen.n} images of {frozen.name}: {frozen.path} (suite {frozen.hash})", as_json=as_json)
    exit_with(f"not frozen: {why}" for why in frozen.refused.values())
