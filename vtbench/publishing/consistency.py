"""What a run's record says against its rows and against itself: the id, counts, versions, the right to a rank."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from vtbench.images.protocols import ORIGINALS
from vtbench.metrics.psnr import decibels
from vtbench.publishing.recompute import cards_of
from vtbench.reporting.values import finite, mapping
from vtbench.results.record import IDENTITY_RULE, Row, Run
from vtbench.scoring.fingerprint import fingerprint
from vtbench.scoring.remarks import PROTOCOL_N
from vtbench.types.metric import MetricCard

ROUNDING = 1e-6
"""Relative error of float32 values that are written with all their digits."""
NAMED = 3
"""Images that a sentence names."""


def contradictions(run: Run) -> list[str]:
    """A sentence for everything in the record and the rows that cannot be so together."""
    return [*_identity(run), *_scores(run), *_rank(run), *_rows(run)]


def _identity(run: Run) -> Iterator[str]:
    """The id is the hash of the question, and the question is about what the record names."""
    info, question = run.info, run.info.question
    if not question:
        return
    digest = hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()
    if digest != info.id:
        yield f"run.json: id is {info.id[:12]}…, the sha256 of its question is {digest[:12]}…"
    if info.identity_rule != IDENTITY_RULE:
        return
    model, task = mapping(question.get("model")), mapping(question.get("task"))
    pairs = (
        ("model.name", info.model.name, model.get("name")),
        ("model.options", info.model.options, model.get("options", {})),
        ("task.name", info.task.name, task.get("name")),
        ("task.version", info.task.version, task.get("version")),
        ("task.fit", info.task.fit, task.get("fit")),
        ("suite.hash", info.suite.hash, question.get("suite")),
        ("view.fingerprint", info.view.fingerprint, question.get("view")),
        ("dtype", info.dtype, question.get("dtype")),
        ("seed", info.seed, question.get("seed")),
        ("device.kind", info.device.kind, question.get("device")),
        ("protocol", info.protocol, info.view.protocol),
    )
    for name, stated, asked in pairs:
        if stated != asked:
            yield f"run.json: {name} is {_short(stated)}, and the question asks for {_short(asked)}"
    for name, version in mapping(question.get("metrics")).items():
        card = info.metrics.get(name)
        if card is not None and name not in info.added and card.get("version") != version:
            yield f"run.json: {name} is of version {card.get('version')}, and the question asks for version {version}"


def _scores(run: Run) -> Iterator[str]:
    """Every score is of the metric that the record describes, once; what has no value says why."""
    cards, info = cards_of(run), run.info
    for name, count in Counter(s.metric for s in run.scores).items():
        if count > 1:
            yield f"scores.jsonl: {name} stands there {count} times"
    lacking = [name for name in cards if run.score(name) is None and info.finished]
    if lacking:
        yield f"scores.jsonl: no score of {', '.join(lacking[:NAMED])}, which run.json lists"
    reference = ORIGINALS if info.prompts is None else f"the set {info.suite.hash}"
    for score in run.scores:
        if score.value is None and not score.why:
            yield f"scores.jsonl: {score.metric} has no value and no reason"
        card = cards.get(score.metric)
        if card is None:
            continue
        for fact in ("version", "unit", "better"):
            if getattr(score, fact) != getattr(card, fact):
                stated, wanted = getattr(score, fact), getattr(card, fact)
                yield f"scores.jsonl: {score.metric}: {fact} is {stated!r}, and run.json has {wanted!r}"
        if score.task != info.task.name:
            yield f"scores.jsonl: {score.metric}: task is {score.task!r}, and run.json has {info.task.name!r}"
        marks = fingerprint(info.view.fingerprint or "", score.metric, score.version, reference=reference)
        if score.fingerprint is not None and score.fingerprint != marks:
            yield f"scores.jsonl: {score.metric}: fingerprint is {score.fingerprint}, wanted {marks}"


def _rank(run: Run) -> Iterator[str]:
    """A run that is ranked has nothing in its record that keeps it from that."""
    info = run.info
    if not info.ranked:
        if not info.why_not_ranked and info.finished:
            yield "run.json: ranked is false and no reason is stated"
        return
    images = info.suite.n
    reasons = (
        (info.why_not_ranked, f"why_not_ranked is {_short(info.why_not_ranked)}"),
        (info.status != "complete", f"its status is {info.status}"),
        (info.model.weights.status == "unverified", "its weights are unverified"),
        (info.limit is not None and images is not None and info.limit < images, f"it is limited to {info.limit}"),
        (info.shard is not None, "it is a shard"),
        (info.provenance.release is False, "its code is not the release's"),
        (info.model.reads_at_work, "its model read other files at work"),
        (info.prompts is not None and info.n != PROTOCOL_N and "fid" in info.metrics, f"it drew {info.n} images"),
    )
    for holds, why in reasons:
        if holds:
            yield f"run.json: ranked is true, and {why}"


def _rows(run: Run) -> Iterator[str]:
    """The rows are as many as the record says, of one image each, with values that their metrics can have."""
    info, cards = run.info, cards_of(run)
    items: Counter[str] = Counter()
    served: Counter[str] = Counter()
    bad = enlarged = count = 0
    outside: list[str] = []
    for row in run.rows():
        count += 1
        items[row.item] += 1
        bad += row.failed is not None
        enlarged += bool(row.flags.get("enlarged"))
        served.update([str(row.flags["served"])] if "served" in row.flags else ())
        outside += _of_row(row, cards)
    if info.n is not None and count != info.n:
        yield f"rows.jsonl holds {count} images, and run.json states {info.n}"
    twice = [item for item, times in items.items() if times > 1]
    if twice:
        yield f"rows.jsonl: {twice[0]} stands there {items[twice[0]]} times"
    yield from outside[:NAMED]
    if len(outside) > NAMED:
        yield f"rows.jsonl: {len(outside) - NAMED} more values that cannot be"
    if info.status == "complete" and bad:
        yield f"run.json: the status is complete, and {bad} images have no numbers at all"
    if "enlarged" in info and info.prompts is None and info.enlarged != enlarged:
        yield f"run.json: enlarged is {info.enlarged}, and {enlarged} rows say so"
    if "served" in info and info.prompts is None and info.served != dict(served):
        yield f"run.json: served is {_short(info.served)}, and the rows give {_short(dict(served))}"


def _of_row(row: Row, cards: Mapping[str, MetricCard]) -> Iterator[str]:
    for name, value in row.values.items():
        card = cards.get(name)
        if value is None or card is None:
            continue
        low, high = (finite(end) for end in card.bounds)
        if (low is not None and value < low - ROUNDING) or (high is not None and value > high + ROUNDING):
            yield f"rows.jsonl: {row.item}: {name} is {value}, outside {low} … {high}"
    yield from _between_values(row)


def _between_values(row: Row) -> Iterator[str]:
    """Values of one image that follow from each other: a PSNR from its squared error, a rate from its bits."""
    values = row.values
    psnr, mse, rate = (values.get(name) for name in ("psnr", "mse", "bpp"))
    if psnr is not None and mse is not None and mse > 0:
        follows = decibels(mse)
        if not math.isclose(psnr, follows, rel_tol=ROUNDING, abs_tol=ROUNDING):
            yield f"rows.jsonl: {row.item}: psnr is {psnr}, and its mse of {mse} gives {follows:.6f}"
    if rate is not None and row.bits is not None and row.size is not None and min(row.size) > 0:
        follows = row.bits / (row.size[0] * row.size[1])
        if not math.isclose(rate, follows, rel_tol=ROUNDING, abs_tol=ROUNDING):
            yield f"rows.jsonl: {row.item}: bpp is {rate}, and its {row.bits:g} bits give {follows:.6f}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}…"
