"""FlowMo: 1-D binary tokens by a transformer, decoded in pixels by a rectified flow (arXiv:2503.11056).

kylesargent/FlowMo @ d15029f: flowmo/models.py. FLUX's double-stream blocks with one stream for patches ("img") and one
for the code ("txt"); line numbers are models.py's.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.parts import flow, infer, sampling
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.conv import check_size
from vtbench.adapters.networks.parts.patches import channels_last, from_channels_last
from vtbench.adapters.networks.parts.positions import raster, rotary
from vtbench.adapters.networks.parts.transformer import (
    FinalLayer,
    RMSNorm,
    heads_of,
    merged,
    modulate,
    rotate_pairs,
    sinusoid,
)
from vtbench.models.network import Encoded
from vtbench.types.errors import VtbenchError

Turn = tuple[Tensor, Tensor]
_TIME = 256


class _Time(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.in_layer, self.out_layer = nn.Linear(_TIME, width), nn.Linear(width, width)

    def forward(self, t: Tensor) -> Tensor:
        """t (B,) in 0..1."""
        out: Tensor = self.out_layer(F.silu(self.in_layer(sinusoid(1000 * t, _TIME, dtype=self.in_layer.weight.dtype))))
        return out


class _RMSNorm(RMSNorm):
    """Its factors are called `scale`."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, 1e-6, affine=False)
        self.scale = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.scale


class _QKNorm(nn.Module):
    def __init__(self, head: int) -> None:
        super().__init__()
        self.query_norm, self.key_norm = _RMSNorm(head), _RMSNorm(head)


class _Attention(nn.Module):
    """One stream's side of the joint attention; q, k and v are packed in this order, heads inside."""

    def __init__(self, width: int, heads: int, *, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width, bias=bias), nn.Linear(width, width)
        self.norm = _QKNorm(width // heads)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = (heads_of(part, self.heads) for part in self.qkv(x).chunk(3, dim=-1))
        return self.norm.query_norm(q), self.norm.key_norm(k), v


class _Modulation(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.lin = nn.Linear(width, 6 * width)


class _Block(nn.Module):
    """Both streams attend jointly, code first; without a time every shift is 0, every scale and gate 1 (216-316)."""

    def __init__(self, width: int, heads: int, hidden: int, *, bias: bool) -> None:
        super().__init__()
        self.plain = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        for stream in ("img", "txt"):
            self.add_module(f"{stream}_mod", _Modulation(width))
            self.add_module(f"{stream}_attn", _Attention(width, heads, bias=bias))
            mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, width))
            self.add_module(f"{stream}_mlp", mlp)

    def forward(self, img: Tensor, txt: Tensor, vec: Tensor | None, turn: Turn) -> tuple[Tensor, Tensor]:
        streams = {"txt": txt, "img": img}
        six = {name: self._six(name, vec) for name in streams}
        parts = [
            self._attention(name).split(modulate(self.plain(x), six[name][0], six[name][1]))
            for name, x in streams.items()
        ]
        q, k, v = (torch.cat(pair, dim=2) for pair in zip(*parts, strict=True))
        # muP's scale: 8 over the width of a head, not over its root.
        scale = 8.0 / q.shape[-1]
        mixed = F.scaled_dot_product_attention(rotate_pairs(q, *turn), rotate_pairs(k, *turn), v, scale=scale)
        rows = dict(zip(streams, merged(mixed).split([txt.shape[1], img.shape[1]], dim=1), strict=True))
        for name, x in streams.items():
            _, _, gate, shift, scale_mlp, gate_mlp = six[name]
            x = x + gate * self._attention(name).proj(rows[name])
            mlp = self.get_submodule(f"{name}_mlp")
            streams[name] = x + gate_mlp * mlp(modulate(self.plain(x), shift, scale_mlp))
        return streams["img"], streams["txt"]

    def _attention(self, stream: str) -> _Attention:
        return self.get_submodule(f"{stream}_attn")  # type: ignore[return-value]

    def _six(self, stream: str, vec: Tensor | None) -> tuple[Any, ...]:
        """Shift, scale and gate of the attention, then of the MLP."""
        if vec is None:
            return 0.0, 0.0, 1.0, 0.0, 0.0, 1.0
        layer: Any = self.get_submodule(f"{stream}_mod")
        return tuple(layer.lin(F.silu(vec))[:, None].chunk(6, dim=-1))


class _Last(FinalLayer):
    """DiT's last layer, its norm taken a second time after the modulation (333-335)."""

    def forward(self, x: Tensor, c: Tensor | None) -> Tensor:
        if c is not None:
            shift, scale = self.adaLN_modulation(c)[:, None].chunk(2, dim=-1)
            x = modulate(self.norm_final(x), shift, scale)
        out: Tensor = self.linear(self.norm_final(x))
        return out


class _Flux(nn.Module):
    """Patches (B, N, p p c) and code (B, L, context) through the blocks; both come out as wide as they came in."""

    def __init__(self, c: Config, patch: int, context: int) -> None:
        super().__init__()
        width, heads = c.integer("hidden_size"), c.integer("heads")
        self.axes, self.theta = c.integers("rope_axes", length=3), c.number("theta")
        if width % heads or sum(self.axes) != width // heads or any(a % 2 for a in self.axes):
            raise VtbenchError(
                f"rope_axes {list(self.axes)} must be even and add up to a head's width: hidden_size {width} / {heads}"
            )
        hidden, bias, depth = int(width * c.number("mlp_ratio")), c.flag("qkv_bias"), c.integer("depth")
        c.done()
        self.time_in = _Time(width)
        self.img_in, self.txt_in = nn.Linear(patch, width), nn.Linear(context, width)
        self.double_blocks = nn.ModuleList(_Block(width, heads, hidden, bias=bias) for _ in range(depth))
        self.final_layer_img, self.final_layer_txt = _Last(width, patch), _Last(width, context)

    def forward(self, img: Tensor, txt: Tensor, t: Tensor | None, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """t (B,) in 0..1, or None in the encoder."""
        # Patches lie at (0, row, column), code tokens at (i, i, i).
        cells = F.pad(raster(*grid), (1, 0))
        line = torch.arange(txt.shape[1], dtype=torch.float64)[:, None].expand(-1, 3)
        turn = rotary(torch.cat([line, cells]), self.axes, self.theta, img)
        vec = None if t is None else self.time_in(t)
        img, txt = self.img_in(img), self.txt_in(txt)
        for block in self.double_blocks:
            img, txt = block(img, txt, vec, turn)
        return self.final_layer_img(img, vec), self.final_layer_txt(txt, vec)


class FlowMo(nn.Module):
    """arch: image_size, in_channels, patch_size, code_length, context_dim, encoder and decoder {hidden_size, depth,
    heads, mlp_ratio, rope_axes, theta, qkv_bias}, attention_scale, quantizer (lfq), sampler {schedule, steps,
    cfg_interval}.

    Tokens (B, code_length, context_dim) of 0/1: bit c of a position is the sign of its channel c. Upstream packs them
    into ids of strided bits, id g from channels g, g + ids_per_position, …, lowest first.
    """

    value_range = (-1.0, 1.0)
    optional: tuple[str, ...] = ()
    downsample: int | None = None
    channel_axis = 2
    sampler_options = ("steps", "guidance", "schedule")

    @staticmethod
    def infer_arch(shapes: infer.Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
        """The arch of a checkpoint of these shapes; the number of positions and the image's size are not in them.

        Rotary axes keep their shares of a head; ids keep their number of bits where that fits.
        """
        if "encoder.double_blocks.0.img_attn.norm.query_norm.scale" not in shapes:
            return None
        arch = copy.deepcopy(dict(like))
        for half in ("encoder", "decoder"):
            width, cells = shapes[f"{half}.img_in.weight"]
            head = shapes[f"{half}.double_blocks.0.img_attn.norm.query_norm.scale"][0]
            part, before = arch[half], sum(arch[half]["rope_axes"])
            part.update(
                hidden_size=width,
                heads=width // head,
                depth=infer.count(shapes, f"{half}.double_blocks.{{i}}."),
                mlp_ratio=shapes[f"{half}.double_blocks.0.img_mlp.0.weight"][0] / width,
                rope_axes=[axis * head // before for axis in part["rope_axes"]],
                qkv_bias=f"{half}.double_blocks.0.img_attn.qkv.bias" in shapes,
            )
            arch["patch_size"] = math.isqrt(cells // arch["in_channels"])
        bits = arch["context_dim"] = shapes["encoder.txt_in.weight"][1]
        each = arch["quantizer"]["bits_per_id"]
        each = each if bits % each == 0 else bits
        arch["quantizer"].update(bits=bits, bits_per_id=each, ids_per_position=bits // each)
        return arch

    def __init__(self, arch: Mapping[str, Any]) -> None:
        super().__init__()
        c = Config(arch, "arch")
        self.fixed_size: int | None = c.integer("image_size")
        self.colours, self.patch = c.integer("in_channels"), c.integer("patch_size")
        self.positions, self.context = c.integer("code_length"), c.integer("context_dim")
        if self.fixed_size % self.patch:
            raise VtbenchError(f"arch.image_size {self.fixed_size} is no multiple of patch_size {self.patch}")
        c.choice("attention_scale", ("8/head_dim",))
        width = self.colours * self.patch**2
        self.encoder = _Flux(c.sub("encoder"), width, self.context)
        self.decoder = _Flux(c.sub("decoder"), width, self.context + 1)
        q = c.sub("quantizer")
        q.choice("type", ("lfq",))
        q.choice("bits", (self.context,))
        ids, each = q.integer("ids_per_position"), q.integer("bits_per_id")
        if ids * each != self.context:
            raise VtbenchError(f"arch.quantizer: {ids} ids of {each} bits are not the {self.context} of context_dim")
        q.done()
        s = c.sub("sampler")
        self.schedule, self.steps = str(s.any("schedule", "linear")), s.integer("steps")
        self.interval = _interval(s.any("cfg_interval"))
        s.done()
        c.done()
        flow.falling(self.schedule, self.steps)
        self.alphabets = (2,) * self.context

    def noise_shape(self, size: tuple[int, int]) -> tuple[int, ...]:
        """Of the noise of one image."""
        return (self.colours, *size)

    def evaluations(self, *, steps: int | None = None, **_: Any) -> int:
        """Of the decoder for an image; a batch doubled for guidance counts once."""
        return self.steps if steps is None else steps

    def encode(self, x: Tensor) -> Encoded:
        """x: (B, colours, H, W) in [-1, 1]."""
        check_size(x.shape[2], x.shape[3], self.patch)
        grid = (x.shape[2] // self.patch, x.shape[3] // self.patch)
        _, code = self.encoder(
            channels_last(x, self.patch), x.new_zeros(len(x), self.positions, self.context), None, grid
        )
        bits = (code > 0).long()
        return Encoded(bits, pre_quant=code, quantized=(2 * bits - 1).to(code.dtype))

    def decode(
        self,
        latent: Tensor,
        *,
        size: tuple[int, int],
        noise: Tensor,
        steps: int | None = None,
        guidance: float = 1.0,
        schedule: str | None = None,
        interval: Any = None,
    ) -> Tensor:
        """latent: bits (B, code_length, context_dim); noise (B, colours, *size).

        guidance: 1 is none; otherwise it holds inside `interval`, noise levels s of x + s noise, null: everywhere. The
        null code is zeros in place of the signs and of the channel of ones that follows them (690-696).
        """
        check_size(*size, self.patch)
        if tuple(latent.shape[1:]) != (self.positions, self.context):
            raise VtbenchError(
                f"the code is {tuple(latent.shape[1:])} (positions, bits), wanted {(self.positions, self.context)}"
            )
        grid = (size[0] // self.patch, size[1] // self.patch)
        times = flow.falling(schedule or self.schedule, self.evaluations(steps=steps))
        low, high = self.interval if interval is None else _interval(interval)
        dtype = next(self.decoder.parameters()).dtype
        signs = 2 * latent.to(dtype) - 1
        code = torch.cat([signs, torch.ones_like(signs[..., :1])], dim=-1)

        def velocity(z: Tensor, t: float, step: int) -> Tensor:
            guided = guidance != 1.0 and low <= t <= high
            z, known = (torch.cat([z, z]), torch.cat([code, 0 * code])) if guided else (z, code)
            at = flow.moment(t, z)
            rows, _ = self.decoder(channels_last(z, self.patch), known, at, grid)
            v = from_channels_last(rows, self.patch, grid)
            return sampling.guide(*v.chunk(2), guidance) if guided else v

        return sampling.finite(flow.euler(velocity, noise.to(dtype), times), "FlowMo")


def _interval(levels: Any) -> tuple[float, float]:
    """Noise levels s, of x + s noise, as times s / (1 + s) of the flow; null is everything."""
    if levels is None:
        return 0.0, 1.0
    try:
        low, high = (float(level) for level in levels)
    except (TypeError, ValueError):
        raise VtbenchError(f"cfg_interval is {levels!r}, but must be two noise levels, such as [0.17, 1.02]") from None
    if not 0 <= low <= high:
        raise VtbenchError(f"cfg_interval is {levels!r}, but must be two rising noise levels of at least 0")
    return low / (1 + low), high / (1 + high)
