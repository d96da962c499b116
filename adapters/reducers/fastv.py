"""FastV: behind the second layer of the language model, only the image tokens that its last token attends to
(pkunlp-icler/FastV at d165972, src/transformers/src/transformers/models/llama/modeling_llama.py:736-760)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.adapters.reducers._selection import best, in_place
from vtbench.types.errors import VtbenchError
from vtbench.types.reduction import Cut, Needs, Reducer, ReducerCard, Reduction, TowerView


def _rule(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """attn_last (1, heads, L): the last query's row of layer K - 1. kept counts from the picture's first token."""
    import torch

    start, count = params["sys"], params["image_tokens"]
    row = inputs["attn_last"][0].mean(dim=0)
    kept = in_place(best(row[start : start + count], params["rank"]))
    places = torch.cat([torch.arange(start), kept + start, torch.arange(start + count, len(row))])
    return {"kept": kept, "position_ids": places[None]}


class FastV(Reducer):
    """The budget is the number of image tokens from layer K on; layers before K have all of them."""

    def __init__(self, card: ReducerCard, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(card, options)
        if self.options["layer"] < 1:
            raise VtbenchError(
                f"FastV's layer {self.options['layer']}: it reads the attention of the layer before, so give 1 or more"
            )
        self.needs = Needs(rows=(self.options["layer"] - 1,), text=True)

    def schedule(self, depth: int, n: int, budget: int) -> list[tuple[int, Cut]]:
        layer = self.options["layer"]

        def cut(view: TowerView) -> Reduction:
            row = view.image(view.rows[layer - 1]).mean(dim=0)
            return Reduction(in_place(best(row, budget)), positions="original")

        return [(layer, cut)]


REDUCERS = (
    ReducerCard(
        "fastv",
        "FastV: the last token's attention, once",
        ("llm",),
        "select",
        query_aware=True,
        needs=("attention of layer K - 1, last query",),
        positions="original",
        knob="count at layer K (2)",
        code="https://github.com/pkunlp-icler/FastV",
        commit="d1659729b5bf",
        deviates="a batch is pruned by its first row; the variant that only masks saves nothing",
        rules={"fastv": _rule},
        build=FastV,
        options={"layer": 2},
    ),
)
