"""A tokenizer outside vtbench's tree: every 4 x 4 block as one grey level of sixteen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vtbench.types.adapter import Tokenizer
from vtbench.types.cards import Card, Family, Multiple
from vtbench.types.tokens import Codes, Tokens

if TYPE_CHECKING:
    import torch

CARD = Card(
    name="example-grey",
    family="example",
    kind="discrete",
    title="Grey blocks",
    sizes=Multiple(of=4),
    tokens_at_256=4096,
    alphabets=(16,),
    downsample=4,
)


class Grey(Tokenizer):
    def encode(self, images: torch.Tensor, seeds: Sequence[int], budget: float | None = None) -> Tokens:
        import torch.nn.functional as F

        level = (F.avg_pool2d(images.mean(dim=1, keepdim=True), 4) * 15).round().long()
        height, width = int(images.shape[2]), int(images.shape[3])
        return Codes(level.flatten(1), (16,), (height, width), grids=((height // 4, width // 4),))

    def decode(self, tokens: Tokens, seeds: Sequence[int]) -> torch.Tensor:
        import torch.nn.functional as F

        assert isinstance(tokens, Codes)
        level = tokens.indices.reshape(len(tokens), 1, *tokens.grids[0]).float() / 15
        return F.interpolate(level, size=tokens.size, mode="nearest").repeat(1, 3, 1, 1)


FAMILY = Family("example", "Example plug-in", (CARD,), Grey)
