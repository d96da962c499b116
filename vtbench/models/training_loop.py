"""A measurement inside somebody's training loop: the loop finds everything as it left it, and waits for nobody."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from vtbench.models import object_state
from vtbench.models.holding import held_modules
from vtbench.types.errors import VtbenchError


def is_first_process() -> bool:
    """True in process 0 of torch's default process group, and where there is none."""
    import torch.distributed as dist

    return not _in_group() or int(dist.get_rank()) == 0


def _in_group() -> bool:
    import torch.distributed as dist

    return dist.is_available() and dist.is_initialized()


@contextlib.contextmanager
def random_numbers_kept() -> Iterator[None]:
    """The global generators of Python, numpy and torch (CPU, and the devices that are in use) go on afterwards as if
    nobody had drawn from them in between."""
    import random

    import numpy as np
    import torch

    python, arrays, cpu = random.getstate(), np.random.get_state(legacy=False), torch.get_rng_state()
    # A device that nobody has touched yet is not woken up for this.
    in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    cuda = torch.cuda.get_rng_state_all() if in_use else None
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(arrays)
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        if mps is not None:
            torch.mps.set_rng_state(mps)


@contextlib.contextmanager
def one_process_alone(holder: Any) -> Iterator[None]:
    """One process of several computes while the others do not: torch's default process group is hidden meanwhile, from
    this thread and those that it begins (one that writes a checkpoint beside the training keeps it).

    A model that asks (`torch.distributed.is_initialized()`, as quantizers do that gather their statistics) is then
    alone and works; one that does not ask gets an error in place of waiting for processes that never come. Raises
    VtbenchError for an object whose weights lie in pieces on several processes, which one alone cannot read.
    """
    import torch.distributed as dist
    from torch.distributed import distributed_c10d as c10d

    if not _in_group() or dist.get_world_size() == 1:
        yield
        return
    _refuse_sharded(holder)
    # As torch's own tests put another world in its place (torch/testing/_internal/distributed/multi_threaded_pg.py).
    world = c10d._world
    c10d._world = _WithoutDefault(world)  # type: ignore[assignment]
    try:
        yield
    finally:
        c10d._world = world


class _WithoutDefault:
    """torch's record of process groups, as threads see it that ran before: for this one, and new ones, no default."""

    def __init__(self, world: Any) -> None:
        before = {thread.ident for thread in threading.enumerate()} - {threading.get_ident()}
        vars(self).update(world=world, before=before)

    def __getattr__(self, name: str) -> Any:
        if name == "default_pg" and threading.get_ident() not in self.before:
            return None
        return getattr(self.world, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.world, name, value)


def _refuse_sharded(holder: Any) -> None:
    modules = held_modules(holder)
    classes = {base.__name__ for module in modules for base in type(module).__mro__}
    in_pieces = "FullyShardedDataParallel" in classes or any(
        # A DTensor of several processes, or a parameter of DeepSpeed's ZeRO-3.
        getattr(getattr(tensor, "device_mesh", None), "ndim", 0) > 0 or hasattr(tensor, "ds_id")
        for _, tensor in object_state.tensors(modules)
    )
    if in_pieces:
        raise VtbenchError(
            f"{type(holder).__name__} has its weights in pieces on several processes, and one alone measures: give the "
            "monitor a copy that holds them whole, as an average of the weights may",
            code=1,
        )
