"""PCA (Karhunen-Loeve) of 8 x 8 patches: the linear continuous tokenizer, latents counted as float16."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vtbench.adapters.networks.parts import patches
from vtbench.models.checkpoint import read
from vtbench.types.adapter import Tokenizer
from vtbench.types.cards import OURS, Card, Family, Multiple, Weights
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Latents, Tokens

if TYPE_CHECKING:
    import torch

SIDE, MOST = 8, 64
CARD = Card(
    name="pca",
    family="pca",
    sources=OURS,
    kind="continuous",
    title="PCA of 8 x 8 patches",
    sizes=Multiple(of=SIDE),
    licence="Apache-2.0",
    weights=(
        Weights(
            file="pca.safetensors",
            package="vtbench.adapters.fits:pca.safetensors",
            sha256="c4a359b58996c9e50aa47095943d2b1e41d034e8d6e96f56df08f29526210e15",
        ),
    ),
    tokens_at_256=1024,
    downsample=SIDE,
    trained_on=("scikit-learn sample photographs",),
    options={"dims": 16},
    knob="dims",
    knob_values=(2, 4, 8, 16, 32, 64),
    note="float16 latents; fitted by adapters/fits/make_fits.py",
)


class Pca(Tokenizer):
    def load(self, files: Mapping[str, Path], device: str = "cpu", dtype: str = "float32") -> None:
        if not 1 <= self.options["dims"] <= MOST:
            raise VtbenchError(f"pca: dims is {self.options['dims']}; give 1 to {MOST}")
        fit = read(files["model"])
        self.mean = fit["mean"].to(device)
        self.components = fit["components"][: self.options["dims"]].to(device)
        self.device = device

    def encode(self, images: torch.Tensor, seeds: Sequence[int], budget: float | None = None) -> Tokens:
        height, width = int(images.shape[2]), int(images.shape[3])
        rows = patches.project(images.to(self.device), SIDE, self.mean, self.components)
        values = rows.transpose(1, 2).unflatten(2, (height // SIDE, width // SIDE))
        return Latents(values.half().cpu(), (height, width))

    def decode(self, tokens: Tokens, seeds: Sequence[int]) -> torch.Tensor:
        assert isinstance(tokens, Latents)
        rows = tokens.values.to(self.device).float().flatten(2).transpose(1, 2) @ self.components + self.mean
        return patches.join(rows, SIDE, *tokens.size)


FAMILY = Family("pca", "PCA of patches", (CARD,), Pca)
