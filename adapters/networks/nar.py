"""NAR, a LlamaGen that decodes whole anti-diagonals (arXiv:2503.10696).

ThisisBillhe/NAR @ 225c1fb: NAR-images/autoregressive/models/gpt.py, generate.py. Line numbers are gpt.py's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vtbench.adapters.networks.parts import sampling
from vtbench.adapters.networks.parts.llama import GENERATE, Trunk, distribution
from vtbench.adapters.networks.parts.transformer import Cache, RMSNorm
from vtbench.models.replay import Replay
from vtbench.types.errors import VtbenchError


class Nar(Trunk):
    """config: LlamaGen's, and medusa_attention_num further layers for the second head.

    The right head (norm, output after layer n_layer) predicts the neighbour to the right, the bottom head
    (medusa_norm, medusa_output after the last layer) the one below (283-295, 392-404).
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config, further_layers="medusa_attention_num")
        self.medusa_norm = RMSNorm(self.dim, self.eps)
        self.medusa_output = nn.Linear(self.dim, self.vocabulary, bias=False)
        # Upstream's buffers for decoding are in a state dict that was saved after decoding.
        self.optional += tuple(f"layers.{i}.attention.kv_cache." for i in range(len(self.layers)))

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor, cache: Cache | None) -> tuple[Tensor, Tensor]:
        """x (B, n, dim) -> logits of the right and of the bottom neighbour, (B, n, V) float32 each."""
        turn = self.turn(positions)
        right = x
        for i, layer in enumerate(self.layers):
            x = layer(x, turn, mask, cache, i)
            if i + 1 == self.depth:
                right = x
        below = sampling.widened(self.medusa_output(self.medusa_norm(x)))
        beside = sampling.widened(self.output(self.norm(right)))
        return sampling.finite(beside, "NAR"), sampling.finite(below, "NAR")

    @property
    def diagonal(self) -> Tensor:
        """int64 (N,): row + column of every raster position."""
        line = torch.arange(self.grid, device=self.device)
        return (line[:, None] + line[None]).flatten()

    def proximity(self, text_mask: Tensor | None) -> Tensor:
        """The condition is causal; a token sees the condition and all tokens of its own and earlier diagonals."""
        total = self.prefix + self.length
        mask = torch.ones(total, total, dtype=torch.bool, device=self.device).tril()
        mask[self.prefix :, self.prefix :] = self.diagonal[:, None] >= self.diagonal[None]
        return self.captioned(mask, text_mask)

    def teacher_forced(self, condition: Tensor, tokens: Tensor, text_mask: Tensor | None) -> Tensor:
        """(B, N, V): logits[:, i] predicts raster token i (406-424)."""
        x = torch.cat([condition, self.tok_embeddings(tokens)], dim=1)
        right, bottom = self(x, torch.arange(x.shape[1], device=x.device), self.proximity(text_mask), None)
        corner = (right[:, self.prefix - 1] + bottom[:, self.prefix - 1]) / 2
        right, bottom = (h[:, self.prefix :].unflatten(1, (self.grid, self.grid)) for h in (right, bottom))
        out = torch.empty_like(right)
        out[:, 0, 0] = corner
        out[:, 0, 1:] = right[:, 0, :-1]
        out[:, 1:, 0] = bottom[:, :-1, 0]
        out[:, 1:, 1:] = (right[:, 1:, :-1] + bottom[:, :-1, 1:]) / 2
        return out.flatten(1, 2)

    def generate(
        self,
        source: Tensor,
        noise: sampling.Noise | None,
        *,
        text_mask: Tensor | None = None,
        cfg_scale: float = 1.0,
        cfg_interval: int = -1,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        cache: bool = True,
    ) -> Tensor:
        """Labels or features -> raster tokens int64 (B, N), in 2 grid - 1 evaluations.

        Guidance stops at the first diagonal before which more than cfg_interval tokens stand (generate.py:132-133);
        -1: never. `noise.exponential(N, V)` is drawn once, an entry a raster position.
        """
        if not cache:
            raise VtbenchError("NAR decodes with its cache: set cache to true")
        cond, null = self.condition(source, text_mask)
        doubled, batch = cfg_scale > 1.0, len(source)
        x = torch.cat([cond, null]) if doubled else cond
        mask = self.proximity(torch.cat([text_mask, text_mask]) if doubled and text_mask is not None else text_mask)
        exponential = None if noise is None else noise.exponential(self.length, self.vocabulary)
        tokens = torch.zeros(batch, self.length, dtype=torch.int64, device=self.device)
        kept, diagonal, done = Cache(), self.diagonal, 0
        positions = torch.arange(self.prefix, device=self.device)
        seen = positions
        for step in range(2 * self.grid - 1):
            right, bottom = self(x, positions, mask[:, :, positions][..., seen], kept)
            logits = (right[:, -1:] + bottom[:, -1:]) / 2 if step == 0 else _next(right, bottom, step < self.grid)
            if doubled:
                c, u = logits.chunk(2)
                logits = sampling.guide(c, u, cfg_scale) if cfg_interval < 0 or done <= cfg_interval else c
            # Raster order within a diagonal is ascending rows (generate.py:111-162).
            places = torch.nonzero(diagonal == step).flatten()
            p = distribution(logits, temperature, top_k, top_p)
            chosen = p.argmax(dim=-1) if exponential is None else sampling.draw(p, exponential[:, places])
            tokens[:, places] = chosen
            done += len(places)
            x = self.tok_embeddings(torch.cat([chosen, chosen]) if doubled else chosen)
            positions = self.prefix + places
            seen = torch.cat([seen, positions])
        return tokens

    def replay(self, fixture: Replay) -> dict[str, Tensor]:
        """The arrays of a fixture."""
        arrays = fixture.arrays
        start, text_mask = arrays["class_ids" if self.kind == "c2i" else "text"], arrays.get("text_mask")
        cond, null = self.condition(start, text_mask)
        out = {
            "logits": self.teacher_forced(cond, arrays["tokens_in"], text_mask),
            "logits_uncond": self.teacher_forced(null, arrays["tokens_in"], text_mask),
        }
        for name, stated in fixture.runs(marks=GENERATE).items():
            settings = sampling.known(stated, *GENERATE, "sample_logits")
            greedy = not settings.pop("sample_logits", True) or name.startswith("greedy")
            noise = None if greedy else sampling.Recorded([fixture.noise("exp_noise").transpose(0, 1)])
            out[name] = self.generate(start, noise, text_mask=text_mask, **settings)
        return out


def _next(right: Tensor, bottom: Tensor, growing: bool) -> Tensor:
    """Logits of a diagonal from the heads of the one before it, rows ascending (426-436).

    Entry k of a diagonal lies below entry k - 1 of a growing predecessor and to the right of entry k; while the grid
    still grows the first entry has only a left neighbour and the last only an upper one.
    """
    inner = (bottom[:, :-1] + right[:, 1:]) / 2
    return torch.cat([right[:, :1], inner, bottom[:, -1:]], dim=1) if growing else inner
