"""The most memory that was in use at a time during one run.

The system's mark of a process only rises, so that a model would inherit that of a larger one before it: it is set back
as the run begins. Where the system does not allow that, a mark that rose since is the run's own; else there is none.
"""

from __future__ import annotations

import contextlib
import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtbench.results import provenance

CLEAR_REFS = Path("/proc/self/clear_refs")
"""Linux: "5" sets the mark of resident memory back to what is resident now (proc(5), since 4.0)."""
NEAR = 1 << 24
"""Bytes by which mark and resident memory may differ once the mark was set back; a file that does nothing is seen."""
NOT_KNOWN = (
    "this system cannot set back its mark of a process's memory, and the mark did not rise during the run: measure "
    "this model in a process of its own"
)
_SHORT = ("out of memory", "not enough memory", "can't allocate memory")
"""In the text of torch's RuntimeError: of a device, of its allocator on Windows, and on Linux
(c10/core/impl/alloc_cpu.cpp)."""


@dataclass(frozen=True)
class Memory:
    """Begun before what is to be measured. before: the mark in bytes then; None where it was set back."""

    device: str
    before: int | None = None

    @staticmethod
    def begin(device: str) -> Memory:
        """Sets the mark back where that can be done."""
        if device.startswith("cuda"):
            import torch

            torch.cuda.reset_peak_memory_stats(torch.device(device))
            return Memory(device)
        _give_back()
        if _set_back():
            return Memory(device)
        return Memory(device, provenance.peak_memory() or 0)

    def most(self, beside: str = "libraries") -> dict[str, Any]:
        """{"bytes", "what"}: the most memory since the beginning, and whose; None and why not.

        beside: what the resident memory of the process holds besides the model, in words ("metrics and libraries").
        """
        if self.device.startswith("cuda"):
            import torch

            most = torch.cuda.max_memory_allocated(torch.device(self.device))
            return {"bytes": most, "what": "device memory that torch allocated, during this run"}
        mark = provenance.peak_memory()
        if mark is None or (self.before is not None and mark <= self.before):
            return {"bytes": None, "what": NOT_KNOWN}
        return {"bytes": mark, "what": f"resident memory of the whole process during this run, {beside} included"}


def _set_back() -> bool:
    try:
        CLEAR_REFS.write_text("5")
        facts = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
        mark, resident = (int(facts[key].split()[0]) * 1024 for key in ("VmHWM", "VmRSS"))
    except (OSError, KeyError, ValueError, IndexError):
        return False
    return mark - resident <= NEAR


def _give_back() -> None:
    """What earlier models freed goes back to the system, where the C library keeps it (glibc)."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def out_of_memory(bad: BaseException) -> bool:
    """Whether what was raised means that memory did not suffice; gives back then what torch keeps of the device's."""
    short = isinstance(bad, MemoryError) or (isinstance(bad, RuntimeError) and any(w in str(bad) for w in _SHORT))
    if short:
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return short
