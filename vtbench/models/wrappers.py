"""What training wraps around a model (data parallelism, sharding, compilation, averages), looked through."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from vtbench.models.holding import outermost
from vtbench.types.errors import VtbenchError

INNER = ("_orig_mod", "module")
"""Where wrappers keep the model: torch.compile's, and those of DDP, DataParallel and averaged weights."""
FORWARDS = ("encode", "decode")


def unwrapped(model: Any) -> Any:
    """The model inside a compiled, data-parallel or averaged one, at any depth; anything else as it is.

    Its own methods are called, never the wrapper's `forward`, which splits and joins batches. Refuses what keeps its
    weights in pieces outside of `forward`.
    """
    from torch import nn

    while issubclass(type(model), nn.Module):
        _refuse_first_fsdp(model)
        own = type(model)
        inner = next((model._modules[name] for name in INNER if model._modules.get(name) is not None), None)
        if inner is None or callable(getattr(own, "encode", None)) or not _tokenizes(inner):
            break
        model = inner
    return model


def _tokenizes(module: Any) -> bool:
    """Has it encode and decode, by itself or by what it wraps?"""
    inner = (module._modules.get(name) for name in INNER)
    own = type(module)
    methods = all(callable(getattr(own, name, None)) or name in vars(module) for name in FORWARDS)
    return methods or any(part is not None and _tokenizes(part) for part in inner)


def _refuse_first_fsdp(model: Any) -> None:
    if any(base.__name__ == "FullyShardedDataParallel" for base in type(model).__mro__):
        raise VtbenchError(
            "FullyShardedDataParallel keeps its weights in pieces outside of forward: use torch's fully_shard, or hand "
            "over a copy of the model that was loaded from its full state dict"
        )


def name_of(model: Any) -> str:
    """The name of the class that its author wrote: `fully_shard` makes one of its own of it."""
    bases = type(model).__mro__
    sharded = len(bases) > 2 and bases[1].__name__ == "FSDPModule"
    return bases[2].__name__ if sharded else bases[0].__name__


@contextlib.contextmanager
def gathering(modules: Iterable[Any]) -> Iterator[None]:
    """Sharded modules (`fully_shard`) gather their weights for `encode` and `decode` as they do for `forward`.

    Every process of the group must then ask them, as in training. What is set for that is taken away afterwards.
    """
    register, sharded = _fsdp()
    registered: list[tuple[Any, str]] = []
    try:
        for module in outermost(m for m in modules if sharded is not None and isinstance(m, sharded)):
            for name in FORWARDS:
                # One that is there was registered by the user, or is no method of the class.
                if callable(getattr(module, name, None)) and name not in vars(module):
                    register(module, name)
                    registered.append((module, name))
        yield
    finally:
        for module, name in registered:
            delattr(module, name)


def _fsdp() -> tuple[Callable[..., None], Any]:
    """(how a method is registered as one that gathers, the class of sharded modules); None where nobody shards."""
    library = sys.modules.get("torch.distributed.fsdp")
    sharded = getattr(library, "FSDPModule", None)
    return getattr(library, "register_fsdp_forward_method", _nothing), sharded


def _nothing(*_: Any) -> None:
    """In place of a registration that this torch does not have."""
