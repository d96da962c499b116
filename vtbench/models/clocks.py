"""How long a model took: read at once where the work is done when a call returns, later where a device still works.

On CUDA a pair of events is laid into the device's queue and read when the row is written: no batch waits for the clock.
Their distance is the device's own time from the first to the last operation of the call, what it waits for in between
included, and so what a clock would show that waits for the device before and after. Everywhere else that clock is used.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from vtbench.models.devices import synchronize


class Elapsed:
    """Seconds between two events, once somebody asks: `float(elapsed)` waits for the second event alone."""

    def __init__(self, start: Any, end: Any) -> None:
        self._start, self._end = start, end

    def __float__(self) -> float:
        self._end.synchronize()
        # CUDA counts milliseconds.
        return float(self._start.elapsed_time(self._end)) / 1000


class Clock:
    """`mark()` before and after; `between` two marks is a float, or what becomes one."""

    def __init__(self, device: str, event: Callable[[], Any] | None = None) -> None:
        """event: makes an event that can be recorded and read; by default torch's on CUDA, else there are none."""
        self._device = device
        self._event = event if event is not None else (_cuda_event if device.startswith("cuda") else None)

    def mark(self) -> Any:
        """Now, in the order of what the device was asked to do."""
        if self._event is None:
            synchronize(self._device)
            return time.perf_counter()
        event = self._event()
        event.record(*self._stream())
        return event

    def between(self, start: Any, end: Any) -> float | Elapsed:
        return end - start if self._event is None else Elapsed(start, end)

    def _stream(self) -> tuple[Any, ...]:
        """The device's queue, which need not be that of the current device."""
        if not self._device.startswith("cuda"):
            return ()
        import torch

        return (torch.cuda.current_stream(torch.device(self._device)),)


def _cuda_event() -> Any:
    import torch

    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
