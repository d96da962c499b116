"""Devices: whether one is there, and waiting for it."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

from vtbench.types.errors import VtbenchError

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "float16", "bfloat16")
SHORT = {"fp32": "float32", "float": "float32", "fp16": "float16", "half": "float16", "bf16": "bfloat16"}
"""Other words for the same dtypes."""


def dtype_of(name: str) -> str:
    """The dtype's one name, by which it is recorded: float16 for fp16, half and torch.float16. Unknown ones stay."""
    plain = str(name).strip().lower().removeprefix("torch.")
    return SHORT.get(plain, plain if plain in DTYPES else str(name))


def check_device(device: str, dtype: str) -> None:
    """Refuses a device or dtype that is not there."""
    if dtype not in DTYPES:
        raise VtbenchError(f"--dtype {dtype!r} is not known: give float32, float16 or bfloat16")
    kind, _, index = device.partition(":")
    if kind == "cpu":
        return
    import torch

    if kind == "cuda":
        if not torch.cuda.is_available():
            raise VtbenchError(f"--device {device}: this machine has no CUDA device that torch can use; give cpu")
        if index and (not index.isdigit() or int(index) >= torch.cuda.device_count()):
            raise VtbenchError(f"--device {device}: there are {torch.cuda.device_count()} CUDA devices; count from 0")
    elif kind == "mps":
        if not torch.backends.mps.is_available():
            raise VtbenchError("--device mps: this machine has no Metal device that torch can use; give cpu")
    else:
        raise VtbenchError(f"--device {device!r} is not known: give cpu, cuda, cuda:1 or mps")


def synchronize(device: str) -> None:
    """Waits for the device, so that a clock read afterwards means something."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(torch.device(device))
    elif device.startswith("mps"):
        import torch

        torch.mps.synchronize()


_TURNS = threading.RLock()


def turn(device: str) -> contextlib.AbstractContextManager[Any]:
    """Around what asks a CUDA device to work: the model and the metrics of the batch before it share its queue, and one
    that cut into the other's work would be timed with it. Nothing on other devices."""
    return _TURNS if device.startswith("cuda") else contextlib.nullcontext()


def sent(images: torch.Tensor, device: str) -> torch.Tensor:
    """Pixels on a CUDA device: copied once, without waiting for it. Other devices are sent floats by the model."""
    if not device.startswith("cuda"):
        return images
    return images.pin_memory().to(device, non_blocking=True)
