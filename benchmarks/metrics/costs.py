"""Operations of a reduced tower: torch's counter against matrix products counted by hand.

Seconds have no reference: what a clock shows is nobody's definition.
"""

from __future__ import annotations

from typing import Any

from benchmarks.metrics.comparison import Comparison, relative
from benchmarks.metrics.understanding import BLOCK, DEPTH, INNER, KEEP, PATCH, SIDE, TOKENS, WIDTH, Drawn, tower
from vtbench.models.operations import costs
from vtbench.types.reading import Point
from vtbench.types.reduction import Needs


class Attended(Drawn):
    """Reads a row of attention, as rules do that rank tokens by it."""

    needs = Needs(rows=(-1,))


def product(rows: int, inner: int, columns: int) -> int:
    """Operations of one matrix product, two a multiply-add."""
    return 2 * rows * inner * columns


def block(tokens: int) -> int:
    """q, k, v and what joins the heads; scores and their sums, over all heads; an MLP of two matrices."""
    own = 4 * product(tokens, WIDTH, WIDTH)
    scores = product(tokens, WIDTH, tokens) + product(tokens, tokens, WIDTH)
    return own + scores + product(tokens, WIDTH, INNER) + product(tokens, INNER, WIDTH)


def cost_comparisons() -> list[Comparison]:
    import torch

    image = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(7))
    patches, row = product(TOKENS, 3 * PATCH**2, WIDTH), product(1, WIDTH, TOKENS + 1)
    # With the CLS token, which is cut nowhere.
    whole = patches + DEPTH * block(TOKENS + 1)
    cut = patches + BLOCK * block(TOKENS + 1) + (DEPTH - BLOCK) * block(KEEP + 1)
    gap = 0.0
    with tower() as subject:
        for stage, network in (("vit", cut), ("tower", whole)):
            point: Any = Point(Attended(), KEEP, stage, BLOCK if stage == "vit" else None)
            ours = costs(subject, point, image, [0], [])
            wanted = {"flops": network + row, "flops-full": whole, "flops-score": row}
            gap = max(gap, *(relative(ours[name], value) for name, value in wanted.items()))
    on = f"a CLIP tower of {DEPTH} blocks, {KEEP} of {TOKENS} tokens kept before block {BLOCK} and behind the tower"
    how = "the matrix products written out, eager attention"
    return [Comparison("flops, flops-full, flops-score", how, on, gap, 0, "integers", True)]
