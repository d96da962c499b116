"""GenEval's scorer: detections -> verdicts, faithful to the reference.

Reference: djghosh13/geneval, evaluation/evaluate_images.py and evaluation/summary_scores.py, commit 16f1681
(Ghosh et al., "GenEval", NeurIPS 2023). Objects are those with a confidence over 0.3 (0.9 for counting), best first, at
most 16 a class; NMS is off (threshold 1.0); the colour and position of the most confident objects decide; overall is
the unweighted mean of the task means, not the mean over images.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vtbench.errors import VtbenchError

THRESHOLD = 0.3
COUNTING_THRESHOLD = 0.9
MAX_OBJECTS = 16
MAX_OVERLAP = 1.0
"""Overlap (IoU) at which of two objects of a class the weaker is dropped; 1 keeps both, as the reference does."""
POSITION_THRESHOLD = 0.1
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
    order = [t for t in TASKS if t in right] + sorted(t for t in right if t not in TASKS)
    tasks = {t: sum(right[t]) / len(right[t]) for t in order}
    overall = sum(tasks.values()) / len(tasks) if tasks else None
    warnings = []
    odd = [f"{t} {len(right.get(t, ()))} of {n * IMAGES_PER_PROMPT}" for t, n in COMPLETE.items()
           if len(right.get(t, ())) != n * IMAGES_PER_PROMPT]  # fmt: skip
    if odd:
        warnings.append(
            f"not the whole set of 553 prompts x 4 images ({', '.join(odd)}): not comparable with a published score"
        )
    return Scores(overall, tasks, {t: len(right[t]) for t in order}, list(cases), warnings)


def read_cases(path: Path) -> Iterator[tuple[dict[str, Any], list[Detection]]]:
    """(metadata, detections) of every line; a bad line is refused by its number."""
    try:
        source = path.open(encoding="utf-8")
    except OSError as bad:
        raise VtbenchError(f"{path} cannot be read ({bad.strerror}): give a JSONL file of cases") from bad
    with source:
        for number, line in enumerate(source, 1):
            if not line.strip():
                continue
            try:
                case = json.loads(line)
                metadata = case["metadata"]
                _check(metadata)
                yield metadata, [_detection(d) for d in case["detections"]]
            except (ValueError, KeyError, TypeError, AttributeError) as bad:
                what = f"{type(bad).__name__}: {bad}"
                raise VtbenchError(
                    f'{path} line {number} is no case ({what}): wanted {{"metadata": …, "detections": '
                    '[{"cls", "box", "score", "color"}]}'
                ) from bad


def _check(metadata: Mapping[str, Any]) -> None:
    if not isinstance(metadata["tag"], str):
        raise TypeError("tag is not a text")
    for clause in [*metadata.get("include", ()), *metadata.get("exclude", ())]:
        if not isinstance(clause["class"], str) or not isinstance(clause["count"], int):
            raise TypeError("a clause needs a class and a whole count")


def _detection(found: Mapping[str, Any]) -> Detection:
    box = [float(v) for v in found["box"]]
    score = float(found["score"])
    if len(box) != 4 or not all(math.isfinite(v) for v in (*box, score)):
        raise ValueError("a box is four finite numbers, a score one")
    color = found.get("color")
    return Detection(str(found["cls"]), (box[0], box[1], box[2], box[3]), score, None if color is None else str(color))


def score_file(path: Path) -> Scores:
    """Verdicts on every case of a JSONL file, in its order."""
    tags, cases = [], []
    for metadata, detections in read_cases(path):
        tags.append(metadata["tag"])
        cases.append(verdict(detections, metadata))
    if not cases:
        raise VtbenchError(f"{path} holds no case: one JSON object a line")
    return summarise(tags, cases)
