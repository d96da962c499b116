"""DART: tokens least like a few pivots (ZichenWen1/EPIC at b2ed9cd, llava/model/language_model/dart/
modeling_llama_self.py:572-643; DART's own repository is not there)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vtbench.adapters.reducers._selection import best
from vtbench.types.errors import VtbenchError
from vtbench.types.reduction import Cut, Needs, Reducer, ReducerCard, Reduction, TowerView

if TYPE_CHECKING:
    from torch import Tensor


def dart(hidden: Tensor, states: Tensor, start: int, count: int, pivots: tuple[int, int], each: int) -> list[int]:
    """Kept places, from the picture's first token on, ascending. hidden (L, C); states (heads, L, d), what the layer
    hands over by head; pivots: how many of the picture's `count` tokens from `start` on and of the text behind them, by
    the sum of magnitudes; each: so many tokens, the least like it, does every pivot add, as long as there are any left.
    """
    from torch.nn.functional import normalize

    norms = states.transpose(0, 1).flatten(1).abs().sum(dim=-1)
    image = (best(norms[start : start + count], pivots[0]) + start).tolist()
    text = (best(norms[start + count :], pivots[1]) + start + count).tolist()
    unit = normalize(hidden, dim=-1)
    chosen = set(image)
    # As upstream: pivots in the order in which Python lists a set of them.
    for pivot in list(set(image + text)):
        left = [i for i in range(start, start + count) if i not in chosen]
        if not left:
            break
        likeness = unit[left] @ unit[pivot]
        chosen |= {left[i] for i in best(-likeness, each).tolist()}
    return sorted(i - start for i in chosen)


def _rule(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    import torch

    sizes = params["start"], params["image_tokens"], (params["pivot_image"], params["pivot_text"]), params["per_pivot"]
    rows = zip(inputs["hidden"], inputs["states"], strict=True)
    return {"kept": torch.tensor([dart(hidden, states, *sizes) for hidden, states in rows])}


class DART(Reducer):
    """The budget is the number of image tokens from layer K on: the picture's pivots, and as many for each pivot,
    so that a few fewer may remain. Pivots are chosen by the L1 norm of their keys in layer K - 1 (all heads)."""

    def __init__(self, card: ReducerCard, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(card, options)
        layer = self.options["layer"]
        if layer < 1 or min(self.options["image_pivots"], self.options["text_pivots"]) < 1:
            raise VtbenchError("DART's layer and numbers of pivots: give 1 or more of each")
        self.needs = Needs(keys=(layer - 1,), hidden=(layer - 1,), text=True)

    def schedule(self, depth: int, n: int, budget: int) -> list[tuple[int, Cut]]:
        layer = self.options["layer"]

        def cut(view: TowerView) -> Reduction:
            import torch

            image = min(self.options["image_pivots"], budget)
            words = min(self.options["text_pivots"], view.suffix)
            each = max(0, budget - image) // (image + words)
            # All heads side by side, which is what upstream makes of them before it sums.
            states = view.keys[layer - 1][None]
            kept = dart(view.hidden[layer - 1], states, view.prefix, len(view), (image, words), each)
            return Reduction(torch.tensor(kept), positions="original")

        return [(layer, cut)]


REDUCERS = (
    ReducerCard(
        "dart",
        "DART: least like the pivots",
        ("llm",),
        "select",
        needs=("states of layer K by head", "hidden states"),
        positions="original",
        knob="reduction ratio; pivots",
        licence="Apache-2.0",
        code="https://github.com/ZichenWen1/EPIC",
        commit="b2ed9cdfda54",
        query_aware=True,
        deviates="EPIC's released path uses FastV's rule under this name, and its faster variant keeps the most "
        "similar tokens; this is the readable loop",
        rules={"dart": _rule},
        build=DART,
        options={"layer": 2, "image_pivots": 4, "text_pivots": 4},
    ),
)
