"""SigLIP's image tower under transformers' names, to the end of a layer (arXiv:2303.15343).

huggingface/transformers v4.43 src/transformers/models/siglip/modeling_siglip.py: layers behind the one that is read,
post_layernorm and the pooling head are left out.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.parts.transformer import Mlp, check_heads, heads_of, merged, tanh_gelu


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        check_heads(width, heads)
        self.heads = heads
        self.k_proj, self.v_proj, self.q_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        parts = (heads_of(proj(x), self.heads) for proj in (self.q_proj, self.k_proj, self.v_proj))
        out: Tensor = self.out_proj(merged(F.scaled_dot_product_attention(*parts)))
        return out


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int, eps: float) -> None:
        super().__init__()
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)
        self.self_attn, self.mlp = _Attention(width, heads), Mlp(width, hidden, act=tanh_gelu)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        out: Tensor = x + self.mlp(self.layer_norm2(x))
        return out


class SiglipTower(nn.Module):
    """(B, colours, side, side) to patch tokens (B, (side / patch)^2, width) after `layers` layers, without a norm.

    Pixels that no whole patch holds are left out, at the right and the bottom.
    """

    def __init__(
        self, colours: int, *, side: int, patch: int, width: int, layers: int, heads: int, hidden: int, eps: float
    ) -> None:
        super().__init__()
        embeddings = nn.ModuleDict(
            {
                "patch_embedding": nn.Conv2d(colours, width, patch, stride=patch),
                "position_embedding": nn.Embedding((side // patch) ** 2, width),
            }
        )
        blocks = nn.ModuleList(_Layer(width, heads, hidden, eps) for _ in range(layers))
        self.embeddings, self.encoder = embeddings, nn.ModuleDict({"layers": blocks})

    def forward(self, x: Tensor) -> Tensor:
        rows = self.embeddings["patch_embedding"](x).flatten(2).transpose(1, 2)
        tokens: Tensor = rows + self.embeddings.get_parameter("position_embedding.weight")
        for layer in self.encoder["layers"]:  # type: ignore[union-attr]
            tokens = layer(tokens)
        return tokens
