"""The two ceilings: identity (nothing is lost) and resize-only (what fewer pixels alone can keep)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vtbench.images.rounding import to_float, to_uint8
from vtbench.types.adapter import Tokenizer
from vtbench.types.cards import OURS, Card, Family, Multiple
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Latents, Tokens

if TYPE_CHECKING:
    import torch

CARDS = (
    Card(
        name="identity",
        family="ceilings",
        sources=OURS,
        kind="continuous",
        title="Identity",
        latent_channels=3,
        downsample=1,
        tokens_at_256=65536,
        licence="Apache-2.0",
        note="uint8 pixels as latents: 24 bits per pixel",
    ),
    Card(
        name="resize",
        family="ceilings",
        sources=OURS,
        kind="continuous",
        title="Resize only",
        sizes=Multiple(1),
        latent_channels=3,
        licence="Apache-2.0",
        options={"factor": 2},
        knob="factor",
        knob_values=(2, 4, 8, 16),
        note="antialiased bicubic to 1/factor of each side, uint8 pixels as latents, bicubic back",
    ),
)


class Pixels(Tokenizer):
    """The picture itself, at 1/factor of its sides, as uint8 latents."""

    def encode(self, images: torch.Tensor, seeds: Sequence[int], budget: float | None = None) -> Tokens:
        from torch.nn.functional import interpolate

        factor = self.options.get("factor", 1)
        if not 1 <= factor <= 64:
            raise VtbenchError(f"resize: factor is {factor}; give 1 to 64")
        height, width = int(images.shape[2]), int(images.shape[3])
        if factor > 1:
            small = (max(1, round(height / factor)), max(1, round(width / factor)))
            images = interpolate(images, size=small, mode="bicubic", antialias=True)
        return Latents(to_uint8(images).cpu(), (height, width))

    def decode(self, tokens: Tokens, seeds: Sequence[int]) -> torch.Tensor:
        from torch.nn.functional import interpolate

        assert isinstance(tokens, Latents)
        images = to_float(tokens.values)
        return images if images.shape[2:] == tokens.size else interpolate(images, size=tokens.size, mode="bicubic")


FAMILY = Family("ceilings", "Ceilings", CARDS, Pixels)
