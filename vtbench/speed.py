"""The batch that a model is fastest at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vtbench.models.macs import LIBRARY as LIBRARY
from vtbench.models.macs import counting as counting
from vtbench.types.errors import VtbenchError

if TYPE_CHECKING:
    from vtbench.images import View
    from vtbench.models.system import ModelSystem
    from vtbench.suite import Suite

BATCHES = (1, 2, 4, 8, 16, 32, 64)
ENOUGH_SECONDS = 10.0
"""A batch that takes longer is the last that is tried."""
WORSE = 0.9
"""So much of the best rate so far, and no larger batch is tried."""


def rates(system: ModelSystem, suite: Suite, view: View) -> dict[int, float]:
    """Images a second at batches of 1, 2, 4 … 64 of the suite's first image, each after a warm-up; the best comes from
    `max`. Ends where a batch takes ten seconds, does not fit into memory, or the rate falls by a tenth."""
    import numpy as np
    import torch

    from vtbench.images import to_float

    item = suite.items[0]
    try:
        rgb = view.apply(suite.load(item))[0]
    except VtbenchError:
        # The run names what cannot be read.
        return {}
    one = to_float(torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None])
    found: dict[int, float] = {}
    for batch in BATCHES:
        images = one.repeat(batch, 1, 1, 1)
        seconds = []
        try:
            for _ in range(3):
                made = system.produce(images, list(range(batch)), [item] * batch)
                seconds.append((made.encode_seconds or 0.0) + (made.decode_seconds or 0.0))
        except Exception:
            # Too large for the memory; at a batch of one the model's own failure, which the run will name.
            break
        best = min(seconds[1:])
        if best <= 0:
            break
        found[batch] = batch / best
        if best > ENOUGH_SECONDS or found[batch] < WORSE * max(found.values()):
            break
    return found
