"""Text in generated images: was the quoted string written? The whole image is read and held against the quote.

The quote stands in item.meta["quote"], else between quotation marks in meta["prompt"] (vtbench.metrics.quotations);
several are one, in their order. Reading: EasyOCR's detector, and its recognizer of meta["language"], over the whole
picture, boxes in one reading order (vtbench.metrics.ocr). Both sides are normalised by `nfkc-visible-ws` and compared
case for case, code point for code point. What was written beside the quote counts as wrong characters, so that a CER
may pass one; what the reader itself gets wrong counts too, alike for all generators.

Every number is given over all quotes and for each bucket of lengths, in characters of the normalised quote.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from vtbench.metrics import ocr, weights
from vtbench.metrics._pixels import OfPair
from vtbench.metrics._readings import Boxes, apart, read_or_why, readings
from vtbench.metrics._strings import NORMALISER, edits, ned, normalise, unsegmented, words_kept
from vtbench.metrics.languages import language_of, unreadable
from vtbench.metrics.quotations import NO_QUOTE as NO_QUOTE
from vtbench.metrics.quotations import Quotation, quotation
from vtbench.types.errors import Unavailable
from vtbench.types.item import Item
from vtbench.types.metric import Batch, ImageMetric, MetricCard, Value

BUCKETS = ((1, 8), (9, 20), (21, 40), (41, 80))
"""Lengths of quoted strings in characters; longer ones count over all quotes only."""
NEEDS = ("easyocr-english-g2", "easyocr-craft")
NO_WORDS = "the quote is of a script without spaces between words: it has no words to count"


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


def _quote(item: Item) -> Quotation:
    return quotation(getattr(item, "meta", None) or {})


def _page_asked(english: ocr.Engine, batch: Batch, k: int) -> tuple[ocr.Engine, Boxes] | str:
    """Who reads image k; or why there is nothing to read."""
    item = batch.reference.items[k]
    truth = _quote(item)
    if truth.why is not None:
        return truth.why
    try:
        reader = english.of_language(language_of(getattr(item, "meta", None) or {}))
    except Unavailable as absent:
        return str(absent)
    return unreadable(truth.text, reader.scripts) or (reader, None)


def _page_of(english: ocr.Engine) -> OfPair:
    return readings(english, "quotes", functools.partial(_page_asked, english))


class QuoteMetric(ImageMetric):
    """One measure, over all quotes or those of one bucket."""

    on_cpu = True

    def __init__(self, card: MetricCard, measure: Measure, bucket: tuple[int, int] | None) -> None:
        self.card, self._measure, self._bucket = card, measure, bucket
        self._reader: ocr.Engine | None = None

    def load(self, device: str = "cpu") -> None:
        weights.find("easyocr-craft")
        self._reader = ocr.engine("easyocr", device)
        self.of_pairs = apart(self._reader, _page_of(self._reader))

    @property
    def engine_id(self) -> str | None:
        """Engine, version and weights' hash, for the record."""
        return None if self._reader is None else f"{self._reader.id}/page/{NORMALISER}"

    def measure(self, batch: Batch) -> Sequence[Value]:
        return [self._one(read) for read in self._readings(batch)]

    def _one(self, read: tuple[str, str] | str) -> Value:
        """read: the quote and what is read on the image, or why there is none."""
        if isinstance(read, str):
            return Value(None, why=read)
        truth, reading = read
        if self._bucket is not None and not self._bucket[0] <= len(truth) <= self._bucket[1]:
            return Value(None, why=f"the quote has {len(truth)} characters")
        if self._measure is _words and unsegmented(truth):
            return Value(None, why=NO_WORDS)
        return Value(*self._measure(truth, reading))

    def _readings(self, batch: Batch) -> Sequence[tuple[str, str] | str]:
        """Per image the quote and the reading of the page, both normalised, or why there is none."""
        if self._reader is None:
            self.load()
        assert self._reader is not None
        asked = functools.partial(_page_asked, self._reader)
        read = read_or_why(batch, _page_of(self._reader), asked)
        truths = [_quote(item).text for item in batch.reference.items]
        return [
            page if isinstance(page, str) else (truth, normalise(page[0]))
            for truth, page in zip(truths, read, strict=True)
        ]


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
        version=3,
        unit="",
        better=of.better,
        source=f"EasyOCR over the whole image, boxes in reading order; code points after {NORMALISER}, case kept",
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
