"""MaskGIT over TiTok's tokens: a BERT or a U-ViT (arXiv:2406.07550).

bytedance/1d-tokenizer @ 942a96f: modeling/maskgit.py, modeling/modules/blocks.py. Line numbers are maskgit.py's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.parts import infer_generators, sampling
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.transformer import Block, heads_of, merged
from vtbench.models.noise import gumbel
from vtbench.models.replay import Replay
from vtbench.types.errors import VtbenchError

DECAYS = ("constant", "linear", "power-cosine")
SETTINGS = (
    "guidance_scale",
    "guidance_decay",
    "guidance_scale_pow",
    "randomize_temperature",
    "softmax_temperature_annealing",
    "num_sample_steps",
)


class _BertAttention(nn.Module):
    """Keys self.{query, key, value}, output.{dense, LayerNorm}: transformers' names; post-norm."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.self = nn.ModuleDict({n: nn.Linear(dim, dim) for n in ("query", "key", "value")})
        self.output = nn.ModuleDict({"dense": nn.Linear(dim, dim), "LayerNorm": nn.LayerNorm(dim, eps=1e-12)})

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (heads_of(self.self[n](x), self.heads) for n in ("query", "key", "value"))
        attended = self.output["dense"](merged(F.scaled_dot_product_attention(q, k, v)))
        out: Tensor = self.output["LayerNorm"](attended + x)
        return out


class _BertLayer(nn.Module):
    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attention = _BertAttention(dim, heads)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(dim, hidden)})
        self.output = nn.ModuleDict({"dense": nn.Linear(hidden, dim), "LayerNorm": nn.LayerNorm(dim, eps=1e-12)})

    def forward(self, x: Tensor) -> Tensor:
        x = self.attention(x)
        out: Tensor = self.output["LayerNorm"](self.output["dense"](F.gelu(self.intermediate["dense"](x))) + x)
        return out


class ImageBert(nn.Module):
    """transformers' BertModel without pooler, with lm_head inside: ids (B, n) -> logits (B, n, V) (57-101)."""

    def __init__(self, *, ids: int, codes: int, length: int, dim: int, depth: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.embeddings = nn.ModuleDict(
            {
                "word_embeddings": nn.Embedding(ids, dim),
                "position_embeddings": nn.Embedding(length + 1, dim),
                "token_type_embeddings": nn.Embedding(2, dim),
                "LayerNorm": nn.LayerNorm(dim, eps=1e-12),
            }
        )
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(_BertLayer(dim, heads, hidden) for _ in range(depth))})
        self.lm_head = nn.Linear(dim, codes)

    def forward(self, ids: Tensor) -> Tensor:
        e = self.embeddings
        x = e["word_embeddings"](ids) + e["token_type_embeddings"].weight[0]
        x = e["LayerNorm"](x + e["position_embeddings"].weight[: ids.shape[1]])
        for layer in self.encoder["layer"]:  # type: ignore[attr-defined]
            x = layer(x)
        out: Tensor = self.lm_head(x)
        return out


class SkipBlock(Block):
    """A pre-norm block that first mixes in the output of its mirror image (blocks.py:177-204)."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__(dim, heads, hidden, eps=1e-5, qkv_bias=False)
        self.skip_linear = nn.Linear(2 * dim, dim)

    def mixed(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.forward(self.skip_linear(torch.cat([x, skip], dim=-1)))


class UViTBert(nn.Module):
    """Blocks in, one in the middle, blocks out with long skips (209-282)."""

    def __init__(self, *, ids: int, codes: int, length: int, dim: int, depth: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(ids, dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, length + 1, dim))

        def block() -> Block:
            return Block(dim, heads, hidden, eps=1e-5, qkv_bias=False)

        self.in_blocks = nn.ModuleList(block() for _ in range(depth // 2))
        self.mid_block = block()
        self.out_blocks = nn.ModuleList(SkipBlock(dim, heads, hidden) for _ in range(depth // 2))
        self.norm, self.lm_head = nn.LayerNorm(dim), nn.Linear(dim, codes)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embeddings(ids) + self.pos_embed[:, : ids.shape[1]]
        skips = []
        for block in self.in_blocks:
            x = block(x)
            skips.append(x)
        x = self.mid_block(x)
        for block in self.out_blocks:
            x = block.mixed(x, skips.pop())  # type: ignore[operator]
        out: Tensor = self.lm_head(self.norm(x))
        return out


class MaskGit(nn.Module):
    """config: model.vq_model, model.generator (model_type ViT or UViT); `experiment`, `dataset` are not read.

    Ids: codes 0..V-1, mask V, class c V+1+c, no class V+1+C. The class comes first, its output is removed.
    The ViT's keys lie under `model.`, the U-ViT's at the top.
    """

    optional = ("model.embeddings.position_ids",)
    infer_arch = staticmethod(infer_generators.maskgit_titok)

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
        if vq.integer("num_latent_tokens", self.length) != self.length:
            raise VtbenchError("config: num_latent_tokens and image_seq_len differ, but both are the token count")
        self.classes = g.integer("condition_num_classes", 1000)
        kind = g.choice("model_type", ("ViT", "UViT"), "ViT")
        sizes = {
            "ids": self.vocabulary + self.classes + 2,
            "codes": self.vocabulary,
            "length": self.length,
            "dim": g.integer("hidden_size"),
            "depth": g.integer("num_hidden_layers"),
            "heads": g.integer("num_attention_heads"),
            "hidden": g.integer("intermediate_size"),
        }
        for key in ("dropout", "attn_drop", "class_label_dropout", "num_steps", *SETTINGS):
            g.any(key)
        g.done()
        if sizes["dim"] % sizes["heads"]:
            raise VtbenchError(f"config: hidden_size {sizes['dim']} is no multiple of {sizes['heads']} heads")
        if kind == "UViT":
            # Upstream multiplies by a ratio in floating point, which can lose one: 56 x (488 / 56) is 487 (224).
            sizes["hidden"] = int(sizes["dim"] * (sizes["hidden"] / sizes["dim"]))
        if kind == "ViT":
            self.model = ImageBert(**sizes)
            self._net: list[nn.Module] = [self.model]
        else:
            # The U-ViT's own names stand at the top level of a checkpoint.
            net = UViTBert(**sizes)
            for name, child in net.named_children():
                self.add_module(name, child)
            self.pos_embed = net.pos_embed
            self._net = [net]

    def forward(self, tokens: Tensor, labels: Tensor) -> Tensor:
        """tokens (B, N) with V where masked, labels (B,) with C for none -> logits (B, N, V) float32."""
        net: nn.Module = self if isinstance(self._net[0], UViTBert) else self._net[0]
        ids = torch.cat([(labels + self.vocabulary + 1)[:, None], tokens], dim=1)
        logits: Tensor = UViTBert.forward(self, ids) if net is self else net(ids)  # type: ignore[arg-type]
        return sampling.finite(sampling.widened(logits[:, 1:]), "MaskGIT")

    def generate(
        self,
        labels: Tensor,
        noise: sampling.Noise,
        *,
        guidance_scale: float = 3.0,
        guidance_decay: str = "constant",
        guidance_scale_pow: float = 3.0,
        randomize_temperature: float = 4.5,
        softmax_temperature_annealing: bool = False,
        num_sample_steps: int = 8,
        trace: list[Tensor] | None = None,
    ) -> Tensor:
        """Labels (B,) -> tokens (B, N) (130-193). `trace` gets the ids before each step.

        Per step, token noise (N, V), then confidence noise (N,). The confidence is the chosen logit.
        """
        if guidance_decay not in DECAYS:
            raise VtbenchError(f"guidance_decay is {guidance_decay!r}, but must be one of {', '.join(DECAYS)}")
        batch, steps, none = len(labels), num_sample_steps, torch.full_like(labels, self.classes)
        ids = torch.full((batch, self.length), self.vocabulary, dtype=torch.int64, device=labels.device)
        scale = guidance_scale if guidance_decay == "constant" else 0.0
        for step in range(steps):
            ratio = (step + 1) / steps
            if trace is not None:
                trace.append(ids)
            if guidance_decay == "power-cosine":
                scale = (guidance_scale - 1) * sampling.cosine_power(step / steps, guidance_scale_pow) + 1
            if scale != 0:
                cond, null = self(torch.cat([ids, ids]), torch.cat([labels, none])).chunk(2)
                logits = (null if guidance_decay == "power-cosine" else cond) + (cond - null) * scale
            else:
                logits = self(ids, labels)
            if softmax_temperature_annealing:
                logits = logits / (0.5 + 0.8 * (1 - ratio))
            warmth = randomize_temperature * (1 - ratio)
            drawn = (logits + warmth * noise.gumbel(self.length, self.vocabulary)).argmax(dim=-1)
            masked = ids == self.vocabulary
            chosen = torch.gather(logits, -1, drawn[..., None])[..., 0].masked_fill(~masked, math.inf)
            confidence = chosen + warmth * noise.gumbel(self.length)
            drawn = torch.where(masked, drawn, ids)
            if step == steps - 1:
                ids = drawn
                break
            length = math.floor(self.length * math.acos(ratio) / (math.pi * 0.5))
            count = torch.clamp((masked.sum(dim=1) - 1).clamp(max=length), min=1)
            ids = torch.where(sampling.lowest(confidence, count), self.vocabulary, drawn)
            if guidance_decay == "linear":
                scale = ratio * guidance_scale
        if trace is not None:
            trace.append(ids)
        return ids

    def replay(self, fixture: Replay) -> dict[str, Tensor]:
        """The arrays of a fixture."""
        arrays = fixture.arrays
        labels, none = arrays["class_ids"], torch.full_like(arrays["class_ids"], self.classes)
        masked = torch.where(arrays["mask"].bool(), self.vocabulary, arrays["tokens_in"])
        out = {"logits": self(masked, labels), "logits_uncond": self(masked, none)}
        for run, stated in fixture.runs("ids", marks=SETTINGS).items():
            settings = sampling.known(stated, *SETTINGS)
            noise: sampling.Noise = sampling.Greedy(len(labels))
            if settings.get("randomize_temperature", 4.5) != 0:
                pairs = zip(fixture.noise(f"{run}_u_token"), fixture.noise(f"{run}_u_conf"), strict=True)
                noise = sampling.Recorded(gumbel(u) for pair in pairs for u in pair)
            trace: list[Tensor] = []
            self.generate(labels, noise, **settings, trace=trace)
            out[f"{run}_ids"] = torch.stack(trace)
        return out
