"""A network of the usual parts, two states of it, and how its weights are read back, for tests of containers.

`WANTED` are the weights that the stated rule takes, `OTHER` those of another copy beside them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from vtbench.models.fill import fill
from vtbench.types.cards import Card, Weights

State = dict[str, torch.Tensor]


class Small(nn.Module):
    """An encoder, a codebook, a decoder with a statistic and a counter: what state dicts are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1))
        self.quantize = nn.Module()
        self.quantize.embedding = nn.Embedding(8, 2)
        self.decoder = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))


def state(seed: int) -> State:
    torch.manual_seed(seed)
    return {n: torch.rand_like(t) if t.is_floating_point() else t for n, t in Small().state_dict().items()}


WANTED, OTHER = state(0), state(1)


def card(**more: Any) -> Card:
    weights = Weights(file="small.pt", **{"key": ("state_dict",), **more})
    return Card(name="small", family="small", kind="discrete", title="Small", weights=(weights,))


def read(path: Path, prefix: str | None = None, **more: Any) -> Small:
    network: Small = fill(Small(), card(copy=prefix, **more), {"model": path})
    return network


def same(network: Small, wanted: State) -> bool:
    return all(torch.equal(t, wanted[n].float()) for n, t in network.state_dict().items() if t.is_floating_point())


def under(prefix: str, tensors: State) -> State:
    return {prefix + n: t for n, t in tensors.items()}
