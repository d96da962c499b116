"""CTF: clusters of codes are drawn one by one, then all codes at once (coarse-to-fine token prediction,
arXiv:2503.16194).

Built from what the paper states; no code of its authors could be reached, so that there is no upstream to compare.
Own choices where it states nothing: k-means starts from distinct random codes; stage 2 is LlamaGen's transformer with
every position seeing all others. What else is not stated has no default: normalisation and iterations of k-means,
whether stage 2 reads the class, whether its logits are cut to the cluster's codes, guidance in stage 2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.llamagen_gpt import LlamaGenGpt
from vtbench.adapters.networks.parts import sampling
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.llama import Trunk
from vtbench.types.errors import VtbenchError


def clusters(vectors: Tensor, count: int, *, iterations: int, normalise: bool, generator: torch.Generator) -> Tensor:
    """int64 (V,): the cluster of every code, by k-means of its vectors (V, D); an emptied cluster keeps its centre."""
    if not 1 <= count <= len(vectors):
        raise VtbenchError(f"there are {len(vectors)} codes, which make 1 to {len(vectors)} clusters, not {count}")
    points = F.normalize(vectors.double(), dim=-1) if normalise else vectors.double()
    centres = points[torch.randperm(len(points), generator=generator)[:count]]
    labels = torch.cdist(points, centres).argmin(dim=1)
    for _ in range(iterations):
        sums = torch.zeros_like(centres).index_add(0, labels, points)
        sizes = torch.bincount(labels, minlength=count)[:, None]
        centres = torch.where(sizes > 0, sums / sizes.clamp(min=1), centres)
        labels = torch.cdist(points, centres).argmin(dim=1)
    return labels


class FinePass(Trunk):
    """Stage 2: the whole coarse sequence (B, N) -> logits (B, N, V) of the codes, in one pass."""

    def __init__(self, config: Mapping[str, Any], count: int, *, reads_class: bool) -> None:
        super().__init__(config)
        self.tok_embeddings, self.reads_class = nn.Embedding(count, self.dim), reads_class

    def forward(self, coarse: Tensor, labels: Tensor, *, empty: bool = False) -> Tensor:
        """empty: for no class, as guidance wants it."""
        cond, null = self.condition(labels)
        x = torch.cat([null if empty or not self.reads_class else cond, self.tok_embeddings(coarse)], dim=1)
        turn = self.turn(torch.arange(x.shape[1], device=x.device))
        for i, layer in enumerate(self.layers):
            x = layer(x, turn, None, None, i)
        logits = self.output(self.norm(x[:, self.prefix :]))
        return sampling.finite(sampling.widened(logits), "CTF")


@dataclass
class Drawn:
    """tokens and coarse labels int64 (B, N), and the passes that an image took, of both stages."""

    tokens: Tensor
    coarse: Tensor
    passes: int


class CoarseToFine(nn.Module):
    """config: coarse and fine (LlamaGen's; of the same grid, vocab_size K and V), reads_class, cut.

    `codes` int64 (V,) is the cluster of every code.
    """

    optional: tuple[str, ...] = ()
    codes: Tensor

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        c = Config(config, "config")
        stages = [c.any(name) for name in ("coarse", "fine")]
        if not all(isinstance(stage, Mapping) for stage in stages):
            raise VtbenchError("config.coarse and config.fine must be configurations of LlamaGen's transformer")
        self.cut, reads_class = c.flag("cut"), c.flag("reads_class")
        c.done()
        self.coarse = LlamaGenGpt(stages[0])
        self.fine = FinePass(stages[1], self.coarse.vocabulary, reads_class=reads_class)
        if self.fine.length != self.coarse.length or self.fine.kind != "c2i" or self.coarse.kind != "c2i":
            raise VtbenchError("config: both stages must be class models of one grid")
        self.classes, self.length = self.coarse.classes, self.coarse.length
        self.register_buffer("codes", torch.zeros(self.fine.vocabulary, dtype=torch.int64))

    def fine_logits(self, coarse: Tensor, labels: Tensor, cfg_fine: float) -> Tensor:
        """(B, N, V); -inf for the codes of other clusters where the logits are cut."""
        logits = self.fine(coarse, labels)
        if cfg_fine != 1.0:
            logits = sampling.guide(logits, self.fine(coarse, labels, empty=True), cfg_fine)
        return logits.masked_fill(coarse[..., None] != self.codes, -math.inf) if self.cut else logits

    def generate(
        self,
        labels: Tensor,
        noise: sampling.Noise,
        *,
        cfg_scale: float = 2.0,
        cfg_fine: float,
        temperature: float = 1.1,
        temperature_fine: float = 1.1,
        top_k: int = 0,
        cache: bool = True,
    ) -> Drawn:
        """Labels (B,) -> tokens. Temperatures and guidance are the paper's best; a fine temperature of 0 takes the
        likeliest code of every position."""
        for name, value in (("cfg_scale", cfg_scale), ("cfg_fine", cfg_fine), ("temperature_fine", temperature_fine)):
            sampling.number(name, value)
        sampling.number("temperature", temperature, above=True)
        sampling.whole("top_k", top_k, least=0)
        coarse = self.coarse.generate(
            labels, noise, cfg_scale=cfg_scale, temperature=temperature, top_k=top_k, cache=cache
        )
        logits = self.fine_logits(coarse, labels, cfg_fine)
        if temperature_fine == 0:
            tokens = logits.argmax(dim=-1)
        else:
            p = torch.softmax(logits / temperature_fine, dim=-1)
            tokens = sampling.draw(p, noise.exponential(self.length, self.fine.vocabulary))
        return Drawn(tokens, coarse, self.length + 1)
