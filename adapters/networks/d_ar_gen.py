"""D-AR's generator: LlamaGen's transformer over a sequence, its guidance rising along it (arXiv:2505.23660).

showlab/D-AR @ 3fb0f2d: autoregressive/models/gpt.py, generate.py.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from vtbench.adapters.networks.llamagen_gpt import LlamaGenGpt
from vtbench.adapters.networks.parts import sampling
from vtbench.models.replay import Replay
from vtbench.types.errors import VtbenchError


class DArGpt(LlamaGenGpt):
    """config: LlamaGen's. Positions are those of the sequence, the condition's first; it is turned too."""

    sequence = True

    def generate(self, source: Tensor, noise: sampling.Noise | None, **options: Any) -> Tensor:
        """LlamaGen's; `cfg_scale` is a number, or "first,last" as text, from which every token's is taken evenly.

        A first scale of at most 1 leaves out the null half, and so all guidance.
        """
        sampling.number("temperature", options.get("temperature", 1.0))
        sampling.whole("top_k", options.get("top_k", 0), least=0)
        sampling.number("top_p", options.get("top_p", 1.0), most=1.0, above=True)
        sampling.whole("cfg_interval", options.get("cfg_interval", -1), least=-1)
        return super().generate(source, noise, **options)

    def scales(self, cfg_scale: float | str) -> list[float]:
        """The guidance of every token (generate.py:138-152)."""
        ends = str(cfg_scale).split(",")
        try:
            first, last = float(ends[0]), float(ends[-1])
        except ValueError:
            first = last = -1.0
        # NaN compares false.
        if len(ends) > 2 or not (0 <= first < float("inf") and 0 <= last < float("inf")):
            raise VtbenchError(f"cfg_scale is {cfg_scale!r}, but must be a number of at least 0, or two: first,last")
        if first == 1 and last > 1:
            first += 1e-3
        with torch.device("cpu"):
            scales: list[float] = torch.linspace(first, last, self.length, dtype=torch.float32).tolist()
        return scales

    def replay(self, fixture: Replay) -> dict[str, Tensor]:
        """The arrays of a fixture, whose descriptions write two scales as `cfg_scale=1.2,8.0`."""
        for name, text in fixture.texts.items():
            two = re.search(r"cfg_scale=['\"]?(-?[\d.]+,-?[\d.]+)", text)
            if two and not fixture.stated:
                fixture.settings[name]["cfg_scale"] = two[1]  # type: ignore[index]
        return super().replay(fixture)
