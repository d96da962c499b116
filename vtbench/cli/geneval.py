"""Verbs of GenEval: score detections, detect, prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vtbench.cli.apps import answer
from vtbench.cli.options import AsJson, Device, JsonFile
from vtbench.cli.progress import counter


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
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Detect objects and colours with Mask2Former and CLIP; the score is named geneval-hf."""
    from vtbench.tasks.geneval.detect import NAME, run
    from vtbench.tasks.geneval.detector import DETECTOR
    from vtbench.tasks.geneval.scores import score_file

    with counter("detect") as tick:
        run(images, out, detector or DETECTOR, revision, device, tick)
    scores = score_file(out)
    said = f"{NAME} (other detector weights than the reference's: no published GenEval)\n{scores.text()}"
    answer({"name": NAME, "cases": out, **scores.as_dict()}, said, as_json=as_json)


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
