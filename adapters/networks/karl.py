"""KARL: one pass says how many 1-D tokens an image needs, and halts the others (arXiv:2507.07995).

ShivamDuggal4/karl @ 5c1a569: kolmogorov_tokenizers/{karl_vqgan, karl_vae}.py, modules/.

arch: image_size, patch_size, encoder and decoder {width, layers, heads}, base (see `distilled.Base`),
factorize_latent, quantize_latent, quantizer {type "vq", codebook_size, embed_dim, l2_norm}, max_grid_tokens,
max_tokens, halting_probability, loss_bins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.distilled import SIDE, Blocks, Distilled, Trunk
from vtbench.adapters.networks.parts import infer
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.quantizers import Grid
from vtbench.models.network import Encoded
from vtbench.types.errors import VtbenchError

_HALTING = 512
"""Width of the head that says which tokens halt."""
BUDGET, QUALITY = 256, 0.05
"""Upstream's defaults (karl_vqgan.py:216): tokens that may be used, and the mean absolute error to be reached."""


class Karl(Distilled):
    """Latents are (B, tokens, C); halted ones are -1 among tokens, rows of zeros among latents.

    Which tokens halt is part of the code, so that its alphabet has one more symbol, the last: halted.
    """

    @staticmethod
    def infer_arch(shapes: infer.Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
        """The arch of a checkpoint of these shapes; which errors its conditions stand for is not in them."""
        conditions = shapes.get("rec_loss_embeddings", [0])[0]
        arch = Distilled.sizes(shapes, like) if conditions == len(like["loss_bins"]) else None
        if arch is not None:
            arch["max_grid_tokens"] = shapes["encoder_positional_embedding"][1]
            arch["max_tokens"] = shapes["latent_tokens"][0]
        return arch

    def __init__(self, arch: Mapping[str, Any]) -> None:
        c = Config(arch, "arch")
        super().__init__(c)
        encoder, decoder = self.shapes
        if self.base_tokenizer.codes is not None and self.base_tokenizer.channels != SIDE * SIDE:
            # The reshape before the permutation takes the number of cells for that of channels (karl_vqgan.py:122).
            raise VtbenchError(
                f"arch.base.z_channels is {self.base_tokenizer.channels}, but must be {SIDE * SIDE}: upstream takes "
                "the VQGAN's channels and cells for each other"
            )
        # The latents of this class are factorized whatever it says.
        c.flag("factorize_latent", True)
        side, self.most = c.integer("max_grid_tokens"), c.integer("max_tokens")
        self.positions = min(BUDGET, self.most)
        self.halting_probability, self.bins = c.number("halting_probability"), _bins(c)
        c.done()
        if self.quantize is not None:
            self.alphabets = (self.quantize.alphabets[0] + 1,)

        def table(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(shape))

        self.encoder_positional_embedding = table(encoder.width, side, side)
        self.decoder_positional_embedding = table(decoder.width, side, side)
        self.decoder_mask_token = table(1, 1, decoder.width)
        self.latent_tokens = table(self.most, encoder.width)
        self.decoder_latent_tokens_timestep_embed = table(self.most, decoder.width)
        self.rec_loss_embeddings = table(len(self.bins), encoder.width)
        self.encoder_ln_pre, self.encoder_ln_post = nn.LayerNorm(encoder.width), nn.LayerNorm(encoder.width)
        self.encoder_ln_post_halt = nn.LayerNorm(encoder.width)
        self.halting_mlp = nn.Sequential(nn.Linear(encoder.width, _HALTING), nn.Tanh(), nn.Linear(_HALTING, 1))
        self.encoder = Blocks(encoder)
        self.decoder = Trunk(decoder, self.base_tokenizer.predicted)
        self.decoder_embed = nn.Linear(self.dim, decoder.width)

    def encode(self, x: Tensor, *, budget: int = BUDGET, quality: float = QUALITY) -> Encoded:
        """x: (B, 3, H, W) in [0, 1]; budget: tokens that may be kept; quality: mean absolute error to be reached."""
        if not 1 <= budget <= self.most:
            raise VtbenchError(f"{budget} tokens: the network has {self.most}, so give 1 to {self.most}")
        grid = self._grid((x.shape[2], x.shape[3]))
        under = torch.cat([self.patch_embed(x), self.base_tokenizer.tokens(x)], dim=1)
        image = under.flatten(2).transpose(1, 2) + _at(self.encoder_positional_embedding, grid)
        # The least listed error that is no less than the one wanted, or the greatest (karl_vqgan.py:178-193).
        bin_ = min((i for i, b in enumerate(self.bins) if b >= quality), default=len(self.bins) - 1)
        count = len(x)
        wanted = self.rec_loss_embeddings[bin_].expand(count, 1, -1)
        s = torch.cat([wanted, image, self.latent_tokens[:budget].expand(count, -1, -1)], dim=1)
        latents = self.encoder(self.encoder_ln_pre(s))[:, 1 + image.shape[1] :]
        halts = torch.sigmoid(self.halting_mlp(self.encoder_ln_post_halt(latents)))[..., 0]
        halted = halts > self.halting_probability
        out = self.encoded(self.pre_quantizer_mlp(self.encoder_ln_post(latents)))
        if out.tokens is not None:
            out.tokens = out.tokens.masked_fill(halted, -1)
        else:
            assert out.latent_mean is not None
            out.latent_mean = out.latent_mean.masked_fill(halted[..., None], 0.0)
        return out

    def decode(self, latent: Tensor, *, size: tuple[int, int], **halt_prob: Tensor) -> Tensor:
        """latent: tokens (B, L), or latents (B, L, C).

        halt_prob: the probabilities (B, L, 1) that say which latents halt, under whatever name a fixture has them.
        """
        stray = next((name for name in halt_prob if not name.startswith("halt")), None)
        if stray is not None:
            raise TypeError(f"decode takes no {stray}")
        grid = self._grid(size)
        if latent.shape[1] > self.most:
            raise VtbenchError(f"there are {latent.shape[1]} tokens, but the network has {self.most}")
        if latent.is_floating_point():
            halted, rows = (latent == 0).all(dim=2), latent
            for probability in halt_prob.values():
                halted = probability[..., 0] > self.halting_probability
        else:
            halted = latent < 0
            rows = self.rows(latent.clamp(min=0))
        cells = (self.decoder_mask_token + _at(self.decoder_positional_embedding, grid)).expand(len(latent), -1, -1)
        placed = self.decoder_embed(rows) + self.decoder_latent_tokens_timestep_embed[: latent.shape[1]]
        # A halted token neither sees nor is seen, but for itself (karl_vqgan.py:284-287).
        hidden = F.pad(halted, (cells.shape[1], 0))
        blind = hidden[:, :, None] | hidden[:, None]
        visible = ~blind | torch.eye(hidden.shape[1], dtype=torch.bool, device=hidden.device)
        return self.base_tokenizer.paint(self.decoder.run(cells, placed, mask=visible[:, None]), grid)

    def _grid(self, size: tuple[int, int]) -> Grid:
        """Upstream's KL variant takes 16 x 32 cells too."""
        return self.grid(size, wide=self.base_tokenizer.codes is None)


def _at(table: Tensor, grid: Grid) -> Tensor:
    """(1, cells, width) of a table (width, side, side), by the nearest row and column."""
    return F.interpolate(table[None], size=grid).flatten(2).transpose(1, 2)


def _bins(c: Config) -> tuple[float, ...]:
    """arch.loss_bins: errors that the encoder was trained to be asked for, ascending."""
    bins = c.any("loss_bins")
    good = isinstance(bins, Sequence) and not isinstance(bins, str) and bins
    if not good or not all(isinstance(b, int | float) and not isinstance(b, bool) for b in bins):
        raise VtbenchError(f"arch.loss_bins is {bins!r}, but must be a list of errors")
    if list(bins) != sorted(bins):
        raise VtbenchError(f"arch.loss_bins are {bins!r}, but must ascend")
    return tuple(map(float, bins))
