"""TokenFlow: one index for two codebooks, one of meaning and one of pixels, coarse to fine (arXiv:2412.03069).

ByteVisionLab/TokenFlow @ 9812da0: tokenflow/tokenizer/vq_model.py. CLIP's or SigLIP's image tower beside LlamaGen's
convolutions; what gives the teacher's features back is not needed for pixels.

arch: in_channels, out_channels, teacher ("clipb_224" or "siglip_384"), semantic_encoder {type, image_size, patch_size,
width, layers, layers_used, heads, mlp, norm_eps, input_scaling}, pixel_encoder and pixel_decoder {ch, ch_mult,
num_res_blocks, z_channels, attention, norm_groups, norm_eps, and input or output: how they are resized},
semantic_decoder (training only), quantizer {type, codebook_size, semantic_dim, pixel_dim, l2_norm, scales, phi (null)}.
"""

from __future__ import annotations

import copy
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.llamagen import NAMES, attention_of
from vtbench.adapters.networks.parts import infer
from vtbench.adapters.networks.parts.clip import ImageTower
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.conv import Conv, check_exactly
from vtbench.adapters.networks.parts.multiscale import Pyramid
from vtbench.adapters.networks.parts.quantizers import Grid, most_similar, nearest, one_book
from vtbench.adapters.networks.parts.siglip import SiglipTower
from vtbench.models.network import Encoded
from vtbench.types.errors import VtbenchError

_CLIP, _SIGLIP = "clip vit", "siglip vit"
_SCALING = {_CLIP: "none ([-1,1] as given)", _SIGLIP: "clamp to [0,1], then (x-0.5)/0.5"}
_SIGLIP_NAMES = "encoder_vqkd.vision_model"


class SharedIndices(Pyramid):
    """A pyramid whose index names a row of two books: the least sum of both squared distances chooses it (605-690).

    l2_norm: both parts of the rest, and the rows of both books, have length one. No Phi.
    Keys: embedding_vqkd.weight (size, semantic), embedding_vqgan.weight (size, pixel). Tokens (B, positions).
    """

    def __init__(self, size: int, semantic: int, pixel: int, scales: Sequence[Grid], *, l2_norm: bool) -> None:
        super().__init__(semantic + pixel, scales, ratio=0.0, share=1)
        self.embedding_vqkd, self.embedding_vqgan = nn.Embedding(size, semantic), nn.Embedding(size, pixel)
        self.parts, self.l2_norm, self.alphabets = (semantic, pixel), l2_norm, (size,)

    def _rows(self) -> Tensor:
        return self._scaled(torch.cat([self.embedding_vqkd.weight, self.embedding_vqgan.weight], dim=1))

    def _scaled(self, rows: Tensor) -> Tensor:
        if not self.l2_norm:
            return rows
        return torch.cat([F.normalize(part, dim=-1) for part in rows.split(self.parts, dim=1)], dim=1)

    def choose(self, rows: Tensor) -> Tensor:
        # Between rows of one length the least distance is the greatest product.
        return (most_similar if self.l2_norm else nearest)(self._scaled(rows), self._rows())

    def codes(self, tokens: Tensor, scale: int) -> Tensor:
        return self._scaled(torch.cat([self.embedding_vqkd(tokens), self.embedding_vqgan(tokens)], dim=1))

    def lookup(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Tokens of the first scales, of any number of whole ones."""
        counts = [h * w for h, w in self.grids(grid)]
        known = list(itertools.accumulate(counts)).index(tokens.shape[1]) + 1
        parts = torch.split(one_book(tokens), counts[:known], dim=1)
        total = self._detail(parts[0], 0, grid)
        for scale, part in enumerate(parts[1:], start=1):
            total = total + self._detail(part, scale, grid)
        return total


def _convolutions(c: Config, colours: int) -> Conv:
    multipliers = c.integers("ch_mult")
    levels, middle = attention_of(c.any("attention", "none"), len(multipliers))
    return Conv(
        image_channels=colours,
        latent_channels=c.integer("z_channels"),
        width=c.integer("ch"),
        multipliers=multipliers,
        blocks=c.integer("num_res_blocks"),
        attention=levels,
        middle=("block", "attention" if middle else "nothing", "block"),
        names=NAMES,
        groups=c.integer("norm_groups"),
        eps=c.number("norm_eps"),
    )


class TokenFlow(nn.Module):
    """pre_quant and quantized are (B, semantic + pixel channels, h, w), the semantic ones first."""

    value_range = (-1.0, 1.0)
    channel_axis = 1

    @staticmethod
    def infer_arch(shapes: infer.Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
        """The arch of a checkpoint of these shapes and the teacher of `like`; its heads keep their width, and its
        scales end in the grid of the tower's own table."""
        if "quantize.embedding_vqgan.weight" not in shapes:
            return None
        arch = copy.deepcopy(dict(like))
        tower, clip = arch["semantic_encoder"], arch["semantic_encoder"]["type"] == _CLIP
        names = {
            "patches": "encoder_vqkd.conv1" if clip else f"{_SIGLIP_NAMES}.embeddings.patch_embedding",
            "layer": "encoder_vqkd.transformer.resblocks" if clip else f"{_SIGLIP_NAMES}.encoder.layers",
        }
        if f"{names['patches']}.weight" not in shapes:
            return None
        width, arch["in_channels"], patch, _ = shapes[f"{names['patches']}.weight"]
        head = tower["width"] // tower["heads"]
        hidden = shapes[f"{names['layer']}.0.mlp.{'c_fc' if clip else 'fc1'}.weight"][0]
        layers = infer.count(shapes, names["layer"] + ".{i}.")
        table = "encoder_vqkd.positional_embedding" if clip else f"{_SIGLIP_NAMES}.embeddings.position_embedding.weight"
        side = math.isqrt(shapes[table][0] - clip)
        before = tower["image_size"], tower["patch_size"]
        tower.update(width=width, heads=width // head if width % head == 0 else 1, mlp=hidden, layers=layers)
        tower["patch_size"], tower["layers_used"] = patch, layers
        if not clip:
            # The last layer is not used, and may have been left out with what comes after it.
            left_out = f"{_SIGLIP_NAMES}.post_layernorm.weight" not in shapes
            tower["layers"], tower["layers_used"] = layers + left_out, layers - 1 + left_out
        if (before[0] // before[1], before[1]) != (side, patch):
            tower["image_size"] = side * patch
            arch["quantizer"]["scales"] = [s for s in arch["quantizer"]["scales"] if s < side] + [side]
            if not clip:
                arch["pixel_decoder"]["output"] = f"bicubic to {side * patch}"
        _infer_convolutions(shapes, arch)
        quantizer = arch["quantizer"]
        infer.book(shapes, quantizer, "quantize.embedding_vqkd.weight", "semantic_dim")
        infer.book(shapes, quantizer, "quantize.embedding_vqgan.weight", "pixel_dim")
        return arch

    def __init__(self, arch: Mapping[str, Any]) -> None:
        super().__init__()
        c = Config(arch, "arch")
        colours = c.integer("in_channels")
        c.choice("out_channels", (colours,))
        down, up, q = c.sub("pixel_encoder"), c.sub("pixel_decoder"), c.sub("quantizer")
        kind = {"clipb_224": _CLIP, "siglip_384": _SIGLIP}[c.choice("teacher", ("clipb_224", "siglip_384"))]
        spec, back = _convolutions(down, colours), _convolutions(up, colours)
        self.encoder, self.factor = spec.encoder(), spec.factor
        self.decoder = Conv(**{**vars(back), "blocks": back.blocks + 1}).decoder()
        q.choice("type", ("multi-scale residual vq, two books with shared indices",))
        q.unused(["phi"], "TokenFlow refines nothing between its scales")
        semantic, pixel = q.integer("semantic_dim"), q.integer("pixel_dim")
        scales = q.integers("scales")
        self.grid = (scales[-1], scales[-1])
        size = q.integer("codebook_size")
        pairs = [(s, s) for s in scales]
        self.quantize = SharedIndices(size, semantic, pixel, pairs, l2_norm=q.flag("l2_norm"))
        self.alphabets = (size,)
        side, width = self._tower(c.sub("semantic_encoder"), kind, colours)
        self.encode_task_layer = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, semantic))
        self.quant_conv = nn.Conv2d(spec.latent_channels, pixel, 1)
        self.post_quant_conv = nn.Conv2d(pixel, back.latent_channels, 1)
        self._fit(down, up, kind, side, back.factor)
        self.fixed_size = side
        self.downsample = None if side % scales[-1] else side // scales[-1]
        self._ignore(c.sub("semantic_decoder"))
        for part in (down, up, q, c):
            part.done()

    def _tower(self, e: Config, kind: str, colours: int) -> tuple[int, int]:
        """Builds the semantic encoder; (side of its images, its width)."""
        e.choice("type", (kind,))
        e.choice("input_scaling", (_SCALING[kind],))
        self.clamps = kind == _SIGLIP
        side, patch, layers = e.integer("image_size"), e.integer("patch_size"), e.integer("layers")
        used, eps, width = e.integer("layers_used"), e.number("norm_eps"), e.integer("width")
        if used > layers:
            raise VtbenchError(f"arch.semantic_encoder uses {used} layers of {layers}: it has no more")
        sizes = {"side": side, "patch": patch, "width": width, "layers": used}
        sizes |= {"heads": e.integer("heads"), "hidden": e.integer("mlp")}
        e.done()
        self.optional: tuple[str, ...] = ("decoder_vqkd.", "decode_task_layer.", "quantize.codebook_used")
        if kind == _CLIP:
            if eps != 1e-5 or used != layers:
                raise VtbenchError("arch.semantic_encoder of CLIP has norm_eps 1e-5 and uses all of its layers")
            self.encoder_vqkd: nn.Module = ImageTower(colours, **sizes)
            return self.grid[0] * patch, width
        tower = SiglipTower(colours, **sizes, eps=eps)
        self.encoder_vqkd = nn.ModuleDict({"vision_model": tower})
        unused = [f"encoder.layers.{i}." for i in range(used, layers)]
        behind = [*unused, "post_layernorm.", "head."]
        self.optional += ("scaling_layer.", *(f"{_SIGLIP_NAMES}.{name}" for name in behind))
        if side // patch != self.grid[0]:
            raise VtbenchError(
                f"arch.semantic_encoder gives {side // patch} patches a side, but the last scale has {self.grid[0]}"
            )
        return side, width

    def _fit(self, down: Config, up: Config, kind: str, side: int, factor: int) -> None:
        """How the pixel branch's images come to the semantic grid, and back to the image's size."""
        plain, resized = "as given", f"bicubic to {self.factor} x grid"
        self.resized = down.choice("input", (plain, resized)) == resized
        output = up.any("output", plain)
        match = re.fullmatch(r"bicubic to (\d+)", str(output))
        if output != plain and (match is None or int(match[1]) != side):
            raise VtbenchError(f"arch.pixel_decoder.output is {output!r}, but must be {plain!r} or 'bicubic to {side}'")
        cells = side if not self.resized else self.grid[0] * self.factor
        if factor != self.factor or cells != self.grid[0] * self.factor or (output == plain and cells != side):
            raise VtbenchError(
                f"the pixel branch has cells of {self.factor} (encoder) and {factor} (decoder) pixels, which make no "
                f"{side} x {side} images of {self.grid[0]} x {self.grid[0]} cells"
            )

    @staticmethod
    def _ignore(d: Config) -> None:
        """The decoder of features: training alone needs it."""
        for key in ("width", "layers", "heads", "output_dim"):
            d.integer(key)
        d.integers("grid", length=2)
        d.number("norm_eps")
        d.done()

    def grids(self, size: tuple[int, int]) -> tuple[Grid, ...]:
        """Of all scales; raises VtbenchError unless `size` is the one that the network takes."""
        check_exactly(size, (self.fixed_size, self.fixed_size))
        return self.quantize.grids(self.grid)

    def encode(self, x: Tensor) -> Encoded:
        """x: (B, colours, side, side) in [-1, 1]."""
        self.grids((x.shape[2], x.shape[3]))
        if self.clamps:
            tower = self.encoder_vqkd.get_submodule("vision_model")
            features = tower(((x + 1) / 2).clamp(0, 1) * 2 - 1)
        else:
            features = self.encoder_vqkd(x)
        meaning = self.encode_task_layer(features).transpose(1, 2).unflatten(2, self.grid)
        if self.resized:
            x = F.interpolate(x, size=tuple(n * self.factor for n in self.grid), mode="bicubic")
        latent = torch.cat([meaning, self.quant_conv(self.encoder(x))], dim=1)
        tokens, quantized = self.quantize(latent)
        return Encoded(tokens, pre_quant=latent, quantized=quantized)

    def decode(self, latent: Tensor, *, size: tuple[int, int]) -> Tensor:
        """latent: tokens of all scales, or of the first whole ones."""
        sums = list(itertools.accumulate(h * w for h, w in self.grids(size)))
        if latent.shape[1] not in sums:
            raise VtbenchError(
                f"there are {latent.shape[1]} tokens, but scales end at {', '.join(map(str, sums))}: give whole scales"
            )
        pixel = self.quantize.lookup(latent, self.grid)[:, self.quantize.parts[0] :]
        weight = next(self.decoder.parameters())
        out: Tensor = self.decoder(self.post_quant_conv(pixel.to(weight.dtype)))
        return out if out.shape[2:] == size else F.interpolate(out, size=size, mode="bicubic")


def _infer_convolutions(shapes: infer.Shapes, arch: dict[str, Any]) -> None:
    """Sets pixel_encoder and pixel_decoder of `arch`."""
    for half in ("encoder", "decoder"):
        part, levels = arch[f"pixel_{half}"], infer.count(shapes, f"{half}.conv_blocks.{{i}}.")
        widths = [shapes[f"{half}.conv_blocks.{i}.res.0.conv1.weight"][0] for i in range(levels)]
        widths = widths if half == "encoder" else widths[::-1]
        blocks = infer.count(shapes, f"{half}.conv_blocks.0.res.{{i}}.")
        # The highest resolution's factor is one in every configuration that there is.
        part.update(ch=widths[0], ch_mult=[width // widths[0] for width in widths])
        part["num_res_blocks"] = blocks if half == "encoder" else blocks - 1
    arch["pixel_encoder"]["z_channels"] = shapes["encoder.conv_out.weight"][0]
    arch["pixel_decoder"]["z_channels"] = shapes["decoder.conv_in.weight"][1]
