"""Pixels of a batch as the per-image metrics read them: arrays (H, W, 3), shared between metrics and candidates."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from vtbench.metrics._beside import ARRAYS, Begun, Needs, Unmeasured, at_a_time
from vtbench.types.metric import Batch, Reference, Value


def bytes_of(images: Any) -> list[Any]:
    """uint8 RGB tensor (B, 3, H, W) -> contiguous uint8 arrays (H, W, 3)."""
    import numpy as np

    return [np.ascontiguousarray(image) for image in images.detach().cpu().permute(0, 2, 3, 1).numpy()]


def pairs(batch: Batch) -> list[tuple[Any, Any]]:
    """(reference, candidate) as uint8 (H, W, 3), one pair an image."""
    right = batch.once("bytes", lambda: bytes_of(batch.candidate))
    return list(zip(originals(batch), right, strict=True))


def originals(batch: Batch) -> list[Any]:
    """The originals as uint8 (H, W, 3)."""
    left: list[Any] = batch.reference.once("bytes", lambda: bytes_of(batch.reference.images))
    return left


def planes(batch: Batch) -> list[tuple[Any, Any]]:
    """(reference, candidate) as contiguous uint8 arrays (3, H, W), one pair an image; no copy where tensors are so."""

    def arrays(images: Any) -> list[Any]:
        return list(images.detach().cpu().contiguous().numpy())

    left = batch.reference.once("planes", lambda: arrays(batch.reference.images))
    right = batch.once("planes", lambda: arrays(batch.candidate))
    return list(zip(left, right, strict=True))


def luma(rgb: Any) -> Any:
    """uint8 (H, W, 3) -> float64 (H, W) in [0, 255]: Y of ITU-R BT.601, full range, not rounded."""
    import numpy as np

    return rgb @ np.array([0.299, 0.587, 0.114])


def lumas(batch: Batch) -> list[tuple[Any, Any]]:
    """(reference, candidate) as float64 luma (H, W), one pair an image."""
    both = pairs(batch)
    left = batch.reference.once("luma", lambda: [luma(x) for x, _ in both])
    right = batch.once("luma", lambda: [luma(y) for _, y in both])
    return list(zip(left, right, strict=True))


@dataclass(frozen=True)
class OfPair:
    """What is computed of each pair of pictures, once for all metrics that read it; or of the original alone, once for
    all candidates (`of_reference`).

    function: module-level, of (reference, candidate) as `sides` gives them, so that another process can be asked.
    here: the same in this process, given a batch and the number of an image, where candidates share something of their
    reference. needs: what a process takes for it. asked: whether a batch's metrics will read it. threads: whether this
    process computes it of several images at a time.
    """

    key: Any
    function: Callable[[Any, Any], Any]
    sides: Callable[[Batch], Sequence[tuple[Any, Any]]] = pairs
    here: Callable[[Batch], Callable[[int], Any]] | None = None
    needs: Needs = ARRAYS
    asked: Callable[[Batch], bool] = lambda batch: True
    of_reference: bool = False
    threads: bool = True

    def begin(self, batch: Batch, share: float) -> None:
        """Has the processes beside this one compute it meanwhile. share: of all that they compute of a batch."""
        side = self._side(batch)
        if self.key not in side.kept:
            names = [item.id for item in batch.reference.items]
            side.kept[self.key] = batch.beside.begin(self.function, self.sides(batch), names, share)

    def of(self, batch: Batch) -> list[Any]:
        """One result an image, by this processor: what `begin` began, or computed now. Unmeasured where a process was
        lost with it."""
        side = self._side(batch)
        kept = side.kept.get(self.key)
        if isinstance(kept, Begun):
            side.kept[self.key] = kept.results()
        results: list[Any] = side.once(self.key, lambda: _each(len(batch), self._here(batch), self.threads))
        return results

    def _side(self, batch: Batch) -> Batch | Reference:
        return batch.reference if self.of_reference else batch

    def _here(self, batch: Batch) -> Callable[[int], Any]:
        if self.here is not None:
            return self.here(batch)
        both = self.sides(batch)
        return lambda k: self.function(*both[k])


def values(value: Callable[..., Value], *results: Sequence[Any]) -> list[Value]:
    """One Value an image, of what `OfPair.of` gives (of one or several)."""
    out = []
    for one in zip(*results, strict=True):
        lost = next((r for r in one if isinstance(r, Unmeasured)), None)
        out.append(value(*one) if lost is None else Value(None, why=lost.why))
    return out


def each(batch: Batch, key: Any, measure: Callable[[int], Any]) -> list[Any]:
    """`measure(k)` for every image of the batch, shared under `key` with the metrics that read the same thing. Several
    at a time where there are cores for it: OpenCV and numpy leave Python's lock while they count. On two cores, two
    threads took more of the processor for the same images than one."""

    results: list[Any] = batch.once(key, lambda: _each(len(batch), measure, True))
    return results


def _each(images: int, measure: Callable[[int], Any], threads: bool) -> list[Any]:
    if not threads or min(at_a_time(), images) < 2:
        return [measure(k) for k in range(images)]
    return list(_pool.get().map(measure, range(images)))


class _Pool:
    """Threads of this process: those of the one that it was forked off are not there."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None
        self._process = 0

    def get(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._threads is None or self._process != os.getpid():
                self._threads = ThreadPoolExecutor(at_a_time(), thread_name_prefix="pixels")
                self._process = os.getpid()
            return self._threads


_pool = _Pool()
