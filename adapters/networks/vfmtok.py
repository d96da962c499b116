"""VFMTok: tokens of adaptive regions, read from a frozen DINOv2 by deformable attention (arXiv:2507.08441).

CVMI-Lab/VFMTok @ 828c780: vfmtok/tokenizer/vq_model.py, vfmtok/core/{layers, transformer, deformable_transformer}.py.

arch as Hita's (networks.hita), but: cnn has no encoder; encoder {points (samples a head and level)}; the decoder has no
shift_k and no vfm_recon; dinov2.levels lists the four blocks that are read; quantizer has no embed_dim. Upstream fixes
what the encoder's heads, mlp_width and head_dim would say: 8 heads, an MLP of at most 1024, heads of equal width.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.parts import cvmi, infer
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.conv import check_exactly
from vtbench.adapters.networks.parts.deformable import DeformableAttention, cell_centres
from vtbench.adapters.networks.parts.dinov2 import resized_table
from vtbench.adapters.networks.parts.quantizers import VQ, one_book
from vtbench.models.network import Encoded
from vtbench.types.errors import VtbenchError

_HEADS = 8
_MLP = 1024
"""core/transformer.py: the encoder's defaults, which its caller leaves alone."""
_LEVELS = 4
_REGISTERS = 4
_TABLE = 24
"""core/layers.py:133, :148, :150: levels read, registers of the decoder, side of the decoder's table of positions."""
_DINO_OFFSET = 0.1


class _Layer(nn.Module):
    """Post-norm: deformable attention to the features, causal self-attention of the slots, ReLU MLP.

    Positions are added to the slots before either attention, to its values as well (deformable_transformer.py:50-75).
    """

    def __init__(self, width: int, points: int) -> None:
        super().__init__()
        self.cross_attn = DeformableAttention(width, _HEADS, points=points, levels=_LEVELS)
        self.self_attn = cvmi.CausalAttention(width, _HEADS)
        hidden = min(4 * width, _MLP)
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(
        self, x: Tensor, position: Tensor, centres: Tensor, memory: Tensor, grids: list[tuple[int, int]]
    ) -> Tensor:
        x = self.norm1(x + self.cross_attn(x + position, centres, memory, grids))
        x = self.norm3(x + self.self_attn(x + position))
        out: Tensor = self.norm2(x + self.linear2(F.relu(self.linear1(x))))
        return out


class _Encoder(nn.Module):
    """Picture -> slots (B, n_carrier, width); the slots start on a square grid over the picture."""

    def __init__(self, c: Config, dino: Config) -> None:
        super().__init__()
        half, features, points = cvmi.Half(c), c.integer("feature_width"), c.integer("points")
        c.done()
        self.size, self.slots, self.width = half.size, half.slots, half.width
        self.side = math.isqrt(half.slots)
        if self.side**2 != half.slots:
            raise VtbenchError(f"n_carrier is {half.slots}, but must be a square: slots start on a square grid")
        self.backbone = cvmi.dinov2(dino, features)
        levels = self.backbone["pretrained_encoder"].levels
        if len(levels) != _LEVELS:
            raise VtbenchError(f"dinov2's levels are {list(levels)}, but there must be {_LEVELS}")
        self.projectors = nn.ModuleList(cvmi.Projection(features, half.width) for _ in range(_LEVELS))
        self.norm_layers = nn.ModuleList(nn.LayerNorm(half.width) for _ in range(_LEVELS))
        self.carrier_tokens = nn.Parameter(torch.zeros(1, half.slots, half.width))
        self.slots_pos = nn.Parameter(torch.zeros(1, half.slots, half.width))
        self.transformer = nn.ModuleDict(
            {"layers": nn.ModuleList(_Layer(half.width, points) for _ in range(half.depth))}
        )
        self.norm_pre1 = nn.LayerNorm(half.width)

    def forward(self, pixels: Tensor) -> Tensor:
        encoder = self.backbone["pretrained_encoder"]
        parts = zip(encoder(pixels), self.projectors, self.norm_layers, strict=True)
        memory = torch.cat([norm(project(level[:, 1:])) for level, project, norm in parts], dim=1)
        x = self.norm_pre1(self.carrier_tokens).expand(len(pixels), -1, -1)
        centres = cell_centres((self.side, self.side), x)
        for layer in self.transformer["layers"]:
            x = layer(x, self.slots_pos, centres, memory, [encoder.grid] * _LEVELS)
        return x


class _Decoder(nn.Module):
    """Slots -> map (B, width, side, side): slots, then class token, mask tokens and registers, all causal."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        half = cvmi.Half(c)
        c.done()
        self.size, self.slots, self.width, self.side = half.size, half.slots, half.width, half.side
        self.position_embedding = nn.Parameter(torch.zeros(1, _TABLE**2 + 1, half.width))
        self.slot_position_embedding = nn.Parameter(torch.zeros(1, half.slots, half.width))
        self.mask_embedding = nn.Parameter(torch.zeros(1, 1, half.width))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, half.width))
        self.register_tokens = nn.Parameter(torch.zeros(1, _REGISTERS, half.width))
        self.transformer = cvmi.Transformer(half.width, half.depth, half.heads, half.mlp)
        self.norm_post1 = nn.LayerNorm(half.width)

    def forward(self, slots: Tensor) -> Tensor:
        grid = (self.side, self.side)
        table = resized_table(self.position_embedding[:, 1:], grid, offset=_DINO_OFFSET)
        cls = self.cls_token + self.position_embedding[:, :1]
        masks = torch.cat([cls, self.mask_embedding + table, self.register_tokens], dim=1)
        slots = slots + self.slot_position_embedding
        x = self.transformer(self.norm_post1(torch.cat([slots, masks.expand(len(slots), -1, -1)], dim=1)))
        start = self.slots + 1
        return x[:, start : start + self.side**2].transpose(1, 2).unflatten(2, grid)


class VfmTok(nn.Module):
    """Latents are (B, n_carrier, slot_embed_dim): a row without a grid."""

    value_range = (-1.0, 1.0)
    channel_axis = 2
    places: ClassVar[Mapping[str, str]] = {"dinov2": cvmi.BACKBONE}
    optional = (
        "slot_quantize.codebook_used",
        "decode_transformer.proj.",
        "decode_transformer.mask_dino",
        "decode_transformer.norm_post2.",
        f"{cvmi.BACKBONE}.mask_token",
    )

    @staticmethod
    def infer_arch(shapes: infer.Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
        """The arch of a checkpoint of these shapes, with DINOv2 in it or not; sizes of images stay as in `like`."""
        first = "encode_transformer.transformer.layers.0.cross_attn.sampling_offsets.weight"
        if first not in shapes or "decode_transformer.mask_embedding" not in shapes:
            return None
        arch = copy.deepcopy(dict(like))
        cnn, levels = arch["cnn"], infer.count(shapes, "decoder.conv_blocks.{i}.")
        cnn["ch"] = arch["cnn"]["ch"]
        cnn["num_res_blocks_decoder"] = infer.count(shapes, "decoder.conv_blocks.0.res.{i}.") - 1
        widths = [shapes[f"decoder.conv_blocks.{i}.res.0.conv1.weight"][0] for i in reversed(range(levels))]
        # The highest resolution's factor is one in every configuration that there is.
        cnn.update(ch=widths[0], decoder_ch_mult=[width // widths[0] for width in widths])
        cnn["z_channels"], arch["in_channels"] = (
            shapes["decoder.conv_in.weight"][1],
            shapes["decoder.conv_out.weight"][0],
        )
        layers = "decode_transformer.transformer.layers"
        cvmi.infer_half(shapes, arch["decoder"], layers)
        arch["decoder"]["mlp_width"] = cvmi.mlp_width(shapes, layers, arch["decoder"]["mlp_width"])
        slots = shapes["encode_transformer.carrier_tokens"][1]
        arch["decoder"]["n_carrier"] = slots
        arch["encoder"].update(
            width=shapes["encode_transformer.carrier_tokens"][2],
            depth=infer.count(shapes, "encode_transformer.transformer.layers.{i}."),
            n_carrier=slots,
            feature_width=shapes["encode_transformer.projectors.0.mlp.0.weight"][1],
            points=shapes[first][0] // (_HEADS * _LEVELS * 2),
        )
        arch["dinov2"] = cvmi.infer_dinov2(shapes, arch["dinov2"])
        infer.book(shapes, arch["quantizer"], "slot_quantize.embedding.weight", "slot_embed_dim")
        return arch

    def __init__(self, arch: Mapping[str, Any]) -> None:
        super().__init__()
        c = Config(arch, "arch")
        cnn = c.sub("cnn")
        back = cvmi.convolutions(cnn, c.integer("in_channels"), "decoder", attention=False)
        cnn.unused(["encoder_ch_mult", "num_res_blocks_encoder"], "VFMTok reads DINOv2 and has no encoder of its own")
        cnn.done()
        self.decoder = back.decoder()
        self.encode_transformer = _Encoder(c.sub("encoder"), c.sub("dinov2"))
        self.decode_transformer = _Decoder(c.sub("decoder"))
        q = c.sub("quantizer")
        q.choice("type", ("vq",))
        dim = q.integer("slot_embed_dim")
        self.slot_quantize = VQ(q.integer("codebook_size"), dim, l2_norm=q.flag("l2_norm"))
        q.done()
        c.done()
        first, last, width = self.encode_transformer, self.decode_transformer, back.latent_channels
        if (first.size, first.slots) != (last.size, last.slots):
            raise VtbenchError("encoder and decoder disagree on image_size or n_carrier: give both the same")
        if {first.width, last.width} != {width}:
            raise VtbenchError(
                f"the transformers are {first.width} and {last.width} wide, the convolutions' map {width}: they must "
                "be equal"
            )
        self.fixed_size: int | None = last.side * back.factor
        self.downsample, self.positions = back.factor, first.slots
        self.pre_slots_quant, self.post_slots_quant = nn.Linear(width, dim), nn.Linear(dim, width)
        self.alphabets = self.slot_quantize.alphabets

    def check(self, size: tuple[int, int]) -> None:
        """Raises VtbenchError unless `size` is the one that the decoder gives."""
        check_exactly(size, (self.fixed_size, self.fixed_size))

    def encode(self, x: Tensor) -> Encoded:
        """x: (B, 3, image_size, image_size) in [-1, 1]."""
        self.check((x.shape[2], x.shape[3]))
        latent = self.pre_slots_quant(self.encode_transformer(x))
        tokens, quantized = self.slot_quantize(latent.transpose(1, 2).unsqueeze(3))
        return Encoded(tokens, pre_quant=latent, quantized=quantized[..., 0].transpose(1, 2))

    def decode(self, latent: Tensor, *, size: tuple[int, int]) -> Tensor:
        """latent: tokens (B, n_carrier)."""
        self.check(size)
        tokens = one_book(latent)
        if tokens.shape[1] != self.positions:
            raise VtbenchError(f"there are {tokens.shape[1]} tokens, but this network needs {self.positions}")
        rows = self.slot_quantize.lookup(tokens, (self.positions, 1))[..., 0].transpose(1, 2)
        out: Tensor = self.decoder(self.decode_transformer(self.post_slots_quant(rows)))
        return out
