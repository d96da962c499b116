"""TiTok and its relatives: a transformer puts an image into a few latent tokens, another paints it from them.

bytedance/1d-tokenizer @ 942a96f: modeling/titok.py, modeling/tatitok.py, modeling/modules/blocks.py (line numbers);
turingmotors/One-D-Piece: modeling/one_d_piece.py; Gengzigang/TokenSet: set_tokenizer/.

arch: image_size, in_channels, encoder and decoder {patch_size, width, layers, heads, mlp_ratio, norm_eps},
num_latent_tokens, token_size, legacy, quantizer {type "vq" or "kl", codebook_size, l2_norm}, pixel_decoder (null: the
transformer paints), text (TA-TiTok: {context_length, width}), latent_positions (TokenSet: false).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vtbench.adapters.networks.maskgit import pixel_decoder
from vtbench.adapters.networks.parts import infer
from vtbench.adapters.networks.parts.clip import Block, TextTower
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.conv import check_exactly
from vtbench.adapters.networks.parts.quantizers import VQ
from vtbench.models.network import Encoded
from vtbench.types.errors import VtbenchError


class _Tower(nn.Module):
    """What encoder and decoder share: [class token | grid], both with learned positions, then latent tokens."""

    def __init__(self, c: Config, size: int, tokens: int, *, latent_positions: bool) -> None:
        super().__init__()
        self.patch, self.width = c.integer("patch_size"), c.integer("width")
        if size % self.patch:
            raise VtbenchError(f"patches of {self.patch} pixels do not divide an image of {size}: change one of them")
        self.side = size // self.patch
        eps, heads, hidden = c.number("norm_eps"), c.integer("heads"), int(self.width * c.number("mlp_ratio"))
        self.class_embedding = nn.Parameter(torch.zeros(1, self.width))
        self.positional_embedding = nn.Parameter(torch.zeros(self.side**2 + 1, self.width))
        if latent_positions:
            self.latent_token_positional_embedding = nn.Parameter(torch.zeros(tokens, self.width))
        self.has_latent_positions = latent_positions
        self.ln_pre, self.ln_post = nn.LayerNorm(self.width, eps=eps), nn.LayerNorm(self.width, eps=eps)
        self.transformer = nn.ModuleList(Block(self.width, heads, hidden, eps=eps) for _ in range(c.integer("layers")))
        c.done()

    def through(self, grid: Tensor, latent: Tensor, *further: Tensor) -> Tensor:
        """grid (B, side**2, C), latent (B, n, C), further (B, m, C) -> the sequence after the blocks."""
        first = self.class_embedding.expand(len(grid), 1, -1)
        image = torch.cat([first, grid], dim=1) + self.positional_embedding
        if self.has_latent_positions:
            latent = latent + self.latent_token_positional_embedding[: latent.shape[1]]
        x = self.ln_pre(torch.cat([image, latent, *further], dim=1))
        for block in self.transformer:
            x = block(x)
        return x


class _Encoder(_Tower):
    def __init__(
        self, c: Config, size: int, colours: int, tokens: int, out: int, *, legacy: bool, latent_positions: bool
    ) -> None:
        super().__init__(c, size, tokens, latent_positions=latent_positions)
        self.legacy = legacy
        self.patch_embed = nn.Conv2d(colours, self.width, self.patch, stride=self.patch)
        self.conv_out = nn.Conv2d(self.width, out, 1)

    def forward(self, x: Tensor, latent: Tensor) -> Tensor:
        """(B, colours, size, size), (n, C) -> (B, out, 1, n)."""
        patches = self.patch_embed(x).flatten(2).transpose(1, 2)
        rows = self.through(patches, latent.expand(len(x), -1, -1))[:, 1 + self.side**2 :]
        rows = self.ln_post(rows)
        # The first models took (B, n, C) for (B, C, n) as it lies in memory, which their weights have learned (286).
        swapped = rows.reshape(len(x), self.width, -1) if self.legacy else rows.transpose(1, 2)
        out: Tensor = self.conv_out(swapped.unsqueeze(3))
        return out.reshape(len(x), -1, 1, latent.shape[0])


class _Decoder(_Tower):
    """out: channels of the features for a pixel decoder; None: pixels, `colours` of them."""

    def __init__(
        self,
        c: Config,
        text: tuple[int, int] | None,
        size: int,
        colours: int,
        tokens: int,
        token_size: int,
        out: int | None,
        *,
        latent_positions: bool,
    ) -> None:
        super().__init__(c, size, tokens, latent_positions=latent_positions)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, self.width))
        self.decoder_embed = nn.Linear(token_size, self.width)
        self.text = text
        if text is not None:
            length, features = text
            self.text_guidance_proj = nn.Linear(features, self.width)
            self.text_guidance_positional_embedding = nn.Parameter(torch.zeros(length, self.width))
        self.paints = out is None
        if out is None:
            self.ffn = nn.Sequential(nn.Conv2d(self.width, self.patch**2 * colours, 1))
            self.conv_out = nn.Conv2d(colours, colours, 3, padding=1)
        else:
            middle = 2 * self.width
            self.ffn = nn.Sequential(nn.Conv2d(self.width, middle, 1), nn.Tanh(), nn.Conv2d(middle, out, 1))

    def forward(self, latent: Tensor, text: Tensor | None) -> Tensor:
        """latent (B, token_size, 1, n), text (B, length, features) -> (B, colours, size, size), or features."""
        rows = self.decoder_embed(latent.squeeze(2).transpose(1, 2))
        further = []
        if text is not None:
            further.append(self.text_guidance_proj(text) + self.text_guidance_positional_embedding)
        masks = self.mask_token.expand(len(latent), self.side**2, -1)
        grid = self.ln_post(self.through(masks, rows, *further)[:, 1 : 1 + self.side**2])
        x = self.ffn(grid.transpose(1, 2).unflatten(2, (self.side, self.side)))
        if not self.paints:
            return x
        # Channels are (p1 p2 colours) (345).
        pixels = x.unflatten(1, (self.patch, self.patch, -1)).permute(0, 3, 4, 1, 5, 2)
        out: Tensor = self.conv_out(pixels.reshape(len(x), -1, self.side * self.patch, self.side * self.patch))
        return out


class TiTok(nn.Module):
    """Keys: encoder., decoder., latent_tokens, and quantize., pixel_quantize., pixel_decoder. where there are such."""

    value_range: tuple[float, float] = (0.0, 1.0)
    optional: tuple[str, ...] = ("quantize.embed_prob",)
    channel_axis = 1
    downsample: int | None = None
    takes_prefixes = False
    """Whether fewer tokens than all decode."""

    def __init__(self, arch: Mapping[str, Any]) -> None:
        super().__init__()
        c = Config(arch, "arch")
        size, colours = c.integer("image_size"), c.integer("in_channels")
        self.positions, self.latent_channels = c.integer("num_latent_tokens"), c.integer("token_size")
        legacy, positions = c.flag("legacy"), self._latent_positions(c)
        q = c.sub("quantizer")
        self.continuous = q.choice("type", ("vq", "kl")) == "kl"
        self.quantize = None if self.continuous else self._codebook(q)
        q.done()
        self.alphabets = () if self.quantize is None else self.quantize.alphabets
        moments = self.latent_channels * (2 if self.continuous else 1)
        self.encoder = _Encoder(
            c.sub("encoder"), size, colours, self.positions, moments, legacy=legacy, latent_positions=positions
        )
        self.latent_tokens = nn.Parameter(torch.zeros(self.positions, self.encoder.width))
        features = self._pixel_decoder(c, size, legacy=legacy)
        self.decoder = _Decoder(
            c.sub("decoder"),
            self._text(c),
            size,
            colours,
            self.positions,
            self.latent_channels,
            features,
            latent_positions=positions,
        )
        c.done()
        self.fixed_size = size
        painted = self.decoder.side * self.enlarges
        if features is not None and painted != size:
            raise VtbenchError(
                f"the decoder's {self.decoder.side} x {self.decoder.side} patches become {painted} pixels a side, the "
                f"image has {size}: change decoder.patch_size or pixel_decoder.channel_mult"
            )

    def _latent_positions(self, c: Config) -> bool:
        return True

    def _text(self, c: Config) -> tuple[int, int] | None:
        """(length, width) of the text features that the decoder takes."""
        return None

    def _codebook(self, q: Config) -> VQ:
        return VQ(q.integer("codebook_size"), self.latent_channels, l2_norm=q.flag("l2_norm"))

    def _pixel_decoder(self, c: Config, size: int, *, legacy: bool) -> int | None:
        """Channels that the pixel decoder takes from the transformer; None where there is none."""
        self.pixel_decoder: nn.Module | None = None
        self.pixel_quantize: VQ | None = None
        self.enlarges = 1
        if (c.any("pixel_decoder") is not None) != legacy:
            raise VtbenchError(
                f"arch.legacy is {legacy} and arch.pixel_decoder is {'null' if legacy else 'not null'}: the legacy "
                "transformers alone end in a pixel decoder's codes"
            )
        if not legacy:
            return None
        if self.continuous:
            raise VtbenchError("arch.quantizer.type is 'kl', but a pixel decoder goes with 'vq' alone (titok.py:100)")
        p = c.sub("pixel_decoder")
        spec, self.pixel_decoder = pixel_decoder(p)
        self.enlarges = spec.factor
        features = self._features(p, spec.latent_channels)
        p.done()
        return features

    def _features(self, p: Config, channels: int) -> int:
        """Logits of the pixel decoder's codes, whose softmax mixes them."""
        self.pixel_quantize = VQ(p.integer("codebook_size"), channels)
        return self.pixel_quantize.alphabets[0]

    def posterior_shape(self, size: tuple[int, int]) -> tuple[int, ...]:
        """Of the noise that a sample of the posterior takes, for one image."""
        return (self.latent_channels, 1, self.positions)

    def encode(self, x: Tensor, *, noise: Tensor | None = None) -> Encoded:
        """x: (B, colours, image_size, image_size) in `value_range`; noise: for a sample in the posterior mean's place.

        Tokens (B, n); latents (B, token_size, 1, n).
        """
        check_exactly(x.shape[2:], (self.fixed_size, self.fixed_size))
        low, high = self.value_range
        z = self.encoder((x - low) / (high - low), self.latent_tokens)
        if self.quantize is None:
            mean, logvar = z.chunk(2, dim=1)
            if noise is not None:
                mean = mean + torch.exp(0.5 * logvar.clamp(-30.0, 20.0)) * noise
            return Encoded(latent_mean=mean)
        tokens, quantized = self.quantize(z)
        return Encoded(tokens, pre_quant=z, quantized=quantized)

    def decode(self, latent: Tensor, *, size: tuple[int, int], text_guidance: Tensor | None = None) -> Tensor:
        """latent: tokens (B, n), or latents (B, token_size, 1, n); text_guidance (B, length, width) where there is one.

        Returns (B, colours, image_size, image_size) in `value_range`, unclamped.
        """
        self._check(latent, size, text_guidance)
        if self.quantize is not None:
            latent = self.quantize.lookup(latent, (1, latent.shape[1]))
        return self.painted(latent, text_guidance)

    def painted(self, latent: Tensor, text: Tensor | None = None) -> Tensor:
        """Quantized or continuous latents (B, token_size, 1, n) -> (B, colours, image_size, image_size), unclamped."""
        out = self.decoder(latent.to(self.decoder.decoder_embed.weight.dtype), text)
        if self.pixel_quantize is not None:
            out = torch.einsum("nchw,cd->ndhw", out.softmax(dim=1), self.pixel_quantize.embedding.weight)
        if self.pixel_decoder is not None:
            out = self.pixel_decoder(out)
        low, high = self.value_range
        return out * (high - low) + low

    def _check(self, latent: Tensor, size: tuple[int, int], text: Tensor | None) -> None:
        side = self.fixed_size
        if tuple(size) != (side, side):
            raise VtbenchError(
                f"the tokens are of an image of {size[0]} x {size[1]}, this network's have {side} x {side}"
            )
        count = latent.shape[-1] if self.continuous else latent.shape[1]
        if count > self.positions or count < 1 or (count < self.positions and not self.takes_prefixes):
            raise VtbenchError(f"there are {count} tokens, but this network's images have {self.positions}")
        features = None if text is None else tuple(text.shape[1:])
        if features != self.decoder.text:
            raise VtbenchError(
                f"the text features are {features}, but this decoder takes {self.decoder.text}: give those"
            )

    @staticmethod
    def infer_arch(shapes: infer.Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
        """The arch of a checkpoint of these shapes; heads have 64 channels, as upstream's all do (blocks.py:233).

        How codes are compared stays as in `like`; None where `like` has another kind of latent or decoder.
        """
        if "latent_tokens" not in shapes or "decoder.decoder_embed.weight" not in shapes:
            return None
        arch = copy.deepcopy(dict(like))
        for half in ("encoder", "decoder"):
            width = shapes[f"{half}.ln_pre.weight"][0]
            arch[half].update(
                width=width,
                layers=infer.count(shapes, f"{half}.transformer.{{i}}."),
                heads=max(1, width // 64),
                mlp_ratio=shapes[f"{half}.transformer.0.mlp.c_fc.weight"][0] / width,
            )
        patch = shapes["encoder.patch_embed.weight"]
        size = math.isqrt(shapes["encoder.positional_embedding"][0] - 1) * patch[2]
        arch["encoder"]["patch_size"] = patch[2]
        arch["decoder"]["patch_size"] = size // math.isqrt(shapes["decoder.positional_embedding"][0] - 1)
        arch.update(image_size=size, in_channels=patch[1], num_latent_tokens=shapes["latent_tokens"][0])
        arch["token_size"] = shapes["decoder.decoder_embed.weight"][1]
        rows = shapes.get("quantize.embedding.weight")
        if (rows is None) != (arch["quantizer"]["type"] == "kl"):
            return None
        if rows is not None:
            arch["quantizer"]["codebook_size"] = rows[0]
        if arch.get("text") is not None and "decoder.text_guidance_proj.weight" in shapes:
            arch["text"] = {
                "context_length": shapes["decoder.text_guidance_positional_embedding"][0],
                "width": shapes["decoder.text_guidance_proj.weight"][1],
            }
        return arch


class TaTiTok(TiTok):
    """TiTok whose decoder also reads the features of a caption (arXiv:2501.07730), behind the latent tokens."""

    def text_encoder(self) -> TextTower:
        """CLIP's, of this decoder's sizes and unfilled: it is no part of the checkpoint and has a file of its own."""
        length, width = self.decoder.text or (0, 0)
        return TextTower(width=width, layers=12, heads=max(1, width // 64), length=length)

    def _text(self, c: Config) -> tuple[int, int] | None:
        text = c.sub("text")
        shape = text.integer("context_length"), text.integer("width")
        text.done()
        return shape


class OneDPiece(TiTok):
    """TiTok trained with tails of tokens dropped (arXiv:2501.10064): any number of leading tokens decodes."""

    takes_prefixes = True


class TokenSet(TiTok):
    """TiTok whose latent tokens have no positions, so that they are a set (arXiv:2503.16425).

    The decoder's features go into the pixel decoder as they are. Upstream shuffles the tokens in front of its decoder
    in evaluation too (set_tokenizer/module/blocks.py:315), which changes nothing but the order of sums.
    """

    value_range = (-1.0, 1.0)
    unordered = True

    def _latent_positions(self, c: Config) -> bool:
        c.choice("latent_positions", (False,))
        return False

    def _features(self, p: Config, channels: int) -> int:
        return channels
