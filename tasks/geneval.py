"""GenEval's scorer: detections -> verdicts, faithful to the reference.

Reference: djghosh13/geneval, evaluation/evaluate_images.py and evaluation/summary_scores.py, commit 16f1681
(Ghosh et al., "GenEval", NeurIPS 2023). Objects are those with a confidence over 0.3 (0.9 for counting), best first, at
most 16 a class; NMS is off (threshold 1.0); the colour and position of the most confident objects decide; overall is
the unweighted mean of the task means, not the mean over images.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vtbench.types.errors import VtbenchError, near

THRESHOLD = 0.3
COUNTING_THRESHOLD = 0.9
MAX_OBJECTS = 16
MAX_OVERLAP = 1.0
"""Overlap (IoU) at which of two objects of a class the weaker is dropped; 1 keeps both, as the reference does."""
POSITION_THRESHOLD = 0.1
RELATIONS = ("left of", "right of", "above", "below")
COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
TASKS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
COMPLETE = {"single_object": 80, "two_object": 99, "counting": 80, "colors": 94, "position": 100, "color_attr": 100}
"""Prompts of the reference set (553), four images each."""
IMAGES_PER_PROMPT = 4

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Detection:
    """box: x1, y1, x2, y2 in pixels; color: the classifier's answer, None where nobody asked."""

    cls: str
    box: Box
    score: float
    color: str | None = None


@dataclass(frozen=True)
class Verdict:
    correct: bool
    reasons: tuple[str, ...]


def overlap(a: Box, b: Box) -> float:
    """Intersection over union with the reference's inclusive pixels (+1)."""

    def area(x1: float, y1: float, x2: float, y2: float) -> float:
        return max(x2 - x1 + 1, 0) * max(y2 - y1 + 1, 0)

    inner = area(max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3]))
    union = area(*a) + area(*b) - inner
    return inner / union if union else 0.0


def relations(a: Box, b: Box) -> set[str]:
    """Where a is relative to b, with the objects' sizes allowed for; empty if neither direction stands out."""
    offset = [(a[i] + a[i + 2]) / 2 - (b[i] + b[i + 2]) / 2 for i in (0, 1)]
    sizes = [abs(a[i + 2] - a[i]) + abs(b[i + 2] - b[i]) for i in (0, 1)]
    left = [math.copysign(max(abs(o) - POSITION_THRESHOLD * s, 0.0), o) for o, s in zip(offset, sizes, strict=True)]
    if all(abs(v) < 1e-3 for v in left):
        return set()
    length = math.hypot(*offset)
    dx, dy = left[0] / length, left[1] / length
    tests = {"left of": dx < -0.5, "right of": dx > 0.5, "above": dy < -0.5, "below": dy > 0.5}
    return {name for name, holds in tests.items() if holds}


def kept(detections: Iterable[Detection], tag: str) -> dict[str, list[Detection]]:
    """The objects that count, by class, best first."""
    threshold = COUNTING_THRESHOLD if tag == "counting" else THRESHOLD
    by_class: dict[str, list[Detection]] = defaultdict(list)
    for found in detections:
        if found.score > threshold:
            by_class[found.cls].append(found)
    out = {}
    for name, found_here in by_class.items():
        # The reference reverses an ascending argsort, so the later of two equal scores comes first.
        ordered = sorted(found_here, key=lambda d: d.score)[::-1][:MAX_OBJECTS]
        chosen: list[Detection] = []
        while ordered:
            best = ordered.pop(0)
            chosen.append(best)
            ordered = [o for o in ordered if MAX_OVERLAP == 1 or overlap(best.box, o.box) < MAX_OVERLAP]
        out[name] = chosen
    return out


def judge(objects: Mapping[str, Sequence[Detection]], metadata: Mapping[str, Any]) -> Verdict:
    """All `include` clauses hold and no `exclude` clause does."""
    reasons: list[str] = []
    groups: list[Sequence[Detection] | None] = []
    for wanted in metadata.get("include", ()):
        name, count = wanted["class"], int(wanted["count"])
        found = list(objects.get(name, ()))[:count]
        before = len(reasons)
        if len(found) < count:
            reasons.append(f"expected {name}>={count}, found {len(found)}")
        else:
            if "color" in wanted:
                reasons += _colour(name, count, wanted["color"], [d.color for d in found])
            if "position" in wanted and len(reasons) == before:
                relation, target = wanted["position"]
                if not 0 <= target < len(groups):
                    raise VtbenchError(f"the metadata places {name} against clause {target}, which is not before it")
                reasons += _position(name, relation, found, groups[target])
        groups.append(found if len(reasons) == before else None)
    for unwanted in metadata.get("exclude", ()):
        number = len(objects.get(unwanted["class"], ()))
        if number >= int(unwanted["count"]):
            reasons.append(f"expected {unwanted['class']}<{unwanted['count']}, found {number}")
    return Verdict(not reasons, tuple(reasons))


def _colour(name: str, count: int, color: str, found: Sequence[str | None]) -> list[str]:
    if found.count(color) >= count:
        return []
    seen = ", ".join(f"{found.count(c)} {c}" for c in COLORS if c in found)
    return [f"expected {color} {name}>={count}, found {found.count(color)} {color}; and {seen}"]


def _position(name: str, relation: str, found: Sequence[Detection], target: Sequence[Detection] | None) -> list[str]:
    if target is None:
        return [f"no target for {name} to be {relation}"]
    for one in found:
        for other in target:
            true = relations(one.box, other.box)
            if relation not in true:
                return [f"expected {name} {relation} target, found {' and '.join(sorted(true))} target"]
    return []


def verdict(detections: Iterable[Detection], metadata: Mapping[str, Any]) -> Verdict:
    """The reference's verdict on one image."""
    return judge(kept(detections, str(metadata["tag"])), metadata)


@dataclass
class Scores:
    """tasks: {tag: share of correct images}; overall: the mean of the task means; `warnings` name what is missing."""

    overall: float | None
    tasks: dict[str, float]
    counts: dict[str, int]
    cases: list[Verdict]
    warnings: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {
            "overall": self.overall,
            "tasks": self.tasks,
            "n": self.counts,
            "warnings": self.warnings,
            "cases": [{"correct": c.correct, "reasons": list(c.reasons)} for c in self.cases],
        }

    def text(self) -> str:
        lines = [f"{tag:14} {100 * self.tasks[tag]:6.2f} %  n={self.counts[tag]}" for tag in self.tasks]
        overall = "—" if self.overall is None else f"{self.overall:.5f}"
        lines.append(f"overall        {overall}  (mean of {len(self.tasks)} task means, n={len(self.cases)})")
        return "\n".join([*lines, *(f"warning: {w}" for w in self.warnings)])


def summarise(tags: Sequence[str], cases: Sequence[Verdict], prompts: Sequence[str] = ()) -> Scores:
    """Task means and their unweighted mean; an incomplete or unbalanced set is warned of."""
    right: dict[str, list[bool]] = defaultdict(list)
    for tag, case in zip(tags, cases, strict=True):
        right[tag].append(case.correct)
    order = [t for t in TASKS if t in right]
    tasks = {t: sum(right[t]) / len(right[t]) for t in order}
    overall = sum(tasks.values()) / len(tasks) if tasks else None
    warnings = []
    odd = [f"{t} {len(right.get(t, ()))} of {n * IMAGES_PER_PROMPT}" for t, n in COMPLETE.items()
           if len(right.get(t, ())) != n * IMAGES_PER_PROMPT]  # fmt: skip
    if odd:
        warnings.append(
            f"not the whole set of 553 prompts x 4 images ({', '.join(odd)}): not comparable with a published score"
        )
    elif uneven := [p for p, n in Counter(prompts).items() if n != IMAGES_PER_PROMPT]:
        warnings.append(
            f"{len(uneven)} prompts have not {IMAGES_PER_PROMPT} images each ({uneven[0]!r} has "
            f"{Counter(prompts)[uneven[0]]}): not comparable with a published score"
        )
    return Scores(overall, tasks, {t: len(right[t]) for t in order}, list(cases), warnings)


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
    if tag not in TASKS:
        raise VtbenchError(f"{where}: the tag is {tag!r}{near(str(tag), TASKS)}: wanted one of {', '.join(TASKS)}")
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


def _detection(found: Any, where: str) -> Detection:
    if not isinstance(found, dict) or not isinstance(found.get("cls"), str):
        raise VtbenchError(f"{where}: a detection is {str(found)[:80]}: wanted cls, box and score")
    name, color = found["cls"], found.get("color")
    box: Any = found.get("box")
    score: Any = found.get("score")
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


def score_file(path: Path) -> Scores:
    """Verdicts on every case of a JSONL file, in its order."""
    tags, cases, prompts, unknown = [], [], [], set[str]()
    names = _names()
    for metadata, detections in read_cases(path):
        tags.append(metadata["tag"])
        prompts.append(str(metadata.get("prompt", json.dumps(metadata, sort_keys=True))))
        cases.append(verdict(detections, metadata))
        unknown |= {d.cls for d in detections} - names
        unknown |= {c["class"] for key in ("include", "exclude") for c in metadata.get(key, ())} - names
    if not cases:
        raise VtbenchError(f"{path} holds no case: one JSON object a line")
    made = summarise(tags, cases, prompts)
    if unknown:
        first = sorted(unknown)[0]
        made.warnings.append(f"classes beside GenEval's 80 ({len(unknown)}): {first}{near(first, names)}")
    return made


def _names() -> frozenset[str]:
    from vtbench.tasks.geneval_prompts import COCO

    return frozenset(COCO)
