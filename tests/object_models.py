"""Objects that stand for models of a training loop, and the numbers of a run of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import vtbench
from vtbench.types.tokens import Codes, Latents


class Convolution(nn.Module):
    """Its latents are counted in the dtype that its convolution gives."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.e, self.d = nn.Conv2d(3, 48, 4, 4), nn.ConvTranspose2d(48, 3, 4, 4)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(0.1 * torch.randn(p.shape, generator=generator))

    def encode(self, x: torch.Tensor) -> Latents:
        return Latents(self.e(x * 2 - 1), (int(x.shape[2]), int(x.shape[3])))

    def decode(self, tokens: Latents) -> torch.Tensor:
        return (self.d(tokens.values) + 1) / 2


class Plain:
    """Something that holds something."""


class Steps(nn.Module):
    """Rounds every sample to so many steps; where the number stands is what the cases change."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(1))

    def steps(self) -> float:
        raise NotImplementedError

    def encode(self, x: torch.Tensor) -> Codes:
        return Codes((x * self.steps()).round().long().flatten(1), (256,), (int(x.shape[2]), int(x.shape[3])))

    def decode(self, tokens: Any) -> torch.Tensor:
        return tokens.indices.reshape(len(tokens), 3, *tokens.size) / self.steps()


def numbers(model: Any, images: Path, task: str = "compression", **more: Any) -> dict[str, float | None]:
    """The metrics of a run of two images, those of its costs aside."""
    result = vtbench.evaluate(model, images=images, view="64", tasks=[task], limit=2, **more)
    assert result.failures == {}
    costs = {"peak-memory", "parameters", "macs", "images-per-second"}
    run = result.runs[0]
    return {s.metric: s.value for s in run.scores if s.metric not in costs and "seconds" not in s.metric} | {
        "dtype": run.info.dtype  # type: ignore[dict-item]
    }


def alike(values: dict[str, Any]) -> dict[str, Any]:
    """Equal but for the eighth digit, which hangs on where arrays lie in memory; bfloat16 moves the third."""
    return {name: pytest.approx(v, rel=1e-6) if isinstance(v, float) else v for name, v in values.items()}
