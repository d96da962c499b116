"""Images of GenEval's prompts -> cases that the scorer judges.

With the reference's own detector, the file that its script fetches, the score is named `geneval`; with any other
weights `geneval-hf`, which does not stand beside a published GenEval. Colours are asked only of the objects that a
clause with a colour will look at.
"""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench.images.limits import inside
from vtbench.images.reading import decode
from vtbench.results.drawings import read_notes
from vtbench.results.files import dumps, write_atomic, write_json
from vtbench.tasks.geneval import mmdet, verdicts
from vtbench.tasks.geneval.cases import check_metadata
from vtbench.tasks.geneval.colours import Colours
from vtbench.tasks.geneval.detector import Detector
from vtbench.tasks.geneval.verdicts import Detection
from vtbench.types.errors import VtbenchError

if TYPE_CHECKING:
    import numpy as np

NAME, NAME_OF_OTHERS = "geneval", "geneval-hf"
Progress = Callable[[int, int], None]
"""(images done, images in all)."""


@dataclass(frozen=True)
class Picture:
    """An image of a prompt: a file and the prompt's metadata in the reference's format."""

    path: Path
    metadata: Mapping[str, Any]


def detections(
    rgb: np.ndarray[Any, Any], metadata: Mapping[str, Any], detector: Detector, colours: Callable[[], Colours]
) -> list[Detection]:
    """What the detector sees on one picture, with colours where a clause asks for them."""
    instances = detector.detect(rgb)
    named: dict[int, str] = {}
    kept = verdicts.kept([i.detection for i in instances], str(metadata["tag"]))
    by_detection = {id(i.detection): k for k, i in enumerate(instances)}
    for clause in metadata.get("include", ()):
        objects = kept.get(clause["class"], [])[: int(clause["count"])]
        if "color" not in clause or len(objects) < int(clause["count"]):
            continue
        places = [by_detection[id(d)] for d in objects]
        answers = colours().ask(rgb, [instances[k] for k in places], clause["class"])
        named |= dict(zip(places, answers, strict=True))
    return [replace(i.detection, color=named.get(k)) for k, i in enumerate(instances)]


def pictures(folder: Path) -> list[Picture]:
    """Images with their prompts: a folder of `vtbench generate` (samples.jsonl), or one in the reference's layout
    (00000/metadata.jsonl, 00000/samples/0000.png)."""
    if not folder.is_dir():
        raise VtbenchError(f"{folder} is no folder: give what `vtbench generate --suite geneval` wrote")
    lines = folder / "samples.jsonl"
    if lines.is_file():
        images = [Picture(folder / note.file, _checked(note.metadata, lines)) for note in read_notes(lines)]
    else:
        images = list(_reference_layout(folder))
    if not images:
        raise VtbenchError(
            f"{folder} holds neither samples.jsonl nor 00000/metadata.jsonl with 00000/samples/0000.png: give images "
            "of GenEval's prompts"
        )
    outside = next((p.path for p in images if os.path.lexists(p.path) and not inside(p.path, [folder])), None)
    if outside is not None:
        raise VtbenchError(f"{outside} leads out of {folder}, and is not read: copy the image into it")
    lost = [p.path for p in images if not p.path.is_file()]
    if lost:
        raise VtbenchError(f"{lost[0]} is missing ({len(lost)} of {len(images)} images): generate it again")
    return images


def _checked(metadata: Any, where: Path) -> Mapping[str, Any]:
    if not isinstance(metadata, Mapping) or "tag" not in metadata:
        raise VtbenchError(f"{where} has a prompt without GenEval's metadata (tag, include): use GenEval's prompts")
    check_metadata(metadata, str(where))
    return metadata


def _reference_layout(folder: Path) -> Iterator[Picture]:
    for place in sorted(p for p in folder.iterdir() if p.is_dir() and p.name.isdigit()):
        file = place / "metadata.jsonl"
        try:
            metadata = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as bad:
            raise VtbenchError(f"{file} cannot be read ({bad}): it should hold the prompt's metadata") from bad
        samples = place / "samples"
        names = sorted(p for p in samples.iterdir() if re.fullmatch(r"\d+\.png", p.name)) if samples.is_dir() else []
        yield from (Picture(p, _checked(metadata, file)) for p in names)


def detect(
    images: Sequence[Picture],
    detector: Detector,
    colours: Callable[[], Colours],
    progress: Progress | None = None,
) -> Iterator[dict[str, Any]]:
    """One case a picture, in their order: what `vtbench geneval score` reads."""
    for k, picture in enumerate(images, 1):
        rgb = decode(picture.path.read_bytes(), str(picture.path))
        entries = [
            {"cls": d.cls, "box": list(d.box), "score": d.score, "color": d.color}
            for d in detections(rgb, picture.metadata, detector, colours)
        ]
        yield {"id": str(picture.path), "metadata": dict(picture.metadata), "detections": entries}
        if progress is not None:
            progress(k, len(images))


def run(images: Sequence[Picture], out: Path, detector: Detector, progress: Progress | None = None) -> dict[str, Any]:
    """Cases of every picture to `out`, and beside it OUT.record.json with what the detector was, which is returned;
    both or neither."""
    loaded = list[Colours]()

    def colours() -> Colours:
        # A set without colours needs no CLIP.
        if not loaded:
            loaded.append(Colours(detector.device))
        return loaded[0]

    lines = [dumps(case) + "\n" for case in detect(images, detector, colours, progress)]
    stated = record(detector, loaded[0] if loaded else None)
    write_json(out.with_name(f"{out.name}.record.json"), stated)
    write_atomic(out, "".join(lines))
    return stated


def why_not(detector: Detector, colours: Colours | None) -> str | None:
    """Why a score is no GenEval but `geneval-hf`; None where every weight is the reference's."""
    if detector.checkpoint is None:
        return "transformers' Mask2Former has other weights than mmdet's: not comparable with a published GenEval"
    if not detector.checkpoint.official:
        return (
            f"{detector.checkpoint.file} has the names of mmdet's detector, but the sha256 "
            f"{detector.checkpoint.sha256[:8]}… and not {'… or '.join(mmdet.RELEASED)}…: not comparable with a "
            "published GenEval"
        )
    unverified = None if colours is None else colours.record["unverified"]
    return None if unverified is None else str(unverified)


def record(detector: Detector, colours: Colours | None) -> dict[str, Any]:
    """What a score made with them must state."""
    import torch
    import transformers

    why = why_not(detector, colours)
    return {
        "name": NAME if why is None else NAME_OF_OTHERS,
        "why": why,
        "detector": detector.record,
        "colours": None if colours is None else colours.record,
        "device": detector.device,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "thresholds": {
            "confidence": verdicts.THRESHOLD,
            "counting": verdicts.COUNTING_THRESHOLD,
            "max_objects": verdicts.MAX_OBJECTS,
            "max_overlap": verdicts.MAX_OVERLAP,
            "position": verdicts.POSITION_THRESHOLD,
        },
    }
