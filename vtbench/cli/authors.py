"""Verbs for authors of adapters: check, parity with upstream, parameters' names."""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vtbench.cli import text
from vtbench.cli.apps import answer, say
from vtbench.cli.options import AcceptLicence, AsJson, Checkpoint, Device, Dtype, Option, Prefix, accept, known, single
from vtbench.cli.progress import Loading, stage
from vtbench.types.errors import VtbenchError

if TYPE_CHECKING:
    from vtbench.proving.sheet import Check


def check(
    model: Annotated[str, typer.Argument(help="A registered name or path/to/file.py@name; with --tower, a reducer's.")],
    tower: Annotated[
        str | None, typer.Option(help="Folder or hub id of the model whose visual tokens the reducer drops.")
    ] = None,
    keep: Annotated[
        int | None,
        typer.Option(help="How many tokens go on; unless said one of four, in a language model one of three."),
    ] = None,
    checkpoint: Checkpoint = None,
    prefix: Prefix = None,
    option: Option = None,
    accept_licence: AcceptLicence = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    as_json: AsJson = False,
) -> None:
    """The contract that every adapter, or reducer of tokens, must pass, in words."""
    accept(accept_licence)
    if tower is None:
        from vtbench.proving.reducer_contract import refuse_without_tower

        refuse_without_tower(model)
        known([model])
    with contextlib.ExitStack() as waiting:
        waiting.enter_context(stage(Loading()))
        from vtbench.proving.contract import check as check_contract

        def show(one: Check) -> None:
            waiting.close()
            say(text.check(one))

        checks = check_contract(
            model,
            options=single(option),
            checkpoint=checkpoint,
            prefix=prefix,
            device=device,
            dtype=dtype,
            tower=tower,
            keep=keep,
            say=None if as_json else show,
        )
    failed = sum(c.status == "failed" for c in checks)
    skipped = sum(c.status == "not checked" for c in checks)
    summary = f"{model}: {len(checks) - failed - skipped} passed, {failed} failed, {skipped} not checked"
    answer([c.as_dict() for c in checks], summary, as_json=as_json)
    if failed:
        raise typer.Exit(1)


def adapter_parity(
    fixtures: Annotated[list[Path], typer.Argument(help="Fixture .json files; the .npz stands beside.")],
    as_json: AsJson = False,
) -> None:
    """Our network against upstream's recorded outputs, filled by parameter name."""
    reports: list[dict[str, Any]] = []
    for path in fixtures:
        try:
            with stage(f"{path.name}: upstream's outputs and ours"):
                from vtbench.proving.parity import check_fixture

                report = check_fixture(path)
        except VtbenchError as bad:
            line, facts = f"{path.name}: FAILED: {bad}", {"name": path.name, "ok": False, "reasons": [str(bad)]}
        else:
            line, facts = report.line(), {**asdict(report), "ok": report.ok}
        reports.append(facts)
        if not as_json:
            say(line)
    if as_json:
        answer(reports, "", as_json=True)
    if not all(report["ok"] for report in reports):
        raise typer.Exit(1)


def adapter_manifest(
    model: Annotated[str, typer.Argument(help="A model's name or alias.")], as_json: AsJson = False
) -> None:
    """Every parameter name and shape that the model expects; allocates no memory."""
    with stage(Loading()):
        from vtbench.models.names import manifest_of

        shapes = manifest_of(model)
    answer(shapes, "\n".join(f"{name} {shape}" for name, shape in shapes.items()), as_json=as_json)
