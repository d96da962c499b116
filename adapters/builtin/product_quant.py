"""Product quantization: the PCA latent of a patch cut into groups of dimensions, each with a codebook of its own.

Jegou et al. 2011 (https://doi.org/10.1109/TPAMI.2010.57); dimensions are dealt to the books so that the products of
their variances are about equal (optimized product quantization, Ge et al., CVPR 2013, section 3.2.2).
"""

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

SIDE, BOOKS = 8, (2, 4, 8)
CARD = Card(
    name="product-quant",
    family="product-quant",
    sources=OURS,
    kind="discrete",
    title="Product quantization of 8 x 8 patches",
    sizes=Multiple(of=SIDE),
    licence="Apache-2.0",
    weights=(
        Weights(
            file="product_quant.safetensors",
            package="vtbench.adapters.fits:product_quant.safetensors",
            sha256="94163fb42f1953e9d2084bc7515a31df06218a330ae616c0c712f8480a145cd6",
        ),
    ),
    tokens_at_256=1024,
    downsample=SIDE,
    trained_on=("scikit-learn sample photographs",),
    options={"books": 4},
    knob="books",
    knob_values=BOOKS,
    note="64 PCA dimensions, 256 codes a book; fitted by adapters/fits/make_fits.py",
)


class ProductQuant(Tokenizer):
    def load(self, files: Mapping[str, Path], device: str = "cpu", dtype: str = "float32") -> None:
        books = self.options["books"]
        if books not in BOOKS:
            raise VtbenchError(f"product-quant: books is {books}; it was fitted for {', '.join(map(str, BOOKS))}")
        fit = read(files["model"])
        self.mean, self.components = fit["mean"].to(device), fit["components"].to(device)
        self.dims = fit[f"dims_{books}"].to(device)
        self.codebooks = fit[f"codebooks_{books}"].float().to(device)
        self.device = device

    def encode(self, images: torch.Tensor, seeds: Sequence[int], budget: float | None = None) -> Tokens:
        import torch

        height, width = int(images.shape[2]), int(images.shape[3])
        latents = patches.project(images.to(self.device), SIDE, self.mean, self.components).flatten(0, 1)
        indices = torch.stack(
            [patches.nearest(latents[:, d], b) for d, b in zip(self.dims, self.codebooks, strict=True)], dim=1
        )
        grid = (height // SIDE, width // SIDE)
        alphabets = (self.codebooks.shape[1],) * len(self.codebooks)
        return Codes(indices.unflatten(0, (len(images), -1)).cpu(), alphabets, (height, width), (grid,))

    def decode(self, tokens: Tokens, seeds: Sequence[int]) -> torch.Tensor:
        import torch

        assert isinstance(tokens, Codes)
        indices = tokens.indices.to(self.device)
        latents = torch.empty(*indices.shape[:2], len(self.components), device=self.device)
        for k, (dims, book) in enumerate(zip(self.dims, self.codebooks, strict=True)):
            latents[..., dims] = book[indices[..., k]]
        return patches.join(latents @ self.components + self.mean, SIDE, *tokens.size)


FAMILY = Family("product-quant", "Product quantization of patches", (CARD,), ProductQuant)
