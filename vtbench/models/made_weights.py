"""Weights made from parameters' names: what parity fixtures were filled by, and what stands in where no file is."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch


def values(key: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """float64 of `shape`, made from the parameter's name alone: the rule that fixtures are filled by.

    Uniform in [-1, 1) from PCG64 seeded with the name's sha256, then scaled as the leaf's name and the shape say, so
    that norms stay near one and a layer's output keeps its input's spread.
    """
    import numpy as np

    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little")
    u = (np.random.Generator(np.random.PCG64(seed)).random(math.prod(shape)) * 2 - 1).reshape(shape)
    leaf = key.rsplit(".", 1)[-1]
    if len(shape) <= 1:
        if leaf == "running_var":
            return np.asarray(1 + 0.5 * np.abs(u))
        return np.asarray(1 + 0.1 * u if leaf in ("weight", "gamma", "scale") else 0.1 * u)
    return np.asarray(0.1 * u if shape[0] == 1 else u * math.sqrt(3 / math.prod(shape[1:])))


def fill_(module: torch.nn.Module) -> torch.nn.Module:
    """Every floating entry of the state dict becomes its `values`; of tied entries the last name's stay."""
    import numpy as np
    import torch

    with torch.no_grad():
        for key, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(torch.from_numpy(np.asarray(values(key, tuple(tensor.shape)))).to(tensor.dtype))
    return module
