"""M3, Matryoshka multimodal models: nested average pooling of the projected grid (mu-cai/matryoshka-mm at ec30cd3,
llava/model/llava_arch.py:147-157). Untrained, the same operator is the baseline `average pooling`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vtbench.adapters.reducers._selection import on_grid, pairs
from vtbench.types.errors import VtbenchError
from vtbench.types.reduction import Needs, Reducer, ReducerCard, Reduction, TowerView

if TYPE_CHECKING:
    from torch import Tensor


def nested(x: Tensor, scale: int) -> Tensor:
    """(B, count, C) of a square grid (B, N, C): windows of side int(sqrt(N / scale)) without padding, so that rows and
    columns that fill no window are dropped and the count may differ from `scale`."""
    from torch.nn.functional import avg_pool2d

    root, window = math.isqrt(x.shape[1]), int(math.sqrt(x.shape[1] / scale))
    grid = x.transpose(1, 2).unflatten(2, (root, root))
    return avg_pool2d(grid, window, window).flatten(2).transpose(1, 2)


def _rule(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    return {f"tokens_{scale}": nested(inputs["x"], scale) for scale in params["scales"]}


class M3(Reducer):
    """The operator; what M3 gains by training is in its own checkpoints."""

    needs = Needs(grid=True)

    def reduce(self, view: TowerView, budget: int, seed: int) -> Reduction:
        import torch

        height, width = on_grid(view, self.card.name)
        if height != width:
            raise VtbenchError(f"M3 pools square grids, and this one is {height} x {width}: take adaptive-pooling")
        window = int(math.sqrt(height * width / budget))
        values = nested(view.features[None], budget)[0]
        side = height // window
        tokens = torch.arange(height * width)
        row, column = tokens // width // window, tokens % width // window
        inside = (row < side) & (column < side)
        sources = pairs((row * side + column)[inside], tokens[inside])
        said = f"M3 pools whole windows, and those of {window} x {window} leave {len(values)} tokens"
        more = (said,) if len(values) > budget else ()
        weights = torch.full((len(sources),), window**-2.0)
        return Reduction(values=values, sources=sources, weights=weights, fallbacks=more)


REDUCERS = (
    ReducerCard(
        "m3",
        "M3: nested average pooling",
        ("projector",),
        "merge",
        training="trained",
        positions="renumbered",
        knob="scale: 1, 9, 36, 144 or 576 tokens of 24 x 24",
        licence="Apache-2.0",
        code="https://github.com/mu-cai/matryoshka-mm",
        commit="ec30cd37f549",
        rules={"m3": _rule},
        build=M3,
    ),
)
