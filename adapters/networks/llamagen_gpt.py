"""LlamaGen's autoregressive generator (arXiv:2406.06525).

FoundationVision/LlamaGen @ ce98ec4: autoregressive/models/generate.py; its transformer is in `parts.llama`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vtbench.adapters.networks import speculative
from vtbench.adapters.networks.parts import sampling
from vtbench.adapters.networks.parts.llama import GENERATE, Trunk, distribution
from vtbench.adapters.networks.parts.transformer import Cache
from vtbench.models.noise import Seeded
from vtbench.models.replay import Replay
from vtbench.types.errors import VtbenchError


class LlamaGenGpt(Trunk):
    """Logits at position prefix - 1 + i predict token i, in raster order."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self._neighbours: dict[int, Tensor] = {}

    def forward(self, x: Tensor, start: int, mask: Tensor, cache: Cache | None) -> Tensor:
        """x (B, n, dim) at positions start.. -> logits (B, n, V) float32."""
        turn = self.turn(torch.arange(start, start + x.shape[1], device=x.device))
        for i, layer in enumerate(self.layers):
            x = layer(x, turn, mask, cache, i)
        return sampling.finite(sampling.widened(self.output(self.norm(x))), "LlamaGen")

    def teacher_forced(self, condition: Tensor, tokens: Tensor, text_mask: Tensor | None) -> Tensor:
        """(B, N, V): logits[:, i] predicts token i given the tokens before it."""
        x = torch.cat([condition, self.tok_embeddings(tokens[:, :-1])], dim=1)
        return self.forward(x, 0, self.causal(x.shape[1], text_mask), None)[:, self.prefix - 1 :]

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
        """Labels (B,) or features (B, 120, width) -> tokens int64 (B, N); noise None: the most likely tokens.

        cfg_interval: guidance for the first token and for the tokens 1.. while their number less one is at most it
        (generate.py:77-124); -1: always.
        """
        scales = self.scales(cfg_scale)
        session = Session(self, source, text_mask, cfg_scale=scales[0], cache=cache)
        logits, tokens = session.start(), []
        for i in range(self.length):
            session.scale = scales[i]
            guided = cfg_interval < 0 or i - 1 <= cfg_interval
            p = distribution(session.guided(logits[:, -1], on=guided), temperature, top_k, top_p)
            tokens.append(p.argmax(dim=-1) if noise is None else sampling.draw(p, noise.exponential(self.vocabulary)))
            if i + 1 < self.length:
                logits = session.feed(tokens[-1][:, None])
        return torch.stack(tokens, dim=1)

    def scales(self, cfg_scale: float) -> list[float]:
        """The guidance of every token."""
        return [cfg_scale] * self.length

    def speculate(
        self,
        draft: LlamaGenGpt,
        source: Tensor,
        noise: Seeded,
        *,
        text_mask: Tensor | None = None,
        ahead: int = 4,
        relax: speculative.Relaxation | None = None,
        cfg_scale: float = 1.0,
        cfg_interval: int = -1,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
    ) -> tuple[Tensor, list[speculative.Spent]]:
        """As `generate`, image by image, with a smaller model's proposals; with `relax` only nearly so distributed."""
        if draft.vocabulary != self.vocabulary or draft.length != self.length or draft.prefix != self.prefix:
            raise VtbenchError("the draft has another vocabulary, grid or condition: use a smaller model of the family")

        def distribute(session: Session, logits: Tensor, i: int) -> Tensor:
            guided = session.guided(logits, on=cfg_interval < 0 or i - 1 <= cfg_interval)
            return distribution(guided, temperature, top_k, top_p)[0]

        tokens, spent = [], []
        for row in range(len(source)):
            mask = None if text_mask is None else text_mask[row : row + 1]
            own, small = (Session(n, source[row : row + 1], mask, cfg_scale=cfg_scale) for n in (self, draft))
            decoded, cost = speculative.decode(
                own,
                small,
                noise.pick([row]),
                length=self.length,
                ahead=ahead,
                distribution=distribute,
                relax=relax,
            )
            tokens.append(decoded)
            spent.append(cost)
        return torch.cat(tokens).to(source.device), spent

    def relaxation(self, vectors: Tensor, k: int, delta: float) -> speculative.Relaxation:
        """LANTERN's, by the vectors (V, D) of the tokenizer's codebook; their neighbours are found once."""
        if not 1 <= k < len(vectors):
            raise VtbenchError(f"lantern_k is {k}, but must lie in 1..{len(vectors) - 1}")
        if k not in self._neighbours:
            self._neighbours[k] = speculative.nearest_codes(vectors, k + 1).to(self.device)
        return speculative.Relaxation(self._neighbours[k], k, delta)

    def replay(self, fixture: Replay) -> dict[str, Tensor]:
        """The arrays of a fixture."""
        arrays = fixture.arrays
        start, text_mask = arrays["class_ids" if self.kind == "c2i" else "text"], arrays.get("text_mask")
        cond, null = self.condition(start, text_mask)
        tokens = arrays["tokens_in"]
        out = {
            "logits": self.teacher_forced(cond, tokens, text_mask),
            "logits_uncond": self.teacher_forced(null, tokens, text_mask),
        }
        for name, stated in fixture.runs(marks=GENERATE).items():
            settings = sampling.known(stated, *GENERATE, "sample_logits")
            noise = sampling.Recorded(fixture.noise("exp_noise")) if settings.pop("sample_logits", True) else None
            out[name] = self.generate(start, noise, text_mask=text_mask, **settings)
        return out


class Session:
    """One decoding of a batch: condition and null halves, mask, cache; tokens are fed, logits come back.

    Counts `evaluations`: forward passes an image (a doubled batch counts once, as papers count).
    """

    def __init__(
        self, network: LlamaGenGpt, source: Tensor, text_mask: Tensor | None, *, cfg_scale: float, cache: bool = True
    ) -> None:
        self.network, self.scale = network, cfg_scale
        cond, null = network.condition(source, text_mask)
        doubled = cfg_scale > 1.0
        self.prefix = torch.cat([cond, null]) if doubled else cond
        self.doubled = doubled
        if text_mask is not None and doubled:
            text_mask = torch.cat([text_mask, text_mask])
        self.mask = network.causal(network.prefix + network.length, text_mask)
        self.cache = Cache() if cache else None
        self.past: Tensor | None = None if cache else self.prefix
        self.length = 0
        self.evaluations = 0

    def start(self) -> Tensor:
        """Logits (B or 2B, 1, V) of the first token."""
        return self._run(self.prefix, 0)[:, -1:]

    def feed(self, tokens: Tensor) -> Tensor:
        """tokens (B, n) that follow -> logits (B or 2B, n, V) after each of them."""
        both = torch.cat([tokens, tokens]) if self.doubled else tokens
        x = self.network.tok_embeddings(both)
        if self.past is None:
            return self._run(x, self.length)
        self.past = torch.cat([self.past[:, : self.length], x], dim=1)
        self.length = 0
        return self._run(self.past, 0)[:, -tokens.shape[1] :]

    def rewind(self, tokens: int) -> None:
        """Forgets all but the first `tokens` image tokens."""
        self.length = self.network.prefix + tokens
        if self.cache is not None:
            self.cache.cut(self.length)

    def guided(self, logits: Tensor, *, on: bool = True) -> Tensor:
        """Logits of the doubled batch -> of the batch."""
        if not self.doubled:
            return logits
        cond, null = logits.chunk(2)
        return sampling.guide(cond, null, self.scale) if on else cond

    def _run(self, x: Tensor, start: int) -> Tensor:
        self.evaluations += 1
        end = start + x.shape[1]
        logits: Tensor = self.network(x, start, self.mask[:, :, start:end, :end], self.cache)
        self.length = end
        return logits
