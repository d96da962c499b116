"""EchoingPixels: one pool of audio and video tokens, the best of which the language model reads
(CharlesGong12/EchoingPixels at 99fd9ec, qwen2_5_omni_compress/modeling_qwen2_5_omni_compress.py:124-139, 337-506)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vtbench.adapters.reducers._layers import dense
from vtbench.adapters.reducers._selection import best, in_place
from vtbench.types.reduction import ReducerCard

if TYPE_CHECKING:
    from torch import Tensor

EPS = 1e-6


def _best(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """hidden, embeds (1, L, C): text, `video` and `audio` tokens, text; position ids are 0 … L - 1 unless stated."""
    import torch
    from torch.nn.functional import rms_norm, silu

    hidden, start = inputs["hidden"], params["prefix"]
    unit = rms_norm(hidden, hidden.shape[-1:], weights["ln.weight"], EPS)
    scores = dense(silu(dense(unit, weights, "score_head.0")), weights, "score_head.2")[..., 0]
    pool = params["video"] + params["audio"]
    chosen = start + best(scores[0, start : start + pool], max(1, math.ceil(pool * params["ratio"])))
    text = torch.cat([torch.arange(start), torch.arange(start + pool, hidden.shape[1])])
    keep = in_place(torch.cat([text, chosen]))
    return {
        "keep": keep,
        "hidden_out": hidden[:, keep],
        "embeds_out": inputs["embeds"][:, keep],
        "position_ids": inputs["position_ids"][..., keep] if "position_ids" in inputs else keep.expand(4, 1, -1),
        "scores": scores,
    }


def _rope(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """Sync-RoPE: the frequencies' sections follow time, row, column and time again, position_ids (4, B, L).

    As upstream, sections are counted on from the first to the second half of the channels, modulo the rows: where there
    are as many as rows, both halves have the same.
    """
    import torch

    rows, side = inputs["position_ids"], params["head_dim"]
    dtype = inputs["q"].dtype
    inverse = 1.0 / params["theta"] ** (torch.arange(0, side, 2, dtype=dtype) / side)
    angles = torch.cat([rows[..., None].to(dtype) * inverse] * 2, dim=-1)
    parts = angles.split(params["sections"] * 2, dim=-1)
    angle = torch.cat([part[i % len(rows)] for i, part in enumerate(parts)], dim=-1)
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]

    def turned(x: Tensor) -> Tensor:
        one, two = x.chunk(2, dim=-1)
        return x * cos + torch.cat([-two, one], dim=-1) * sin

    return {"q": turned(inputs["q"]), "k": turned(inputs["k"])}


REDUCERS = (
    ReducerCard(
        "echoingpixels",
        "EchoingPixels: the best of one pool of audio and video tokens",
        ("llm",),
        "select",
        training="trained",
        query_aware=True,
        needs=("audio, video and text through extra layers",),
        positions="sliced, with a second row of time (Sync-RoPE)",
        knob="ratio",
        licence="MIT",
        code="https://github.com/CharlesGong12/EchoingPixels",
        commit="99fd9ec85a60",
        rules={"echoingpixels-topk": _best, "echoingpixels-rope": _rope},
    ),
)
