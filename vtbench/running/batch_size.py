"""The batch that a model is fastest at, tried before the run."""

from __future__ import annotations

from typing import Any

from vtbench.images.rounding import to_float
from vtbench.images.stream import by_size, read_original
from vtbench.images.suite import Suite
from vtbench.images.views import View
from vtbench.models.system import ModelSystem
from vtbench.types.errors import RAISED

BATCHES = (1, 2, 4, 8, 16, 32, 64)
ENOUGH_SECONDS = 10.0
"""A batch that takes longer is the last that is tried."""
WORSE = 0.9
"""So much of the best rate so far, and no larger batch is tried."""
DEFAULT = 4


def fastest(system: ModelSystem, suite: Suite, view: View) -> tuple[int, dict[str, Any]]:
    """The batch size, and for the record the images a second at each that was tried."""
    if not suite.items:
        return DEFAULT, {}
    tried = rates(system, suite, view)
    best = max(tried, key=lambda n: tried[n], default=DEFAULT)
    return best, {"images_per_second_by_batch": {str(n): rate for n, rate in tried.items()}}


def rates(system: ModelSystem, suite: Suite, view: View) -> dict[int, float]:
    """Images a second at batches of 1, 2, 4 … 64 of the suite's first image, each after a warm-up; the best comes from
    `max`. Ends where a batch takes ten seconds, does not fit into memory, or the rate falls by a tenth."""
    item = suite.items[0]
    groups = by_size([read_original(suite, view, item)])
    if not groups:
        # The run names what cannot be read.
        return {}
    one = to_float(groups[0].images)
    out: dict[int, float] = {}
    for batch in BATCHES:
        images = one.repeat(batch, 1, 1, 1)
        seconds = []
        try:
            for _ in range(3):
                output = system.produce(images, list(range(batch)), [item] * batch)
                seconds.append(sum(float(s) for s in (output.encode_seconds, output.decode_seconds) if s is not None))
        except RAISED:
            # Too large for the memory; at a batch of one the model's own failure, which the run will name.
            break
        best = min(seconds[1:])
        if best <= 0:
            break
        out[batch] = batch / best
        if best > ENOUGH_SECONDS or out[batch] < WORSE * max(out.values()):
            break
    return out
