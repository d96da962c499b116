"""A tokenizer that is trained while it is monitored, the training, and a task of one metric."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import vtbench
from vtbench.types.tokens import Codes

QUICK = f"{Path(__file__).with_name('quick_task.py')}@psnr-alone"
"""The spec of a task that measures PSNR alone; its numbers are logged as PSNR."""
PSNR = "vtbench/psnr-alone/psnr"


class Quantizer(nn.Module):
    """Rounds to steps after a norm and dropout, which act in train mode alone, and draws from every generator."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.dropout = nn.BatchNorm2d(3), nn.Dropout(0.3)
        self.gain = nn.Parameter(torch.full((3, 1, 1), 0.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.dropout(x)) * self.gain

    def encode(self, x: torch.Tensor) -> Codes:
        random.random(), np.random.rand(), torch.rand(3)
        levels = ((self(x) + 4) * 16).round().clamp(0, 255).long()
        return Codes(levels.flatten(1), (256,), (int(x.shape[2]), int(x.shape[3])))

    def decode(self, tokens: Codes) -> torch.Tensor:
        return tokens.indices.reshape(len(tokens), 3, *tokens.size) / 16 - 4


def trained(model: Quantizer, steps: int, after: Callable[[int], Any]) -> None:
    """So many steps towards the identity, from a seed; `after` is called with each step, counted from 1."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model.dropout.train()
    for step in range(1, steps + 1):
        x = torch.rand(2, 3, 8, 8)
        loss = (model(x) - x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        after(step)


def numbers_of(model: Any, images: Path) -> dict[str, float | None]:
    """{metric: value} of `vtbench.evaluate`."""
    result = vtbench.evaluate(model, images=images, tasks=[QUICK])
    return {score.metric: score.value for score in result.runs[0].scores}
