"""Verbs that study results: compare, explain, the leaderboard's page, and quickstart, which shows all of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vtbench.cli.apps import answer, exit_with
from vtbench.cli.options import (
    AsJson,
    Checkpoint,
    Code,
    Device,
    Icc,
    JsonFile,
    Option,
    Prefix,
    Readers,
    names_of,
    single,
    use_readers,
)
from vtbench.cli.progress import BUILDING, progress, stage
from vtbench.types.errors import VtbenchError

COMPARING = "comparing image by image"
MEASURING = "measuring under every convention"


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Two runs or more, on the same images and protocol.")],
    metrics: Annotated[
        str | None,
        typer.Option(help="Names, or path/to/file.py@name, with commas; default: all that both have."),
    ] = None,
    as_json: AsJson = False,
    json_file: JsonFile = None,
) -> None:
    """Paired differences on the same images: interval, sign test, win rate, where they differ most."""
    with stage(COMPARING):
        from vtbench.reporting.compare import compare as differences

        comparison = differences(runs, names_of(metrics))
    answer(comparison.as_dict(), comparison.text(), as_json=as_json, json_file=json_file)


def explain(
    models: Annotated[list[str], typer.Argument(help="A model, a run, or folder:DIR; or two runs.")],
    claim: Annotated[
        list[str] | None,
        typer.Option(help="metric=value as somebody printed it, e.g. ssim=0.675; for two runs: metric."),
    ] = None,
    images: Annotated[str | None, typer.Option(help="Originals: suite, folder, glob or hf:NAME@REV.")] = None,
    checkpoint: Checkpoint = None,
    prefix: Prefix = None,
    option: Option = None,
    reference: Annotated[
        Path | None, typer.Option(help="Another set for FID and its like: images, or saved statistics.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first N images.")] = None,
    device: Device = "cpu",
    readers: Readers = None,
    icc: Icc = None,
    code: Code = None,
    as_json: AsJson = False,
    json_file: JsonFile = None,
) -> None:
    """Which convention a number was made under: what closes the gap first, or that none of these does."""
    use_readers(readers)
    with stage(MEASURING):
        from vtbench.explaining.explain import explain as explain_one
        from vtbench.explaining.runs import explain_runs

        if len(models) == 2:
            if images or checkpoint or option or reference or prefix is not None or icc is not None:
                raise VtbenchError(
                    "two runs state their own images, view and model: leave out --images, --icc, --checkpoint, "
                    "--prefix, --option and --reference"
                )
            explanation = explain_runs(
                Path(models[0]), Path(models[1]), claim or None, limit=limit, device=device, code=code
            )
        elif len(models) == 1:
            explanation = explain_one(
                models[0],
                single(claim, "--claim"),
                images=images,
                checkpoint=checkpoint,
                prefix=prefix,
                options=single(option),
                reference=reference,
                limit=limit,
                device=device,
                icc=icc,
                code=code,
            )
        else:
            raise VtbenchError(f"{len(models)} systems were given: explain takes a model with --claim, or two runs")
    answer(explanation.as_dict(), explanation.text(), as_json=as_json, json_file=json_file)


def leaderboard_build(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="Runs, or folders that hold runs; none: what is published.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the site.")] = Path("site"),
    as_json: AsJson = False,
) -> None:
    """Static pages that open from disk without network or JavaScript."""
    left_out: dict[Path, str] = {}
    with stage(BUILDING):
        from vtbench import leaderboard
        from vtbench.results.record import find_runs

        site = leaderboard.build(find_runs(runs or []), out, left_out)
    answer({"site": site, "left_out": left_out}, str(site), as_json=as_json)
    exit_with(f"left out of the page: {why}" for why in left_out.values())


def quickstart(
    out: Annotated[Path, typer.Option(help="Folder of runs and page.")] = Path("out/quick"), as_json: AsJson = False
) -> None:
    """Built-in tokenizers and a generator on the built-in suites, and the page. Offline, a few minutes."""
    with progress() as update:
        from vtbench.cli.quickstart import run

        page, failures = run(out, update)
    answer({"page": page, "failures": failures}, f"page: {page}", as_json=as_json)
    exit_with(f"{name} failed: {why}" for name, why in failures.items())
