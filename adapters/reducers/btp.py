"""BTP, balanced token pruning: early layers keep what is spread out, late ones what the last token attends to
(EmbodiedCity/NeurIPS2025-Balanced-Token-Pruning at 9682db0, llava/modeling_llama.py)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vtbench.adapters.reducers._selection import best, cosine_distances, farthest
from vtbench.types.reduction import ReducerCard

if TYPE_CHECKING:
    from torch import Tensor

LAYERS = (4, 7, 15, 23)
"""Counted from 1; tokens are dropped before them, all of them before the last."""
FIRST, SECOND = 288, 144


def spread(height: int, width: int, count: int) -> list[int]:
    """Places of a grid, in the order of picking, from the first on, each farthest from its nearest one by Manhattan."""
    import torch

    rows, columns = torch.arange(height * width) // width, torch.arange(height * width) % width
    apart = (rows[:, None] - rows).abs() + (columns[:, None] - columns).abs()
    return farthest(apart.double(), count, [0])


def diverse(x: Tensor, count: int, chosen: list[int] | None) -> list[int]:
    """`chosen` and `count` more (without it `count` in all), by max-min distance of cosines; x (N, C)."""

    distances = cosine_distances(x)
    if chosen:
        return farthest(distances, len(chosen) + count, list(chosen))
    own = distances.clone().fill_diagonal_(math.inf)
    return farthest(distances, count, [int(own.amin(dim=-1).argmax())])


def attended(row: Tensor, select: int, extra: int, early: int) -> list[int]:
    """`select` of the `extra` most attended tokens, by falling attention: first those at one of the first `early`
    places, then the others. row (N,)."""

    top = best(row, extra).tolist()
    first = [i for i in top if i < early][:select]
    return first + [i for i in top if i >= early][: select - len(first)]


def _spatial(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    import torch

    return {f"sel_{i}": torch.tensor(spread(*case)) for i, case in enumerate(params["cases"])}


def _diversity(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    import torch

    chosen = params["given"]
    count = params["k"]
    return {"selected": torch.tensor(diverse(inputs["x"], count, chosen))}


def _attention(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    import torch

    row = inputs["attn_last"][0].mean(dim=0)
    return {"selected": torch.tensor(attended(row, params["select"], params["extra"], params["k"]))}


def _schedule(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """LLaVA-1.5's schedule as released: 576 -> 288 -> 144 -> 48 -> 0. Positions are those of the picture's tokens."""
    import torch

    start, count, text = params["image_start"], params["image_tokens"], params["text_tokens"]

    def row(layer: int, now: int) -> Tensor:
        attention: Tensor = inputs[f"attn_last_{layer}"][0].mean(dim=0)
        return attention[start : start + now]

    x = inputs["hidden_4"][0, start : start + count]
    side = math.isqrt(count)
    part = int(FIRST * 0.3)
    chosen = {*spread(side, side, FIRST // 2), *diverse(x, part, None)}
    chosen |= set(attended(row(4, count), part, int(part * 3.7), FIRST))
    if len(chosen) < FIRST:
        chosen = set(diverse(x, FIRST - len(chosen), sorted(chosen)))
    first = sorted(chosen)
    # As upstream, which takes FIRST tokens for the picture's even where the union holds more.
    x = inputs["hidden_7"][0, start : start + FIRST]
    part = int(SECOND * 0.9)
    # As upstream: what both choose stands twice, so that fewer tokens differ than are fed.
    both = diverse(x, int(SECOND * 0.1), None) + attended(row(7, FIRST), part, int(part * 1.5), SECOND)
    second = sorted(diverse(x, SECOND - len(both), both))
    last = len(second) // 3
    third = sorted(attended(row(15, len(second)), last, int(last * 1.2), last))
    places = torch.cat([torch.arange(start), torch.arange(start + count, start + count + text)])
    after_7 = torch.tensor(first)[second]
    return {
        "kept_4": torch.tensor(first),
        "kept_7": after_7,
        "kept_15": after_7[third],
        "kept_23": torch.zeros(0, dtype=torch.int64),
        "position_ids_final": places[None],
    }


REDUCERS = (
    ReducerCard(
        "btp",
        "BTP: diversity in early layers, attention in late ones",
        ("llm",),
        "select",
        query_aware=True,
        needs=("attention of the layer before, last query", "hidden states of image tokens", "grid"),
        positions="original",
        knob="none: 288, 144, 48 and 0 tokens before layers 4, 7, 15 and 23",
        code="https://github.com/EmbodiedCity/NeurIPS2025-Balanced-Token-Pruning",
        commit="9682db06837c",
        deviates="the second stage chooses some tokens twice: 144 are fed, fewer are different",
        rules={
            "btp-spatial-init": _spatial,
            "btp-diversity": _diversity,
            "btp-attention": _attention,
            "btp": _schedule,
        },
    ),
)
