"""An object's tensors: what identifies them for the record, their dtype and device, and what cannot be measured."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from vtbench.types.errors import VtbenchError


def own_modules(holder: Any, modules: list[Any]) -> list[Any]:
    """Of the modules that an object reaches, those that are its model: itself; else what stands in its attributes,
    directly or in containers; else all."""
    ids = {id(module) for module in modules}
    near: list[Any] = [holder]
    for _ in range(3):
        hits = [value for value in near if id(value) in ids]
        if hits:
            return list({id(module): module for module in hits}.values())
        near = [inner for value in near for inner in _inside(value)]
    return modules


def _inside(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    return list(getattr(value, "__dict__", {}).values())


def tensors(modules: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """(name, tensor) of every parameter and buffer, those that no state dict keeps included, each once."""
    seen: set[int] = set()
    for number, module in enumerate(modules):
        for kind in (module.named_parameters, module.named_buffers):
            for name, tensor in kind():
                if id(tensor) not in seen:
                    seen.add(id(tensor))
                    yield f"{number}.{name}", tensor


def refuse_unready(name: str, modules: Iterable[Any]) -> None:
    """Refuses tensors without numbers: of lazy modules that saw no batch yet, and those on the meta device."""
    from torch.nn.parameter import is_lazy

    for path, tensor in tensors(modules):
        where = path.partition(".")[2]
        if is_lazy(tensor):
            raise VtbenchError(f"{name} is lazy, {where} has no shape yet: run a batch through it first")
        if tensor.device.type == "meta":
            raise VtbenchError(f"{name} has no weights: {where} lies on the meta device; load them first")


def digest_of(holder: Any, modules: Iterable[Any]) -> str | None:
    """sha256 over names and contents of all tensors of the modules, or of the object's own state dict where it has one
    and no module; None without any."""
    digest, count = hashlib.sha256(), 0
    named = list(tensors(modules))
    if not named and callable(getattr(holder, "state_dict", None)):
        named = [(name, value) for name, value in holder.state_dict().items() if hasattr(value, "detach")]
    for name, tensor in named:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        for part in _bytes_of(tensor.detach()):
            digest.update(part)
        count += 1
    return digest.hexdigest() if count else None


def _bytes_of(tensor: Any) -> Iterator[bytes]:
    """A tensor's contents; of a sharded one those of all processes, of a packed one those of its parts."""
    import torch

    if hasattr(tensor, "full_tensor"):
        tensor = tensor.full_tensor()
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    if tensor.is_quantized:
        yield repr(tensor.qscheme()).encode()
        tensor = tensor.int_repr()
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter) and hasattr(tensor, "__tensor_flatten__"):
        names, settings = tensor.__tensor_flatten__()
        yield repr(settings).encode()
        for name in names:
            yield from _bytes_of(getattr(tensor, name).detach())
        return
    plain = tensor.cpu().contiguous().reshape(-1)
    yield plain.view(torch.uint8).numpy().tobytes()


def device_of(modules: Iterable[Any]) -> str | None:
    """Where the first tensor lies, as images are handed over there; None without any."""
    first = next((tensor for _, tensor in tensors(modules)), None)
    return None if first is None else str(first.device)


def dtype_of(modules: Iterable[Any]) -> str | None:
    """The dtype of the parameters, "bfloat16+float32" where there are several; None without any."""
    parameters = (p for module in modules for p in module.parameters() if p.is_floating_point())
    names = sorted({str(p.dtype).removeprefix("torch.") for p in parameters})
    return "+".join(names) or None


def same_device(one: str, other: str) -> bool:
    """True for two names of one device: "cuda" is its current one."""
    import torch

    first, second = torch.device(one), torch.device(other)
    if first.type != second.type or first.type != "cuda":
        return first.type == second.type
    current = torch.cuda.current_device()
    return (current if first.index is None else first.index) == (current if second.index is None else second.index)
