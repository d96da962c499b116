"""Pixels of a batch as the per-image metrics read them: arrays (H, W, 3), shared between metrics and candidates."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from vtbench.images.ahead import cores, readers
from vtbench.types.metric import Batch

MOST = 8
"""Images that are measured at a time at most: beyond, arrays in the cache push each other out."""


def bytes_of(images: Any) -> list[Any]:
    """uint8 RGB tensor (B, 3, H, W) -> contiguous uint8 arrays (H, W, 3)."""
    import numpy as np

    return [np.ascontiguousarray(image) for image in images.detach().cpu().permute(0, 2, 3, 1).numpy()]


def pairs(batch: Batch) -> list[tuple[Any, Any]]:
    """(reference, candidate) as uint8 (H, W, 3), one pair an image."""
    left = batch.reference.once("bytes", lambda: bytes_of(batch.reference.images))
    right = batch.once("bytes", lambda: bytes_of(batch.candidate))
    return list(zip(left, right, strict=True))


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


def each(batch: Batch, key: Any, measure: Callable[[int], Any]) -> list[Any]:
    """`measure(k)` for every image of the batch, shared under `key` with the metrics that read the same thing. Several
    at a time where there are cores for it: OpenCV and numpy leave Python's lock while they count."""

    def of_all() -> list[Any]:
        if min(_threads(), len(batch)) < 2:
            return [measure(k) for k in range(len(batch))]
        return list(_pool.get().map(measure, range(len(batch))))

    results: list[Any] = batch.once(key, of_all)
    return results


def _threads() -> int:
    """How many images are measured at a time: one core is the model's. On two cores, two at a time took more of the
    processor for the same images than one."""
    return max(1, min(readers(), cores() - 1, MOST))


class _Pool:
    """Threads of this process: those of the one that it was forked off are not there."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None
        self._process = 0

    def get(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._threads is None or self._process != os.getpid():
                self._threads = ThreadPoolExecutor(_threads(), thread_name_prefix="pixels")
                self._process = os.getpid()
            return self._threads


_pool = _Pool()
