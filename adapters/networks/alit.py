"""ALIT: the tokens of a 2-D tokenizer distilled into ever more 1-D tokens, one rollout at a time (arXiv:2411.02393).

ShivamDuggal4/adaptive-length-tokenizer @ 8c0b4ec: adaptive_tokenizers/{adaptive_vqgan, adaptive_vae}.py, modules/.

arch: image_size, patch_size, encoder and decoder {width, layers, heads}, base (see `distilled.Base`),
num_init_latent_tokens, max_rollout_iters, dynamic_halting, dynamic_halting_threshold, factorize_latent,
quantize_latent, quantizer {type "vq", codebook_size, embed_dim, l2_norm}.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.distilled import SIDE, Blocks, Distilled, Shape, Trunk
from vtbench.adapters.networks.parts import infer
from vtbench.adapters.networks.parts.config import Config
from vtbench.models.network import Encoded
from vtbench.types.errors import VtbenchError

_POSITIONS = 256
"""Rows of the decoder's table of positions (latent_distillation_modules.py:25)."""


class _Decoder(Trunk):
    """With positions, and the widening of factorized latents."""

    def __init__(self, shape: Shape, predicted: int, latent: int | None) -> None:
        super().__init__(shape, predicted)
        self.decoder_embed = None if latent is None else nn.Linear(latent, shape.width)
        self.latent_token_positional_embedding = nn.Parameter(torch.zeros(_POSITIONS, shape.width))

    def predict(self, cells: Tensor, latents: Tensor) -> Tensor:
        wide = latents if self.decoder_embed is None else self.decoder_embed(latents)
        # The first cell is the class token.
        return self.run(cells, wide + self.latent_token_positional_embedding[: latents.shape[1]], first=1)


class Alit(Distilled):
    """Latents are (B, tokens, C); every rollout adds `num_init_latent_tokens` of them and changes all others."""

    @staticmethod
    def infer_arch(shapes: infer.Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
        """The arch of a checkpoint of these shapes."""
        arch = Distilled.sizes(shapes, like) if "timestep_embedding" in shapes else None
        if arch is not None:
            arch["max_rollout_iters"], arch["num_init_latent_tokens"] = shapes["timestep_embedding"][:2]
            arch["factorize_latent"] = "decoder.decoder_embed.weight" in shapes
        return arch

    def __init__(self, arch: Mapping[str, Any]) -> None:
        c = Config(arch, "arch")
        super().__init__(c)
        encoder, decoder = self.shapes
        self.each, self.most = c.integer("num_init_latent_tokens"), c.integer("max_rollout_iters")
        self.positions, self.cells = self.each * self.most, SIDE * SIDE
        if self.positions > _POSITIONS:
            raise VtbenchError(
                f"{self.most} rollouts of {self.each} tokens are {self.positions}, but the decoder takes {_POSITIONS}"
            )
        self.threshold = c.number("dynamic_halting_threshold")
        # With the KL base upstream assigns its mask to a copy, so that nothing is ever masked (adaptive_vae.py:113).
        self.halting = c.flag("dynamic_halting") and self.base_tokenizer.codes is not None
        # quantize_latent implies it (adaptive_vqgan.py:21).
        self.factorized = c.flag("factorize_latent") or self.quantize is not None
        c.done()
        if not self.factorized and encoder.width != decoder.width:
            raise VtbenchError(
                f"without factorize_latent the encoder's {encoder.width} channels go to the decoder, which has "
                f"{decoder.width}: make them equal"
            )

        self.encoder_positional_embedding, self.decoder_positional_embedding = (
            nn.Parameter(torch.zeros(SIDE * SIDE + 1, shape.width)) for shape in self.shapes
        )
        self.encoder_class_embedding, self.decoder_class_embedding = (
            nn.Parameter(torch.zeros(1, shape.width)) for shape in self.shapes
        )
        self.encoder_mask_token, self.decoder_mask_token = (
            nn.Parameter(torch.zeros(1, 1, shape.width)) for shape in self.shapes
        )
        self.latent_tokens = nn.Parameter(torch.zeros(self.each, encoder.width))
        self.latent_token_positional_embedding = nn.Parameter(torch.zeros(self.each, encoder.width))
        self.timestep_embedding = nn.Parameter(torch.zeros(self.most, self.each, encoder.width))
        self.encoder_ln_pre, self.encoder_ln_post = nn.LayerNorm(encoder.width), nn.LayerNorm(encoder.width)
        self.encoder_ln_recursive = nn.LayerNorm(encoder.width)
        self.encoder = Blocks(encoder)
        self.decoder = _Decoder(decoder, self.base_tokenizer.predicted, self.dim if self.factorized else None)

    def encode(
        self,
        x: Tensor,
        *,
        budget: int | None = None,
        rollouts: int | None = None,
        threshold: float | None = None,
        noise: Tensor | None = None,
    ) -> Encoded:
        """x: (B, 3, H, W) in [0, 1]; budget: tokens, as many rollouts as give them; the rest as in `unroll`."""
        count = self.most if rollouts is None else rollouts
        if budget is not None:
            if budget % self.each:
                raise VtbenchError(f"{budget} tokens: a rollout gives {self.each}, so give a multiple of that")
            count = budget // self.each
        *_, latent = self.unroll(x, count, threshold=threshold, noise=noise)
        return self.encoded(latent)

    def unroll(
        self, x: Tensor, rollouts: int, *, threshold: float | None = None, noise: Tensor | None = None
    ) -> Iterator[Tensor]:
        """The latents (B, tokens, C) after every one of the `rollouts`.

        Cells whose true code the decoder expects with a probability of `threshold` or more give way to a mask token;
        noise: uniform (B, rollouts, cells), with which they do so as often as that probability says, as upstream.
        """
        if not 1 <= rollouts <= self.most:
            raise VtbenchError(f"there are 1 to {self.most} rollouts, not {rollouts}: {self.each} tokens each")
        self.grid((x.shape[2], x.shape[3]))
        under = self.base_tokenizer.tokens(x)
        cells = F.normalize(torch.cat([under, self.patch_embed(x)], dim=1).flatten(2).transpose(1, 2), dim=-1)
        head = self.encoder_class_embedding.expand(len(x), 1, -1)
        image = torch.cat([head, cells], dim=1) + self.encoder_positional_embedding
        fresh = self.latent_tokens + self.latent_token_positional_embedding + self.timestep_embedding
        new = fresh[:, None].expand(-1, len(x), -1, -1)
        s = self.encoder_ln_pre(torch.cat([image, new[0]], dim=1))
        for i in range(rollouts):
            if i:
                s = self.encoder_ln_recursive(torch.cat([s, new[i]], dim=1))
            s = self.encoder(s)
            latent = self.encoder_ln_post(s[:, image.shape[1] :])
            latent = self.pre_quantizer_mlp(latent) if self.factorized else latent
            yield latent
            if self.halting and i < rollouts - 1:
                drawn = None if noise is None else noise[:, i]
                explained = self._explained(latent, under, self.threshold if threshold is None else threshold, drawn)
                mask = self.encoder_mask_token + self.encoder_positional_embedding[1:]
                kept = torch.where(explained[..., None], mask, s[:, 1 : image.shape[1]])
                s = torch.cat([s[:, :1], kept, s[:, image.shape[1] :]], dim=1)

    def _explained(self, latent: Tensor, under: Tensor, threshold: float, noise: Tensor | None) -> Tensor:
        """bool (B, cells)."""
        codes = self.base_tokenizer.codes
        assert codes is not None
        truth, _ = codes(under)
        logits = self.decoder.predict(self._masks(len(latent)), self.quantized(latent)[1])
        p = torch.softmax(logits, dim=-1).gather(2, truth[..., None])[..., 0]
        return p >= threshold if noise is None else (p >= threshold) & (noise.to(p) < p)

    def _masks(self, count: int) -> Tensor:
        masks = self.decoder_mask_token.expand(1, SIDE * SIDE, -1)
        placed = torch.cat([self.decoder_class_embedding[None], masks], dim=1) + self.decoder_positional_embedding
        return placed.expand(count, -1, -1)

    def decode(self, latent: Tensor, *, size: tuple[int, int]) -> Tensor:
        """latent: tokens (B, L), or latents (B, L, C); L tokens are L / num_init_latent_tokens rollouts."""
        grid = self.grid(size)
        if not latent.shape[1] or latent.shape[1] % self.each or latent.shape[1] > self.positions:
            raise VtbenchError(
                f"there are {latent.shape[1]} tokens, but rollouts give {self.each} each, {self.positions} at most"
            )
        rows = latent if latent.is_floating_point() else self.rows(latent)
        return self.base_tokenizer.paint(self.decoder.predict(self._masks(len(rows)), rows), grid)
