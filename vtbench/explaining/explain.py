"""`vtbench explain`: which convention moves a number by how much.

A published number leaves choices open: the crop and its filter, the rounding, which metric its plain name stands for,
the reference set. The system is scored on one stated subset under vtbench's default and under each choice that can be
made here, one at a time and jointly as the named protocols make them; every difference is paired, image by image. What
cannot be measured is null with its reason: rFID below 10,000 images, another reference set, a view of saved pictures.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from vtbench.explaining.choices import Alternative, alternatives, conventions, default_choice
from vtbench.explaining.claims import (
    Claim,
    Explanation,
    Move,
    claimed_numbers,
    largest_first,
    move,
    published,
)
from vtbench.explaining.measure import Measurement, Score, load
from vtbench.explaining.systems import open_system
from vtbench.images.protocols import PROTOCOLS
from vtbench.models.isolation import isolated
from vtbench.models.pictures import SavedPictures
from vtbench.scoring.remarks import differing_profiles, stated_profiles
from vtbench.statistics.intervals import mean_interval
from vtbench.types.errors import VtbenchError
from vtbench.types.metric import SetMetric

NAMED = 10
"""So many images that were left out are named."""


@isolated()
def explain(
    model: str,
    claims: Mapping[str, str | float],
    *,
    images: str | None = None,
    checkpoint: Path | str | None = None,
    prefix: str | None = None,
    options: Mapping[str, str] | None = None,
    limit: int | None = None,
    device: str = "cpu",
    batch_size: int = 4,
    seed: int = 0,
    icc: str | None = None,
) -> Explanation:
    """Re-scores `model` (a name, `folder:DIR`, or a run's folder that kept images or tokens) under every open choice.

    claims: {metric: the number that somebody printed}. images: the originals (suite, folder, glob, hf:…); a run knows
    its own. Saved pictures can only be scored at the view they were made at; their originals are cropped to their size
    by every named crop. icc: "srgb" converts pictures by the colour profiles that they state.
    """
    wanted = claimed_numbers(claims)
    check_limit(limit)
    explained = open_system(model, images, checkpoint, dict(options or {}), device, prefix, icc)
    items = list(explained.suite.items[:limit])
    if not items:
        raise VtbenchError(f"{explained.suite.name} holds no images")
    metrics = load({name for metric in wanted for name in conventions(metric)}, device, len(items))
    with tempfile.TemporaryDirectory(prefix="vtbench-") as scratch:
        measurement = Measurement(explained, items, metrics, Path(scratch), batch_size, seed)
        others = {metric: alternatives(explained, metric) for metric in wanted}
        defaults = [default_choice(explained, metric) for metric in wanted]
        measurement.measure([*defaults, *(other.choice for metric in wanted for other in others[metric])])
        answers = [_explained(measurement, metric, wanted[metric], others[metric]) for metric in wanted]
    notes = [*explained.suite.notes, *explained.system.notes, *explained.notes, *left_out(measurement.left_out)]
    notes += _profiles(measurement)
    if len(explained.suite.items) > len(items):
        notes.append(f"the first {len(items)} of {len(explained.suite.items)} images")
    notes.append("every choice was scored on the same images; the claim's own images may be others")
    return Explanation(explained.name, explained.suite.name, measurement.scored, tuple(answers), tuple(notes))


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


def _explained(measurement: Measurement, metric: str, claimed: float, others: list[Alternative]) -> Claim:
    explained = measurement.explained
    default = measurement.score(default_choice(explained, metric))
    stated = published(explained.card, metric, claimed)
    moves = [
        move(other.dimension, other.name, default, measurement.score(other.choice), claimed, other.source)
        for other in others
        if stated is None or _is_open(other, metric, stated.protocol)
    ]
    moves += [Move("view", view, None, why=why) for view, why in explained.views.items() if why]
    if isinstance(measurement.metrics.ready.get(metric), SetMetric):
        why = "only the originals of these images are here; against another set it is another number (LlamaGen: +2.1)"
        moves.append(Move("reference set", "another", None, why=why))
    low, high = _span(default)
    return Claim(
        metric,
        claimed,
        default.value,
        low,
        high,
        len(default.pairs) if default.pairs is not None else measurement.scored,
        f"{explained.default} view, rounded, {metric}",
        largest_first(moves),
        stated.source if stated else None,
        default.why,
    )


def _is_open(other: Alternative, metric: str, protocol: str | None) -> bool:
    """Whether a claim under `protocol` leaves this choice open: a source that names its protocol leaves no other."""
    if protocol is None or protocol not in PROTOCOLS or other.dimension == "protocol" or other.name == protocol:
        return True
    stated = PROTOCOLS[protocol]
    return other.name in (stated.name, stated.rounding, stated.means(metric))


def _span(default: Score) -> tuple[float | None, float | None]:
    """95 % interval of a mean over images."""
    if default.pairs is None:
        return None, None
    values = [value for value, _ in default.pairs.values()]
    weights = [weight for _, weight in default.pairs.values()]
    span = mean_interval(values, weights, bounds=default.bounds)
    return (None, None) if span is None else (span.low, span.high)
