"""What a run measured: metrics, scores, the rows of its images. The other half of what knows how a record is stored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from vtbench.reporting.runs import NO_REASON, once, record, section, suite_images
from vtbench.reporting.values import finite, known_fields, listed, text, whole_number
from vtbench.results.record import Run, Score
from vtbench.types.metric import MetricCard

RATE = "bpp"
"""The rate that all kinds share: bits under a flat prior (a codec's own bitstream) per scored pixel."""
RATE_UNITS = ("bit/px", "bit", "tokens", "x")
"""Units of metrics that say what is paid, not what is got: they never decide a rank while another metric can."""
SCORE_FIELDS = frozenset(Score.model_fields)


def metric_cards(run: Run) -> dict[str, MetricCard]:
    """The metrics' cards as they were when the run was made, by name."""
    return {name: card for name in section(run, "metrics") if (card := metric_card(run, name)) is not None}


def _metric_card(name: str, stated: Mapping[str, Any]) -> MetricCard:
    known = known_fields(MetricCard, stated)
    unstated = {"title": name.replace("-", " "), "version": 0, "unit": "", "better": None, "source": ""}
    return MetricCard(**{**unstated, **known, "name": name})


@once
def _cards(run: Run) -> dict[str, MetricCard]:
    """Those that were asked for."""
    return {}


def metric_card(run: Run, metric: str) -> MetricCard | None:
    cards = _cards(run)
    if metric not in cards:
        facts = section(run, "metrics").get(metric)
        if not isinstance(facts, Mapping):
            return None
        cards[metric] = _metric_card(metric, facts)
    return cards[metric]


def _score(stated: Score) -> Score:
    """The score, with a reason where it has no value."""
    return stated if stated.value is not None or stated.why else stated.model_copy(update={"why": NO_REASON})


def scores(run: Run) -> list[Score]:
    """The scores in the order in which the task lists its metrics; one without a value has a reason in `why`."""
    return [_score(s) for s in run.scores]


@once
def _by_metric(run: Run) -> dict[str, Score]:
    return {s.metric: s for s in reversed(run.scores)}


def score(run: Run, metric: str) -> Score | None:
    stated = _by_metric(run).get(metric)
    return None if stated is None else _score(stated)


def value(run: Run, metric: str) -> float | None:
    stated = _by_metric(run).get(metric)
    return None if stated is None else stated.value


def metric_version(run: Run, metric: str) -> int:
    """The version of a metric in a run (0 where the run does not have it)."""
    stated = _by_metric(run).get(metric)
    return 0 if stated is None else stated.version


def measured_images(run: Run) -> int:
    """How many images the run measured; the most that any score is over where the record does not say."""
    number = finite(record(run).get("n"))
    if number is None:
        number = max((finite(s.get("n")) or 0.0 for s in run.scores), default=0.0)
    return int(number)


def newest_version(runs: Iterable[Run], metric: str) -> int:
    """The newest version that a run has a number of; values of other versions are never compared with it."""
    stated = [(run, s) for run in runs if (s := _by_metric(run).get(metric)) is not None]
    valued = [s.version for run, s in stated if s.value is not None or lossless_images(run, metric)]
    return max(valued or [s.version for _, s in stated], default=0)


COST_UNITS = ("s/image", "image/s", "MiB", "parameters", "MAC/image", "evaluations/image")


def is_cost(run: Run, metric: str) -> bool:
    """Whether a score says what a system costs, not how good its pictures are. Neither costs nor the tokenizer's share
    of a generator's FID have a card; what was measured on pictures has a fingerprint, or at least a better end."""
    stated = _by_metric(run).get(metric)
    if stated is None or metric_card(run, metric) is not None or stated.fingerprint:
        return False
    return stated.unit in COST_UNITS or not stated.better


def lossless_images(run: Run, metric: str = "psnr") -> int:
    """How many images of the run are identical to their originals (they have no PSNR), as the score states it."""
    stated = score(run, metric)
    return int(finite(stated.details.get("n_lossless")) or 0) if stated else 0


def all_lossless(run: Run) -> bool:
    """Whether every image of the run came back identical."""
    images = suite_images(run)
    return bool(images and value(run, "psnr") is None and lossless_images(run) >= images)


@dataclass(frozen=True)
class TextLine:
    """A line of true text and how it was read. `x_height` in pixels of the page; `original`: the reading of the
    untouched page; `right`: characters of `characters` that the reading of what came back has right."""

    x_height: float | None
    characters: int | None
    original: str | None
    reading: str | None
    right: int | None


@dataclass(frozen=True)
class ImageRow:
    """One image of a run. `size`: (width, height) of what was scored, in pixels."""

    item: str
    size: tuple[int, int] | None = None
    values: Mapping[str, float | None] = field(default_factory=dict)
    weights: Mapping[str, float | None] = field(default_factory=dict)
    why: Mapping[str, str] = field(default_factory=dict)
    """Reasons of values that do not exist, by metric; under `*` the reason why the image has none at all."""
    sha256: str = ""
    """Of the original's pixels, as scored; "" where the row does not state it."""
    lines: tuple[TextLine, ...] = ()
    """Of a page of text whose lines were read."""


def rows(run: Run) -> Iterator[ImageRow]:
    """The images of a run in the order of the suite, read from disk as they are asked for."""
    for row in run.rows():
        yield ImageRow(
            row.item,
            (row.size[0], row.size[1]) if row.size else None,
            row.values,
            row.weights,
            {name: reason for name, reason in row.why.items() if reason},
            row.sha256 or "",
            tuple(_text_line(line) for line in listed(row.get("lines")) if isinstance(line, Mapping)),
        )


def _text_line(stated: Mapping[str, Any]) -> TextLine:
    return TextLine(
        finite(stated.get("x_height")),
        whole_number(stated.get("chars")),
        text(stated.get("original_read")),
        text(stated.get("read")),
        whole_number(stated.get("read_right")),
    )
