"""Text read of the pictures of a batch, in processes beside this one where the engine works on the processor.

A process is sent the picture and what is asked of it, and loads the engine itself; what was read before is in the cache
of readings, which all processes share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from vtbench.metrics import ocr
from vtbench.metrics._beside import Needs, Unmeasured
from vtbench.metrics._pixels import OfPair, originals, pairs
from vtbench.metrics.languages import ENGLISH
from vtbench.types.metric import Batch

READER = Needs(4.5, 1 << 30)
"""torch, EasyOCR and its reader: 4.37 CPU seconds, 768 MiB for a line of text; its detector takes more."""
Boxes = Sequence[ocr.Box] | None
"""The lines that are read; None: the whole page."""


@dataclass(frozen=True)
class Question:
    """What is asked of a picture, and whom: an engine by its name and language."""

    engine: str
    language: str
    boxes: Boxes


def read(image: Any, question: Question | None) -> Any:
    """The reading of every box, or of the page alone in a list: uint8 RGB (H, W, 3). None where nothing is asked."""
    if question is None:
        return None
    language = () if question.language == ENGLISH else (question.language,)
    return _read(ocr.engine(question.engine, "cpu", *language), image, question.boxes)


def _read(reader: ocr.Engine, image: Any, boxes: Boxes) -> list[str]:
    return [ocr.read_page(reader, image)] if boxes is None else ocr.read_lines(reader, image, boxes)


Asked = Callable[[Batch, int], tuple[ocr.Engine, Boxes] | str]
"""Who reads what of image k; or why there is nothing to read."""


def readings(reader: ocr.Engine, what: str, asked: Asked, *, original: bool = False) -> OfPair:
    """Of every image the readings of its boxes, or its page's text alone; None where `asked` says why not. reader: the
    one that `asked` begins with; `what` is asked of it, in a word. original: of the originals, not of what stands for
    them."""

    def pictures(batch: Batch) -> list[Any]:
        return originals(batch) if original else [candidate for _, candidate in pairs(batch)]

    def sides(batch: Batch) -> list[tuple[Any, Question | None]]:
        return [_side(image, asked(batch, k)) for k, image in enumerate(pictures(batch))]

    def here(batch: Batch) -> Callable[[int], Any]:
        images = pictures(batch)

        def of(k: int) -> Any:
            one = asked(batch, k)
            return None if isinstance(one, str) else _read(one[0], images[k], one[1])

        return of

    return OfPair((what, reader.id, original), read, sides, here, READER, of_reference=original, threads=False)


def _side(image: Any, asked: tuple[ocr.Engine, Boxes] | str) -> tuple[Any, Question | None]:
    if isinstance(asked, str):
        return None, None
    reader, boxes = asked
    return image, Question(reader.name, reader.code, boxes)


def apart(reader: ocr.Engine, *parts: OfPair) -> tuple[OfPair, ...]:
    """Those that another process may be asked: none of a reader that works on another device."""
    return parts if reader.device == "cpu" else ()


def read_or_why(batch: Batch, part: OfPair, asked: Asked) -> list[list[str] | str]:
    """One an image: what `part` reads, or why there is nothing."""

    def of(k: int, reading: Any) -> list[str] | str:
        why = asked(batch, k) if reading is None else reading
        if isinstance(why, Unmeasured):
            return why.why
        return why if isinstance(why, str) else list(reading)

    return [of(k, reading) for k, reading in enumerate(part.of(batch))]
