"""Torch and numpy as a fresh process has them, whatever the caller of vtbench has set.

A training loop stands in `torch.autocast`, a notebook has changed the default dtype: metrics and models that ran under
that would compute other numbers than the record says. What a run is computed under is stated here, once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

AUTOCAST_DEVICES = ("cpu", "cuda", "mps", "xpu")
FP32_PRECISION: dict[tuple[str, str], str] = {
    ("generic", "all"): "none",
    ("cuda", "all"): "none",
    ("cuda", "matmul"): "none",
    ("cuda", "conv"): "none",
    ("cuda", "rnn"): "none",
    ("mkldnn", "all"): "none",
    ("mkldnn", "matmul"): "none",
    ("mkldnn", "conv"): "none",
    ("mkldnn", "rnn"): "none",
}
"""(backend, operation) of torch's newer settings of float32 products: "none" leaves them exact. The older settings are
in `_settings`; reading one of those raises where a caller has set a newer one to something else."""


@dataclass(frozen=True)
class _Setting:
    """One setting of the process: how it is read and written, and what it is while vtbench computes."""

    get: Callable[[], Any]
    set: Callable[[Any], Any]
    ours: Any


def _attribute(owner: Any, name: str, ours: Any) -> _Setting:
    return _Setting(lambda: getattr(owner, name), lambda value: setattr(owner, name, value), ours)


def _settings() -> list[_Setting]:
    """All that decides what an operation of torch computes and that belongs to the process, not to a thread."""
    import torch

    cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
    return [
        _Setting(torch.get_default_dtype, torch.set_default_dtype, torch.float32),
        # Without TF32, also where torch allows it by itself (convolutions): the record says float32. Metrics need it
        # off, and they work in a thread beside the model, whose setting it is too.
        _Setting(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest"),
        _attribute(cudnn, "allow_tf32", False),
        _attribute(cuda.matmul, "allow_fp16_reduced_precision_reduction", True),
        _attribute(cuda.matmul, "allow_bf16_reduced_precision_reduction", True),
        _Setting(_deterministic, _set_deterministic, (False, False)),
        _attribute(cudnn, "enabled", True),
        _attribute(cudnn, "benchmark", False),
        _attribute(cudnn, "deterministic", False),
        _Setting(cuda.flash_sdp_enabled, cuda.enable_flash_sdp, True),
        _Setting(cuda.mem_efficient_sdp_enabled, cuda.enable_mem_efficient_sdp, True),
        _Setting(cuda.math_sdp_enabled, cuda.enable_math_sdp, True),
    ]


def _deterministic() -> tuple[bool, bool]:
    import torch

    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _set_deterministic(value: tuple[bool, bool]) -> None:
    import torch

    torch.use_deterministic_algorithms(value[0], warn_only=value[1])


@contextlib.contextmanager
def isolated() -> Iterator[None]:
    """Torch's default precision, dtype, device and algorithms, without autocast and inference mode, and numpy's default
    handling of floating-point errors; afterwards everything as the caller had it. Also a decorator: `@isolated()`.

    Modes that belong to a thread (autocast, inference mode, the default device) are those of the calling thread; a new
    thread starts without them. Float32 is exact: TF32 is off, for models as for metrics. A model may still choose
    another precision for itself, in its own code.
    """
    import numpy as np

    with contextlib.ExitStack() as stack:
        _leave_modes(stack)
        stack.enter_context(np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"))
        _set_precision(stack)
        yield


def _leave_modes(stack: contextlib.ExitStack) -> None:
    import torch

    for kind in AUTOCAST_DEVICES:
        if torch.is_autocast_enabled(kind):
            stack.enter_context(torch.autocast(kind, enabled=False))
    if torch.is_inference_mode_enabled():
        # What a model keeps of its own while it is measured must stay usable in training.
        stack.enter_context(torch.inference_mode(False))
    stack.enter_context(torch.set_grad_enabled(True))
    if torch.get_default_device().type != "cpu":
        # Only then: a device context costs a little in every operation.
        stack.enter_context(torch.device("cpu"))


def _set_precision(stack: contextlib.ExitStack) -> None:
    """All settings of the process. They are read before any is written: newer and older ones of torch contradict each
    other in between. The newer are brought back last, as writing an older one writes its newer ones too."""
    import torch

    read = getattr(torch._C, "_get_fp32_precision_getter", None)
    write = getattr(torch._C, "_set_fp32_precision_setter", None)
    newer = {key: read(*key) for key in FP32_PRECISION} if read is not None and write is not None else {}
    older = [(setting, _value(setting)) for setting in _settings()]

    def put(values: Iterable[tuple[_Setting, Any]], precisions: Mapping[tuple[str, str], str]) -> None:
        for setting, value in values:
            if value is not _UNREADABLE and _value(setting) != value:
                setting.set(value)
        for key, precision in precisions.items():
            if read is not None and write is not None and read(*key) != precision:
                write(*key, precision)

    stack.callback(put, older, newer)
    put([(setting, setting.ours) for setting, _ in older], {key: FP32_PRECISION[key] for key in newer})


_UNREADABLE = object()


def _value(setting: _Setting) -> Any:
    try:
        return setting.get()
    except RuntimeError:
        # An older setting that a newer one contradicts has no value.
        return _UNREADABLE
