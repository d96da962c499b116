"""Residual k-means over 8 x 8 patches: each level codes what the levels before left; all are books of one position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vtbench.adapters.networks.parts import patches
from vtbench.models.checkpoint import read
from vtbench.types.adapter import Tokenizer
from vtbench.types.cards import OURS, Card, Family, Multiple, Weights
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Codes, Tokens

if TYPE_CHECKING:
    import torch

SIDE, DEPTH = 8, 8
CARD = Card(
    name="residual-vq",
    family="residual-vq",
    sources=OURS,
    kind="discrete",
    title="Residual k-means VQ of 8 x 8 patches",
    sizes=Multiple(of=SIDE),
    licence="Apache-2.0",
    weights=(
        Weights(
            file="residual_vq.safetensors",
            package="vtbench.adapters.fits:residual_vq.safetensors",
            sha256="053ddca86cb913d2967f5a52bbea09986936e798aef224c854eb08466518c3d4",
        ),
    ),
    tokens_at_256=1024,
    downsample=SIDE,
    trained_on=("scikit-learn sample photographs",),
    options={"depth": 4},
    knob="depth",
    knob_values=(1, 2, 4, 8),
    note="256 codes a level; fitted by adapters/fits/make_fits.py",
)


class ResidualVq(Tokenizer):
    def load(self, files: Mapping[str, Path], device: str = "cpu", dtype: str = "float32") -> None:
        if not 1 <= self.options["depth"] <= DEPTH:
            raise VtbenchError(f"residual-vq: depth is {self.options['depth']}; give 1 to {DEPTH}")
        fit = read(files["model"])
        self.mean = fit["mean"].to(device)
        self.books = fit["codebooks"][: self.options["depth"]].float().to(device)
        self.device = device

    def encode(self, images: torch.Tensor, seeds: Sequence[int], budget: float | None = None) -> Tokens:
        import torch

        height, width = int(images.shape[2]), int(images.shape[3])
        rest = patches.cut(images.to(self.device), SIDE).flatten(0, 1) - self.mean
        levels = []
        for book in self.books:
            index = patches.nearest(rest, book)
            rest = rest - book[index]
            levels.append(index.reshape(len(images), -1))
        alphabets = (self.books.shape[1],) * len(self.books)
        grid = (height // SIDE, width // SIDE)
        return Codes(torch.stack(levels, dim=2).cpu(), alphabets, (height, width), (grid,))

    def decode(self, tokens: Tokens, seeds: Sequence[int]) -> torch.Tensor:
        assert isinstance(tokens, Codes)
        indices = tokens.indices.to(self.device)
        rows = self.mean + sum(book[indices[..., level]] for level, book in enumerate(self.books))
        return patches.join(rows, SIDE, *tokens.size)


FAMILY = Family("residual-vq", "Residual VQ of patches", (CARD,), ResidualVq)
