"""`vtbench leaderboard verify`: whether a run's folder is what the run was finished with, and adds up.

Three questions, each answered apart: is every file the one whose sha256 SHA256SUMS states (one changed digit
anywhere); does every score follow from the rows, tokens and features; does the record say nothing that its rows, or the
rest of it, contradict. What cannot be checked is said with its reason, and is no pass.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePath
from typing import Any

from vtbench.publishing.consistency import contradictions
from vtbench.publishing.recompute import Again, scores_again, trouble, why_no_tokens
from vtbench.reporting.reading import DAMAGED
from vtbench.reporting.values import mapping
from vtbench.results.files import read_json
from vtbench.results.folder import FEATURES
from vtbench.results.provenance import code_digest
from vtbench.results.record import Run, Score, read_run
from vtbench.results.stores import FeatureFile, TokenFile
from vtbench.results.sums import SUMS, differences, files_below, read_sums
from vtbench.types.errors import VtbenchError
from vtbench.types.foreign import reading

OTHER_CODE = "intervals are those of another version of the code, beside values that are as computed again"
NO_SUMS = (
    f"it holds no {SUMS} (runs that older versions finished have none, nor has one that was killed as it finished): "
    "a changed digit that moves no score cannot be seen"
)


@dataclass(frozen=True)
class Verification:
    """One run's folder. `wrong`: what is not as it was written, or does not add up, a sentence each; `unchecked`: what
    cannot be checked of it, and why; `files`: how many had the sha256 that is stated; `scores`: all, of which `again`
    were computed again, the others by name with the reason in `not_again`."""

    path: Path
    model: str = ""
    run: str = ""
    wrong: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    files: int = 0
    scores: int = 0
    again: int = 0
    not_again: Mapping[str, str] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """changed, unchecked or verified."""
        return "changed" if self.wrong else "unchecked" if self.unchecked else "verified"

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "path": str(self.path), "verdict": self.verdict}

    def text(self) -> str:
        """What the command prints of it."""
        lines = [f"{self.path}: {self._sentence()}"]
        lines += [f"  wrong: {why}" for why in self.wrong]
        lines += [f"  cannot be checked, because {why}" for why in self.unchecked]
        by_reason: dict[str, list[str]] = {}
        for name, why in self.not_again.items():
            by_reason.setdefault(why, []).append(name)
        lines += [f"  not computed again: {', '.join(names)} ({why})" for why, names in by_reason.items()]
        return "\n".join(lines)

    def _sentence(self) -> str:
        if self.wrong:
            return "NOT as it was written"
        computed = f"{self.again} of {self.scores} scores computed again"
        if self.unchecked:
            return f"nothing wrong was seen, but not all could be checked; {computed}"
        return f"verified: {self.files} files have their sha256, {computed}"


def verify(path: Path) -> Verification:
    """Checks the run's folder at `path`; raises nothing for what is wrong with it."""
    wrong: list[str] = []
    unchecked: list[str] = []
    files = _files(path, wrong, unchecked)
    try:
        with reading(path, "a run", DAMAGED):
            run = read_run(path)
            if not run.info.finished:
                unchecked.append(f"the run is {run.info.status}: run the same command again until it is finished")
                return Verification(path, run.name, run.info.id, tuple(wrong), tuple(unchecked), files)
            wrong += contradictions(run)
            wrong += _stores(run)
            scores = list(scores_again(run))
            wrong += _wrong_scores(run, scores, unchecked)
    except VtbenchError as bad:
        return Verification(path, wrong=(*wrong, str(bad)), unchecked=tuple(unchecked), files=files)
    not_again = {score.stated.metric: score.why for score in scores if score.anew is None and score.why is not None}
    again = len(scores) - len(not_again)
    return Verification(
        path, run.name, run.info.id, tuple(wrong), tuple(unchecked), files, len(scores), again, not_again
    )


def _wrong_scores(run: Run, scores: Sequence[Again], unchecked: list[str]) -> Iterator[str]:
    """Sentences on scores that are not what was computed again. Intervals of code that is not this one's are no more
    than noted in `unchecked`: another version may have computed them otherwise."""
    others: list[str] = []
    for score in scores:
        sentence = unlike(score, ("value", "n", "missing"))
        if sentence is not None:
            yield sentence
        elif (sentence := unlike_interval(score)) is not None:
            if run.info.provenance.code_sha256 == code_digest():
                yield sentence
            else:
                others.append(score.stated.metric)
    if others:
        unchecked.append(f"{OTHER_CODE}: {', '.join(others)}")


def _files(path: Path, wrong: list[str], unchecked: list[str]) -> int:
    """Notes files that are not as their sums say; returns how many there are."""
    try:
        sums = read_sums(path)
        if sums is None:
            unchecked.append(NO_SUMS)
        else:
            wrong += differences(path, sums)
        return len(files_below(path))
    except VtbenchError as bad:
        wrong.append(str(bad))
        return 0


def unlike(score: Again, fields: Sequence[str]) -> str | None:
    """The sentence on a score of which one of the fields is not what was computed again; None for one that is, or could
    not be."""
    if score.anew is None:
        return None
    for name in fields[:1] if score.value_only else fields:
        stated, anew = getattr(score.stated, name), getattr(score.anew, name)
        if not _same(stated, anew, score):
            return f"scores.jsonl: {score.stated.metric}: {name} is {stated}, and computed again it is {anew}"
    return None


def unlike_interval(score: Again) -> str | None:
    """The same of the interval and the numbers beside it, which other versions of the code may have computed otherwise
    without the number itself being another."""
    if score.anew is None or score.value_only:
        return None
    sentence = unlike(score, ("low", "high"))
    for name, stated, anew in _shared(score.stated, score.anew):
        if sentence is None and not _same(stated, anew, score):
            sentence = f"scores.jsonl: {score.stated.metric}: {name} of its details is {stated}, computed again {anew}"
    return sentence


def _shared(stated: Score, anew: Score) -> Iterator[tuple[str, Any, Any]]:
    """Numbers of the details that both have: (name, stated, anew)."""
    other = mapping(json.loads(json.dumps(dict(anew.details), default=str)))
    for name, value in stated.details.items():
        if isinstance(value, int | float) and isinstance(other.get(name), int | float):
            yield name, value, other[name]


def _same(stated: Any, anew: Any, score: Again) -> bool:
    if stated is None or anew is None:
        return stated is anew
    return math.isclose(stated, anew, rel_tol=score.relative, abs_tol=score.absolute)


def _stores(run: Run) -> list[str]:
    """What is wrong with the run's tokens, features and pictures, whatever its scores are made from."""
    rows = sum(1 for _ in run.rows())
    out = []
    for path in sorted((run.path / FEATURES).glob("*.f32")):
        records = FeatureFile(path, 1)
        size, sums = path.stat().st_size, records.sums.stat().st_size if records.sums.exists() else 0
        count = sums // 4 or rows
        dim, rest = divmod(size, 4 * count) if count else (0, size)
        why = "is not of whole records" if rest or dim < 1 else trouble(FeatureFile(path, dim), rows)
        out += [f"features/{path.name}: {why}"] if why else []
    why = why_no_tokens(TokenFile(run.path), rows) if TokenFile(run.path).exists() else None
    return [*out, *([why] if why else []), *_samples(run)]


def _samples(run: Run) -> Iterator[str]:
    """Pictures for the page are of images that the run scored, and are there."""
    place = run.path / "samples" / "samples.json"
    if not place.exists():
        return
    listed = read_json(place)
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        yield "samples/samples.json is no list of pictures"
        return
    items = Counter(row.item for row in run.rows())
    for one in listed:
        if one.get("item") not in items:
            yield f"samples/samples.json names {one.get('item')!r}, which is no image of the run"
        for kind in ("reference", "candidate"):
            name = str(one.get(kind))
            if PurePath(name).name != name or "\\" in name or not (place.parent / name).is_file():
                yield f"samples/samples.json names {name!r}, which is not in samples/"
