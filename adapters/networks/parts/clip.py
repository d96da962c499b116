"""Pre-norm transformers under CLIP's names, which TiTok, BSQ-ViT, ALIT and KARL kept, and CLIP's own towers.

A block's keys are ln_1, attn.{in_proj_weight, in_proj_bias, out_proj.{weight, bias}} (those of nn.MultiheadAttention),
ln_2, mlp.{c_fc, c_proj}, and with LayerScale ls_1.gamma, ls_2.gamma.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.parts.dinov2 import resized_table
from vtbench.adapters.networks.parts.transformer import heads_of, merged
from vtbench.adapters.networks.parts.vit import LayerScale
from vtbench.types.errors import VtbenchError

Activation = Callable[[Tensor], Tensor]


def quick_gelu(x: Tensor) -> Tensor:
    """x sigmoid(1.702 x), with which OpenAI trained CLIP."""
    return x * torch.sigmoid(1.702 * x)


class Attention(nn.Module):
    """Attention, scale (width / heads)**-0.5: what nn.MultiheadAttention computes, by one kernel in any mode."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise VtbenchError(f"{heads} heads do not divide a width of {width}: choose another number of heads")
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.zeros(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x (B, N, width); mask: boolean, True = visible, or added to the logits; broadcast to (B, heads, N, N)."""
        return self._mixed(F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1), mask)

    def between(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attention of query (B, N, width) to key and value (B, M, width)."""
        parts = zip((query, key, value), self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3), strict=True)
        return self._mixed([F.linear(x, weight, bias) for x, weight, bias in parts], None)

    def _mixed(self, projected: Sequence[Tensor], mask: Tensor | None) -> Tensor:
        q, k, v = (heads_of(part, self.heads) for part in projected)
        out: Tensor = self.out_proj(merged(F.scaled_dot_product_attention(q, k, v, attn_mask=mask)))
        return out


class _Mlp(nn.Module):
    def __init__(self, width: int, hidden: int, act: Activation) -> None:
        super().__init__()
        self.c_fc, self.c_proj, self.act = nn.Linear(width, hidden), nn.Linear(hidden, width), act

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.c_proj(self.act(self.c_fc(x)))
        return out


class Block(nn.Module):
    """x + ls_1(attn(ln_1 x)), then x + ls_2(mlp(ln_2 x)). `hidden` 0: no MLP, and no ln_2."""

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        *,
        eps: float = 1e-5,
        act: Activation = F.gelu,
        layer_scale: bool = False,
    ) -> None:
        super().__init__()
        self.ln_1, self.attn = nn.LayerNorm(width, eps=eps), Attention(width, heads)
        self.ls_1 = LayerScale(width) if layer_scale else nn.Identity()
        self.mlp: nn.Module | None = None
        if hidden:
            self.ln_2, self.mlp = nn.LayerNorm(width, eps=eps), _Mlp(width, hidden, act)
            self.ls_2 = LayerScale(width) if layer_scale else nn.Identity()

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = x + self.ls_1(self.attn(self.ln_1(x), mask))
        return x if self.mlp is None else x + self.ls_2(self.mlp(self.ln_2(x)))


class ImageTower(nn.Module):
    """CLIP's image encoder to the end of ln_post, without the class token and the projection.

    openai/CLIP clip/model.py (VisionTransformer), as TokenFlow @ 9812da0 changed it (tokenflow/tokenizer/clip/model.py:
    243-304): (B, colours, H, W) -> (B, h w, width), the table of positions resized as DINO does it.
    """

    def __init__(
        self, colours: int, *, side: int, patch: int, width: int, layers: int, heads: int, hidden: int
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(colours, width, patch, stride=patch, bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.positional_embedding = nn.Parameter(torch.zeros(1 + (side // patch) ** 2, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        blocks = nn.ModuleList(Block(width, heads, hidden, act=quick_gelu) for _ in range(layers))
        self.transformer = nn.ModuleDict({"resblocks": blocks})

    def forward(self, x: Tensor) -> Tensor:
        cells = self.conv1(x)
        table = resized_table(self.positional_embedding[None, 1:], (cells.shape[2], cells.shape[3]), offset=0.1)
        first = (self.class_embedding + self.positional_embedding[0]).expand(len(x), 1, -1)
        tokens = self.ln_pre(torch.cat([first, cells.flatten(2).transpose(1, 2) + table], dim=1))
        for block in self.transformer["resblocks"]:  # type: ignore[union-attr]
            tokens = block(tokens)
        out: Tensor = self.ln_post(tokens[:, 1:])
        return out


class TextTower(nn.Module):
    """CLIP's text encoder to the end of ln_final: ids (B, n) -> (B, n, width), no pooling and no projection.

    mlfoundations/open_clip src/open_clip/transformer.py (TextTransformer), whose names it has at the top level of a
    CLIP: token_embedding, positional_embedding, transformer.resblocks.{i}, ln_final. Causal.
    """

    optional: tuple[str, ...] = ("visual.", "text_projection", "logit_scale", "attn_mask")
    int_buffers = ("input_resolution", "context_length", "vocab_size")
    """What else OpenAI's files hold."""

    def __init__(
        self,
        *,
        width: int,
        layers: int,
        heads: int,
        length: int = 77,
        vocabulary: int = 49408,
        act: Activation = quick_gelu,
    ) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.positional_embedding = nn.Parameter(torch.zeros(length, width))
        blocks = nn.ModuleList(Block(width, heads, 4 * width, act=act) for _ in range(layers))
        self.transformer = nn.ModuleDict({"resblocks": blocks})
        self.ln_final = nn.LayerNorm(width)
        self.length = length

    def forward(self, ids: Tensor) -> Tensor:
        n = ids.shape[1]
        x = self.token_embedding(ids) + self.positional_embedding[:n]
        seen = torch.ones(n, n, dtype=torch.bool, device=ids.device).tril()
        for block in self.transformer["resblocks"]:  # type: ignore[union-attr]
            x = block(x, seen)
        out: Tensor = self.ln_final(x)
        return out

    def read(self, texts: Sequence[str]) -> Tensor:
        """Features (B, length, width) of texts: byte pairs between a start and an end mark, zeros behind them."""
        from open_clip.tokenizer import SimpleTokenizer

        ids: Tensor = SimpleTokenizer(context_length=self.length)(list(texts))
        out: Tensor = self(ids.to(self.positional_embedding.device))
        return out
