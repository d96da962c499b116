"""Verbs of GenEval: score detections, detect, prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vtbench.cli.apps import answer
from vtbench.cli.options import AsJson, Device, JsonFile
from vtbench.cli.progress import Loading, counter, stage
from vtbench.types.errors import VtbenchError


def geneval_score(
    cases: Annotated[Path, typer.Argument(help="JSONL, one case a line: metadata and detections.")],
    as_json: AsJson = False,
    json_file: JsonFile = None,
) -> None:
    """Score detections that you already have, as the reference implementation does."""
    from vtbench.tasks.geneval.scores import score_file

    scores = score_file(cases)
    answer(scores.as_dict(), scores.text(), as_json=as_json, json_file=json_file)


def geneval_detect(
    images: Annotated[Path, typer.Argument(help="What `vtbench generate` wrote, or the reference's image folder.")],
    out: Annotated[Path, typer.Option(help="The .jsonl of cases to write; its record stands beside, .record.json.")],
    detector: Annotated[str, typer.Option(help="A Mask2Former of transformers: a folder or a hub id.")] = "",
    revision: Annotated[str | None, typer.Option(help="The hub's commit of the detector.")] = None,
    weights: Annotated[
        Path | None, typer.Option(help="mmdet's own checkpoint, the reference's detector, in place of --detector.")
    ] = None,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Detect objects and colours with Mask2Former and CLIP; the score is geneval with the reference's own weights,
    geneval-hf with others."""
    if weights is not None and (detector or revision):
        raise VtbenchError("--weights is a detector already: leave out --detector and --revision")
    with stage(Loading()):
        from vtbench.tasks.geneval.detect import pictures, run
        from vtbench.tasks.geneval.detector import DETECTOR, Detector
        from vtbench.tasks.geneval.scores import score_file

        asked = pictures(images)
        loaded = Detector(detector or DETECTOR, revision, device, None if weights is None else _mmdet(weights))
    with counter("detect") as tick:
        stated = run(asked, out, loaded, tick)
    scores = score_file(out)
    name = stated["name"] if stated["why"] is None else f"{stated['name']} ({stated['why']})"
    answer({"name": stated["name"], "cases": out, **scores.as_dict()}, f"{name}\n{scores.text()}", as_json=as_json)


def _mmdet(path: Path) -> Any:
    """The checkpoint of --weights, read without running anything in it."""
    import hashlib

    from vtbench.models import checkpoint
    from vtbench.tasks.geneval.mmdet import Checkpoint

    if not path.is_file():
        raise VtbenchError(f"--weights {path} is no file: give mmdet's checkpoint, or a folder as --detector")
    state = checkpoint.read(path, ("state_dict",))
    with path.open("rb") as source:
        return Checkpoint(state, path.name, hashlib.file_digest(source, "sha256").hexdigest())


def geneval_prompts(
    out: Annotated[Path, typer.Option(help="The .jsonl to write, in the reference's format.")],
    per_task: Annotated[int, typer.Option(help="Prompts of each of the six categories, at most 80.")] = 20,
    seed: Annotated[int, typer.Option(help="Another seed, other prompts.")] = 0,
    as_json: AsJson = False,
) -> None:
    """New prompts in GenEval's six categories; its own 553 are the suite `geneval`."""
    from vtbench.results.files import dumps, write_atomic
    from vtbench.tasks.geneval.prompts import make

    prompts = make(per_task, seed)
    write_atomic(out, "".join(dumps(p) + "\n" for p in prompts))
    answer({"out": out, "n": len(prompts)}, f"{len(prompts)} prompts: {out}", as_json=as_json)
