"""Byte pairs over image tokens as Being-VL merges them, over the tokens of the built-in k-means VQ.

The two rules of BeingBeyond/Being-VL-0.5 (adapters/networks/parts/byte_pairs.py says what they do, and where upstream
has them). The 1-D rule is lossless on top of the VQ. The 2-D rule, as published, is not: which neighbour a merge took
in is not kept, so that its picture is decoded by a guess. Upstream merges the ids of a VQ of 8192 codes that is not
published in full; the pairs here are trained on this VQ, by upstream's training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench.adapters.fits.files import KMEANS_VQ
from vtbench.adapters.networks.parts import byte_pairs, patches
from vtbench.models.checkpoint import read
from vtbench.types.adapter import Tokenizer
from vtbench.types.cards import OURS, Card, Family, Multiple, Weights
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Codes, Tokens

if TYPE_CHECKING:
    import torch

SIDE, CODEBOOK, MOST = 8, 256, 1024


def _card(rule: str, title: str, note: str) -> Card:
    return Card(
        name=f"being-vl-bpe-{rule}",
        family="being-vl-bpe",
        kind="discrete",
        title=title,
        sizes=Multiple(of=SIDE),
        licence="Apache-2.0 (the fit); MIT (upstream's code)",
        paper="https://arxiv.org/abs/2506.23639",
        code="https://github.com/BeingBeyond/Being-VL-0.5",
        sources=OURS,
        weights=(
            Weights(
                file="being_vl_bpe.safetensors",
                role="merges",
                package="vtbench.adapters.fits:being_vl_bpe.safetensors",
                sha256="f090b3dbc90a569c7205a2e7a413e718337dfefa57573894d0af2666699c839b",
            ),
            replace(KMEANS_VQ, role="codebook"),
        ),
        downsample=SIDE,
        trained_on=("scikit-learn sample photographs",),
        options={"merges": MOST},
        knob="merges",
        knob_values=(0, 64, 256, MOST),
        note=f"k-means VQ with {CODEBOOK} codes, then the first `merges` pairs; {note}",
    )


CARDS = (
    _card("1d", "Being-VL's byte pairs, 1-D rule", "lossless on top of the VQ"),
    _card(
        "2d",
        "Being-VL's byte pairs, 2-D rule",
        "which neighbour the first pair took in is not kept, so that the rule cannot be undone: the picture is decoded "
        "as if it were the right one where it can be",
    ),
)


class BeingVlBpe(Tokenizer):
    """Codes (B, positions, 1) of a variable length over the VQ's codes and one more for every pair."""

    RULES: Mapping[str, tuple[str, bool]] = {
        "being-vl-bpe-1d": ("merges_1d", False),
        "being-vl-bpe-2d": ("merges_2d", True),
    }
    """By card: the pairs of its file, and whether the first of them is looked for in a grid."""

    def load(self, files: Mapping[str, Path], device: str = "cpu", dtype: str = "float32") -> None:
        count = self.options["merges"]
        if not 0 <= count <= MOST:
            raise VtbenchError(f"{self.card.name}: merges is {count}; give 0 to {MOST}")
        name, self.reads_grid = self.RULES[self.card.name]
        self.book = read(files["codebook"])[f"codebook_{CODEBOOK}"].float().to(device)
        self.pairs: list[Any] = read(files["merges"])[name][:count].tolist()
        self.spelled = byte_pairs.spelled(self.pairs, CODEBOOK)
        self.device = device

    def encode(self, images: torch.Tensor, seeds: Sequence[int], budget: float | None = None) -> Tokens:
        import torch

        height, width = int(images.shape[2]), int(images.shape[3])
        rows = patches.cut(images.to(self.device), SIDE)
        grid = (height // SIDE, width // SIDE) if self.reads_grid else (-1,)
        ids = patches.nearest(rows.flatten(0, 1), self.book).reshape(len(images), *grid).cpu().numpy()
        texts = [byte_pairs.encode(image, self.pairs, CODEBOOK) for image in ids]
        indices = torch.full((len(images), max(map(len, texts))), -1)
        for k, text in enumerate(texts):
            indices[k, : len(text)] = torch.from_numpy(text)
        return Codes(indices, (CODEBOOK + len(self.pairs),), (height, width), variable=True)

    def decode(self, tokens: Tokens, seeds: Sequence[int]) -> torch.Tensor:
        import torch

        assert isinstance(tokens, Codes)
        height, width = tokens.size
        grid = (height // SIDE, width // SIDE)
        rasters = []
        for row in tokens.indices[..., 0].tolist():
            text = [token for token in row if token >= 0]
            ids = [code for token in text for code in self.spelled[token]]
            if len(ids) != grid[0] * grid[1]:
                raise VtbenchError(
                    f"{self.card.name}: the tokens spell {len(ids)} patches; {height} x {width} pixels want "
                    f"{grid[0] * grid[1]}"
                )
            if self.reads_grid:
                ids = byte_pairs.grid_of(text, self.pairs, CODEBOOK, grid).flatten().tolist()
            rasters.append(ids)
        return patches.join(self.book[torch.tensor(rasters, device=self.device)], SIDE, height, width)


FAMILY = Family(
    "being-vl-bpe",
    "Byte pairs of image tokens (Being-VL)",
    CARDS,
    BeingVlBpe,
    fixtures=("bpe",),
    replays={"bpe-1": "vtbench.adapters.networks.parts.byte_pairs:replay"},
)
