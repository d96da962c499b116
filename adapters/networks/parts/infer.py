"""An arch from the shapes in a checkpoint, for configurations that nobody released.

Each function takes {name: shape} and an arch of the same network; sizes are read off the shapes, and what shapes do not
show (epsilons, nominal resolution, how codes are compared) stays as in that arch. It returns None where the names are
not the network's. The caller checks that the arch it gets really has these names and shapes.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

Shapes = Mapping[str, Sequence[int]]


def count(shapes: Shapes, pattern: str) -> int:
    """1 + the greatest number that `{i}` of `pattern` takes in a name that starts with it."""
    start = re.compile(re.escape(pattern).replace(r"\{i\}", r"(\d+)"))
    return max((int(m.group(1)) + 1 for name in shapes if (m := start.match(name))), default=0)


def pyramid(shapes: Shapes, arch: dict[str, Any], *, level: str, block: str, width: str, blocks: str) -> list[int]:
    """Sets `width`, `blocks` and in_channels of `arch` from the encoder, and returns the width factors of its levels.

    level: path of a level with {i}; block: path of a block in it with {i}.
    """
    ch = shapes["encoder.conv_in.weight"][0]
    arch[width], arch["in_channels"] = ch, shapes["encoder.conv_in.weight"][1]
    first = f"encoder.{level.format(i=0)}.{block}"
    arch[blocks] = count(shapes, first)
    levels = count(shapes, f"encoder.{level}.")
    name = "encoder.{}.{}.conv1.weight"
    return [shapes[name.format(level.format(i=i), block.format(i=0))][0] // ch for i in range(levels)]


def book(shapes: Shapes, quantizer: dict[str, Any], name: str, dim: str = "embed_dim") -> None:
    """Sets codebook_size and `dim` from the codebook called `name`."""
    quantizer["codebook_size"], quantizer[dim] = shapes[name]


def taming(shapes: Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
    """For networks.taming.Taming."""
    if "encoder.down.0.block.0.conv1.weight" not in shapes or "quant_conv.weight" not in shapes:
        return None
    arch = copy.deepcopy(dict(like))
    arch["ch_mult"] = pyramid(shapes, arch, level="down.{i}", block="block.{i}", width="ch", blocks="num_res_blocks")
    arch["out_channels"] = shapes["decoder.conv_out.weight"][0]
    arch["z_channels"] = shapes["encoder.conv_out.weight"][0]
    levels = range(len(arch["ch_mult"]))
    linear = "encoder.mid.attn_1.to_qkv.weight" in shapes
    leaf = "to_qkv" if linear else "norm"
    at = [i for i in levels if f"encoder.down.{i}.attn.0.{leaf}.weight" in shapes]
    arch["attn_resolutions"] = [arch["resolution"] // 2**i for i in at]
    some = "linear" if linear else "vanilla"
    arch["attn_type"] = some if f"encoder.mid.attn_1.{leaf}.weight" in shapes else "none"
    arch["resamp_with_conv"] = len(levels) == 1 or "encoder.down.0.downsample.conv.weight" in shapes
    quantizer, depth = arch["quantizer"], count(shapes, "quantizer.codebooks.{i}.weight")
    if quantizer["type"] == "residual":
        return arch if depth and _residual(shapes, arch, depth) else None
    codes = "quantize.embed.weight" if quantizer["type"] == "gumbel" else "quantize.embedding.weight"
    if codes not in shapes:
        return None
    book(shapes, quantizer, codes)
    return arch


def _residual(shapes: Shapes, arch: dict[str, Any], depth: int) -> bool:
    quantizer, channels = arch["quantizer"], shapes["quant_conv.weight"][0]
    rows, width = shapes["quantizer.codebooks.0.weight"]
    side = arch["resolution"] // 2 ** (len(arch["ch_mult"]) - 1)
    # The shapes tell how many cells are folded into a position, not that they form a square, which is assumed.
    fold = math.isqrt(width // channels)
    if fold * fold * channels != width or side % fold:
        return False
    quantizer.update(
        codebook_size=rows - quantizer["padding_rows"],
        embed_dim=channels,
        depth=depth,
        latent_shape=[side, side, channels],
        code_shape=[side // fold, side // fold, depth],
    )
    return True


def llamagen(shapes: Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
    """For networks.llamagen.LlamaGen."""
    if "encoder.conv_blocks.0.res.0.conv1.weight" not in shapes or "quantize.embedding.weight" not in shapes:
        return None
    arch = copy.deepcopy(dict(like))
    down = pyramid(shapes, arch, level="conv_blocks.{i}", block="res.{i}", width="ch", blocks="num_res_blocks")
    # The decoder's blocks are stored in the order in which they run, lowest resolution first.
    up = [
        shapes[f"decoder.conv_blocks.{i}.res.0.conv1.weight"][0] // arch["ch"]
        for i in reversed(range(count(shapes, "decoder.conv_blocks.{i}.")))
    ]
    arch.update(encoder_ch_mult=down, decoder_ch_mult=up)
    arch["out_channels"] = shapes["decoder.conv_out.weight"][0]
    arch["z_channels"] = shapes["encoder.conv_out.weight"][0]
    arch["attention"] = _attention(shapes, f"encoder.conv_blocks.{len(down) - 1}.attn.0", "encoder.mid.1.norm.weight")
    book(shapes, arch["quantizer"], "quantize.embedding.weight")
    return arch


def var(shapes: Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
    """For networks.var.Var; the schedule of scales is not in the shapes and stays as in `like`."""
    if "encoder.down.0.block.0.conv1.weight" not in shapes or not any("quant_resi." in n for n in shapes):
        return None
    arch = copy.deepcopy(dict(like))
    arch["ch_mult"] = pyramid(shapes, arch, level="down.{i}", block="block.{i}", width="ch", blocks="num_res_blocks")
    arch["out_channels"] = shapes["decoder.conv_out.weight"][0]
    arch["z_channels"] = shapes["encoder.conv_out.weight"][0]
    last = len(arch["ch_mult"]) - 1
    arch["attention"] = _attention(shapes, f"encoder.down.{last}.attn.0", "encoder.mid.attn_1.norm.weight")
    arch["quant_conv_ks"] = shapes["quant_conv.weight"][2]
    quantizer = arch["quantizer"]
    book(shapes, quantizer, "quantize.embedding.weight")
    share = 1 if "quantize.quant_resi.qresi.weight" in shapes else count(shapes, "quantize.quant_resi.qresi_ls.{i}.")
    if share != quantizer["share_quant_resi"]:
        quantizer.update(share_quant_resi=share, phi_index=None)
    return arch


def _attention(shapes: Shapes, level: str, middle: str) -> str:
    parts = [text for text, name in (("last level", f"{level}.norm.weight"), ("middle", middle)) if name in shapes]
    return " and ".join(parts) or "none"


def maskgit(shapes: Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
    """For networks.maskgit.MaskGit."""
    if "encoder.down.0.block.0.conv1.weight" not in shapes or "encoder.mid.0.conv1.weight" not in shapes:
        return None
    arch = copy.deepcopy(dict(like))
    arch["channel_mult"] = pyramid(
        shapes, arch, level="down.{i}", block="block.{i}", width="hidden_channels", blocks="num_res_blocks"
    )
    arch["z_channels"] = shapes["encoder.conv_out.weight"][0]
    book(shapes, arch["quantizer"], "quantize.embedding.weight")
    return arch


def maskbit(shapes: Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
    """For networks.maskgit.MaskBit."""
    if "encoder.down.0.res_blocks.0.conv1.weight" not in shapes:
        return None
    arch = copy.deepcopy(dict(like))
    mult = pyramid(
        shapes, arch, level="down.{i}", block="res_blocks.{i}", width="hidden_channels", blocks="num_res_blocks"
    )
    levels = len(mult)
    arch["channel_mult"] = mult
    arch["num_res_blocks_decoder"] = count(shapes, "decoder.mid.res_blocks.{i}")
    arch["sample_with_conv"] = levels == 1 or "encoder.down.0.down_conv.weight" in shapes
    # The level without upsampling is the highest resolution: up.0 if legacy, else the last.
    arch["legacy_decoder"] = levels > 1 and "decoder.up.0.upsample_conv.weight" not in shapes
    token_size = shapes["encoder.conv_out.weight"][0]
    codebook = shapes.get("quantize.embedding.weight")
    arch["quantizer"].update(
        type="vq" if codebook else "lfq",
        codebook_size=codebook[0] if codebook else 2**token_size,
        token_size=token_size,
    )
    return arch


def kl(shapes: Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
    """For networks.kl.KlAutoencoder; the scale and the quantizer have no parameters and stay as in `like`."""
    if "encoder.down.0.block.0.conv1.weight" not in shapes or "quant_conv.weight" not in shapes:
        return None
    arch = copy.deepcopy(dict(like))
    vae = arch["vae"]
    vae["z_channels"] = shapes["decoder.conv_in.weight"][1]
    if shapes["quant_conv.weight"][0] != 2 * vae["z_channels"]:
        return None
    vae["ch_mult"] = pyramid(shapes, vae, level="down.{i}", block="block.{i}", width="ch", blocks="num_res_blocks")
    vae["out_channels"] = shapes["decoder.conv_out.weight"][0]
    levels = range(len(vae["ch_mult"]))
    for half, path in (("encoder", "down"), ("decoder", "up")):
        at = [i for i in levels if f"{half}.{path}.{i}.attn.0.norm.weight" in shapes]
        vae[f"{half}_attn_resolutions"] = [vae["resolution"] // 2**i for i in at]
    return arch
