"""Verdicts -> scores: overall is the unweighted mean of the categories' means, not the mean over images.

Reference: djghosh13/geneval, evaluation/summary_scores.py, commit 16f1681.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vtbench.tasks.geneval.cases import read_cases
from vtbench.tasks.geneval.verdicts import Verdict
from vtbench.tasks.geneval.vocabulary import CATEGORIES, COCO, COMPLETE, IMAGES_PER_PROMPT
from vtbench.types.errors import VtbenchError, near


@dataclass
class Scores:
    """tasks: {category: share of correct images}; overall: the mean of these; `warnings` name what is missing."""

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
    order = [t for t in CATEGORIES if t in right]
    tasks = {t: sum(right[t]) / len(right[t]) for t in order}
    overall = sum(tasks.values()) / len(tasks) if tasks else None
    warnings = []
    wanted = {t: n * IMAGES_PER_PROMPT for t, n in COMPLETE.items()}
    unequal = [f"{t} {len(right.get(t, ()))} of {n}" for t, n in wanted.items() if len(right.get(t, ())) != n]
    if unequal:
        warnings.append(
            f"not the whole set of 553 prompts x 4 images ({', '.join(unequal)}): not comparable with a published score"
        )
    elif uneven := [p for p, n in Counter(prompts).items() if n != IMAGES_PER_PROMPT]:
        warnings.append(
            f"{len(uneven)} prompts have not {IMAGES_PER_PROMPT} images each ({uneven[0]!r} has "
            f"{Counter(prompts)[uneven[0]]}): not comparable with a published score"
        )
    return Scores(overall, tasks, {t: len(right[t]) for t in order}, list(cases), warnings)


def score_file(path: Path) -> Scores:
    """Verdicts on every case of a JSONL file, in its order."""
    tags, cases, prompts, unknown, doubts = [], [], [], set[str](), []
    for case in read_cases(path):
        metadata = case.metadata
        tags.append(metadata["tag"])
        prompts.append(str(metadata.get("prompt", json.dumps(metadata, sort_keys=True))))
        cases.append(case.verdict)
        doubts += [case.doubt] if case.doubt else []
        unknown |= {d.cls for d in case.detections} - set(COCO)
        unknown |= {c["class"] for key in ("include", "exclude") for c in metadata.get(key, ())} - set(COCO)
    if not cases:
        raise VtbenchError(f"{path} holds no case: one JSON object a line")
    scores = summarise(tags, cases, prompts)
    if unknown:
        first = sorted(unknown)[0]
        scores.warnings.append(f"classes beside GenEval's 80 ({len(unknown)}): {first}{near(first, COCO)}")
    if doubts:
        scores.warnings.append(
            f"{len(doubts)} verdicts of the file do not follow from its boxes by the reference's rules: {doubts[0]}"
        )
    return scores
