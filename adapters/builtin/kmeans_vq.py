"""k-means over 8 x 8 patches: the centroid tokenizer (CCViT uses k-means centroids of patches as its targets)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vtbench.adapters.fits.files import KMEANS_VQ
from vtbench.adapters.networks.parts import patches
from vtbench.models.checkpoint import read
from vtbench.types.adapter import Tokenizer
from vtbench.types.cards import OURS, Card, Family, Multiple
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Codes, Tokens

if TYPE_CHECKING:
    import torch

SIDE = 8
CODEBOOKS = (256, 1024, 4096)
CARD = Card(
    name="kmeans-vq",
    family="kmeans-vq",
    sources=OURS,
    kind="discrete",
    title="k-means VQ of 8 x 8 patches",
    sizes=Multiple(of=SIDE),
    licence="Apache-2.0",
    weights=(KMEANS_VQ,),
    tokens_at_256=1024,
    downsample=SIDE,
    trained_on=("scikit-learn sample photographs",),
    options={"codebook": 1024},
    knob="codebook",
    knob_values=CODEBOOKS,
    note="fitted by adapters/fits/make_fits.py",
)


class KMeansVq(Tokenizer):
    def load(self, files: Mapping[str, Path], device: str = "cpu", dtype: str = "float32") -> None:
        size = self.options["codebook"]
        if size not in CODEBOOKS:
            raise VtbenchError(f"kmeans-vq: codebook is {size}; it was fitted for {', '.join(map(str, CODEBOOKS))}")
        self.book = read(files["model"])[f"codebook_{size}"].float().to(device)
        self.device = device

    def encode(self, images: torch.Tensor, seeds: Sequence[int], budget: float | None = None) -> Tokens:
        height, width = int(images.shape[2]), int(images.shape[3])
        rows = patches.cut(images.to(self.device), SIDE)
        indices = patches.nearest(rows.flatten(0, 1), self.book).reshape(len(images), -1)
        return Codes(indices.cpu(), (len(self.book),), (height, width), ((height // SIDE, width // SIDE),))

    def decode(self, tokens: Tokens, seeds: Sequence[int]) -> torch.Tensor:
        assert isinstance(tokens, Codes)
        return patches.join(self.book[tokens.indices[..., 0].to(self.device)], SIDE, *tokens.size)


FAMILY = Family("kmeans-vq", "k-means VQ of patches", (CARD,), KMeansVq)
