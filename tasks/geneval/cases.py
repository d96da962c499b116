"""Cases on disk: one prompt's metadata and the detections on one image a line; a bad line is refused by its number.

The reference's own results.jsonl is read as it is: its verdict (`correct`, `reason`), and as JSON in a text the
metadata and the boxes that it kept (`details`). Its colours are nowhere in the file, so that its verdict stands; where
a prompt asks for no colour, the boxes are judged again, and a verdict that they do not lead to is told of.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtbench.tasks.geneval.verdicts import Detection, Verdict, judge, verdict
from vtbench.tasks.geneval.vocabulary import CATEGORIES, COLORS, RELATIONS
from vtbench.types.errors import VtbenchError, near


@dataclass(frozen=True)
class Case:
    """A line: the prompt's metadata, what was detected, the verdict; `doubt` says why a stated verdict is not ours."""

    metadata: Mapping[str, Any]
    detections: tuple[Detection, ...]
    verdict: Verdict
    doubt: str | None = None


def read_cases(path: Path) -> Iterator[Case]:
    """Every line, judged; a bad line is refused by its number."""
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
            yield _case(case, where)


def _case(case: Any, where: str) -> Case:
    if not isinstance(case, dict):
        case = {}
    metadata, detections = (_from_text(case.get(key), where, key) for key in ("metadata", "detections"))
    of_reference = detections is None and "correct" in case
    for key, value, kind in (("metadata", metadata, dict), ("detections", detections, list)):
        if not isinstance(value, kind) and not (of_reference and key == "detections"):
            raise VtbenchError(
                f'{where} is no case, it lacks {key}: wanted {{"metadata": {{…}}, "detections": [{{"cls", "box", '
                '"score", "color"}]}, or a line of the reference\'s results.jsonl'
            )
    check_metadata(metadata, where)
    if of_reference:
        return _stated(case, metadata, where)
    seen = tuple(_detection(d, where) for d in detections)
    return Case(metadata, seen, verdict(seen, metadata))


def _from_text(value: Any, where: str, key: str) -> Any:
    """The reference writes JSON as a text inside its JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as bad:
        raise VtbenchError(
            f"{where}: {key} is a text that is not JSON ({bad}): give the file as it was written"
        ) from bad


def _stated(case: Mapping[str, Any], metadata: Mapping[str, Any], where: str) -> Case:
    """A line of results.jsonl."""
    correct, reason = case["correct"], case.get("reason", "")
    if not isinstance(correct, bool) or not isinstance(reason, str) or correct == bool(reason):
        raise VtbenchError(
            f"{where}: correct is {correct!r} and the reason {reason!r}: wanted true and no reason, or false and one"
        )
    if case.get("tag", metadata["tag"]) != metadata["tag"]:
        raise VtbenchError(f"{where}: the tag is {case['tag']!r}, and {metadata['tag']!r} in its metadata")
    details = _from_text(case.get("details", {}), where, "details")
    if not isinstance(details, dict) or not all(isinstance(boxes, list) for boxes in details.values()):
        raise VtbenchError(f"{where}: details is {str(details)[:80]}: wanted {{class: [[x1, y1, x2, y2, score]]}}")
    entries = [
        {"cls": name, "box": box[:4], "score": box[4]} if isinstance(box, list) and len(box) == 5 else box
        for name, boxes in details.items()
        for box in boxes
    ]
    seen = tuple(_detection(entry, where) for entry in entries)
    stated = Verdict(correct, tuple(reason.split("\n")) if reason else ())
    colours = any("color" in clause for clause in metadata.get("include", ()))
    ours = None if colours or "details" not in case else _again(seen, metadata)
    doubt = None if ours is None or ours == correct else f"{where} is {'right' if ours else 'wrong'} by its own boxes"
    return Case(metadata, seen, stated, doubt)


def _again(seen: Sequence[Detection], metadata: Mapping[str, Any]) -> bool:
    """The verdict by the boxes of `details`, which are those that counted, best first."""
    by_class: dict[str, list[Detection]] = {}
    for detection in seen:
        by_class.setdefault(detection.cls, []).append(detection)
    return judge(by_class, metadata).correct


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
