"""Devices: whether one is there, and waiting for it."""

from __future__ import annotations

from vtbench.types.errors import VtbenchError

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
