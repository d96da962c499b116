"""Scalar codes of PCA latents: finite levels (FSQ) and signs (LFQ, BSQ), without a codebook to search.

FSQ: tanh bounds a dimension, equal steps cut it (Mentzer et al. 2023, https://arxiv.org/abs/2309.15505); a level is
decoded as the mean of what fell into it. Signs: a bit is the sign of what is left of a dimension (Yu et al. 2023,
https://arxiv.org/abs/2310.05737; residual, as in Han et al. 2024, https://arxiv.org/abs/2412.04431) and is worth the
mean magnitude of that; strong dimensions get more bits, in the order of the fit. Every dimension, every bit, is a book.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
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

SIDE, FSQ_DIMS, LEVELS, MOST_BITS = 8, 6, (5, 6, 7, 8), 64
WEIGHTS = Weights(
    file="pca_codes.safetensors",
    package="vtbench.adapters.fits:pca_codes.safetensors",
    sha256="69fa9e98313a0fb8c22c8cba356c9f74326780d675dc6f0447589cd4718511e4",
)
FSQ = Card(
    name="pca-fsq",
    family="pca-codes",
    sources=OURS,
    kind="discrete",
    title="FSQ of 6 PCA dimensions of 8 x 8 patches",
    sizes=Multiple(of=SIDE),
    licence="Apache-2.0",
    weights=(WEIGHTS,),
    tokens_at_256=1024,
    downsample=SIDE,
    trained_on=("scikit-learn sample photographs",),
    options={"levels": 8},
    knob="levels",
    knob_values=LEVELS,
    note="the same levels in each of 6 dimensions; fitted by adapters/fits/make_fits.py",
)
SIGNS = replace(
    FSQ,
    name="pca-signs",
    title="Residual sign bits of PCA dimensions of 8 x 8 patches",
    options={"bits": 18},
    knob="bits",
    knob_values=(4, 8, 18, 36),
    note="fitted by adapters/fits/make_fits.py",
)


class _PcaCodes(Tokenizer):
    """What both have in common: projection on the first dimensions and back."""

    def _fit(self, files: Mapping[str, Path], dims: int, device: str) -> dict[str, torch.Tensor]:
        fit = {name: tensor.to(device) for name, tensor in read(files["model"]).items()}
        self.mean, self.components = fit["mean"], fit["components"][:dims]
        self.device = device
        return fit

    def _latents(self, images: torch.Tensor) -> torch.Tensor:
        """float64 (B, positions, dims)."""
        return patches.project(images.to(self.device), SIDE, self.mean, self.components)

    def _codes(self, indices: torch.Tensor, alphabet: int, images: torch.Tensor) -> Codes:
        height, width = int(images.shape[2]), int(images.shape[3])
        grid = (height // SIDE, width // SIDE)
        return Codes(indices.cpu(), (alphabet,) * indices.shape[2], (height, width), (grid,))

    def _picture(self, latents: torch.Tensor, tokens: Codes) -> torch.Tensor:
        return patches.join(latents @ self.components + self.mean, SIDE, *tokens.size)


class PcaFsq(_PcaCodes):
    def load(self, files: Mapping[str, Path], device: str = "cpu", dtype: str = "float32") -> None:
        self.levels = self.options["levels"]
        if self.levels not in LEVELS:
            raise VtbenchError(f"pca-fsq: levels is {self.levels}; it was fitted for {', '.join(map(str, LEVELS))}")
        fit = self._fit(files, FSQ_DIMS, device)
        self.bound, self.values = fit["bound"][:FSQ_DIMS], fit[f"values_{self.levels}"]

    def encode(self, images: torch.Tensor, seeds: Sequence[int], budget: float | None = None) -> Tokens:
        bounded = (self._latents(images) / self.bound).tanh()
        indices = ((bounded + 1) / 2 * self.levels).floor().clamp(0, self.levels - 1).long()
        return self._codes(indices, self.levels, images)

    def decode(self, tokens: Tokens, seeds: Sequence[int]) -> torch.Tensor:
        import torch

        assert isinstance(tokens, Codes)
        dims = torch.arange(FSQ_DIMS, device=self.device)
        return self._picture(self.values[dims, tokens.indices.to(self.device)], tokens)


class PcaSigns(_PcaCodes):
    def load(self, files: Mapping[str, Path], device: str = "cpu", dtype: str = "float32") -> None:
        bits = self.options["bits"]
        if not 1 <= bits <= MOST_BITS:
            raise VtbenchError(f"pca-signs: bits is {bits}; give 1 to {MOST_BITS}")
        fit = self._fit(files, MOST_BITS, device)
        self.dims, self.worth = fit["sign_dims"][:bits].tolist(), fit["sign_worth"][:bits].tolist()

    def encode(self, images: torch.Tensor, seeds: Sequence[int], budget: float | None = None) -> Tokens:
        import torch

        rest = self._latents(images)
        bits = []
        for dim, worth in zip(self.dims, self.worth, strict=True):
            bit = rest[..., dim] > 0
            rest[..., dim] -= torch.where(bit, worth, -worth)
            bits.append(bit)
        return self._codes(torch.stack(bits, dim=2).long(), 2, images)

    def decode(self, tokens: Tokens, seeds: Sequence[int]) -> torch.Tensor:
        import torch

        assert isinstance(tokens, Codes)
        signs = tokens.indices.to(self.device).float() * 2 - 1
        latents = torch.zeros(*signs.shape[:2], MOST_BITS, device=self.device)
        for k, (dim, worth) in enumerate(zip(self.dims, self.worth, strict=True)):
            latents[..., dim] += signs[..., k] * worth
        return self._picture(latents, tokens)


def _build(card: Card, options: Mapping[str, object]) -> Tokenizer:
    return PcaFsq(card, options) if "levels" in card.options else PcaSigns(card, options)


FAMILY = Family("pca-codes", "FSQ and sign bits of PCA latents", (FSQ, SIGNS), _build)
