"""Speed of a model: multiply-accumulates by torch's own table of formulas, and the batch that it is fastest at."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from vtbench.types.errors import VtbenchError

if TYPE_CHECKING:
    from vtbench.images import View
    from vtbench.subject import ModelSubject
    from vtbench.suite import Suite

BATCHES = (1, 2, 4, 8, 16, 32, 64)
ENOUGH_SECONDS = 10.0
"""A batch that takes longer is the last that is tried."""
WORSE = 0.9
"""So much of the best rate so far, and no larger batch is tried."""

LIBRARY = "torch.utils.flop_counter"
"""It knows convolutions, matrix products and attention, two operations each multiply-accumulate; the rest counts 0."""


@contextlib.contextmanager
def counting(wanted: bool) -> Iterator[Any]:
    """Yields a function that, afterwards, gives the multiply-accumulates of what ran inside (None if not wanted).

    Only looks on: what a formula stumbles over is left out and the whole becomes 0, never an error of the model.
    """
    if not wanted:
        yield lambda: None
        return
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import flop_registry

    class Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
        total, whole = 0, True

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            given = kwargs or {}
            known = flop_registry.get(func._overloadpacket)
            if known is None and func._can_decompose():
                # In inference mode torch hands on whole layers, which fall apart into products only here.
                with self:
                    made = func.decompose(*args, **given)
                if made is not NotImplemented:
                    return made
            made = func(*args, **given)
            if known is not None:
                try:
                    self.total += known(*args, **given, out_val=made)
                except Exception:
                    self.whole = False
            return made

    with Counter() as counter:  # type: ignore[no-untyped-call]
        yield lambda: counter.total / 2 if counter.whole else 0.0


def rates(subject: ModelSubject, suite: Suite, view: View) -> dict[int, float]:
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
                made = subject.produce(images, list(range(batch)), [item] * batch)
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
