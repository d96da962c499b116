"""Cases on disk: one prompt's metadata and the detections on one image a line; a bad line is refused by its number."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vtbench.tasks.geneval.verdicts import Detection
from vtbench.tasks.geneval.vocabulary import CATEGORIES, COLORS, RELATIONS
from vtbench.types.errors import VtbenchError, near


def read_cases(path: Path) -> Iterator[tuple[dict[str, Any], list[Detection]]]:
    """(metadata, detections) of every line; a bad line is refused by its number."""
    try:
        source = path.open("rb")
    except OSError as bad:
        raise VtbenchError(f"{path} cannot be read ({bad.strerror}): give a JSONL file of cases") from bad
    with source:
        for number, line in enumerate(source, 1):
            if not line.strip():
                continue
            where = f"{path} line {number}"
            try:
                case = json.loads(line)
            except ValueError as bad:
                raise VtbenchError(f"{where} is not JSON ({bad}): one case a line") from bad
            for key, kind in (("metadata", dict), ("detections", list)):
                if not isinstance(case, dict) or not isinstance(case.get(key), kind):
                    raise VtbenchError(
                        f'{where} is no case, it lacks {key}: wanted {{"metadata": {{…}}, "detections": '
                        '[{"cls", "box", "score", "color"}]}'
                    )
            check_metadata(case["metadata"], where)
            yield case["metadata"], [_detection(d, where) for d in case["detections"]]


def check_metadata(metadata: Mapping[str, Any], where: str) -> None:
    """Refuses metadata that the reference could not judge."""
    tag = metadata.get("tag")
    if tag not in CATEGORIES:
        raise VtbenchError(
            f"{where}: the tag is {tag!r}{near(str(tag), CATEGORIES)}: wanted one of {', '.join(CATEGORIES)}"
        )
    for key in ("include", "exclude"):
        clauses = metadata.get(key, [])
        if not isinstance(clauses, list):
            raise VtbenchError(f"{where}: {key} is {clauses!r}, but must be a list of clauses")
        for number, clause in enumerate(clauses):
            count = clause.get("count") if isinstance(clause, dict) else None
            if not isinstance(clause, dict) or not isinstance(clause.get("class"), str):
                raise VtbenchError(f"{where}: {key} has the clause {clause!r}: wanted a class and a count")
            if not isinstance(count, int) or isinstance(count, bool) or count < 0:
                raise VtbenchError(f"{where}: the count of {clause['class']} is {count!r}: wanted a whole number")
            if clause.get("color", COLORS[0]) not in COLORS:
                raise VtbenchError(f"{where}: {clause['color']!r} is no colour of GenEval: wanted {', '.join(COLORS)}")
            _check_position(clause, number, where)


def _check_position(clause: Mapping[str, Any], number: int, where: str) -> None:
    if "position" not in clause:
        return
    place = clause["position"]
    if not (isinstance(place, list) and len(place) == 2 and place[0] in RELATIONS and isinstance(place[1], int)):
        raise VtbenchError(
            f"{where}: the position of {clause['class']} is {place!r}: wanted one of {', '.join(RELATIONS)} and the "
            "number of a clause"
        )
    if not 0 <= place[1] < number:
        raise VtbenchError(
            f"{where}: {clause['class']} is placed against clause {place[1]}, which is not before it: clauses count "
            "from 0"
        )


def _detection(entry: Any, where: str) -> Detection:
    if not isinstance(entry, dict) or not isinstance(entry.get("cls"), str):
        raise VtbenchError(f"{where}: a detection is {str(entry)[:80]}: wanted cls, box and score")
    name, color = entry["cls"], entry.get("color")
    box: Any = entry.get("box")
    score: Any = entry.get("score")
    if not isinstance(box, list) or len(box) != 4 or not all(_finite(v) for v in box):
        raise VtbenchError(f"{where}: the box of a {name} is {box!r}: wanted four finite numbers x1, y1, x2, y2")
    if box[2] < box[0] or box[3] < box[1]:
        raise VtbenchError(f"{where}: the box of a {name} is {box!r}, right of its own end: wanted x1, y1, x2, y2")
    if not _finite(score) or not 0 <= score <= 1 + 1e-6:
        raise VtbenchError(f"{where}: the score of a {name} is {score!r}: wanted a number from 0 to 1")
    if color is not None and not isinstance(color, str):
        raise VtbenchError(f"{where}: the colour of a {name} is {color!r}: wanted a word or null")
    return Detection(name, (float(box[0]), float(box[1]), float(box[2]), float(box[3])), float(score), color)


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
