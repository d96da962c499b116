"""PyramidDrop: image tokens are cut after three layers of the language model, by the last instruction token's attention
(Cooperx521/PyramidDrop at 6444f30, llava/model/modeling_llama_pdrop.py:1291-1468)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.adapters.reducers._schedules import layers_of, quarters
from vtbench.adapters.reducers._selection import best, in_place, last_row
from vtbench.types.errors import VtbenchError
from vtbench.types.reduction import Cut, Needs, Reducer, ReducerCard, Reduction, TowerView


def ranked_by_the_last_token(
    inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]
) -> Mapping[str, Any]:
    """The image tokens that the last instruction token attends to most, in raster order, and the shorter sequence.

    The row is recomputed from the next layer's input norm, q, k and rotary, mean over heads: no map is needed.
    """
    import torch

    features = inputs["features"][0]
    start, now = params["image_start"], params["image_tokens_now"]
    row = start + now + params["text_after"] - 1
    layer = str(params["rank_layer"]).split()[0]
    sizes = params["heads"], row, params["rotary_base"], params.get("norm_eps", 1e-5)
    attention = last_row(features, weights, layer, *sizes).mean(dim=0)
    kept = in_place(best(attention[start : start + now], params["keep"]))
    embeds = torch.cat([features[:start], features[start + kept], features[start + now :]])
    return {"kept": kept, "embeds": embeds[None]}


def ratio_of(spans: list[int], depth: int, n: int, budget: int) -> float:
    """The ratio r for which stages of n, n r, n r^2, … tokens, each of so many layers, are `budget` in the mean.

    Raises VtbenchError where the layers before the first cut alone are more than that.
    """
    if budget * depth < spans[0] * n:
        least = -(-spans[0] * n // depth)
        raise VtbenchError(
            f"PyramidDrop cuts for the first time before layer {spans[0]} of {depth}, so that a mean over layers of "
            f"{budget} of {n} tokens cannot be reached: give --keep {least} or more, or its option layers"
        )
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        mean = sum(span * middle**stage for stage, span in enumerate(spans)) * n / depth
        low, high = (middle, high) if mean < budget else (low, middle)
    return high


def by_own_row(keep: int) -> Cut:
    """Keeps the tokens that the prompt's last token attends to most in the layer that is about to work."""

    def cut(view: TowerView) -> Reduction:
        import torch

        last = torch.tensor([view.prefix + len(view) + view.suffix - 1], device=view.features.device)
        row = view.image(view.extra["own"](last)[:, 0]).mean(dim=0)
        return Reduction(in_place(best(row, min(keep, len(view)))), positions="renumbered")

    return cut


class PyramidDrop(Reducer):
    """The budget is the mean over all layers, as the method's tables state it; the stages' ratio follows from it, or is
    that of the option. Layers: a quarter, a half and three quarters of all (8, 16 and 24 of 32)."""

    needs = Needs(text=True)

    def __init__(self, card: ReducerCard, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(card, options)
        if not 0 <= self.options["ratio"] <= 1:
            raise VtbenchError(f"PyramidDrop's ratio {self.options['ratio']}: give a number up to 1 (0: from --keep)")

    def schedule(self, depth: int, n: int, budget: int) -> list[tuple[int, Cut]]:
        layers = layers_of(self.options["layers"], "pyramiddrop") or quarters(depth)
        spans = [b - a for a, b in zip([0, *layers], [*layers, depth], strict=True)]
        ratio = self.options["ratio"] or ratio_of(spans, depth, n, budget)

        # Ratios are of the original number, as upstream's are; a rounding error must not cost a token.
        return [(layer, by_own_row(int(n * ratio ** (stage + 1) + 1e-9))) for stage, layer in enumerate(layers)]


REDUCERS = (
    ReducerCard(
        "pyramiddrop",
        "PyramidDrop: fewer image tokens after each stage of the language model",
        ("llm",),
        "select",
        query_aware=True,
        needs=("q and k of the next layer for the last instruction token",),
        positions="renumbered",
        knob="ratios after layers 8, 16 and 24 (0.5, 0.25, 0.125)",
        licence="MIT",
        code="https://github.com/Cooperx521/PyramidDrop",
        commit="6444f304aee4",
        note="a printed number of tokens is a mean over layers",
        rules={"pyramiddrop": ranked_by_the_last_token},
        build=PyramidDrop,
        options={"layers": "", "ratio": 0.0},
    ),
)
