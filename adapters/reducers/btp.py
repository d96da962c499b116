"""BTP, balanced token pruning: early layers keep what is spread out, late ones what the last token attends to
(EmbodiedCity/NeurIPS2025-Balanced-Token-Pruning at 9682db0, llava/modeling_llama.py)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vtbench.adapters.reducers._schedules import layers_of
from vtbench.adapters.reducers._selection import best, cosine_distances, farthest
from vtbench.types.errors import VtbenchError
from vtbench.types.reduction import Cut, Needs, Reducer, ReducerCard, Reduction, TowerView

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


def early(x: Tensor, row: Tensor, grid: tuple[int, int], count: int) -> list[int]:
    """First stage: half of `count` spread over the grid, some that are unlike, some that are attended, and more unlike
    ones where these coincide. x (N, C), row (N,). As upstream, more than `count` where they do not."""
    part = int(count * 0.3)
    chosen = {*spread(*grid, count // 2), *diverse(x, part, None)}
    chosen |= set(attended(row, part, int(part * 3.7), count))
    if len(chosen) < count:
        chosen = set(diverse(x, count - len(chosen), sorted(chosen)))
    return sorted(chosen)


def middle(x: Tensor, row: Tensor, count: int) -> list[int]:
    """Second stage: a tenth that is unlike, the rest attended. As upstream, what both choose stands twice, so that
    fewer tokens differ than are fed."""
    part = int(count * 0.9)
    unlike = int(count * 0.1)
    both = (diverse(x, unlike, None) if unlike else []) + attended(row, part, int(part * 1.5), count)
    return sorted(diverse(x, count - len(both), both) if len(both) < count else both)


def late(row: Tensor, count: int) -> list[int]:
    """Third stage: attended ones alone."""
    return sorted(attended(row, count, int(count * 1.2), count))


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

    side = math.isqrt(count)
    first = early(inputs["hidden_4"][0, start : start + count], row(4, count), (side, side), FIRST)
    # As upstream, which takes FIRST tokens for the picture's even where the union holds more.
    second = middle(inputs["hidden_7"][0, start : start + FIRST], row(7, FIRST), SECOND)
    third = late(row(15, len(second)), len(second) // 3)
    # As upstream, to which tokens beyond FIRST are text from then on.
    behind = [torch.tensor(first[FIRST:], dtype=torch.int64) + start, torch.arange(start + count, start + count + text)]
    places = torch.cat([torch.arange(start), *behind])
    after_7 = torch.tensor(first)[second]
    return {
        "kept_4": torch.tensor(first),
        "kept_7": after_7,
        "kept_15": after_7[third],
        "kept_23": torch.zeros(0, dtype=torch.int64),
        "position_ids_final": places[None],
    }


class BTP(Reducer):
    """One schedule, whatever the budget: a half, a quarter and a twelfth of the picture's tokens, then none (288, 144,
    48 and 0 of 576). Layers, counted from 0: 3, 6, 14 and 22 of 32, or those of the option."""

    def __init__(self, card: ReducerCard, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(card, options)
        self.layers = layers_of(self.options["layers"], "btp") or [layer - 1 for layer in LAYERS]
        if len(self.layers) != len(LAYERS) or self.layers[0] < 1:
            raise VtbenchError(
                f"BTP's layers {self.options['layers']!r}: give {len(LAYERS)} of them, none of them 0, such as "
                f"layers={'+'.join(str(layer - 1) for layer in LAYERS)}"
            )
        self.needs = Needs(rows=tuple(layer - 1 for layer in self.layers), text=True)

    def schedule(self, depth: int, n: int, budget: int) -> list[tuple[int, Cut]]:
        first = n // 2

        def cut(stage: int, layer: int) -> Cut:
            def of(view: TowerView) -> Reduction:
                import torch

                notes = (f"BTP has one schedule, from {n} tokens to none: the budget of {budget} is not read",)
                row, x = view.image(view.rows[layer - 1]).mean(dim=0), view.features
                if stage == 0 and view.grid is None:
                    raise VtbenchError(
                        f"BTP spreads tokens over a grid, and the picture's {n} tokens lie on none", code=1
                    )
                kept: list[int] = []
                if stage == 0 and view.grid is not None:
                    kept = early(x, row, view.grid, first)
                elif stage == 1:
                    kept = middle(x, row, min(n // 4, len(x)))
                elif stage == 2:
                    kept = late(row, len(x) // 3)
                return Reduction(torch.tensor(kept, dtype=torch.int64), positions="original", fallbacks=notes)

            return of

        return [(layer, cut(stage, layer)) for stage, layer in enumerate(self.layers)]


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
        build=BTP,
        options={"layers": ""},
    ),
)
