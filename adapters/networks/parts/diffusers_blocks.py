"""Layers of diffusers under its names, which DiT, FAR and MaskGen are built of.

huggingface/diffusers 0.42.1: models/attention.py, attention_processor.py, embeddings.py, normalization.py.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.parts.transformer import check_heads, heads_of, merged, modulate

ACTIVATIONS = ("gelu", "gelu-approximate", "geglu", "geglu-approximate", "swiglu", "linear-silu")


class TimeEmbedding(nn.Module):
    """256 sinusoids (cosines first, frequencies down to exactly 1/10000), then two layers: linear_1, linear_2."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(256, dim), nn.Linear(dim, dim)

    def forward(self, t: Tensor) -> Tensor:
        """t (n,) -> (n, dim)."""
        dtype = self.linear_1.weight.dtype
        wide = torch.promote_types(dtype, torch.float32)
        freqs = torch.exp(-math.log(10000) * torch.arange(128, dtype=wide, device=t.device) / 127)
        angles = t[:, None].to(wide) * freqs
        waves = torch.cat([angles.cos(), angles.sin()], dim=-1).to(dtype)
        out: Tensor = self.linear_2(F.silu(self.linear_1(waves)))
        return out


class _Activated(nn.Module):
    """A layer and its activation (key proj); of the gated ones the layer is twice as wide."""

    def __init__(self, dim: int, hidden: int, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.proj = nn.Linear(dim, 2 * hidden if kind in ("geglu", "swiglu") else hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = self.proj(x)
        if self.kind in ("geglu", "swiglu"):
            x, gate = x.chunk(2, dim=-1)
            return x * (F.gelu(gate) if self.kind == "geglu" else F.silu(gate))
        if self.kind == "geglu-approximate":
            return x * torch.sigmoid(1.702 * x)
        if self.kind == "linear-silu":
            return F.silu(x)
        return F.gelu(x, approximate="tanh" if self.kind == "gelu-approximate" else "none")


class FeedForward(nn.Module):
    """Keys net.0.proj, net.2: four times as wide inside."""

    def __init__(self, dim: int, kind: str = "gelu-approximate") -> None:
        super().__init__()
        self.net = nn.Sequential(_Activated(dim, 4 * dim, kind), nn.Identity(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return out


class Attention(nn.Module):
    """Keys to_q, to_k, to_v, to_out.0; the heads together may be wider than `dim`, keys come from `source` channels."""

    def __init__(self, dim: int, heads: int, head: int, *, bias: bool = True, source: int | None = None) -> None:
        super().__init__()
        self.heads, inner = heads, heads * head
        self.to_q = nn.Linear(dim, inner, bias=bias)
        self.to_k, self.to_v = (nn.Linear(source or dim, inner, bias=bias) for _ in range(2))
        self.to_out = nn.Sequential(nn.Linear(inner, dim), nn.Identity())

    def forward(self, x: Tensor, source: Tensor | None = None) -> Tensor:
        source = x if source is None else source
        q, k, v = (heads_of(p, self.heads) for p in (self.to_q(x), self.to_k(source), self.to_v(source)))
        out: Tensor = self.to_out(merged(F.scaled_dot_product_attention(q, k, v)))
        return out


class CrossBlock(nn.Module):
    """BasicTransformerBlock with `layer_norm`: norms without parameters, attention, attention to a context, MLP."""

    def __init__(self, dim: int, heads: int, head: int, context: int) -> None:
        super().__init__()
        self.attn1, self.attn2 = Attention(dim, heads, head), Attention(dim, heads, head, source=context)
        self.ff = FeedForward(dim)
        self.plain = nn.LayerNorm(dim, eps=1e-5, elementwise_affine=False)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        x = x + self.attn1(self.plain(x))
        x = x + self.attn2(self.plain(x), context)
        out: Tensor = x + self.ff(self.plain(x))
        return out


class _Modulation(nn.Module):
    def __init__(self, dim: int, vectors: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, vectors * dim)

    def forward(self, c: Tensor, vectors: int) -> tuple[Tensor, ...]:
        return self.linear(F.silu(c))[:, None].chunk(vectors, dim=-1)  # type: ignore[no-any-return]


class ContinuousNorm(nn.Module):
    """AdaLayerNormContinuous: norm without parameters, then scale and shift of the condition (key linear)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, 2 * dim)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """x (B, n, dim), c (B, dim)."""
        scale, shift = self.linear(F.silu(c))[:, None].chunk(2, dim=-1)
        return modulate(plain_norm(x), shift, scale)


def plain_norm(x: Tensor) -> Tensor:
    """LayerNorm without parameters, eps 1e-6."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)


class _JointAttention(Attention):
    """Image and context attend to both; add_{q,k,v}_proj are the context's, and to_add_out where it goes on."""

    def __init__(self, dim: int, heads: int, *, last: bool) -> None:
        super().__init__(dim, heads, dim // heads)
        self.add_k_proj, self.add_v_proj, self.add_q_proj = (nn.Linear(dim, dim) for _ in range(3))
        self.to_add_out = None if last else nn.Linear(dim, dim)

    def joint(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor | None]:
        own = (self.to_q(x), self.to_k(x), self.to_v(x))
        theirs = (self.add_q_proj(context), self.add_k_proj(context), self.add_v_proj(context))
        q, k, v = (heads_of(torch.cat(pair, dim=1), self.heads) for pair in zip(own, theirs, strict=True))
        mixed = merged(F.scaled_dot_product_attention(q, k, v))
        first, rest = mixed[:, : x.shape[1]], mixed[:, x.shape[1] :]
        return self.to_out(first), None if self.to_add_out is None else self.to_add_out(rest)


class JointBlock(nn.Module):
    """MM-DiT's block (SD3): both streams modulated and gated by the condition; the last leaves the context behind."""

    def __init__(self, dim: int, heads: int, *, last: bool) -> None:
        super().__init__()
        check_heads(dim, heads)
        self.norm1 = _Modulation(dim, 6)
        self.norm1_context: nn.Module = ContinuousNorm(dim) if last else _Modulation(dim, 6)
        self.attn, self.ff = _JointAttention(dim, heads, last=last), FeedForward(dim)
        self.ff_context = None if last else FeedForward(dim)

    def forward(self, context: Tensor, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """context (B, m, dim), x (B, n, dim), c (B, dim) -> context, x."""
        shift, scale, gate, shift2, scale2, gate2 = self.norm1(c, 6)
        if self.ff_context is None:
            theirs, six = self.norm1_context(context, c), None
        else:
            six = self.norm1_context(c, 6)
            theirs = modulate(plain_norm(context), six[0], six[1])
        mixed, added = self.attn.joint(modulate(plain_norm(x), shift, scale), theirs)
        x = x + gate * mixed
        x = x + gate2 * self.ff(modulate(plain_norm(x), shift2, scale2))
        if self.ff_context is not None and six is not None:
            context = context + six[2] * added
            context = context + six[5] * self.ff_context(modulate(plain_norm(context), six[3], six[4]))
        return context, x
