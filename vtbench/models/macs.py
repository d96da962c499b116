"""Multiply-accumulates of whatever runs, by torch's own table of formulas."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

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
            settings = kwargs or {}
            formula = flop_registry.get(func._overloadpacket)
            if formula is None and func._can_decompose():
                # In inference mode torch hands on whole layers, which fall apart into products only here.
                with self:
                    parts = func.decompose(*args, **settings)
                if parts is not NotImplemented:
                    return parts
            result = func(*args, **settings)
            if formula is not None:
                try:
                    self.total += formula(*args, **settings, out_val=result)
                except Exception:
                    self.whole = False
            return result

    with Counter() as counter:  # type: ignore[no-untyped-call]
        yield lambda: counter.total / 2 if counter.whole else 0.0
