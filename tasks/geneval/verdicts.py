"""GenEval's scorer: the objects of one image -> a verdict, faithful to the reference.

Reference: djghosh13/geneval, evaluation/evaluate_images.py, commit 16f1681. Objects are those with a confidence over
0.3 (0.9 for counting), best first, at most 16 a class; NMS is off (threshold 1.0); the colour and position of the most
confident objects decide.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vtbench.tasks.geneval.vocabulary import COLORS
from vtbench.types.errors import VtbenchError

THRESHOLD = 0.3
COUNTING_THRESHOLD = 0.9
MAX_OBJECTS = 16
MAX_OVERLAP = 1.0
"""Overlap (IoU) at which of two objects of a class the weaker is dropped; 1 keeps both, as the reference does."""
POSITION_THRESHOLD = 0.1

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
    for detection in detections:
        if detection.score > threshold:
            by_class[detection.cls].append(detection)
    out = {}
    for name, objects in by_class.items():
        # The reference reverses an ascending argsort, so the later of two equal scores comes first.
        ordered = sorted(objects, key=lambda d: d.score)[::-1][:MAX_OBJECTS]
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
        chosen = list(objects.get(name, ()))[:count]
        before = len(reasons)
        if len(chosen) < count:
            reasons.append(f"expected {name}>={count}, found {len(chosen)}")
        else:
            if "color" in wanted:
                reasons += _colour(name, count, wanted["color"], [d.color for d in chosen])
            if "position" in wanted and len(reasons) == before:
                relation, target = wanted["position"]
                if not 0 <= target < len(groups):
                    raise VtbenchError(f"the metadata places {name} against clause {target}, which is not before it")
                reasons += _position(name, relation, chosen, groups[target])
        groups.append(chosen if len(reasons) == before else None)
    for unwanted in metadata.get("exclude", ()):
        number = len(objects.get(unwanted["class"], ()))
        if number >= int(unwanted["count"]):
            reasons.append(f"expected {unwanted['class']}<{unwanted['count']}, found {number}")
    return Verdict(not reasons, tuple(reasons))


def _colour(name: str, count: int, color: str, answers: Sequence[str | None]) -> list[str]:
    """The reason against, if fewer than `count` objects have the colour; answers: the classifier's, one an object."""
    if answers.count(color) >= count:
        return []
    seen = ", ".join(f"{answers.count(c)} {c}" for c in COLORS if c in answers)
    return [f"expected {color} {name}>={count}, found {answers.count(color)} {color}; and {seen}"]


def _position(name: str, relation: str, objects: Sequence[Detection], target: Sequence[Detection] | None) -> list[str]:
    if target is None:
        return [f"no target for {name} to be {relation}"]
    for one in objects:
        for other in target:
            true = relations(one.box, other.box)
            if relation not in true:
                return [f"expected {name} {relation} target, found {' and '.join(sorted(true))} target"]
    return []


def verdict(detections: Iterable[Detection], metadata: Mapping[str, Any]) -> Verdict:
    """The reference's verdict on one image."""
    return judge(kept(detections, str(metadata["tag"])), metadata)
