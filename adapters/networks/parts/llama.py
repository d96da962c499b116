"""LlamaGen's transformer and the order of its sampling, which NAR shares (arXiv:2406.06525).

FoundationVision/LlamaGen @ ce98ec4: autoregressive/models/gpt.py, generate.py. The line numbers below are gpt.py's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.parts import infer_generators, sampling
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.transformer import Cache, RMSNorm, heads_of, merged, rotate_pairs, tanh_gelu
from vtbench.types.errors import VtbenchError

GENERATE = ("cfg_scale", "cfg_interval", "temperature", "top_k", "top_p")
"""Settings of upstream's sampler."""
CAPTION_TOKENS = 120
"""Rows of the null caption, fixed upstream (89-131)."""
_TRAINING = (
    "initializer_range",
    "token_dropout_p",
    "attn_dropout_p",
    "resid_dropout_p",
    "ffn_dropout_p",
    "drop_path_rate",
    "class_dropout_prob",
    "max_batch_size",
    "max_seq_len",
    "preset",
    "sampling",
)
"""Keys of upstream's configuration that inference does not use."""


class LabelEmbedder(nn.Module):
    """Row `num_classes` is the null class (56-83)."""

    def __init__(self, classes: int, dim: int) -> None:
        super().__init__()
        self.classes = classes
        self.embedding_table = nn.Embedding(classes + 1, dim)

    def forward(self, labels: Tensor) -> Tensor:
        rows: Tensor = self.embedding_table(labels)
        return rows[:, None]

    def null(self, like: Tensor) -> Tensor:
        return self.forward(torch.full_like(like, self.classes))


class CaptionEmbedder(nn.Module):
    """Two bias-free layers over text features; the null caption is a stored table (89-131)."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.uncond_embedding = nn.Parameter(torch.zeros(CAPTION_TOKENS, width))
        self.cap_proj = nn.ModuleDict(
            {"fc1": nn.Linear(width, dim, bias=False), "fc2": nn.Linear(dim, dim, bias=False)}
        )

    def forward(self, text: Tensor) -> Tensor:
        out: Tensor = self.cap_proj["fc2"](tanh_gelu(self.cap_proj["fc1"](text)))
        return out

    def null(self, like: Tensor) -> Tensor:
        return self.forward(self.uncond_embedding.expand(len(like), -1, -1))


class Attention(nn.Module):
    """Fused wqkv without bias; positions turn q and k before the cache (188-241)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.wqkv, self.wo = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim, bias=False)

    def forward(
        self, x: Tensor, turn: tuple[Tensor, Tensor], mask: Tensor | None, cache: Cache | None, layer: int
    ) -> Tensor:
        q, k, v = (heads_of(part, self.heads) for part in self.wqkv(x).chunk(3, dim=-1))
        q, k = rotate_pairs(q, *turn), rotate_pairs(k, *turn)
        if cache is not None:
            k, v = cache.extend(layer, k, v)
        out: Tensor = self.wo(merged(F.scaled_dot_product_attention(q, k, v, attn_mask=mask)))
        return out


class FeedForward(nn.Module):
    """SwiGLU: w2(silu(w1 x) w3 x) (151-167)."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.w1, self.w3 = nn.Linear(dim, hidden, bias=False), nn.Linear(dim, hidden, bias=False)
        self.w2 = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.w2(F.silu(self.w1(x)) * self.w3(x))
        return out


class Layer(nn.Module):
    def __init__(self, dim: int, heads: int, hidden: int, eps: float) -> None:
        super().__init__()
        self.attention, self.feed_forward = Attention(dim, heads), FeedForward(dim, hidden)
        self.attention_norm, self.ffn_norm = RMSNorm(dim, eps), RMSNorm(dim, eps)

    def forward(
        self, x: Tensor, turn: tuple[Tensor, Tensor], mask: Tensor | None, cache: Cache | None, layer: int
    ) -> Tensor:
        x = x + self.attention(self.attention_norm(x), turn, mask, cache, layer)
        out: Tensor = x + self.feed_forward(self.ffn_norm(x))
        return out


class Trunk(nn.Module):
    """Embeddings of condition and tokens, layers, positions.

    config: dim, n_layer, n_head, n_kv_head (null or n_head), multiple_of, ffn_dim_multiplier, rope_base, norm_eps,
    num_classes or caption_dim, model_type (c2i, t2i), vocab_size, cls_token_num, block_size (a square number).
    """

    infer_arch = staticmethod(infer_generators.llama)
    sequence = False
    """Do tokens stand in a sequence, not on a grid? Then their place in it turns them, and the condition too."""

    def __init__(self, config: Mapping[str, Any], *, further_layers: str | None = None) -> None:
        super().__init__()
        c = Config(config, "config")
        dim, self.depth, heads = c.integer("dim"), c.integer("n_layer"), c.integer("n_head")
        if c.integer("n_kv_head", heads) != heads:
            raise VtbenchError(
                f"config.n_kv_head is {c.integer('n_kv_head')}, but upstream's cache has n_head {heads} rows: "
                "grouped attention cannot run there, so it is not supported; set it to null"
            )
        if dim % heads or (dim // heads) % 4:
            raise VtbenchError(f"dim {dim} over {heads} heads must give a multiple of 4: positions turn quarters")
        hidden = int(2 * 4 * dim / 3)
        factor = c.any("ffn_dim_multiplier")
        if factor is not None:
            hidden = int(c.number("ffn_dim_multiplier") * hidden)
        multiple = c.integer("multiple_of", 256)
        hidden = -(-hidden // multiple) * multiple
        eps = c.number("norm_eps", 1e-5)
        self.kind: str = c.choice("model_type", ("c2i", "t2i"), "c2i")
        self.vocabulary, self.length = c.integer("vocab_size", 16384), c.integer("block_size", 256)
        self.grid = int(self.length**0.5)
        if self.grid**2 != self.length and not self.sequence:
            raise VtbenchError(f"config.block_size is {self.length}, but must be a square number: a grid of tokens")
        self.pixels = 16 * self.grid
        classes, width = c.integer("num_classes", 1000), c.integer("caption_dim", 2048)
        self.prefix = c.integer("cls_token_num", 1)
        wanted = 1 if self.kind == "c2i" else CAPTION_TOKENS
        if self.prefix != wanted:
            raise VtbenchError(f"config.cls_token_num is {self.prefix}, but {self.kind} has {wanted} condition tokens")
        self.further = c.integer(further_layers, at_least=0) if further_layers else 0
        base = c.number("rope_base", 10000)
        for key in _TRAINING:
            c.any(key)
        c.done()
        self.classes = classes
        self.cls_embedding: LabelEmbedder | CaptionEmbedder = (
            LabelEmbedder(classes, dim) if self.kind == "c2i" else CaptionEmbedder(width, dim)
        )
        self.tok_embeddings = nn.Embedding(self.vocabulary, dim)
        self.layers = nn.ModuleList(Layer(dim, heads, hidden, eps) for _ in range(self.depth + self.further))
        self.norm, self.output = RMSNorm(dim, eps), nn.Linear(dim, self.vocabulary, bias=False)
        self.dim, self.eps = dim, eps
        self.optional: tuple[str, ...] = ("freqs_cis",)
        if self.sequence:
            self.angles = _line(self.prefix + self.length, dim // heads, base)
        else:
            self.angles = _angles(self.grid, dim // heads, base)

    def turn(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """(cos, sin) of the positions; condition positions have zeros for both, as upstream's cache (416)."""
        if self.angles.device != positions.device:
            # The angles are no buffer, so that they do not move with the module by themselves.
            self.angles = self.angles.to(positions.device)
        dtype: torch.dtype = self.norm.weight.dtype  # type: ignore[union-attr, assignment]
        if self.sequence:
            return self.angles[positions].cos().to(dtype), self.angles[positions].sin().to(dtype)
        image = positions >= self.prefix
        rows = self.angles[(positions - self.prefix).clamp(min=0)]
        keep = image[:, None]
        return (rows.cos() * keep).to(dtype), (rows.sin() * keep).to(dtype)

    def condition(self, source: Tensor, text_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(cond, null) embeddings, (B, prefix, dim) each.

        source: labels int64 (B,), or text features (B, prefix, width), which are multiplied by their mask.
        """
        if self.kind == "t2i":
            if text_mask is not None:
                source = source * text_mask[..., None].to(source.dtype)
            if source.shape[1] != self.prefix:
                raise VtbenchError(f"there are {source.shape[1]} text features, but a caption has {self.prefix}")
        elif int(source.max()) >= self.classes or int(source.min()) < 0:
            raise VtbenchError(f"a class label lies outside 0..{self.classes - 1}: give labels of the training set")
        return self.cls_embedding(source), self.cls_embedding.null(source)

    def causal(self, length: int, text_mask: Tensor | None) -> Tensor:
        """(1 or B, 1, length, length) True = visible: causal, no masked caption columns, the diagonal always on."""
        mask = torch.ones(length, length, dtype=torch.bool, device=self.device).tril()
        return self.captioned(mask, text_mask)

    def captioned(self, mask: Tensor, text_mask: Tensor | None) -> Tensor:
        """A (length, length) mask without the caption positions that a row's mask leaves out, the diagonal on."""
        out = mask[None, None]
        if text_mask is None:
            return out
        columns = torch.ones(len(text_mask), len(mask), dtype=torch.bool, device=mask.device)
        columns[:, : self.prefix] = text_mask.bool().to(mask.device)
        return (out & columns[:, None, None]) | torch.eye(len(mask), dtype=torch.bool, device=mask.device)

    @property
    def device(self) -> torch.device:
        return self.tok_embeddings.weight.device


def distribution(logits: Tensor, temperature: float, top_k: int, top_p: float) -> Tensor:
    """Probabilities in upstream's order: temperature, top-k, top-p, softmax (generate.py:16-66)."""
    logits = logits / max(temperature, 1e-5)
    return torch.softmax(sampling.keep_top_p(sampling.keep_top_k(logits, top_k), top_p), dim=-1)


def _line(length: int, head: int, base: float) -> Tensor:
    """(length, head/2) float32: all pairs carry the place in the sequence."""
    with torch.device("cpu"):
        freqs = 1.0 / (base ** (torch.arange(0, head, 2)[: head // 2].float() / head))
        return torch.outer(torch.arange(length).float(), freqs)


def _angles(grid: int, head: int, base: float) -> Tensor:
    """(grid^2, head/2) float32: half of the pairs carry the row, the other half the column (404-431)."""
    with torch.device("cpu"):
        half = head // 2
        freqs = 1.0 / (base ** (torch.arange(0, half, 2)[: half // 2].float() / half))
        line = torch.outer(torch.arange(grid).float(), freqs)
        rows, columns = line[:, None].expand(-1, grid, -1), line[None].expand(grid, -1, -1)
        return torch.cat([rows, columns], dim=-1).flatten(0, 1)
