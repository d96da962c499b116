"""Blocks of video autoencoders: layers over frames and over time, causal or not, in one layout (B, C, T, H, W).

microsoft/VidTok @ d6ad92d: vidtok/modules/model_3dcausal.py (1.0), model_3dcausal_v1_1.py, model_3dnoncausal.py. A
causal convolution pads in front: zeros in 1.0, copies of the first frame in 1.1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.parts.conv import Norm
from vtbench.types.errors import VtbenchError


@dataclass(frozen=True)
class Rules:
    """What the blocks of a network share. copies: 1.1's padding."""

    causal: bool
    copies: bool
    norm: str
    groups: int
    eps: float

    def front(self, x: Tensor, frames: int) -> Tensor:
        """x (B, C, T, H, W) with `frames` more before it."""
        if frames == 0:
            return x
        first = x[:, :, :1].expand(-1, -1, frames, -1, -1)
        return torch.cat([first if self.copies else torch.zeros_like(first), x], dim=2)


def by_frame(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A 2-D layer on every frame of x (B, C, T, H, W)."""
    out = layer(x.transpose(1, 2).flatten(0, 1))
    return out.unflatten(0, (len(x), -1)).transpose(1, 2)


def by_place(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A 1-D layer on the course in time of every place of x (B, C, T, H, W)."""
    out = layer(x.permute(0, 3, 4, 1, 2).flatten(0, 2))
    return out.unflatten(0, (len(x), x.shape[3], x.shape[4])).permute(0, 3, 4, 1, 2)


class _ChannelNorm(nn.Module):
    """LayerNorm over the channels alone, the same whatever the axes behind them mean."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(x.movedim(1, -1)).movedim(-1, 1)
        return out


class _GroupNorm(Norm):
    """Over a frame, over a whole clip, over the course in time of a place, or in a place of a frame by itself."""

    def __init__(self, groups: int, width: int, eps: float, over: str) -> None:
        if width % groups:
            raise VtbenchError(f"a level is {width} channels wide, which {groups} norm groups do not divide")
        super().__init__(groups, width, eps=eps)
        self.over = over

    def forward(self, x: Tensor) -> Tensor:
        if self.over == "cell":
            cells = x.movedim(1, -1)
            return super().forward(cells.flatten(0, -2)).reshape(cells.shape).movedim(-1, 1)
        fold = {"frame": by_frame, "place": by_place}.get(self.over)
        return super().forward(x) if fold is None else fold(super().forward, x)


def norm(rules: Rules, width: int, over: str) -> nn.Module:
    if rules.norm == "layernorm":
        return _ChannelNorm(width, rules.eps)
    return _GroupNorm(rules.groups, width, rules.eps, over)


class _Frames(nn.Conv2d):
    """A 2-D convolution of every frame."""

    def forward(self, x: Tensor) -> Tensor:
        return by_frame(super().forward, x)


class _Causal(nn.Module):
    """Key conv: a 3-D convolution that sees no later frame."""

    def __init__(self, rules: Rules, width: int, out: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.rules, self.frames = rules, kernel - stride
        side = kernel // 2
        self.conv = nn.Conv3d(width, out, kernel, stride=(stride, 1, 1), padding=(0, side, side))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(self.rules.front(x, self.frames))
        return out


class _CausalTime(nn.Module):
    """Key conv: a 1-D convolution in time that sees no later frame."""

    def __init__(self, rules: Rules, width: int) -> None:
        super().__init__()
        self.rules, self.conv = rules, nn.Conv1d(width, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return by_place(self.conv, self.rules.front(x, 2))


class _Time(nn.Conv1d):
    """A 1-D convolution in time."""

    def forward(self, x: Tensor) -> Tensor:
        return by_place(super().forward, x)


def conv(rules: Rules, width: int, out: int, kernel: int = 3) -> nn.Module:
    if rules.causal:
        return _Causal(rules, width, out, kernel, 1)
    return nn.Conv3d(width, out, kernel, padding=kernel // 2)


class Block(nn.Module):
    """norm, SiLU, conv, twice, with a 1x1 `nin_shortcut` where the width changes; of one of three kinds."""

    def __init__(self, rules: Rules, width: int, out: int, kind: str) -> None:
        super().__init__()
        # In the causal 1-D block upstream folds the places into the batch twice (model_3dcausal.py:470-482).
        over = {"2d": "frame", "3d": "frame" if rules.causal else "clip", "1d": "cell" if rules.causal else "place"}
        self.norm1, self.norm2 = norm(rules, width, over[kind]), norm(rules, out, over[kind])
        self.nin_shortcut: nn.Module = nn.Identity()
        self.conv1: nn.Module
        self.conv2: nn.Module
        if kind == "2d":
            self.conv1, self.conv2 = _Frames(width, out, 3, padding=1), _Frames(out, out, 3, padding=1)
            if width != out:
                self.nin_shortcut = _Frames(width, out, 1)
        elif kind == "3d":
            self.conv1, self.conv2 = conv(rules, width, out), conv(rules, out, out)
        elif rules.causal:
            self.conv1, self.conv2 = _CausalTime(rules, out), _CausalTime(rules, out)
        else:
            self.conv1, self.conv2 = _Time(out, out, 3, padding=1), _Time(out, out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        out: Tensor = self.nin_shortcut(x) + h
        return out


class _Attention(nn.Module):
    """One head, among the cells of a frame."""

    def __init__(self, rules: Rules, width: int) -> None:
        super().__init__()
        self.norm = norm(rules, width, "frame" if rules.causal else "clip")
        self.q, self.k, self.v, self.proj_out = (conv(rules, width, width, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        rows = [part(h).flatten(3).permute(0, 2, 3, 1) for part in (self.q, self.k, self.v)]
        mixed = F.scaled_dot_product_attention(*rows).permute(0, 3, 1, 2).unflatten(3, x.shape[3:])
        out: Tensor = x + self.proj_out(mixed)
        return out


class Halve(nn.Module):
    """Half the sides: a convolution of stride 2 over zeros below and to the right."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return by_frame(self.conv, F.pad(x, (0, 1, 0, 1)))


class Double(nn.Module):
    """Twice the sides: nearest neighbour, then a convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return by_frame(self.conv, F.interpolate(x, scale_factor=(1.0, 2.0, 2.0), mode="nearest"))


class HalveTime(nn.Module):
    """Half the frames: a learned mixture of a mean over three and a convolution of stride 2."""

    def __init__(self, rules: Rules, width: int) -> None:
        super().__init__()
        self.rules, self.mix_factor = rules, nn.Parameter(torch.full((1,), 2.0))
        plain = nn.Conv3d(width, width, 3, stride=(2, 1, 1), padding=(0, 1, 1))
        self.conv: nn.Module = _Causal(rules, width, width, 3, 2) if rules.causal else plain

    def forward(self, x: Tensor) -> Tensor:
        share = self.mix_factor.sigmoid()
        # The other kind pads one frame of zeros behind, for both.
        padded = self.rules.front(x, 1) if self.rules.causal else F.pad(x, (0, 0, 0, 0, 0, 1))
        mean = F.avg_pool3d(padded, (3, 1, 1), stride=(2, 1, 1))
        out: Tensor = share * mean + (1 - share) * self.conv(x if self.rules.causal else padded)
        return out


class DoubleTime(nn.Module):
    """Twice the frames: a learned mixture of interpolation and a convolution of it.

    apart: 1.1's trilinear interpolates that many leading frames apart from the others; 0: nearest neighbour.
    """

    def __init__(self, rules: Rules, width: int, apart: int) -> None:
        super().__init__()
        self.apart, self.mix_factor = apart, nn.Parameter(torch.full((1,), 2.0))
        self.conv = conv(rules, width, width)

    def forward(self, x: Tensor) -> Tensor:
        share, mode = self.mix_factor.sigmoid(), "trilinear" if self.apart else "nearest"
        parts = (x[:, :, : self.apart], x[:, :, self.apart :])
        x = torch.cat([F.interpolate(p, scale_factor=(2.0, 1.0, 1.0), mode=mode) for p in parts if p.shape[2]], dim=2)
        out: Tensor = share * x + (1 - share) * self.conv(x)
        return out


class Level(nn.Module):
    """Blocks of a level, and under `key` what comes after them, if anything."""

    def __init__(self, blocks: Sequence[nn.Module], key: str, change: nn.Module | None) -> None:
        super().__init__()
        self.block = nn.ModuleList(blocks)
        self.change = key if change is not None else None
        if change is not None:
            self.add_module(key, change)

    def changed(self, x: Tensor) -> Tensor:
        return x if self.change is None else self.get_submodule(self.change)(x)  # type: ignore[no-any-return]


class Middle(nn.Module):
    def __init__(self, rules: Rules, width: int) -> None:
        super().__init__()
        self.block_1, self.block_2 = Block(rules, width, width, "3d"), Block(rules, width, width, "3d")
        self.attn_1 = _Attention(rules, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.block_2(self.attn_1(self.block_1(x)))
        return out
