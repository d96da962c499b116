"""Multiply-accumulates of whatever runs, by torch's own table of formulas."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

LIBRARY = "torch.utils.flop_counter"
"""It knows convolutions, matrix products and attention, two operations each multiply-accumulate; the rest counts 0."""


def dispatch_mode() -> Any:
    """torch's base class of what sees every operation, without the import of torch's compiler that it brings.

    torch keeps its compiler off such a class by importing it, which takes 1.4 s. Where the compiler is not loaded,
    nothing can be compiled, and there is nothing to keep off.
    """
    from torch.utils._python_dispatch import TorchDispatchMode

    class Uncompiled(TorchDispatchMode):  # type: ignore[no-untyped-call]
        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            return "torch._dynamo" in sys.modules

    return Uncompiled


@contextlib.contextmanager
def counting(wanted: bool) -> Iterator[Any]:
    """Yields a function that, afterwards, gives the multiply-accumulates of what ran inside (None if not wanted).

    Only looks on: what a formula stumbles over is left out and the whole becomes 0, never an error of the model.
    """
    if not wanted:
        yield lambda: None
        return
    from torch.utils.flop_counter import flop_registry

    class Counter(dispatch_mode()):  # type: ignore[misc]
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
                    # A formula of torch's that knows other arguments: nothing is counted rather than too little.
                    self.whole = False
            return result

    with Counter() as counter:
        yield lambda: counter.total / 2 if counter.whole else 0.0
