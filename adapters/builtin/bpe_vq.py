"""Byte-pair merging over k-means VQ tokens: the same picture from fewer tokens of a larger alphabet.

The raster of VQ tokens is a text; the pairs that were most frequent in the fit become tokens of their own, in the
order of the fit (Sennrich et al. 2016, https://arxiv.org/abs/1508.07909; on image tokens: BPE-VQ, Zhang et al. 2024,
https://arxiv.org/abs/2410.02155). Lossless on top of the VQ; the number of tokens differs from image to image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vtbench.adapters.fits.files import KMEANS_VQ
from vtbench.adapters.networks.parts import patches
from vtbench.adapters.networks.parts.byte_pairs import merged
from vtbench.models.checkpoint import read
from vtbench.types.adapter import Tokenizer
from vtbench.types.cards import OURS, Card, Family, Multiple, Weights
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Codes, Tokens

if TYPE_CHECKING:
    import torch

SIDE, CODEBOOK, MOST = 8, 256, 1024
CARD = Card(
    name="bpe-vq",
    family="bpe-vq",
    sources=OURS,
    kind="discrete",
    title="Byte pairs of k-means VQ tokens",
    sizes=Multiple(of=SIDE),
    licence="Apache-2.0",
    weights=(
        Weights(
            file="bpe_vq.safetensors",
            role="merges",
            package="vtbench.adapters.fits:bpe_vq.safetensors",
            sha256="b6d7a22cc57d98f73eada76e454ed567fa86a0a4a6d9632d233dd85a311250ec",
        ),
        replace(KMEANS_VQ, role="codebook"),
    ),
    downsample=SIDE,
    trained_on=("scikit-learn sample photographs",),
    options={"merges": MOST},
    knob="merges",
    knob_values=(0, 64, 256, MOST),
    note="k-means VQ with 256 codes, then the first `merges` pairs; fitted by adapters/fits/make_fits.py",
)


class BpeVq(Tokenizer):
    def load(self, files: Mapping[str, Path], device: str = "cpu", dtype: str = "float32") -> None:
        count = self.options["merges"]
        if not 0 <= count <= MOST:
            raise VtbenchError(f"bpe-vq: merges is {count}; give 0 to {MOST}")
        self.book = read(files["codebook"])[f"codebook_{CODEBOOK}"].float().to(device)
        self.pairs = read(files["merges"])["merges"][:count].numpy()
        spelled: list[list[int]] = [[k] for k in range(CODEBOOK)]
        for a, b in self.pairs.tolist():
            spelled.append(spelled[a] + spelled[b])
        self.spelled = spelled
        self.device = device

    def encode(self, images: torch.Tensor, seeds: Sequence[int], budget: float | None = None) -> Tokens:
        import torch

        height, width = int(images.shape[2]), int(images.shape[3])
        rows = patches.cut(images.to(self.device), SIDE)
        raster = patches.nearest(rows.flatten(0, 1), self.book).reshape(len(images), -1).cpu().numpy()
        texts = []
        for text in raster:
            for rank, (a, b) in enumerate(self.pairs.tolist()):
                text = merged(text, a, b, CODEBOOK + rank)
            texts.append(text)
        indices = torch.full((len(images), max(map(len, texts))), -1)
        for k, text in enumerate(texts):
            indices[k, : len(text)] = torch.from_numpy(text)
        return Codes(indices, (CODEBOOK + len(self.pairs),), (height, width), variable=True)

    def decode(self, tokens: Tokens, seeds: Sequence[int]) -> torch.Tensor:
        import torch

        assert isinstance(tokens, Codes)
        height, width = tokens.size
        wanted = (height // SIDE) * (width // SIDE)
        raster = []
        for row in tokens.indices[..., 0].tolist():
            text = [code for token in row if token >= 0 for code in self.spelled[token]]
            if len(text) != wanted:
                raise VtbenchError(
                    f"bpe-vq: the tokens spell {len(text)} patches; {height} x {width} pixels want {wanted}"
                )
            raster.append(text)
        return patches.join(self.book[torch.tensor(raster, device=self.device)], SIDE, height, width)


FAMILY = Family("bpe-vq", "Byte pairs of VQ tokens", (CARD,), BpeVq)
