"""`vtbench explain`: which convention a claimed number was made under.

A published number leaves choices open: the crop and its filter, the rounding, which metric its plain name stands for,
the reference set. The system is scored on one stated subset under vtbench's default and under each choice that can be
made here and that the claim leaves open, one at a time and jointly as the named protocols make them; every difference
is paired, image by image. What closes the gap comes first, and one sentence says so, or that none of these does. What
cannot be measured is null with its reason: rFID below 10,000 images, a set that is not here, a view of saved pictures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vtbench.explaining.choices import (
    Alternative,
    Choice,
    Stated,
    alternatives,
    contradictions,
    default_choice,
    facts_of,
    spelled_out,
)
from vtbench.explaining.claims import (
    Claim,
    Explanation,
    Move,
    Printed,
    claimed_numbers,
    move,
    nearest_first,
    published,
    stated_by,
    verdict,
)
from vtbench.explaining.conventions import card_of, metric_named_or_none
from vtbench.explaining.kept import Folders
from vtbench.explaining.measure import Measurement, Score, load
from vtbench.explaining.references import OtherReference
from vtbench.explaining.systems import Explained, open_system
from vtbench.models.isolation import isolated
from vtbench.models.pictures import SavedPictures
from vtbench.scoring.references import SetReference, open_reference
from vtbench.scoring.remarks import differing_profiles, stated_profiles
from vtbench.statistics.intervals import mean_interval
from vtbench.types.conditions import OPEN_IN_WORDS
from vtbench.types.errors import VtbenchError

NAMED = 10
"""So many images that were left out are named."""


@dataclass(frozen=True)
class _Question:
    """One claim: what its source states, the default that agrees with it, and the alternatives that it leaves open."""

    metric: str
    claimed: Printed
    source: str | None
    stated: Stated
    default: Choice
    others: Sequence[Alternative]


@isolated()
def explain(
    model: str,
    claims: Mapping[str, str | float],
    *,
    images: str | None = None,
    checkpoint: Path | str | None = None,
    prefix: str | None = None,
    options: Mapping[str, str] | None = None,
    reference: Path | str | None = None,
    limit: int | None = None,
    device: str = "cpu",
    batch_size: int = 4,
    seed: int = 0,
    icc: str | None = None,
    code: str | None = None,
) -> Explanation:
    """Re-scores `model` (a name, `folder:DIR`, or a run's folder that kept images or tokens) under every open choice.

    claims: {metric, in any case: the number as somebody printed it}; one that the model's card lists holds what its
    source states. images: the originals (suite, folder, glob, hf:…); a run knows its own. reference: another set for
    distances of sets (images, or saved statistics). Saved pictures can only be scored at the view they were made at;
    their originals are cropped to their size by every named crop. icc: "srgb" converts pictures by the colour
    profiles that they state. code: `path/to/file.py@name`, by which the user names the code of a run's model himself.
    A command that is stopped goes on where it was, as long as nothing changed that its numbers are made from.
    """
    wanted = claimed_numbers(claims)
    check_limit(limit)
    origin = _origin(reference, list(wanted))
    explained = open_system(model, images, checkpoint, dict(options or {}), device, prefix, icc, code)
    items = list(explained.suite.items[:limit])
    if not items:
        raise VtbenchError(f"{explained.suite.name} holds no images")
    questions = [
        _question(explained, m, claimed, None if reference is None else str(reference)) for m, claimed in wanted.items()
    ]
    choices = [choice for q in questions for choice in (q.default, *(other.choice for other in q.others))]
    metrics = load({choice.metric for choice in choices}, device, len(items))
    with Folders.held() as folders:
        another = None if origin is None else OtherReference(origin, folders, batch_size, device)
        measurement = Measurement(explained, items, metrics, folders, batch_size, seed, another, device)
        measurement.measure(choices)
        answers = [_answer(measurement, question) for question in questions]
    notes = [*explained.suite.notes, *explained.system.notes, *explained.notes, *left_out(measurement.left_out)]
    notes += _profiles(measurement)
    notes += [note for question in questions for note in _unmade(explained, question)]
    if len(explained.suite.items) > len(items):
        notes.append(f"the first {len(items)} of {len(explained.suite.items)} images")
    notes.append("every choice was scored on the same images; the claim's own images may be others")
    return Explanation(explained.name, explained.suite.name, measurement.scored, tuple(answers), tuple(notes))


def _origin(reference: Path | str | None, metrics: Sequence[str]) -> SetReference | None:
    if reference is None:
        return None
    if not any(card_of(metric).kind == "set" for metric in metrics):
        raise VtbenchError(
            f"--reference is a set for distances of sets, and {', '.join(metrics)} is none: leave it out"
        )
    return open_reference(Path(reference).expanduser())


def left_out(reasons: Mapping[str, str]) -> list[str]:
    """Notes that name the images that could not be scored, the first ones with their reasons."""
    notes = [f"{item} was left out: {why}" for item, why in list(reasons.items())[:NAMED]]
    return notes + ([f"{len(reasons) - NAMED} more images were left out"] if len(reasons) > NAMED else [])


def _profiles(measurement: Measurement) -> list[str]:
    """The notes on colour profiles that were not applied: of pairs that differ in them, else of the originals."""
    stated = measurement.profiles.values()
    pairs = isinstance(measurement.explained.system, SavedPictures)
    differing = Counter(f"{one} and {other}" for one, other in stated if pairs and one != other)
    alike = Counter(one for one, other in stated if not pairs or one == other)
    n = measurement.scored
    return [*differing_profiles(differing, n), *stated_profiles(alike, n)]


def check_limit(limit: int | None) -> None:
    if limit is not None and limit < 1:
        raise VtbenchError(f"--limit {limit}: give a number of images, 1 or more")


def _question(explained: Explained, metric: str, claimed: Printed, reference: str | None) -> _Question:
    entries = published(explained.card, metric, claimed)
    names = {metric_named_or_none(entry.metric) for entry in entries}
    stated = spelled_out(stated_by(entries), metric, str(names.pop()) if len(names) == 1 else metric)
    default = default_choice(explained, metric, stated)
    of_sets = reference if card_of(metric).kind == "set" else None
    source = "; ".join(dict.fromkeys(entry.source for entry in entries)) or None
    others = alternatives(explained, metric, default, stated, of_sets)
    return _Question(metric, claimed, source, stated, default, others)


def _answer(measurement: Measurement, question: _Question) -> Claim:
    explained, default = measurement.explained, measurement.score(question.default)
    moves = [
        move(
            other.dimension,
            other.name,
            default,
            measurement.score(other.choice),
            question.claimed,
            other.source,
            other.title,
            other.changes,
        )
        for other in question.others
    ]
    moves += [Move("view", view, None, why=why) for view, why in explained.views.items() if why]
    moves += _no_reference(question)
    moves_ = nearest_first(moves)
    span = _span(default)
    return Claim(
        question.metric,
        question.claimed.value,
        default.value,
        *span,
        len(default.images) if default.images is not None else measurement.scored,
        _in_words(question.default),
        moves_,
        question.source,
        default.why,
        verdict(question.claimed, default, span, moves_),
    )


def _in_words(default: Choice) -> str:
    rounding = "rounded" if default.rounding == "round" else default.rounding
    size = "" if default.view.size is None else f" {default.view.size} px"
    return f"{default.view.protocol} view{size}, {rounding}, {default.metric}"


def _no_reference(question: _Question) -> list[Move]:
    """What a distance of sets leaves open and nobody gave: the set that it is taken against."""
    if card_of(question.metric).kind != "set" or any(other.dimension == "reference set" for other in question.others):
        return []
    stated = question.stated.get("reference")
    why = "only the originals of these images are here: give --reference SET (images, or saved statistics)"
    if stated is not None:
        why = f"the source takes it against {stated}; {why} of that set"
    return [Move("reference set", stated or "another (training instead of validation)", None, why=why)]


def _unmade(explained: Explained, question: _Question) -> list[str]:
    """What the source states in words, and what of it this measurement does not meet: a size, a rounding, an option."""
    facts = facts_of(question.default, explained)
    words, options = question.stated.get("text"), getattr(explained.system, "options", {})
    out = [f"{question.metric}: the source is of {words}"] if words else []
    out += [
        f"{question.metric}: the source is of {name}={setting}, and here it is {options.get(name)}"
        for name, setting in question.stated.get("options", ())
        if options.get(name) != setting
    ]
    out += [
        f"{question.metric}: for {OPEN_IN_WORDS.get(name, name)} the source states {question.stated[name]}, which "
        f"cannot be made here; it is {facts[name]}"
        for name in contradictions(question.default, explained, question.stated)
    ]
    model_size, size = question.stated.get("model_size"), explained.card.sizes
    if model_size is not None and getattr(size, "size", None) != model_size:
        out.append(
            f"{question.metric}: the source gave the model pictures of {model_size} x {model_size} and resized them "
            "back, which is not done here"
        )
    return out


def _span(default: Score) -> tuple[float | None, float | None]:
    """95 % interval of a mean over images."""
    column = default.images
    if column is None:
        return None, None
    values, weights = ([of_images[k] for k in column] for of_images in (column.values, column.weights))
    span = mean_interval(values, weights, bounds=default.bounds)
    return (None, None) if span is None else (span.low, span.high)
