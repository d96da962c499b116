"""THE place where metrics are called: sizes that a metric does not take, NaN, and exceptions have one rule each.

An image under a metric's least size, NaN and infinity are null with a reason, features that are no numbers too. A
metric that raises, or answers in another form, is named with the image that it did so on: what it was going to say is
not known, so the run does not go on as if it were.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from typing import TYPE_CHECKING, Any

from vtbench.metrics._beside import Needs
from vtbench.metrics._on_device import measured_on, on_device
from vtbench.types.errors import RAISED, Unavailable, VtbenchError
from vtbench.types.metric import Batch, Extractor, ImageMetric, Reference, SetValue, Value
from vtbench.types.outside import outside
from vtbench.types.shortage import shortage

if TYPE_CHECKING:
    import numpy as np
    import torch

    from vtbench.types.tokens import Tokens

ROWS = 4096
"""Rows of features that are looked at at a time."""


def measure(name: str, metric: ImageMetric, batch: Batch) -> list[Value]:
    """One Value an image of the batch (uint8 RGB (B, 3, H, W) on both sides). Raises VtbenchError, with the image, if
    the metric raises or returns anything else."""
    why = _not_taken(name, metric, batch)
    if why is not None:
        return [Value(None, why=why)] * len(batch)
    try:
        values = _answers(metric, batch)
    except VtbenchError:
        raise
    except RAISED as bad:
        # A metric of somebody's may raise anything.
        raise _named(f"the metric {name}", bad, _where(metric, batch)) from bad
    return [_finite(name, v) for v in values]


def _not_taken(name: str, metric: ImageMetric, batch: Batch) -> str | None:
    """Why the metric is not asked about this batch; None if it is."""
    if batch.no_pixels is not None and metric.reads_candidate:
        return batch.no_pixels
    short = min(int(batch.candidate.shape[2]), int(batch.candidate.shape[3]))
    if short < metric.card.min_size:
        return f"{name} needs images of at least {metric.card.min_size} px, this one has {short}"
    return None


def needs(metrics: Iterable[ImageMetric], device: str) -> Needs | None:
    """What a process beside this one takes that is asked for all of it that these metrics read of pairs, pixels lying
    on `device`; None if they read nothing of the kind."""
    return Needs.of_all(part.needs for m in metrics if m.on_cpu or not measured_on(device) for part in m.of_pairs)


def begin(metrics: Mapping[str, ImageMetric], batch: Batch) -> None:
    """Has the processes of `batch.beside` begin what these metrics will ask for; without any, nothing."""
    if batch.beside is None:
        return
    asked = [
        metric
        for name, metric in metrics.items()
        if metric.of_pairs and _not_taken(name, metric, batch) is None and (metric.on_cpu or not on_device(batch))
    ]
    parts = {part.key: part for metric in asked for part in metric.of_pairs if part.asked(batch)}
    for part in parts.values():
        # What cannot be asked of an image raises again where the metric reads it, and is named there.
        with contextlib.suppress(VtbenchError, *RAISED):
            part.begin(batch, 1 / len(parts))


def measure_all(metrics: Mapping[str, ImageMetric], batch: Batch) -> dict[str, list[Value]]:
    """{metric: one Value an image}."""
    return {name: measure(name, metric, batch) for name, metric in metrics.items()}


def _answers(metric: ImageMetric, batch: Batch) -> list[Value]:
    """What the metric says of each image, in Python's own numbers; raises if that is not one Value an image."""
    with outside():
        values = list(metric.measure(batch))
    for value in values:
        if not isinstance(value, Value):
            raise TypeError(f"it gave a {type(value).__name__}; wanted one vtbench.Value an image")
    if len(values) != len(batch):
        raise ValueError(f"it gave {len(values)} results for {len(batch)} images; wanted one vtbench.Value an image")
    return [v if type(v.value) is float and type(v.weight) is float else _in_floats(v) for v in values]


def _in_floats(value: Value) -> Value:
    number = _number_or_none(value.value)
    return dataclasses.replace(value, value=number, weight=_number(value.weight), why=_text_or_none(value.why))


def _number(value: Any) -> float:
    """A number of any library as Python's own; a text is none, whatever it reads as."""
    if isinstance(value, str | bytes):
        raise TypeError(f"its value is {value!r}; wanted a number")
    return float(value)


def _number_or_none(value: Any) -> float | None:
    return None if value is None else _number(value)


def _text_or_none(value: Any) -> str | None:
    return None if value is None else str(value)


def _finite(name: str, value: Value) -> Value:
    if value.value is None:
        return value if value.why else dataclasses.replace(value, why="not measured")
    if not math.isfinite(value.value):
        return Value(None, why=f"{name} came out as {value.value}")
    if not (math.isfinite(value.weight) and value.weight >= 0):
        return Value(None, why=f"the weight of {name} came out as {value.weight}")
    return value


def _named(what: str, bad: BaseException, item: str) -> VtbenchError:
    short = shortage(bad, f"what {what} wants of {item}")
    if short is not None:
        return short
    return VtbenchError(f"{what} raised {type(bad).__name__} on {item}: {bad}", code=1)


def _where(metric: ImageMetric, batch: Batch) -> str:
    """The image that the metric raises on, found by asking for each alone; all of them where it is none alone."""
    first = batch.reference.items[0].id
    if len(batch) == 1:
        return first
    for index in range(len(batch)):
        try:
            _answers(metric, one_of(batch, index))
        except RAISED:
            # Whatever it was: it is this image that it comes of.
            return batch.reference.items[index].id
    return f"{first} and {len(batch) - 1} more, together"


def one_of(batch: Batch, index: int) -> Batch:
    """The batch with one image only."""
    part = slice(index, index + 1)
    theirs = batch.reference
    reference = Reference(theirs.images[part], theirs.items[part], theirs.sha256[part])
    return Batch(
        reference,
        batch.candidate[part],
        _tokens_of(batch, index),
        None if batch.bits is None else batch.bits[part],
        batch.subject,
        batch.seeds[part],
        batch.no_pixels,
        None if batch.reading is None else batch.reading.one(index),
    )


def _tokens_of(batch: Batch, index: int) -> Tokens | None:
    """One image's tokens, those of all its tiles."""
    if batch.tokens is None:
        return None
    tiles = len(batch.tokens) // len(batch)
    parts = [batch.tokens[index * tiles + k] for k in range(tiles)]
    return parts[0] if tiles == 1 else type(batch.tokens).join(parts)


def extract(extractor: Extractor, images: torch.Tensor, items: Sequence[str]) -> np.ndarray[Any, Any]:
    """float32 (B, dim) of uint8 RGB (B, 3, H, W); a network that raises, or gives another shape, is named with its
    first image."""
    try:
        with outside():
            return _features(extractor.extract(images), len(items), extractor.dim)
    except VtbenchError:
        raise
    except RAISED as bad:
        raise _named(f"the feature network {extractor.id}", bad, items[0]) from bad


def _features(features: Any, images: int, dim: int) -> np.ndarray[Any, Any]:
    """What a network gave, one record an image: no record may stand for two."""
    import numpy as np

    if features is None:
        raise TypeError(f"it gave nothing; wanted ({images}, {dim}) numbers")
    records = np.asarray(features, dtype=np.float32)
    if records.shape != (images, dim):
        raise ValueError(f"it gave features of shape {records.shape}; wanted ({images}, {dim})")
    return records


def not_finite(name: str, **sides: Any) -> str | None:
    """Why features (n, dim) have no number, by the names of the sides; None where all are numbers, and for saved
    statistics. A distance of NaN may come out as any number."""
    for side, features in sides.items():
        if isinstance(features, Sized) and not is_finite(features):
            return f"{name} has no value: features of the {side} are NaN or infinite"
    return None


def is_finite(features: Any) -> bool:
    """Whether features (n, dim), however many, are all numbers."""
    import numpy as np

    return all(bool(np.isfinite(features[k : k + ROWS]).all()) for k in range(0, len(features), ROWS))


def finish(name: str, compute: Callable[[], SetValue], images: int | None = None) -> SetValue:
    """A metric's number over all images; what cannot be had and what is no number is null with its reason. images: so
    many it speaks of one by one, where it does."""
    try:
        with outside():
            result = _of_set(compute(), images)
    except Unavailable as bad:
        return SetValue(None, why=str(bad))
    except VtbenchError:
        raise
    except RAISED as bad:
        raise _named(f"the metric {name}", bad, "the whole set") from bad
    if result.value is not None and not math.isfinite(result.value):
        return SetValue(None, n=result.n, why=f"{name} came out as {result.value}", warning=result.warning)
    parts: dict[str, Any] = {
        part: _without_nan(getattr(result, part)) for part in ("low", "high", "details", "per_image")
    }
    return dataclasses.replace(result, **parts)


def _of_set(result: Any, images: int | None) -> SetValue:
    """What a metric says of a set, in Python's own numbers and texts; raises if that is no SetValue."""
    if not isinstance(result, SetValue):
        raise TypeError(f"it gave a {type(result).__name__}; wanted a vtbench.SetValue")
    each = None if result.per_image is None else [_number_or_none(value) for value in result.per_image]
    if each is not None and images is not None and len(each) != images:
        raise ValueError(f"it gave {len(each)} values of single images for {images} images")
    return dataclasses.replace(
        result,
        value=_number_or_none(result.value),
        low=_number_or_none(result.low),
        high=_number_or_none(result.high),
        n=None if result.n is None else int(result.n),
        why=_text_or_none(result.why),
        warning=_text_or_none(result.warning),
        details=dict(result.details),
        per_image=each,
    )


def _without_nan(value: Any) -> Any:
    """The value as JSON holds it, None where a number is not finite: what stands beside a score must not spoil it."""
    if isinstance(value, Mapping):
        return {str(k): _without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(v) for v in value]
    if hasattr(value, "tolist"):
        return _without_nan(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def put(row: dict[str, Any], values: Mapping[str, Sequence[Value]], index: int) -> None:
    """Value, weight and reason of image `index` into its row, as rows.jsonl keeps them."""
    for name, column in values.items():
        value = column[index]
        if value.value is None:
            row["why"][name] = value.why or "not measured"
            continue
        row["values"][name] = float(value.value)
        if value.weight != 1.0:
            row.setdefault("weights", {})[name] = float(value.weight)


def empty_row(item: str, why: str | None = None) -> dict[str, Any]:
    """A row that says nothing yet, or why the image as a whole could not be scored."""
    return {
        "item": item,
        "bits": None,
        "values": {},
        "why": {} if why is None else {"*": why},
        "seconds": {},
    }
