"""Text: is what was written still read? Ground truth is the true text; lines are read at their true boxes.

On rendered pages a detector's reading order alone costs 0.3 CER, so no detector takes part, except in `cer-page`, whose
truth and reading are put into one order by one rule (vtbench.metrics.ocr.reading_order). Truth comes from
item.meta["lines"]: [{"text", "box": [left, top, right, bottom], "x_height"}], in pixels of the untouched page.

Both sides are normalised by `nfkc-visible-ws`: no invisible characters, Unicode NFKC, whitespace collapsed to single
spaces, ends stripped; characters are code points. EasyOCR's reader is that of meta["language"], English where there is
none. An image's value has its number of reference characters (words, lines) as weight, so that the score sum(w v) /
sum(w) is the micro-average. A line without true text is left out, never read as perfect. Beside every number stand the
same reading of the untouched original (`…-ceiling`, what the engine itself loses) and, under its own name,
self-consistency (`cer-self`: the original's reading as truth, which is what VTBench publishes as CER).

Plain names are EasyOCR's readings; other engines have theirs in the name.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from vtbench.metrics import ocr, weights
from vtbench.metrics._pixels import OfPair
from vtbench.metrics._readings import Boxes, apart, read_or_why, readings
from vtbench.metrics._strings import NORMALISER, edits, ned, normalise, unsegmented, words_kept
from vtbench.metrics.languages import language_of, script_of, unreadable
from vtbench.types.errors import Unavailable
from vtbench.types.metric import Batch, ImageMetric, MetricCard, Value

UNSEGMENTED = frozenset({"han", "hiragana", "katakana", "thai", "lao", "khmer", "burmese", "tibetan"})
"""Scripts that write no spaces between words: no word error rate."""
OVERLONG = 3
HEIGHT_EDGES = (0, 3, 4, 6, 100)
"""Buckets of a line box's height in percent of the image's height: [0, 3), [3, 4), [4, 6), [6, 100]."""
NO_TEXT = "no true text is known for this image"
MOVED = "the view resized or cropped this page, so that its true line boxes no longer hold"
NEEDS = {"easyocr": ("easyocr-english-g2",), "rapidocr": ("rapidocr-ppocrv6-rec",), "tesseract": ()}


@dataclass(frozen=True)
class Line:
    """A true line and how it was read, both normalised; `height` in percent of the image's height."""

    truth: str
    reading: str
    height: float


Measure = Callable[[Sequence[Line]], tuple[float, float]]
"""Lines with true text -> (sum of what is counted, sum of weights)."""


def character_errors(lines: Sequence[Line]) -> tuple[float, float]:
    return sum(edits(k.truth, k.reading) for k in lines), sum(len(k.truth) for k in lines)


def word_errors(lines: Sequence[Line]) -> tuple[float, float]:
    return sum(edits(k.truth.split(), k.reading.split()) for k in lines), sum(len(k.truth.split()) for k in lines)


def words_right(lines: Sequence[Line]) -> tuple[float, float]:
    return sum(words_kept(k.truth, k.reading) for k in lines), sum(len(k.truth.split()) for k in lines)


def normalised_distance(lines: Sequence[Line]) -> tuple[float, float]:
    return sum(ned(k.truth, k.reading) for k in lines), len(lines)


def read_as_nothing(lines: Sequence[Line]) -> tuple[float, float]:
    return sum(not k.reading for k in lines), len(lines)


def overlong(lines: Sequence[Line]) -> tuple[float, float]:
    return sum(len(k.reading) > OVERLONG * len(k.truth) for k in lines), len(lines)


def errors_between(low: float, high: float, lines: Sequence[Line]) -> tuple[float, float]:
    """Of lines with a height in [low, high), in [low, high] at the upper end of all."""
    inside = [k for k in lines if low <= k.height < high or k.height == high == HEIGHT_EDGES[-1]]
    return sum(edits(k.truth, k.reading) / len(k.truth) for k in inside), len(inside)


def reader_for(batch: Batch, k: int, reader: ocr.Engine) -> ocr.Engine | str:
    """The engine that reads image `k` line by line, `reader` or its sibling of another language; or why none can."""
    if not (getattr(batch.reference.items[k], "meta", None) or {}).get("lines"):
        return NO_TEXT
    try:
        one = reader.of_language(language_of(batch.reference.items[k].meta))
    except Unavailable as absent:
        return str(absent)
    return problem(batch, k, one.scripts) or one


def problem(batch: Batch, k: int, scripts: frozenset[str]) -> str | None:
    """Why image `k` cannot be read line by line by a reader of `scripts`; None if it can."""
    item = batch.reference.items[k]
    meta = getattr(item, "meta", None) or {}
    if not meta.get("lines"):
        return NO_TEXT
    if item.sha256_rgb is not None and item.sha256_rgb != batch.reference.sha256[k]:
        return MOVED
    script = script_of(meta)
    if script not in scripts:
        return f"the reader knows {', '.join(sorted(scripts))}, and this text is {script}"
    why = unreadable(normalise(" ".join(str(line["text"]) for line in meta["lines"])), scripts)
    if why is not None:
        return why
    height, width = batch.reference.images.shape[2:]
    for line in meta["lines"]:
        left, top, right, bottom = line["box"]
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            return f"the line box {line['box']} lies outside the image of {width}x{height}"
    return None


def lines_of(reader: ocr.Engine, original: bool) -> OfPair:
    """The readings of every true line of the candidate, or of the original."""
    return readings(reader, "lines", functools.partial(_lines_asked, reader), original=original)


def _lines_asked(reader: ocr.Engine, batch: Batch, k: int) -> tuple[ocr.Engine, Boxes] | str:
    one = reader_for(batch, k, reader)
    if isinstance(one, str):
        return one
    boxes = [tuple(int(v) for v in line["box"]) for line in batch.reference.items[k].meta["lines"]]
    return one, boxes  # type: ignore[return-value]


def lines_read(batch: Batch, reader: ocr.Engine, original: bool) -> list[list[str] | str]:
    """Per image the normalised reading of every line of the candidate (or original), or why there is none."""
    of_images = read_or_why(batch, lines_of(reader, original), functools.partial(_lines_asked, reader))
    return [one if isinstance(one, str) else [normalise(t) for t in one] for one in of_images]


def keep_lines(batch: Batch, field: str, of_images: Sequence[list[str] | str]) -> None:
    """Notes every line in batch.kept["lines"], from where the runner writes row["lines"] and `legibility` reads them:
    {"x_height", "chars", field: the reading, field + "_right": characters right = max(0, chars - edits)}."""
    notes = batch.once("lines", lambda: [[] for _ in range(len(batch))])
    for k, lines in enumerate(of_images):
        if isinstance(lines, str):
            continue
        true = batch.reference.items[k].meta["lines"]
        if not notes[k]:
            notes[k] = [{"x_height": t.get("x_height"), "chars": len(normalise(t["text"]))} for t in true]
        for note, t, reading in zip(notes[k], true, lines, strict=True):
            truth = normalise(t["text"])
            note[field] = reading
            note[f"{field}_right"] = max(0, len(truth) - edits(truth, reading))


class LineMetric(ImageMetric):
    """A measure of the lines' readings. `side`: the candidate's reading against the truth, the original's against the
    truth ("ceiling"), or the candidate's against the original's ("self")."""

    on_cpu = True

    def __init__(self, card: MetricCard, measure: Measure, engine: str = "easyocr", side: str = "candidate") -> None:
        self.card, self._measure, self._engine, self._side = card, measure, engine, side
        self._words = measure in (word_errors, words_right)
        self._reader: ocr.Engine | None = None

    def load(self, device: str = "cpu") -> None:
        self._reader = ocr.engine(self._engine, device)
        sides = {"candidate": (False,), "ceiling": (True,), "self": (False, True)}[self._side]
        self.of_pairs = apart(self._reader, *(lines_of(self._reader, original) for original in sides))

    @property
    def engine_id(self) -> str | None:
        """Engine, version and weights' hash, for the record."""
        return None if self._reader is None else f"{self._reader.id}/{NORMALISER}"

    def measure(self, batch: Batch) -> Sequence[Value]:
        if self._reader is None:
            self.load()
        assert self._reader is not None
        of_images = lines_read(batch, self._reader, self._side == "ceiling")
        if self._engine == "easyocr" and self._side != "self":
            keep_lines(batch, "original_read" if self._side == "ceiling" else "read", of_images)
        originals = lines_read(batch, self._reader, True) if self._side == "self" else None
        return [self._one(batch, k, lines, originals) for k, lines in enumerate(of_images)]

    def _one(self, batch: Batch, k: int, read: list[str] | str, originals: Sequence[list[str] | str] | None) -> Value:
        """Image k's value; `read`: its lines as read, or why there are none."""
        if isinstance(read, str):
            return Value(None, why=read)
        meta = batch.reference.items[k].meta
        truths = [normalise(t["text"]) for t in meta["lines"]]
        if self._words and (script_of(meta) in UNSEGMENTED or any(map(unsegmented, truths))):
            script = script_of(meta) if script_of(meta) in UNSEGMENTED else "this text"
            return Value(None, why=f"{script} is written without spaces: it has no words to count")
        if originals is not None:
            theirs = originals[k]
            if isinstance(theirs, str):
                return Value(None, why=theirs)
            truths = list(theirs)
        height = int(batch.reference.images.shape[2])
        heights = [100 * (t["box"][3] - t["box"][1]) / height for t in meta["lines"]]
        lines = [Line(*parts) for parts in zip(truths, read, heights, strict=True) if parts[0]]
        total, weight = self._measure(lines)
        if weight <= 0:
            where = "in this range of heights " if isinstance(self._measure, functools.partial) else ""
            nothing = "the original is read as empty" if originals is not None else f"no line {where}has true text"
            return Value(None, why=nothing)
        return Value(total / weight, float(weight))


def _page_truth(batch: Batch, k: int, reader: ocr.Engine | str) -> str:
    """The true text of image k's page in the reader's order, normalised."""
    true = [(tuple(t["box"]), t["text"]) for t in batch.reference.items[k].meta["lines"]]
    ordered = ocr.reading_order(true, isinstance(reader, ocr.Engine) and reader.right_to_left)
    return normalise(" ".join(text for _, text in ordered))


def _page_asked(reader: ocr.Engine, batch: Batch, k: int) -> tuple[ocr.Engine, Boxes] | str:
    one = reader_for(batch, k, reader)
    if isinstance(one, str):
        return one
    return (one, None) if _page_truth(batch, k, one) else NO_TEXT


def _page_of(reader: ocr.Engine) -> OfPair:
    return readings(reader, "page", functools.partial(_page_asked, reader))


class PageCER(ImageMetric):
    """CER of the whole page: detector, recognizer, and one rule of reading order for truth and reading."""

    on_cpu = True
    card = MetricCard(
        name="cer-page",
        title="CER of the page, with a detector",
        version=2,
        unit="",
        better="lower",
        source="Levenshtein distance over reference characters (code points); boxes of EasyOCR's CRAFT, rows from the "
        f"top and each from the left, for the truth's boxes too; {NORMALISER}",
        bounds=(0.0, None),
        needs=("easyocr-english-g2", "easyocr-craft"),
        reduction="micro-average over reference characters",
    )

    def __init__(self) -> None:
        self._reader: ocr.Engine | None = None

    def load(self, device: str = "cpu") -> None:
        weights.find("easyocr-craft")
        self._reader = ocr.engine("easyocr", device)
        self.of_pairs = apart(self._reader, _page_of(self._reader))

    def measure(self, batch: Batch) -> Sequence[Value]:
        if self._reader is None:
            self.load()
        assert self._reader is not None
        read = read_or_why(batch, _page_of(self._reader), functools.partial(_page_asked, self._reader))
        return [self._one(batch, k, page) for k, page in enumerate(read)]

    def _one(self, batch: Batch, k: int, page: list[str] | str) -> Value:
        """Image k's value; `page`: its text as read, alone in a list, or why there is none."""
        if isinstance(page, str):
            return Value(None, why=page)
        assert self._reader is not None
        truth = _page_truth(batch, k, reader_for(batch, k, self._reader))
        return Value(edits(truth, normalise(page[0])) / len(truth), float(len(truth)))


_DISTANCE = f"Levenshtein distance over reference characters (code points) at true line boxes; {NORMALISER}"


@dataclass(frozen=True)
class Kind:
    """A measure of lines; `weight`: what the score is a micro-average over."""

    title: str
    measure: Measure
    better: Literal["higher", "lower"]
    source: str
    weight: str
    bounds: tuple[float, float | None] = (0, None)


_ERRORS_OF_WORDS = "Levenshtein distance of words over reference words"
_COMMON_WORDS = "longest common subsequence of words over reference words"
_ICDAR = "ICDAR 2019 1-N.E.D.: 1 - d / max(len) a line"
_SHARE = "share of lines"
KINDS = {
    "cer": Kind("Character error rate", character_errors, "lower", _DISTANCE, "reference characters"),
    "wer": Kind("Word error rate", word_errors, "lower", _ERRORS_OF_WORDS, "reference words"),
    "word-accuracy": Kind("Words read right", words_right, "higher", _COMMON_WORDS, "reference words", (0, 1)),
    "ned": Kind("1 - normalised edit distance", normalised_distance, "higher", _ICDAR, "lines", (0, 1)),
    "ocr-empty": Kind("Lines read as nothing", read_as_nothing, "lower", _SHARE, "lines", (0, 1)),
    "ocr-overlong": Kind("Lines read over three times too long", overlong, "lower", _SHARE, "lines", (0, 1)),
}
_SIDES = {"candidate": "", "ceiling": ", of the original (OCR ceiling)", "self": ", against the original's reading"}


def _metric(name: str, kind: str, engine: str = "easyocr", side: str = "candidate") -> LineMetric:
    of = KINDS[kind]
    card = MetricCard(
        name=name,
        title=f"{of.title}, {engine}{_SIDES[side]}",
        version=2,
        unit="",
        better=of.better,
        source=of.source,
        bounds=of.bounds,
        needs=NEEDS[engine],
        reduction=f"micro-average over {of.weight}",
        convention_of=kind if name != kind else None,
    )
    return LineMetric(card, of.measure, engine, side)


def _height(low: int, high: int) -> LineMetric:
    card = MetricCard(
        name=f"cer-h{low}-{high}",
        title=f"CER of lines {low} to {high} % of the image high",
        version=2,
        unit="",
        better="lower",
        source=_DISTANCE + "; mean over lines whose box height is in the range",
        bounds=(0.0, None),
        needs=NEEDS["easyocr"],
        reduction="mean over lines",
        convention_of="cer",
    )
    return LineMetric(card, functools.partial(errors_between, low, high))


def _make(name: str, kind: str, engine: str = "easyocr", side: str = "candidate") -> Callable[[], LineMetric]:
    return functools.partial(_metric, name, kind, engine, side)


METRICS: tuple[Callable[[], ImageMetric], ...] = (
    *(_make(name, name) for name in KINDS),
    *(_make(f"{name}-ceiling", name, side="ceiling") for name in ("cer", "wer", "word-accuracy", "ned")),
    _make("cer-self", "cer", side="self"),
    *(
        _make(f"{name}-{engine}", name, engine)
        for engine in ("rapidocr", "tesseract")
        for name in ("cer", "word-accuracy")
    ),
    _make("cer-rapidocr-ceiling", "cer", "rapidocr", "ceiling"),
    *(functools.partial(_height, low, high) for low, high in itertools.pairwise(HEIGHT_EDGES)),
    PageCER,
)
