"""What a network reads of captions beside its tokens: CLIP's states, their pooled projection, a score asked for.

bytedance/1d-tokenizer @ 942a96f: modeling/maskgen.py, whose line numbers are given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vtbench.adapters.networks.parts.clip import TextTower
from vtbench.adapters.networks.parts.config import Config

_VQ_MODEL = (
    "quantize_mode",
    "token_size",
    "use_l2_norm",
    "commitment_cost",
    "clustering_vq",
    "vit_enc_model_size",
    "vit_dec_model_size",
    "vit_enc_patch_size",
    "vit_dec_patch_size",
    "finetune_decoder",
    "is_legacy",
    "scale_factor",
    "codebook_size",
)
"""Keys of the tokenizer, which is no part of this network."""
_SAMPLER = ("text_drop_prob", "cfg", "cfg_schedule", "num_iter", "temperature", "condition_num_classes")


@dataclass(frozen=True)
class Text:
    """What MaskGen reads of captions: states before CLIP's last block (B, n, width), and the pooled projection
    (B, 1, width)."""

    states: Tensor
    pooled: Tensor

    def joined(self, other: Text) -> Text:
        """This batch, then the other, repeated to as many rows."""
        pairs = ((self.states, other.states), (self.pooled, other.pooled))
        return Text(*(torch.cat([a, b.expand(len(a), -1, -1)]) for a, b in pairs))


class Conditioned(nn.Module):
    """Sizes and conditions that both share: text, pooled text, and the aesthetic score asked for."""

    def __init__(self, top: Config) -> None:
        super().__init__()
        for key in ("experiment", "training"):
            top.any(key)
        model = top.sub("model")
        self.vq, g = model.sub("vq_model"), model.sub("maskgen")
        self.g = g
        model.done()
        self.dim, self.depth = g.integer("decoder_embed_dim"), g.integer("decoder_depth")
        self.heads, self.length = g.integer("decoder_num_heads"), self.vq.integer("num_latent_tokens")
        self.text_width = self.vq.integer("text_embed_dim", 768)
        width = g.integer("micro_condition_embed_dim", 256)
        self.micro = width if g.flag("micro_condition", True) else 0
        self.score = g.number("sample_aesthetic_score", 6.0)
        for key in _VQ_MODEL:
            self.vq.any(key)
        for key in (*_SAMPLER, "diffusion_batch_mul"):
            g.any(key)

    def sines(self, score: float, like: Tensor) -> Tensor:
        """(1, width): sinusoids of a hundred times the aesthetic score."""
        raise NotImplementedError

    def with_score(self, pooled: Tensor, score: float) -> Tensor:
        """(B, width) -> (B, width + sinusoids)."""
        if not self.micro:
            return pooled
        return torch.cat([pooled, self.sines(score, pooled).expand(len(pooled), -1)], dim=1)


class PooledTextTower(TextTower):
    """CLIP's text encoder with its projection: what MaskGen and TA-TiTok's decoder read of a caption (61-79)."""

    optional: tuple[str, ...] = ("visual.", "logit_scale", "attn_mask")

    def __init__(self, *, width: int, layers: int, heads: int, **sizes: Any) -> None:
        super().__init__(width=width, layers=layers, heads=heads, **sizes)
        self.text_projection = nn.Parameter(torch.zeros(width, width))

    def captions(self, texts: Sequence[str]) -> tuple[Tensor, Text]:
        """States after ln_final (B, n, width), and those before the last block with the pooled projection.

        Pooled is the end mark's state, whose id is the greatest.
        """
        from open_clip.tokenizer import SimpleTokenizer

        ids = SimpleTokenizer(context_length=self.length)(list(texts)).to(self.positional_embedding.device)
        x = self.token_embedding(ids) + self.positional_embedding[: ids.shape[1]]
        seen = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=ids.device).tril()
        blocks = self.transformer["resblocks"]
        for block in blocks[:-1]:  # type: ignore[index]
            x = block(x, seen)
        final = self.ln_final(blocks[-1](x, seen))  # type: ignore[index]
        ends = final[torch.arange(len(ids), device=ids.device), ids.argmax(dim=-1)]
        return final, Text(x, (ends @ self.text_projection)[:, None])
