"""RAR: an autoregressive transformer that was trained on permuted orders (arXiv:2411.00776).

bytedance/1d-tokenizer @ 942a96f: modeling/rar.py, whose line numbers are given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vtbench.adapters.networks.parts import infer_generators, sampling
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.transformer import Cache, Mlp, SelfAttention, modulate
from vtbench.models.replay import Replay
from vtbench.types.errors import VtbenchError

SETTINGS = ("guidance_scale", "guidance_scale_pow", "randomize_temperature")


class Block(nn.Module):
    """Modulated, q and k normalised; chunks: shift, scale, gate of attention, then of the MLP (140-190)."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.attn = SelfAttention(dim, heads, qkv_bias=True, qk_norm=True)
        self.mlp = Mlp(dim, hidden)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))

    def forward(self, x: Tensor, c: Tensor, mask: Tensor | None, cache: Cache | None, layer: int) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(c).chunk(6, dim=-1)
        x = x + gate1 * self.attn(modulate(self.norm1(x), shift1, scale1), mask, cache, layer)
        out: Tensor = x + gate2 * self.mlp(modulate(self.norm2(x), shift2, scale2))
        return out


class Final(nn.Module):
    """Norm without affine; chunks scale, shift (131-134)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 2 * dim))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        scale, shift = self.adaLN_modulation(c).chunk(2, dim=-1)
        return modulate(self.norm_final(x), shift, scale)


class Rar(nn.Module):
    """config: model.vq_model, model.generator; `sampling` is not read.

    Sequence: cls token, class, tokens. Ids: codes 0..V-1, V unused, class c V+1+c, no class V+1+C.
    """

    optional = ("attn_mask",)

    infer_arch = staticmethod(infer_generators.rar)

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        top = Config(config, "config")
        for key in ("experiment", "dataset", "sampling"):
            top.any(key)
        model = top.sub("model")
        top.done()
        vq, g = model.sub("vq_model"), model.sub("generator")
        model.done()
        self.vocabulary, self.length = vq.integer("codebook_size"), g.integer("image_seq_len")
        self.classes, dim = g.integer("condition_num_classes", 1000), g.integer("hidden_size")
        depth, heads, hidden = (
            g.integer("num_hidden_layers"),
            g.integer("num_attention_heads"),
            g.integer("intermediate_size"),
        )
        for key in ("dropout", "attn_drop", "class_label_dropout", "use_checkpoint", *SETTINGS):
            g.any(key)
        g.done()
        if dim % heads:
            raise VtbenchError(f"config: hidden_size {dim} is no multiple of num_attention_heads {heads}")
        self.pixels = 16 * math.isqrt(self.length)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, self.length + 1024, dim))
        self.target_aware_pos_embed = nn.Parameter(torch.zeros(1, self.length + 1024, dim))
        self.timesteps_embeddings = nn.Parameter(torch.zeros(1, self.length + 100, dim))
        # Upstream multiplies by a ratio in floating point, which can lose one: 56 x (488 / 56) is 487 (196, 168).
        self.blocks = nn.ModuleList(Block(dim, heads, int(dim * (hidden / dim))) for _ in range(depth))
        self.embeddings = nn.Embedding(self.vocabulary + 1 + self.classes + 1, dim)
        self.adaln_before_head, self.lm_head = Final(dim), nn.Linear(dim, self.vocabulary)

    def embedded(self, tokens: Tensor, labels: Tensor, orders: Tensor) -> tuple[Tensor, Tensor]:
        """tokens (B, n <= N) in the order of `orders` (B, N); -> inputs and conditions (B, 2 + n, dim) (335-377)."""
        batch, n = len(tokens), tokens.shape[1]
        label = self.embeddings(labels + self.vocabulary + 1)[:, None]
        x = torch.cat([self.cls_token.expand(batch, -1, -1), label, self.embeddings(tokens)], dim=1)
        own = self.pos_embed[0, 2 : 2 + self.length][orders]
        following = self.target_aware_pos_embed[0, 2 : 2 + self.length][orders]
        positions = torch.cat([self.pos_embed[:, :2].expand(batch, -1, -1), own], dim=1)
        nothing = torch.zeros_like(following[:, :1])
        targets = torch.cat([nothing, following, nothing], dim=1)
        x = x + positions[:, : 2 + n] + targets[:, : 2 + n]
        return x, label + self.timesteps_embeddings[:, : 2 + n]

    def transform(self, x: Tensor, c: Tensor, mask: Tensor | None, cache: Cache | None) -> Tensor:
        """(B, n, dim) -> logits (B, n, V) float32."""
        for i, block in enumerate(self.blocks):
            x = block(x, c, mask, cache, i)
        return sampling.finite(sampling.widened(self.lm_head(self.adaln_before_head(x, c))), "RAR")

    def forward(self, tokens: Tensor, labels: Tensor, orders: Tensor | None = None) -> Tensor:
        """tokens (B, N) raster -> (B, N + 1, V): row i predicts the i-th token of the order."""
        if orders is None:
            orders = torch.arange(self.length, device=tokens.device).expand(len(tokens), -1)
        x, c = self.embedded(torch.gather(tokens, 1, orders), labels, orders)
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
        return self.transform(x, c, mask, None)[:, 1:]

    def generate(
        self,
        labels: Tensor,
        noise: sampling.Noise | None,
        *,
        guidance_scale: float = 4.0,
        guidance_scale_pow: float = 1.0,
        randomize_temperature: float = 1.0,
        cache: bool = True,
    ) -> Tensor:
        """Labels (B,) -> raster tokens (B, N) (403-461). noise None: the most likely tokens.

        Guidance of step i: 1 + (scale - 1) (1 - cos(pi (i/N)^pow)) / 2; scale 0 is none.
        """
        if not randomize_temperature > 0:
            raise VtbenchError(f"randomize_temperature is {randomize_temperature}, but must be above 0: logits over it")
        guided = guidance_scale != 0
        both = torch.cat([labels, torch.full_like(labels, self.classes)]) if guided else labels
        orders = torch.arange(self.length, device=labels.device).expand(len(both), -1)
        kept = Cache() if cache else None
        tokens = torch.zeros(len(labels), 0, dtype=torch.int64, device=labels.device)
        for i in range(self.length):
            x, c = self.embedded(torch.cat([tokens, tokens]) if guided else tokens, both, orders)
            if kept is not None and i > 0:
                x, c, mask = x[:, -1:], c[:, -1:], None
            else:
                mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
            logits = self.transform(x, c, mask, kept)[:, -1]
            if guided:
                cond, null = logits.chunk(2)
                strength = sampling.cosine_power(i / self.length, guidance_scale_pow)
                logits = sampling.guide(cond, null, (guidance_scale - 1) * strength + 1)
            p = torch.softmax(logits / randomize_temperature, dim=-1)
            drawn = p.argmax(dim=-1) if noise is None else sampling.draw(p, noise.exponential(self.vocabulary))
            tokens = torch.cat([tokens, drawn[:, None]], dim=1)
        return tokens

    def replay(self, fixture: Replay) -> dict[str, Tensor]:
        """The arrays of a fixture."""
        arrays = fixture.arrays
        labels, tokens, orders = arrays["class_ids"], arrays["tokens_in"], arrays["orders"]
        out = {
            "logits": self(tokens, labels),
            "logits_uncond": self(tokens, torch.full_like(labels, self.classes)),
            "logits_permuted": self(tokens, labels, orders),
            "labels_permuted": torch.gather(tokens, 1, orders),
        }
        for run, stated in fixture.runs(marks=SETTINGS).items():
            settings = sampling.known(stated, *SETTINGS)
            noise = None if run.startswith("greedy") else sampling.Recorded(fixture.noise("exp_noise"))
            out[run] = self.generate(labels, noise, **settings)
        return out
