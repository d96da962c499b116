"""Text in generated images: was the quoted string written? The whole image is read and held against the quote.

The quote stands in item.meta["quote"], else between double quotation marks in meta["prompt"]. Reading: EasyOCR's
detector and recognizer over the whole picture, boxes in one reading order (vtbench.metrics.ocr). Both sides are
normalised by `nfkc-ws` and compared case for case. What was written beside the quote counts as wrong characters, so
that a CER may pass one; what the reader itself gets wrong counts too, alike for all generators.

Every number is given over all quotes and for each bucket of lengths, in characters of the normalised quote.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from vtbench.metrics import ocr, weights
from vtbench.metrics._pixels import pairs
from vtbench.metrics._strings import NORMALISER, edits, ned, normalise, words_kept
from vtbench.types.metric import Batch, ImageMetric, MetricCard, Value

BUCKETS = ((1, 8), (9, 20), (21, 40), (41, 80))
"""Lengths of quoted strings in characters; longer ones count over all quotes only."""
NO_QUOTE = "the prompt quotes no string"
NEEDS = ("easyocr-english-g2", "easyocr-craft")

_STRAIGHT = r'"([^"]+)"'
_CURLY = r"\N{LEFT DOUBLE QUOTATION MARK}([^\N{RIGHT DOUBLE QUOTATION MARK}]+)\N{RIGHT DOUBLE QUOTATION MARK}"
_QUOTED = re.compile(f"{_STRAIGHT}|{_CURLY}")


def quote(meta: dict[str, object] | None) -> str:
    """The normalised string that the image should hold, or the empty string."""
    stated = (meta or {}).get("quote")
    if stated is not None:
        return normalise(str(stated))
    match = _QUOTED.search(str((meta or {}).get("prompt") or ""))
    return normalise(match[1] or match[2]) if match else ""


Measure = Callable[[str, str], tuple[float, float]]
"""(truth, reading) -> (value, weight)."""


def _cer(truth: str, reading: str) -> tuple[float, float]:
    return edits(truth, reading) / len(truth), len(truth)


def _ned(truth: str, reading: str) -> tuple[float, float]:
    return ned(truth, reading), 1


def _words(truth: str, reading: str) -> tuple[float, float]:
    count = len(truth.split())
    return words_kept(truth, reading) / count, count


def _exact(truth: str, reading: str) -> tuple[float, float]:
    return float(truth == reading), 1


class QuoteMetric(ImageMetric):
    """One measure, over all quotes or those of one bucket."""

    def __init__(self, card: MetricCard, measure: Measure, bucket: tuple[int, int] | None) -> None:
        self.card, self._measure, self._bucket = card, measure, bucket
        self._reader: ocr.Engine | None = None

    def load(self, device: str = "cpu") -> None:
        weights.find("easyocr-craft")
        self._reader = ocr.engine("easyocr", device)

    @property
    def engine_id(self) -> str | None:
        """Engine, version and weights' hash, for the record."""
        return None if self._reader is None else f"{self._reader.id}/page/{NORMALISER}"

    def measure(self, batch: Batch) -> Sequence[Value]:
        out = []
        for k, item in enumerate(batch.reference.items):
            truth = quote(dict(getattr(item, "meta", None) or {}))
            if not truth:
                out.append(Value(None, why=NO_QUOTE))
            elif self._bucket is not None and not self._bucket[0] <= len(truth) <= self._bucket[1]:
                out.append(Value(None, why=f"the quote has {len(truth)} characters"))
            else:
                out.append(Value(*self._measure(truth, self._readings(batch)[k])))
        return out

    def _readings(self, batch: Batch) -> Sequence[str]:
        if self._reader is None:
            self.load()
        reader = self._reader
        assert reader is not None

        def read() -> list[str]:
            return [normalise(ocr.read_page(reader, image)) for _, image in pairs(batch)]

        readings: list[str] = batch.once(("page", reader.id), read)
        return readings


@dataclass(frozen=True)
class Kind:
    """A measure of one image's text; `weight`: what the score is a micro-average over."""

    title: str
    measure: Measure
    better: Literal["higher", "lower"]
    weight: str
    bounds: tuple[float, float | None] = (0, 1)


KINDS = {
    "quote-exact": Kind("Quotes written exactly", _exact, "higher", "images"),
    "quote-cer": Kind("CER of the quote", _cer, "lower", "characters of the quotes", (0, None)),
    "quote-ned": Kind("1 - normalised edit distance of the quote", _ned, "higher", "images"),
    "quote-word-accuracy": Kind("Quoted words written", _words, "higher", "words of the quotes"),
}


def _name(kind: str, bucket: tuple[int, int] | None) -> str:
    return kind if bucket is None else f"{kind}-{bucket[0]}-{bucket[1]}"


def _metric(kind: str, bucket: tuple[int, int] | None) -> QuoteMetric:
    of = KINDS[kind]
    card = MetricCard(
        name=_name(kind, bucket),
        title=of.title if bucket is None else f"{of.title}, {bucket[0]} to {bucket[1]} characters",
        version=1,
        unit="",
        better=of.better,
        source=f"EasyOCR over the whole image, boxes in reading order; {NORMALISER}, case kept",
        bounds=of.bounds,
        needs=NEEDS,
        reduction=f"micro-average over {of.weight}",
        paired=False,
        convention_of=None if bucket is None else kind,
    )
    return QuoteMetric(card, of.measure, bucket)


_ALL = tuple((kind, bucket) for kind in KINDS for bucket in (None, *BUCKETS))
METRICS: tuple[Callable[[], ImageMetric], ...] = tuple(functools.partial(_metric, *each) for each in _ALL)
NAMES = tuple(_name(*each) for each in _ALL)
"""All of them, for the task."""
