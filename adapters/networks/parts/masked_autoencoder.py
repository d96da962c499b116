"""MAR's masked autoencoder, whose features condition a head that makes tokens; FAR and TokenBridge share it.

LTH14/mar @ fe470ac: models/mar.py, whose line numbers are given.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vtbench.adapters.networks.parts import sampling
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.transformer import Block, check_heads
from vtbench.types.errors import VtbenchError

TRAINING = (
    "mask_ratio_min",
    "label_drop_prob",
    "attn_dropout",
    "proj_dropout",
    "diffusion_batch_mul",
    "grad_checkpointing",
    "sampling",
)
"""Keys of upstream's configuration that inference does not use."""


class MaskedAutoencoder(nn.Module):
    """Encoder over the class and the visible tokens, decoder over all places.

    Reads img_size, vae_stride, patch_size, vae_embed_dim, {encoder,decoder}_{embed_dim,depth,num_heads}, mlp_ratio,
    norm_eps, class_num, buffer_size. `output` is upstream's name of the table added to the decoder's output; `classes`
    the rows of the class table where upstream does not take them from class_num.
    """

    def __init__(self, c: Config, *, output: str = "diffusion_pos_embed_learned", classes: int | None = None) -> None:
        super().__init__()
        self.patch, self.channels = c.integer("patch_size", 1), c.integer("vae_embed_dim", 16)
        self.pixels = c.integer("img_size", 256)
        self.grid, rest = divmod(self.pixels, c.integer("vae_stride", 16) * self.patch)
        if rest or not self.grid:
            raise VtbenchError("config.img_size must be a multiple of vae_stride x patch_size: tokens lie on a grid")
        self.length, self.dim = self.grid**2, self.channels * self.patch**2
        inner, outer = c.integer("encoder_embed_dim"), c.integer("decoder_embed_dim")
        eps, self.buffer = c.number("norm_eps", 1e-6), c.integer("buffer_size", 64)
        self.classes = c.integer("class_num", 1000)
        self.outer, self.output = outer, output
        positions = self.length + self.buffer
        self.fake_latent = nn.Parameter(torch.zeros(1, inner))
        self.class_emb = nn.Embedding(classes or self.classes, inner)
        self.z_proj, self.z_proj_ln = nn.Linear(self.dim, inner), nn.LayerNorm(inner, eps=1e-6)
        self.encoder_pos_embed_learned = nn.Parameter(torch.zeros(1, positions, inner))
        self.encoder_blocks, self.encoder_norm = _blocks(c, "encoder", eps), nn.LayerNorm(inner, eps=eps)
        self.decoder_embed, self.mask_token = nn.Linear(inner, outer), nn.Parameter(torch.zeros(1, 1, outer))
        self.decoder_pos_embed_learned = nn.Parameter(torch.zeros(1, positions, outer))
        self.decoder_blocks, self.decoder_norm = _blocks(c, "decoder", eps), nn.LayerNorm(outer, eps=eps)
        self.register_parameter(output, nn.Parameter(torch.zeros(1, self.length, outer)))

    def encode(self, tokens: Tensor, masked: Tensor, classes: Tensor) -> Tensor:
        """tokens (B, L, D), masked bool (B, L) with one count a row, classes (B, E) -> (B, buffer + visible, E)."""
        x = torch.cat([classes[:, None].expand(-1, self.buffer, -1), self.z_proj(tokens)], dim=1)
        x = self.z_proj_ln(x + self.encoder_pos_embed_learned)
        x = x[self._visible(masked)].unflatten(0, (len(tokens), -1))
        for block in self.encoder_blocks:
            x = block(x)
        out: Tensor = self.encoder_norm(x)
        return out

    def decode(self, x: Tensor, masked: Tensor) -> Tensor:
        """The encoder's output -> conditions (B, L, E) of the head."""
        visible, x = self._visible(masked), self.decoder_embed(x)
        full = self.mask_token.to(x.dtype).expand(*visible.shape, -1).clone()
        full[visible] = x.flatten(0, 1)
        full = full + self.decoder_pos_embed_learned
        for block in self.decoder_blocks:
            full = block(full)
        out: Tensor = self.decoder_norm(full)[:, self.buffer :] + getattr(self, self.output)
        return sampling.finite(out, type(self).__name__)

    def _visible(self, masked: Tensor) -> Tensor:
        first = torch.ones(len(masked), self.buffer, dtype=torch.bool, device=masked.device)
        return torch.cat([first, ~masked], dim=1)

    def start(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """No token yet: zeros (B, L, D), and everything masked, bool (B, L)."""
        tokens = torch.zeros(len(labels), self.length, self.dim, device=labels.device, dtype=self.z_proj.weight.dtype)
        return tokens, torch.ones(len(labels), self.length, dtype=torch.bool, device=labels.device)

    def patched(self, latent: Tensor) -> Tensor:
        """(B, c, h p, w q) -> tokens (B, L, c p q) (131-150)."""
        x = torch.unflatten(torch.unflatten(latent, 3, (self.grid, self.patch)), 2, (self.grid, self.patch))
        return x.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)

    def unpatched(self, tokens: Tensor) -> Tensor:
        """(B, L, c p q) -> (B, c, h p, w q) (131-150)."""
        x = torch.unflatten(tokens, 1, (self.grid, self.grid))
        x = torch.unflatten(x, -1, (self.channels, self.patch, self.patch))
        return x.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


def _blocks(c: Config, side: str, eps: float) -> nn.ModuleList:
    dim, heads, ratio = c.integer(f"{side}_embed_dim"), c.integer(f"{side}_num_heads"), c.number("mlp_ratio", 4.0)
    check_heads(dim, heads)
    count = c.integer(f"{side}_depth")
    return nn.ModuleList(Block(dim, heads, int(dim * ratio), eps=eps, qkv_bias=True) for _ in range(count))
