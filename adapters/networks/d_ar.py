"""D-AR: causal tokens, of which each group drives one step of a diffusion decoder in pixels (arXiv:2505.23660).

showlab/D-AR @ 3fb0f2d: tokenizer/tokenizer_image/vq_model.py, tokenizer_transformer.py, diff_decoder.py.
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
from vtbench.adapters.networks.parts.positions import causal_tail, raster, rotary
from vtbench.adapters.networks.parts.quantizers import VQ
from vtbench.adapters.networks.parts.transformer import (
    FinalLayer,
    Mlp,
    TimeEmbedder,
    heads_of,
    merged,
    modulate,
    rotate_pairs,
)
from vtbench.models.network import Encoded
from vtbench.types.errors import VtbenchError

Turn = tuple[Tensor, Tensor]
SAMPLERS = {"adams2": flow.adams2, "euler": flow.euler}
THETA = 10000.0
TABLE = 1024
"""Rows of the tables of queries and positions, of which a model uses the first num_queries (vq_model.py:59-70)."""


class _Attention(nn.Module):
    """Keys q, k, v, proj, and LayerNorms over a head, q_norm and k_norm."""

    def __init__(self, width: int, head: int, eps: float) -> None:
        super().__init__()
        self.heads = width // head
        self.q, self.k, self.v, self.proj = (nn.Linear(width, width) for _ in range(4))
        self.q_norm, self.k_norm = nn.LayerNorm(head, eps=eps), nn.LayerNorm(head, eps=eps)

    def forward(
        self, x: Tensor, source: Tensor | None = None, *, mask: Tensor | None = None, turn: Turn | None = None
    ) -> Tensor:
        """turn: of the queries, and of the keys where they are x's own."""
        from_ = x if source is None else source
        q, k, v = (heads_of(layer(y), self.heads) for layer, y in ((self.q, x), (self.k, from_), (self.v, from_)))
        q, k = self.q_norm(q), self.k_norm(k)
        if turn is not None:
            q, k = rotate_pairs(q, *turn), rotate_pairs(k, *turn) if source is None else k
        out: Tensor = self.proj(merged(F.scaled_dot_product_attention(q, k, v, attn_mask=mask)))
        return out


class _Block(nn.Module):
    """Pre-norm; what attention and MLP add is multiplied by learned vectors (tokenizer_transformer.py:123-166)."""

    def __init__(self, width: int, head: int, eps: float) -> None:
        super().__init__()
        self.gate1, self.gate2 = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(width))
        self.attention, self.mlp = _Attention(width, head, eps), Mlp(width, 4 * width, act=F.silu)
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)

    def forward(self, x: Tensor, *, mask: Tensor, turn: Turn | None = None) -> Tensor:
        x = x + self.gate1 * self.attention(self.norm1(x), mask=mask, turn=turn)
        out: Tensor = x + self.gate2 * self.mlp(self.norm2(x))
        return out


class _SitBlock(nn.Module):
    """What a patch reads from the condition modulates it, beside the time (diff_decoder.py:164-242)."""

    def __init__(self, width: int, head: int, eps: float, *, timed: bool) -> None:
        super().__init__()
        self.attention, self.cross_attn = _Attention(width, head, eps), _Attention(width, head, eps)
        self.mlp = Mlp(width, 4 * width, act=F.silu)
        self.plain = nn.LayerNorm(width, eps=eps, elementwise_affine=False)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.time_embed: nn.Module = TimeEmbedder(width, width=width) if timed else nn.Identity()
        self.cond_embed = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, x: Tensor, condition: Tensor, t: Tensor, turn: Turn) -> Tensor:
        read = self.cross_attn(self.plain(x), self.plain(self.cond_embed(condition)), turn=turn)
        six = self.adaLN_modulation(self.time_embed(t)[:, None] + read).chunk(6, dim=-1)
        x = x + six[2] * self.attention(modulate(self.plain(x), six[0], six[1]), turn=turn)
        out: Tensor = x + six[5] * self.mlp(modulate(self.plain(x), six[3], six[4]))
        return out


class _Net(nn.Module):
    """Noisy pixels and a group's condition -> velocity, from noise at 0 to the picture at 1."""

    def __init__(self, c: Config, colours: int, condition: int, head: int, axes: tuple[int, ...], eps: float) -> None:
        super().__init__()
        width, self.patch, self.axes = c.integer("width"), c.integer("patch_size"), axes
        c.choice("cond_width", (condition,))
        _divisible(width, head)
        shared, by_linear = c.flag("share_time_encoding"), c.flag("mlp_head")
        if by_linear and not shared:
            raise VtbenchError(
                "arch.diffusion: mlp_head reads the shared time, so that share_time_encoding must be true"
            )
        self.time_embed = TimeEmbedder(width, width=width) if shared else None
        self.cond_mlp, cells = nn.Linear(condition, width), colours * self.patch**2
        self.norm = nn.LayerNorm(width, eps=eps, elementwise_affine=False)
        self.conv_in = nn.Conv2d(cells, width, 1)
        self.linear_out = FinalLayer(width, cells) if by_linear else None
        self.conv_out = None if by_linear else nn.Conv2d(width, cells, 1)
        self.blocks = nn.ModuleList(_SitBlock(width, head, eps, timed=not shared) for _ in range(c.integer("depth")))

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """x (B, colours, H, W), t (B,) in 0..1, condition (B, queries, condition) -> like x."""
        condition, t = self.norm(self.cond_mlp(condition)), 1000 * t
        t = t if self.time_embed is None else self.time_embed(t)
        rows = self.conv_in(F.pixel_unshuffle(x, self.patch))
        grid = (rows.shape[2], rows.shape[3])
        turn = rotary(raster(*grid), self.axes, THETA, x)
        rows = rows.flatten(2).transpose(1, 2)
        for block in self.blocks:
            rows = block(rows, condition, t, turn)
        rows = self.norm(rows)
        if self.linear_out is not None:
            rows = self.linear_out(rows, t[:, None])
        cells = rows.transpose(1, 2).unflatten(2, grid)
        return F.pixel_shuffle(cells if self.conv_out is None else self.conv_out(cells), self.patch)


class DAr(nn.Module):
    """arch: image_size, in_channels, patch_size, encoder and decoder {width, layers, head_dim}, rope_axes,
    query_low_rank, num_queries, queries_per_step, num_query_groups, num_denoising_steps, quantizer (vq), diffusion
    {width, cond_width, patch_size, depth, data_std, time_shift, mlp_head, share_time_encoding, sampler}, norm_eps.
    `image_size` is what it was trained at; others run.
    """

    value_range = (-1.0, 1.0)
    optional = ("diff_decoder.net.repa_out.", "quantize.codebook_used")
    downsample: int | None = None
    channel_axis = 1
    sampler_options = ("steps",)

    @staticmethod
    def infer_arch(shapes: infer.Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
        """The arch of a checkpoint of these shapes; queries, groups, steps and sizes of images are not in them."""
        if "diff_decoder.net.conv_in.weight" not in shapes or "quantize.embedding.weight" not in shapes:
            return None
        arch, net = copy.deepcopy(dict(like)), "diff_decoder.net"
        width, colours, side = shapes["patchify.weight"][:3]
        head = shapes["encoder_layers.0.attention.q_norm.weight"][0]
        out, codes = shapes["quant_out_conv.weight"][:2]
        arch.update(in_channels=colours, patch_size=side, query_low_rank="query_linear.weight" in shapes)
        arch["encoder"].update(width=width, layers=infer.count(shapes, "encoder_layers.{i}."), head_dim=head)
        arch["decoder"].update(width=out, layers=infer.count(shapes, "decoder_layers.{i}."), head_dim=head)
        arch["quantizer"].update(codebook_size=shapes["quantize.embedding.weight"][0], embed_dim=codes)
        inner, cells = shapes[f"{net}.conv_in.weight"][:2]
        arch["diffusion"].update(
            width=inner,
            cond_width=out,
            patch_size=math.isqrt(cells // colours),
            depth=infer.count(shapes, f"{net}.blocks.{{i}}."),
            mlp_head=f"{net}.linear_out.linear.weight" in shapes,
            share_time_encoding=f"{net}.time_embed.mlp.0.weight" in shapes,
        )
        return arch

    def __init__(self, arch: Mapping[str, Any]) -> None:
        super().__init__()
        c = Config(arch, "arch")
        self.fixed_size: int | None = c.integer("image_size")
        self.colours, side, eps = c.integer("in_channels"), c.integer("patch_size"), c.number("norm_eps")
        self.axes, self.positions = c.integers("rope_axes", length=2), c.integer("num_queries")
        self.each, self.groups = c.integer("queries_per_step"), c.integer("num_query_groups")
        self.steps = c.integer("num_denoising_steps")
        if not self.each <= self.positions <= TABLE:
            raise VtbenchError(f"arch.num_queries is {self.positions}, but must lie in {self.each}..{TABLE}")
        e, d, q, n = c.sub("encoder"), c.sub("decoder"), c.sub("quantizer"), c.sub("diffusion")
        width, out, head = e.integer("width"), d.integer("width"), e.integer("head_dim")
        d.choice("head_dim", (head,))
        _divisible(width, head)
        _divisible(out, head)
        n_patch = n.integer("patch_size")
        if sum(self.axes) != head or any(a % 2 for a in self.axes):
            raise VtbenchError(f"arch.rope_axes {list(self.axes)} must be even and add up to head_dim {head}")
        self.least = math.lcm(side, n_patch)
        if self.fixed_size % self.least:
            raise VtbenchError(
                f"arch.image_size {self.fixed_size} is no multiple of both patch sizes, {side} and {n_patch}"
            )
        q.choice("type", ("vq",))
        dim = q.integer("embed_dim")
        self.encoder_layers = nn.ModuleList(_Block(width, head, eps) for _ in range(e.integer("layers")))
        self.decoder_layers = nn.ModuleList(_Block(out, head, eps) for _ in range(d.integer("layers", at_least=0)))
        self.encoder_norm = nn.LayerNorm(width, eps=eps, elementwise_affine=False)
        self.norm = nn.LayerNorm(out, eps=eps, elementwise_affine=False)
        self.patchify = nn.Conv2d(self.colours, width, side, stride=side)
        self.quant_in_conv = nn.Conv2d(width, dim, 1, bias=False)
        self.quant_out_conv = nn.Conv2d(dim, out, 1, bias=False)
        self.quantize = VQ(q.integer("codebook_size"), dim, l2_norm=q.flag("l2_norm"))
        low = c.flag("query_low_rank")
        self.query_embedding = nn.Embedding(TABLE, 8 if low else width)
        self.query_linear: nn.Module = nn.Linear(8, width) if low else nn.Identity()
        self.decoder_embedding = nn.Embedding(TABLE, out)
        self.diff_decoder: Any = nn.ModuleDict({"net": _Net(n, self.colours, out, head, self.axes, eps)})
        self.std, self.shift = n.number("data_std"), n.number("time_shift")
        self.sampler = n.choice("sampler", tuple(SAMPLERS))
        for part in (e, d, q, n, c):
            part.done()
        self.alphabets = self.quantize.alphabets

    def noise_shape(self, size: tuple[int, int]) -> tuple[int, ...]:
        """Of the noise of one image."""
        return (self.colours, *size)

    def evaluations(self, *, steps: int | None = None, **_: Any) -> int:
        """Of the diffusion net for an image."""
        return self.steps if steps is None else steps

    def encode(self, x: Tensor) -> Encoded:
        """x: (B, colours, H, W) in [-1, 1]. Latents are (B, embed_dim, 1, num_queries)."""
        check_size(x.shape[2], x.shape[3], self.least)
        cells = self.patchify(x)
        patches = self.encoder_norm(cells.flatten(2).transpose(1, 2))
        queries = self.query_linear(self.query_embedding.weight[: self.positions]).expand(len(x), -1, -1)
        # Queries are not turned: their place is the origin.
        places = F.pad(raster(cells.shape[2], cells.shape[3]), (0, 0, 0, self.positions))
        turn = rotary(places, self.axes, THETA, x)
        mask = causal_tail(patches.shape[1], self.positions, device=x.device)
        rows = torch.cat([patches, queries], dim=1)
        for block in self.encoder_layers:
            rows = block(rows, mask=mask, turn=turn)
        out = self.encoder_norm(rows[:, -self.positions :])
        latent = self.quant_in_conv(out.transpose(1, 2)[:, :, None])
        tokens, quantized = self.quantize(latent)
        return Encoded(tokens, pre_quant=latent, quantized=quantized)

    def decode(
        self,
        latent: Tensor,
        *,
        size: tuple[int, int],
        noise: Tensor,
        steps: int | None = None,
        schedule: str | None = None,
    ) -> Tensor:
        """latent: ids (B, num_queries); noise (B, colours, *size).

        steps: after how many of num_denoising_steps to stop, the last of them jumping to the end.
        """
        check_size(*size, self.least)
        if latent.ndim != 2 or latent.shape[1] != self.positions:
            raise VtbenchError(f"ids are {tuple(latent.shape)}, but this network decodes (B, {self.positions})")
        if schedule is not None and not schedule.endswith(self.sampler):
            raise VtbenchError(f"schedule is {schedule!r}, but this network's is 'shifted, {self.sampler}'")
        count = self.evaluations(steps=steps)
        if not 1 <= count <= self.steps:
            raise VtbenchError(f"steps is {count}, but must lie in 1..{self.steps}: each step has tokens of its own")
        conditions, net = self._conditions(latent), self.diff_decoder["net"]
        even = [i / self.steps for i in range(count)]

        def velocity(x: Tensor, t: float, step: int) -> Tensor:
            first = int(math.floor(even[step] * self.groups + 0.5) / self.groups * self.positions)
            first = min(self.positions - self.each, first)
            at = flow.moment(t, x)
            out: Tensor = net(x, at, conditions[:, first : first + self.each])
            return out

        # float32, as upstream's.
        times = torch.tensor([flow.shifted(t, self.shift) for t in (*even, 1.0)], dtype=torch.float32).tolist()
        return sampling.finite(SAMPLERS[self.sampler](velocity, noise, times), "D-AR") / self.std

    def _conditions(self, tokens: Tensor) -> Tensor:
        """(B, num_queries, width)."""
        dtype = self.quant_out_conv.weight.dtype
        rows = self.quant_out_conv(self.quantize.lookup(tokens, (1, self.positions)).to(dtype))
        rows = rows[:, :, 0].transpose(1, 2) + self.decoder_embedding.weight[: self.positions]
        mask = causal_tail(0, self.positions, device=tokens.device)
        for block in self.decoder_layers:
            rows = block(rows, mask=mask)
        out: Tensor = self.norm(rows)
        return out


def _divisible(width: int, head: int) -> None:
    if width % head:
        raise VtbenchError(f"a width of {width} is no multiple of head_dim {head}: change one of them")
