"""CODA: a continuous autoencoder made discrete, with low-rank convolutions and an attention quantizer
(arXiv:2503.17760).

LeapLabTHU/CODA @ 5358d04: tokenizer/coda/models/{builder, lora, attention, multi_quantizer}.py,
tokenizer/train_scripts/.

arch: in_channels, vae {type "mar-kl16" or "flux", latent_scale, latent_shift, latent_channels, norm_groups, norm_eps;
of FLUX's block_out_channels, layers_per_block; of MAR's ch, ch_mult, num_res_blocks, resolution,
encoder_attn_resolutions, decoder_attn_resolutions}, lora (null: none) {rank, modules (parts of names)}, quantizer {type
"multi-scale residual attention", codebook_size, embed_dim, attn_dim, norm ("rms", "layer", null), norm_eps, scales}.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.kl import KlAutoencoder
from vtbench.adapters.networks.parts import infer
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.conv import Down, Up, check_size
from vtbench.adapters.networks.parts.diffusers_kl import DiffusersKl
from vtbench.adapters.networks.parts.quantizers import Grid, most_similar, to_map, to_rows
from vtbench.adapters.networks.parts.transformer import RMSNorm
from vtbench.models.network import Encoded
from vtbench.types.errors import VtbenchError

_MAR = ("ch", "ch_mult", "num_res_blocks", "resolution", "encoder_attn_resolutions", "decoder_attn_resolutions")
_FLUX = ("block_out_channels", "layers_per_block")


class _LowRank(nn.Conv2d):
    """A convolution to which up(down(x)) is added: `down` is shaped as the convolution, `up` is 1x1, without biases.

    Key lora_layer.{down, up}. It stands where the convolution's own padding or enlarging has been done.
    """

    lora_layer: nn.Sequential

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        added: Tensor = self.lora_layer(input)
        return super()._conv_forward(input, weight, bias) + added


class _LowRankConv(_LowRank):
    pass


class _LowRankDown(_LowRank, Down):
    pass


class _LowRankUp(_LowRank, Up):
    pass


_LOW_RANK: Mapping[type[nn.Conv2d], type[_LowRank]] = {nn.Conv2d: _LowRankConv, Down: _LowRankDown, Up: _LowRankUp}


def _add_low_rank(vae: nn.Module, rank: int, parts: Sequence[str]) -> None:
    """To every convolution whose name contains one of `parts` (builder.py:13-47)."""
    for name, conv in list(vae.named_modules()):
        if type(conv) in _LOW_RANK and any(part in name for part in parts):
            assert isinstance(conv, nn.Conv2d)
            size, stride, padding = conv.kernel_size, conv.stride, conv.padding
            down = nn.Conv2d(conv.in_channels, rank, size, stride=stride, padding=padding, bias=False)  # type: ignore[arg-type]
            up = nn.Conv2d(rank, conv.out_channels, 1, bias=False)
            conv.__class__ = _LOW_RANK[type(conv)]
            conv.lora_layer = nn.Sequential()
            conv.lora_layer.add_module("down", down)
            conv.lora_layer.add_module("up", up)


class _Attention(nn.Module):
    """Keys to_q, to_k, to_v, norm_q, norm_k."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        dim, inner = c.integer("embed_dim"), c.integer("attn_dim")
        kind, eps = c.choice("norm", ("rms", "layer", None), None), c.number("norm_eps", 1e-5)
        self.to_q, self.to_k, self.to_v = nn.Linear(dim, inner), nn.Linear(dim, inner), nn.Linear(dim, dim)
        self.norm_q, self.norm_k = (_norm(kind, inner, eps) for _ in range(2))
        self.scale = 1 / math.sqrt(inner)

    def choose(self, rows: Tensor, codebook: Tensor) -> Tensor:
        """int64 (n,): the code of the greatest logit for rows (n, dim)."""
        return most_similar(self.norm_q(self.to_q(rows)), self.norm_k(self.to_k(codebook)) * self.scale)


def _norm(kind: str | None, width: int, eps: float) -> nn.Module:
    if kind is None:
        return nn.Identity()
    return RMSNorm(width, eps) if kind == "rms" else nn.LayerNorm(width, eps=eps)


class _Quantizer(nn.Module):
    """Scale by scale the code that attends best to what earlier ones left over (multi_quantizer.py:73-100).

    The residual is area-interpolated to (p, p); what is added is the code's value, bicubically enlarged, at the last
    scale too. Keys codebooks, attn.
    """

    def __init__(self, c: Config) -> None:
        super().__init__()
        c.choice("type", ("multi-scale residual attention",))
        self.scales, size = tuple((p, p) for p in c.integers("scales")), c.integer("codebook_size")
        if (0, 0) in self.scales:
            raise VtbenchError("arch.quantizer.scales has a 0: every scale has a cell at least")
        self.codebooks, self.attn = nn.Embedding(size, c.integer("embed_dim")), _Attention(c)
        c.done()
        self.alphabets = (size,)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """z (B, C, h, w) -> (tokens (B, positions), their sum (B, C, h, w))."""
        rest, total, tokens = z, torch.zeros_like(z), []
        for scale in self.scales:
            rows = to_rows(F.interpolate(rest, size=scale, mode="area"))
            tokens.append(self.attn.choose(rows, self.codebooks.weight).reshape(len(z), -1))
            added = self._detail(tokens[-1], scale, (z.shape[2], z.shape[3]))
            total, rest = total + added, rest - added
        return torch.cat(tokens, dim=1), total

    def lookup(self, tokens: Tensor, grid: Grid) -> Tensor:
        """(B, positions) -> (B, C, *grid)."""
        parts = zip(torch.split(tokens, [h * w for h, w in self.scales], dim=1), self.scales, strict=True)
        return torch.stack([self._detail(part, scale, grid) for part, scale in parts]).sum(dim=0)

    def _detail(self, tokens: Tensor, scale: Grid, grid: Grid) -> Tensor:
        values = self.attn.to_v(self.codebooks(tokens.flatten()))
        # torch takes a 1 x 1 grid for channels-last memory; all that is computed from it would have that layout.
        return F.interpolate(to_map(values, len(tokens), scale), size=grid, mode="bicubic").contiguous()


class Coda(nn.Module):
    """Tokens (B, positions), scale after scale, of images of any size that the autoencoder takes."""

    value_range = (-1.0, 1.0)
    channel_axis = 1
    optional: tuple[str, ...] = ()

    @staticmethod
    def infer_arch(shapes: infer.Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
        """The arch of a checkpoint of these shapes, of the same autoencoder; scales have none."""
        arch, kind = copy.deepcopy(dict(like)), like["vae"]["type"]
        if "quantizer.attn.to_q.weight" not in shapes:
            return None
        if kind == "flux":
            sizes = DiffusersKl.sizes(shapes, "vae.")
        else:
            own = {name.removeprefix("vae."): shape for name, shape in shapes.items() if name.startswith("vae.")}
            read = infer.kl(own, {"vae": arch["vae"]})
            sizes = None if read is None else {key: read["vae"][key] for key in _MAR}
        if sizes is None:
            return None
        arch["vae"].update(sizes)
        rank = next((shape[0] for name, shape in shapes.items() if name.endswith("lora_layer.down.weight")), None)
        arch["lora"] = None if rank is None else {**(like["lora"] or {"modules": []}), "rank": rank}
        q = arch["quantizer"]
        q["codebook_size"], q["embed_dim"] = shapes["quantizer.codebooks.weight"]
        q["attn_dim"], arch["vae"]["latent_channels"] = shapes["quantizer.attn.to_q.weight"][0], q["embed_dim"]
        normed = "layer" if "quantizer.attn.norm_q.bias" in shapes else "rms"
        q["norm"] = normed if "quantizer.attn.norm_q.weight" in shapes else None
        return arch

    def __init__(self, arch: Mapping[str, Any]) -> None:
        super().__init__()
        top = Config(arch, "arch")
        colours, c, q = top.integer("in_channels"), top.sub("vae"), top.sub("quantizer")
        dim = q.integer("embed_dim")
        if c.integer("latent_channels") != dim:
            raise VtbenchError(
                f"arch.quantizer.embed_dim is {dim}, but must be the {c.integer('latent_channels')} of vae"
            )
        kind = c.choice("type", ("mar-kl16", "flux"))
        c.unused(_FLUX if kind == "mar-kl16" else _MAR, f"type is {kind!r}, which has none")
        self.scale, self.shift = c.number("latent_scale"), c.number("latent_shift", 0.0)
        if not self.scale > 0:
            raise VtbenchError(f"arch.vae.latent_scale is {self.scale}, but must be above 0")
        self.vae: KlAutoencoder | DiffusersKl
        if kind == "flux":
            c.choice("norm_eps", (1e-6,))
            self.vae = DiffusersKl(c, colours, quant_convs=False)
            self.downsample: int | None = self.vae.factor
        else:
            shared = {"in_channels": colours, "out_channels": colours, "z_channels": dim}
            own = {key: c.any(key) for key in (*_MAR, "norm_groups", "norm_eps")}
            self.vae = KlAutoencoder({"vae": {**own, **shared}})
            self.downsample = self.vae.downsample
        c.done()
        if top.any("lora") is not None:
            lora = top.sub("lora")
            rank, parts = lora.integer("rank"), lora.any("modules")
            if not isinstance(parts, list | tuple) or not all(isinstance(p, str) and p for p in parts):
                raise VtbenchError(f"arch.lora.modules is {parts!r}, but must be a list of parts of names")
            lora.done()
            _add_low_rank(self.vae, rank, parts)
        self.quantizer = _Quantizer(q)
        top.done()
        self.alphabets = self.quantizer.alphabets
        # The last scale is made for as many cells as an image of this size has.
        self.fixed_size: int | None = self.quantizer.scales[-1][0] * (self.downsample or 1)

    def grids(self, size: tuple[int, int]) -> tuple[Grid, ...]:
        check_size(*size, self.downsample or 1)
        return self.quantizer.scales

    def encode(self, x: Tensor) -> Encoded:
        """x: (B, C, H, W) in [-1, 1]; the posterior is taken at its mean."""
        self.grids((x.shape[2], x.shape[3]))
        mean = self.vae.posterior(x) if isinstance(self.vae, DiffusersKl) else self.vae.encode(x).latent_mean
        assert mean is not None
        scaled = (mean - self.shift) * self.scale
        tokens, quantized = self.quantizer(scaled)
        return Encoded(tokens, pre_quant=scaled, quantized=quantized, latent_mean=mean)

    def decode(self, latent: Tensor, *, size: tuple[int, int]) -> Tensor:
        """latent: tokens (B, positions)."""
        wanted, factor = sum(h * w for h, w in self.grids(size)), self.downsample or 1
        if latent.ndim != 2 or latent.shape[1] != wanted:
            raise VtbenchError(f"there are {latent.shape[1]} tokens, but the scales have {wanted}")
        z = self.quantizer.lookup(latent, (size[0] // factor, size[1] // factor)) / self.scale + self.shift
        return self.vae.picture(z) if isinstance(self.vae, DiffusersKl) else self.vae.decode(z, size=size)
