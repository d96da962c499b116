"""Hita: holistic queries beside a grid of patches, fed by a frozen DINOv2 (arXiv:2507.02358).

CVMI-Lab/Hita @ e10a95c: hita/tokenizer/tokenizer_image/vq_model.py, hita/core/layers.py. LlamaGen's convolutions around
two transformers: one that sees queries, DINOv2's features and cells, and a causal one of queries and cells.

arch: in_channels, cnn {ch, encoder_ch_mult, decoder_ch_mult, num_res_blocks_encoder, num_res_blocks_decoder,
z_channels, norm_groups, norm_eps}, encoder {image_size, patch_size, width, depth, heads, mlp_width, head_dim (of the
first transformer), n_carrier, feature_width}, decoder {…, shift_k, vfm_recon (whether training had a second task, whose
weights are left out)}, dinov2 (parts.dinov2), quantizer {type, codebook_size, embed_dim, slot_embed_dim, l2_norm}.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vtbench.adapters.networks.parts import cvmi, infer
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.dinov2 import resized_table
from vtbench.adapters.networks.parts.quantizers import VQ, Grid, one_book
from vtbench.models.network import Encoded
from vtbench.types.errors import VtbenchError

_DINO_OFFSET = 0.1
"""Added to the sides of a grid to which a table of positions is resized (core/layers.py:85-107)."""


def _cells(x: Tensor, table: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h w, C), with the table of positions, resized if the grid is another."""
    grid = (x.shape[2], x.shape[3])
    return x.flatten(2).transpose(1, 2) + resized_table(table, grid, offset=_DINO_OFFSET)


class _Encoder(nn.Module):
    """Picture and its map -> (map, slots): cells (B, width, h, w), queries (B, n_carrier, width)."""

    def __init__(self, c: Config, dino: Config) -> None:
        super().__init__()
        half, features = cvmi.Half(c), c.integer("feature_width")
        c.unused(["points"], "Hita has no deformable attention")
        c.done()
        self.slots, self.size, self.width = half.slots, half.size, half.width
        self.backbone = cvmi.dinov2(dino, features)
        self.proj = cvmi.Projection(features, half.width)
        self.carrier_tokens = nn.Parameter(torch.zeros(1, half.slots, half.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, half.side**2, half.width))
        self.norm_pre1, self.norm_pre2 = nn.LayerNorm(half.width), nn.LayerNorm(half.width)
        sizes = (half.width, half.depth, half.heads, half.mlp)
        self.transformer1 = cvmi.Transformer(*sizes, head=half.head)
        self.transformer2 = cvmi.Transformer(*sizes)

    def forward(self, pixels: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        (features,) = self.backbone["pretrained_encoder"](pixels)
        carriers = self.carrier_tokens.expand(len(x), -1, -1)
        seen = self.transformer1(
            self.norm_pre1(torch.cat([carriers, self.proj(features), _cells(x, self.pos_embed)], dim=1))
        )
        # DINOv2's tokens have been looked at; queries and cells go on.
        kept = torch.cat([seen[:, : self.slots], seen[:, self.slots + features.shape[1] :]], dim=1)
        kept = self.transformer2(self.norm_pre2(kept))
        cells = kept[:, self.slots :].transpose(1, 2).unflatten(2, (x.shape[2], x.shape[3]))
        return cells, kept[:, : self.slots]


class _Decoder(nn.Module):
    """Cells and slots -> map (B, width, h, w): a causal sequence of slots and cells, read `shift` places early."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        half, self.shift = cvmi.Half(c), c.integer("shift_k", at_least=0)
        c.flag("vfm_recon")
        c.done()
        self.slots, self.size, self.width = half.slots, half.size, half.width
        if self.shift > half.slots:
            raise VtbenchError(f"shift_k is {self.shift}, but there are only {half.slots} slots before the cells")
        self.position_embedding = nn.Parameter(torch.zeros(1, half.side**2, half.width))
        self.slot_position_embedding = nn.Parameter(torch.zeros(1, half.slots, half.width))
        self.transformer = cvmi.Transformer(half.width, half.depth, half.heads, half.mlp)
        self.norm = nn.LayerNorm(half.width)

    def forward(self, x: Tensor, slots: Tensor) -> Tensor:
        sequence = torch.cat([slots + self.slot_position_embedding, _cells(x, self.position_embedding)], dim=1)
        out = self.transformer(self.norm(sequence))
        start, (h, w) = self.slots - self.shift, (x.shape[2], x.shape[3])
        return out[:, start : start + h * w].transpose(1, 2).unflatten(2, (h, w))


class Hita(nn.Module):
    """Tokens are the slots', then the patches', of two codebooks of one size; pre_quant and quantized the patches'."""

    value_range = (-1.0, 1.0)
    channel_axis = 1
    places: ClassVar[Mapping[str, str]] = {"dinov2": cvmi.BACKBONE}
    optional = (
        "quantize.codebook_used",
        "slot_quantize.codebook_used",
        "decode_transformer.proj.",
        "decode_transformer.mask_embedding",
        "decode_transformer.norm_vfm.",
        f"{cvmi.BACKBONE}.mask_token",
    )

    @staticmethod
    def infer_arch(shapes: infer.Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
        """The arch of a checkpoint of these shapes, with DINOv2 in it or not; shift_k stays as in `like`."""
        if "encode_transformer.transformer1.layers.0.attn1.to_q.weight" not in shapes:
            return None
        arch = copy.deepcopy(dict(like))
        cnn = arch["cnn"]
        cnn["encoder_ch_mult"] = infer.pyramid(
            shapes, cnn, level="conv_blocks.{i}", block="res.{i}", width="ch", blocks="num_res_blocks_encoder"
        )
        arch["in_channels"] = cnn.pop("in_channels")
        cnn["num_res_blocks_decoder"] = infer.count(shapes, "decoder.conv_blocks.0.res.{i}.") - 1
        cnn["decoder_ch_mult"] = [
            shapes[f"decoder.conv_blocks.{i}.res.0.conv1.weight"][0] // cnn["ch"]
            for i in reversed(range(infer.count(shapes, "decoder.conv_blocks.{i}.")))
        ]
        cnn["z_channels"] = shapes["encoder.conv_out.weight"][0]
        slots = shapes["encode_transformer.carrier_tokens"][1]
        factor = 2 ** (len(cnn["encoder_ch_mult"]) - 1)
        for half, layers, table in (
            ("encoder", "encode_transformer.transformer2.layers", "encode_transformer.pos_embed"),
            ("decoder", "decode_transformer.transformer.layers", "decode_transformer.position_embedding"),
        ):
            cvmi.infer_half(shapes, arch[half], layers)
            side = math.isqrt(shapes[table][1])
            arch[half].update(image_size=side * factor, patch_size=factor, n_carrier=slots)
            arch[half]["mlp_width"] = cvmi.mlp_width(shapes, layers, arch[half]["mlp_width"])
        arch["encoder"]["feature_width"] = shapes["encode_transformer.proj.mlp.0.weight"][1]
        arch["decoder"]["vfm_recon"] = "decode_transformer.norm_vfm.weight" in shapes
        arch["dinov2"] = cvmi.infer_dinov2(shapes, arch["dinov2"])
        infer.book(shapes, arch["quantizer"], "quantize.embedding.weight")
        arch["quantizer"]["slot_embed_dim"] = shapes["slot_quantize.embedding.weight"][1]
        return arch

    def __init__(self, arch: Mapping[str, Any]) -> None:
        super().__init__()
        c = Config(arch, "arch")
        colours, cnn = c.integer("in_channels"), c.sub("cnn")
        spec = cvmi.convolutions(cnn, colours, "encoder", attention=True)
        back = cvmi.convolutions(cnn, colours, "decoder", attention=True)
        cnn.done()
        self.encoder, self.decoder = spec.encoder(), back.decoder()
        self.encode_transformer = _Encoder(c.sub("encoder"), c.sub("dinov2"))
        self.decode_transformer = _Decoder(c.sub("decoder"))
        q = c.sub("quantizer")
        q.choice("type", ("vq",))
        size, l2_norm = q.integer("codebook_size"), q.flag("l2_norm")
        dim, slot_dim = q.integer("embed_dim"), q.integer("slot_embed_dim")
        q.done()
        c.done()
        first, last, width = self.encode_transformer, self.decode_transformer, spec.latent_channels
        if back.factor != spec.factor or (first.size, first.slots) != (last.size, last.slots):
            raise VtbenchError("encoder and decoder disagree on levels, image_size or n_carrier: give both the same")
        if {first.width, last.width} != {width}:
            raise VtbenchError(
                f"the transformers are {first.width} and {last.width} wide, the convolutions' map {width}: they must "
                "be equal"
            )
        self.fixed_size: int | None = first.size
        self.downsample, self.slots = spec.factor, first.slots
        self.positions = first.slots + math.prod(self.cells((first.size, first.size)))
        self.quantize, self.slot_quantize = VQ(size, dim, l2_norm=l2_norm), VQ(size, slot_dim, l2_norm=l2_norm)
        self.quant_conv, self.post_quant_conv = nn.Conv2d(width, dim, 1), nn.Conv2d(dim, width, 1)
        self.pre_slots_quant, self.post_slots_quant = nn.Linear(width, slot_dim), nn.Linear(slot_dim, width)
        self.alphabets = (size,)

    def cells(self, size: tuple[int, int]) -> Grid:
        """(h, w) of the patches; raises VtbenchError unless the image is a square of a multiple of the factor."""
        if size[0] != size[1] or size[0] % self.downsample or not size[0]:
            raise VtbenchError(
                f"the image is {size[0]} x {size[1]}, but this network takes squares, multiples of {self.downsample}"
            )
        return size[0] // self.downsample, size[1] // self.downsample

    def encode(self, x: Tensor) -> Encoded:
        """x: (B, 3, side, side) in [-1, 1]."""
        self.cells((x.shape[2], x.shape[3]))
        cells, slots = self.encode_transformer(x, self.encoder(x))
        latent = self.quant_conv(cells)
        tokens, quantized = self.quantize(latent)
        slot_tokens, _ = self.slot_quantize(self.pre_slots_quant(slots).transpose(1, 2).unsqueeze(3))
        return Encoded(torch.cat([slot_tokens, tokens], dim=1), pre_quant=latent, quantized=quantized)

    def decode(self, latent: Tensor, *, size: tuple[int, int]) -> Tensor:
        """latent: tokens (B, slots + h w)."""
        grid, tokens = self.cells(size), one_book(latent)
        wanted = self.slots + grid[0] * grid[1]
        if tokens.shape[1] != wanted:
            raise VtbenchError(
                f"there are {tokens.shape[1]} tokens for an image of {size[0]} x {size[1]}, which needs {wanted}"
            )
        slots = self.slot_quantize.lookup(tokens[:, : self.slots], (self.slots, 1)).flatten(2).transpose(1, 2)
        cells = self.post_quant_conv(self.quantize.lookup(tokens[:, self.slots :], grid))
        out: Tensor = self.decoder(self.decode_transformer(cells, self.post_slots_quant(slots)))
        return out
