"""VidTok's autoencoders of videos, which take a picture as a clip of one frame (arXiv:2412.13061).

microsoft/VidTok @ d6ad92d: vidtok/modules/model_3dcausal.py (1.0), model_3dcausal_v1_1.py, model_3dnoncausal.py,
regularizers.py, vidtok/models/autoencoder.py. After every 2-D residual block, frame by frame, comes a 1-D one in time.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.parts import infer
from vtbench.adapters.networks.parts.clips import (
    Block,
    Double,
    DoubleTime,
    Halve,
    HalveTime,
    Level,
    Middle,
    Rules,
    conv,
    norm,
)
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.conv import check_size
from vtbench.adapters.networks.parts.fsq import FSQ
from vtbench.models.network import Encoded
from vtbench.types.errors import VtbenchError

MEAN = "diagonal gaussian, mean taken"


def _run(levels: Sequence[nn.Module], temporal: Sequence[nn.Module], x: Tensor) -> Tensor:
    for space, time in zip(levels, temporal, strict=True):
        for first, second in zip(space.block, time.block, strict=True):  # type: ignore[arg-type]
            x = second(first(x))
        # Time changes only where space does (model_3dcausal.py, forward).
        x = time.changed(space.changed(x)) if space.change else x  # type: ignore[operator]
    return x


class _Encoder(nn.Module):
    def __init__(self, rules: Rules, c: Config, out: int) -> None:
        super().__init__()
        ch, mults, blocks = c.integer("ch"), c.integers("ch_mult"), c.integer("num_res_blocks")
        space = c.integers("spatial_downsample_levels", empty=True)
        time = set(c.integers("temporal_downsample_levels", empty=True)) & set(space)
        self.conv_in = conv(rules, c.integer("in_channels"), ch)
        down, temporal, width = [], [], ch
        for i, wide in enumerate(ch * m for m in mults):
            pairs = [(width if j == 0 else wide, wide) for j in range(blocks)]
            width = wide
            down.append(
                Level([Block(rules, *p, "2d") for p in pairs], "downsample", Halve(wide) if i in space else None)
            )
            halve = HalveTime(rules, wide) if i in time else None
            temporal.append(Level([Block(rules, wide, wide, "1d") for _ in pairs], "downsample", halve))
        self.down, self.down_temporal = nn.ModuleList(down), nn.ModuleList(temporal)
        self.mid = Middle(rules, width)
        self.norm_out = norm(rules, width, "frame" if rules.causal else "clip")
        self.conv_out = conv(rules, width, out)

    def forward(self, x: Tensor) -> Tensor:
        h = self.mid(_run(list(self.down), list(self.down_temporal), self.conv_in(x)))
        out: Tensor = self.conv_out(F.silu(self.norm_out(h)))
        return out


class _Decoder(nn.Module):
    def __init__(self, rules: Rules, c: Config, latent: int, *, trilinear: bool) -> None:
        super().__init__()
        ch, mults, blocks = c.integer("ch"), c.integers("ch_mult"), c.integer("num_res_blocks") + 1
        space, time = (c.integers(f"{axis}_upsample_levels", empty=True) for axis in ("spatial", "temporal"))
        width, apart = ch * mults[-1], 1
        self.conv_in, self.mid = conv(rules, latent, width), Middle(rules, width)
        up, temporal = [], []
        for i, wide in reversed(list(enumerate(ch * m for m in mults))):
            pairs = [(width if j == 0 else wide, wide) for j in range(blocks)]
            width = wide
            up.append(Level([Block(rules, *p, "2d") for p in pairs], "upsample", Double(wide) if i in space else None))
            double = DoubleTime(rules, wide, apart if trilinear else 0) if i in time else None
            apart *= 2 if i in time else 1
            temporal.append(Level([Block(rules, wide, wide, "1d") for _ in pairs], "upsample", double))
        self.up, self.up_temporal = nn.ModuleList(reversed(up)), nn.ModuleList(reversed(temporal))
        self.norm_out = norm(rules, width, "frame" if rules.causal else "clip")
        self.conv_out = conv(rules, width, c.integer("out_channels"))

    def forward(self, z: Tensor) -> Tensor:
        h = _run(list(self.up)[::-1], list(self.up_temporal)[::-1], self.mid(self.conv_in(z)))
        out: Tensor = self.conv_out(F.silu(self.norm_out(h)))
        return out


class VidTok(nn.Module):
    """arch: in_channels, out_channels, version, causal, ch, ch_mult, num_res_blocks, z_channels, norm, norm_groups,
    norm_eps, spatial_downsample_levels, temporal_downsample_levels, spatial_upsample_levels, temporal_upsample_levels,
    time_downsample, init_pad, interpolation, quantizer {type, levels, eps} or null, posterior.

    Pictures (B, C, H, W) are clips of one frame, padded in front to `time_downsample`; clips are (B, C, T, H, W).
    """

    value_range = (-1.0, 1.0)
    fixed_size: int | None = None
    optional: tuple[str, ...] = ()
    channel_axis = 1

    @staticmethod
    def infer_arch(shapes: infer.Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
        """The arch of a checkpoint of these shapes; version, interpolation and FSQ's levels stay as in `like`."""
        if "encoder.down_temporal.0.block.0.norm1.norm.weight" in shapes:
            norms = "layernorm"
        elif "encoder.down_temporal.0.block.0.norm1.weight" in shapes:
            norms = "groupnorm"
        else:
            return None
        arch = copy.deepcopy(dict(like))
        causal = "encoder.conv_in.conv.weight" in shapes
        inside = "conv.weight" if causal else "weight"
        ch, colours = shapes[f"encoder.conv_in.{inside}"][:2]
        levels = range(infer.count(shapes, "encoder.down.{i}."))
        z = shapes[f"decoder.conv_in.{inside}"][1]
        gaussian = shapes[f"encoder.conv_out.{inside}"][0] == 2 * z
        arch.update(
            in_channels=colours,
            out_channels=shapes[f"decoder.conv_out.{inside}"][0],
            causal=causal,
            ch=ch,
            ch_mult=[shapes[f"encoder.down.{i}.block.0.conv1.weight"][0] // ch for i in levels],
            num_res_blocks=infer.count(shapes, "encoder.down.0.block.{i}."),
            z_channels=z,
            norm=norms,
        )
        if not causal:
            arch.update(version="1.0", init_pad=None, interpolation="nearest")
        else:
            arch["init_pad"] = arch["init_pad"] or "replicate"
        for key, mark in (
            ("spatial_downsample_levels", "encoder.down.{}.downsample.conv.weight"),
            ("temporal_downsample_levels", "encoder.down_temporal.{}.downsample.mix_factor"),
            ("spatial_upsample_levels", "decoder.up.{}.upsample.conv.weight"),
            ("temporal_upsample_levels", "decoder.up_temporal.{}.upsample.mix_factor"),
        ):
            at = [i for i in levels if mark.format(i) in shapes]
            # Their order says nothing; the arch that is changed keeps its own.
            arch[key] = arch[key] if set(arch[key]) == set(at) else at
        arch["time_downsample"] = 2 ** len(arch["temporal_downsample_levels"])
        q = arch["quantizer"] or {"type": "fsq", "levels": [], "eps": 1e-3}
        q["levels"] = q["levels"] if len(q["levels"]) == z else [8] * z
        arch.update(quantizer=None if gaussian else q, posterior=MEAN if gaussian else None)
        return arch

    def __init__(self, arch: Mapping[str, Any]) -> None:
        super().__init__()
        c = Config(arch, "arch")
        version, causal = c.choice("version", ("1.0", "1.1")), c.flag("causal")
        if not causal and version != "1.0":
            raise VtbenchError("arch.version is '1.1', but there is no such network that is not causal: say 1.0")
        rules = Rules(
            causal=causal,
            copies=version == "1.1",
            norm=c.choice("norm", ("layernorm", "groupnorm")),
            groups=c.integer("norm_groups"),
            eps=c.number("norm_eps"),
        )
        trilinear = c.choice("interpolation", ("nearest", "trilinear"), "nearest") == "trilinear"
        if trilinear and version != "1.1":
            raise VtbenchError("arch.interpolation is 'trilinear', but version 1.0 has 'nearest' alone")
        self.causal, self.version = causal, version
        self.pad = None
        if causal:
            self.pad = c.choice("init_pad", ("replicate", "constant"))
        else:
            c.unused(["init_pad"], "a network that is not causal pads no clip")
        z = c.integer("z_channels")
        self.fsq = self._quantizer(c, z)
        self.encoder = _Encoder(rules, c, z if self.fsq else 2 * z)
        self.decoder = _Decoder(rules, c, z, trilinear=trilinear)
        self.latent_channels = z
        self.downsample, self.frames = self._factors(c)
        c.done()
        self.alphabets = self.fsq.alphabets if self.fsq else ()

    @staticmethod
    def _quantizer(c: Config, z: int) -> FSQ | None:
        if c.any("quantizer") is None:
            c.choice("posterior", (MEAN,))
            return None
        c.unused(["posterior"], "there is a quantizer")
        q = c.sub("quantizer")
        q.choice("type", ("fsq",))
        levels, eps = q.integers("levels"), q.number("eps", 1e-3)
        q.done()
        if len(levels) != z:
            raise VtbenchError(
                f"arch.quantizer.levels has {len(levels)} channels and z_channels is {z}: they must agree"
            )
        return FSQ(levels, eps=eps)

    @staticmethod
    def _factors(c: Config) -> tuple[int, int]:
        """Pixels a side and frames that a latent cell stands for, which both halves must agree on."""
        last = len(c.integers("ch_mult"))
        factors = []
        for way in ("down", "up"):
            space, time = (
                set(c.integers(f"{axis}_{way}sample_levels", empty=True)) for axis in ("spatial", "temporal")
            )
            if max(space | time, default=0) >= last:
                raise VtbenchError(
                    f"arch.{way}sample levels are {sorted(space | time)}, but there are only {last} levels"
                )
            factors.append((2 ** len(space), 2 ** len(time & space)))
        if len(set(factors)) > 1 or factors[0][1] != c.integer("time_downsample"):
            raise VtbenchError(
                f"encoder and decoder change sides and frames by {factors[0]} and {factors[1]} and time_downsample is "
                f"{c.integer('time_downsample')}: they must agree"
            )
        return factors[0]

    def grids(self, size: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """The one raster grid of a frame of (…, height, width) pixels."""
        check_size(size[-2], size[-1], self.downsample)
        return ((size[-2] // self.downsample, size[-1] // self.downsample),)

    def posterior_shape(self, size: tuple[int, int]) -> tuple[int, ...]:
        """Of the noise that a sample of the posterior takes, for one image."""
        return (self.latent_channels, *self.grids(size)[0])

    def encode(self, x: Tensor, *, noise: Tensor | None = None) -> Encoded:
        """x: pictures (B, C, H, W) or clips (B, C, T, H, W) in [-1, 1]; noise: for a sample of the posterior."""
        self.grids(x.shape)
        picture = x.ndim == 4
        clip = self._padded(x[:, :, None] if picture else x)
        latent = self.encoder(clip)
        if self.fsq is None:
            mean, logvar = latent.chunk(2, dim=1)
            mean, logvar = (mean[:, :, 0], logvar[:, :, 0]) if picture else (mean, logvar)
            if noise is not None:
                mean = mean + torch.exp(0.5 * logvar.clamp(-30.0, 20.0)) * noise
            return Encoded(latent_mean=mean)
        rows = latent.flatten(2).transpose(1, 2)
        tokens, codes = self.fsq(rows.to(torch.promote_types(rows.dtype, torch.float32)))
        quantized = codes.to(x.dtype).transpose(1, 2).unflatten(2, latent.shape[2:])
        if picture:
            latent, quantized = latent[:, :, 0], quantized[:, :, 0]
        return Encoded(tokens, pre_quant=latent, quantized=quantized)

    def _padded(self, clip: Tensor) -> Tensor:
        """1.0 adds one frame less than a latent stands for, 1.1 as many as are missing, both in front."""
        count = clip.shape[2]
        if not self.causal:
            if count % self.frames:
                raise VtbenchError(
                    f"there {'is 1 frame' if count == 1 else f'are {count} frames'}, but this network is not causal "
                    f"and takes clips of a multiple of {self.frames} frames, no single pictures: take a causal one"
                )
            return clip
        if count % self.frames == 0:
            return clip
        more = self.frames - (1 if self.version == "1.0" else count % self.frames)
        mode = "replicate" if self.pad == "replicate" else "constant"
        return F.pad(clip, (0, 0, 0, 0, more, 0), mode=mode)

    def decode(self, latent: Tensor, *, size: Sequence[int]) -> Tensor:
        """latent: tokens (B, t h w) or latents (B, channels[, t], h, w); size: (H, W) of pictures, (T, H, W) of clips.

        1.0 drops as many leading frames as it adds to a clip that needs them, also of one that did not.
        """
        ((h, w),), picture = self.grids(size), len(size) == 2
        if not latent.is_floating_point():
            codes = self._looked_up(latent, h, w)
        elif self.fsq is not None:
            raise VtbenchError("this network has a quantizer (arch.quantizer): it decodes tokens")
        else:
            codes = latent[:, :, None] if latent.ndim == 4 else latent
        if (
            tuple(codes.shape[3:]) != (h, w)
            or codes.shape[1] != self.latent_channels
            or (picture and codes.shape[2] != 1)
        ):
            raise VtbenchError(
                f"latents are {tuple(latent.shape)}, but {'a picture' if picture else 'a clip'} of {size[-2]} x "
                f"{size[-1]} has {self.latent_channels} channels of {h} x {w}{'' if picture else ' a latent frame'}"
            )
        out: Tensor = self.decoder(codes)
        if self.causal:
            out = out[:, :, self.frames - 1 :] if self.version == "1.0" else out[:, :, -(1 if picture else size[0]) :]
        return out[:, :, -1] if picture else out

    def _looked_up(self, tokens: Tensor, h: int, w: int) -> Tensor:
        """(B, t h w) -> (B, channels, t, h, w)."""
        if self.fsq is None:
            raise VtbenchError("this autoencoder has no quantizer (arch.quantizer is null): it decodes latents")
        tokens = tokens[..., 0] if tokens.ndim == 3 else tokens
        if tokens.shape[1] % (h * w) or not tokens.shape[1]:
            raise VtbenchError(f"there are {tokens.shape[1]} tokens for frames that need {h * w} of them each")
        codes = self.fsq.lookup(tokens, next(self.decoder.parameters()).dtype)
        return codes.transpose(1, 2).unflatten(2, (-1, h, w))
