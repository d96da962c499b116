"""SparseVLM: text tokens that look at the picture rate its tokens, layer by layer; the dropped are partly merged.

Gumpest/SparseVLMs at 26a5f48, llava/model/language_model/score.py, utils.py:159-239, modelling_sparse_llama.py:195-320.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vtbench.adapters.reducers._dpc_knn import centres_of, means
from vtbench.adapters.reducers._schedules import layers_of
from vtbench.adapters.reducers._selection import best, in_place
from vtbench.types.errors import VtbenchError
from vtbench.types.reduction import Cut, Needs, Reducer, ReducerCard, Reduction, TowerView

if TYPE_CHECKING:
    from torch import Tensor

WHOLE = 576
"""Image tokens of LLaVA-1.5, of which the table speaks."""
LAYERS = (2, 6, 15)
KEPT = {192: (300, 200, 110), 128: (303, 110, 36), 96: (238, 48, 26), 64: (66, 30, 17)}
"""Tokens kept at these layers, by the number in the method's name, which is a mean over all layers (version 1.0)."""
KEPT_2 = {192: (300, 200, 118), 128: (238, 108, 60), 96: (246, 54, 28), 64: (66, 34, 20)}
"""Those of version 2.0, which merges nothing."""


def _rank(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """text_rows (1, heads, raters, N): the raters' attention to the image tokens. version: "1_0" or "2_0"."""

    relation = inputs["text_rows"].mean(dim=1).mean(dim=1)
    version, retain, layer = params.get("version", "1_0"), params["retain"], params["layer"]
    tables = {"1_0": KEPT, "2_0": KEPT_2}
    if version not in tables or retain not in KEPT or layer not in LAYERS:
        raise VtbenchError(
            f"SparseVLM's table has no {retain!r} tokens at layer {layer!r} in version {version!r}: there are "
            f"{', '.join(map(str, KEPT))} at layers {', '.join(map(str, LAYERS))} in {', '.join(tables)}"
        )
    count = min(tables[version][retain][LAYERS.index(layer)], relation.shape[1] - 1)
    return {"relation": relation, "kept": in_place(best(relation[0], count))}


def _merge(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    count = params["cluster_num"]
    _, cluster = centres_of(inputs["x"][0], inputs["noise"][0], count, count, exact=True)
    return {"tokens": means(inputs["x"][0], cluster, count)[None]}


def raters(image: Tensor, text: Tensor) -> Tensor:
    """int64: which tokens of the question look at the picture more than the mean does. image (N, C) and text (T, C) as
    they go into the language model; the softmax is over the text, the mean over the picture."""
    import torch

    likeness = torch.softmax(image @ text.T, dim=-1).mean(dim=0)
    out: Tensor = (likeness > likeness.mean()).nonzero().flatten()
    return out if len(out) else likeness.argmax()[None]


def kept_of(budget: int, n: int) -> tuple[int, ...]:
    """How many tokens stay at the three layers: the table's row of this share of the picture, in proportion.

    Raises VtbenchError for a share that the table does not have: between two rows nobody knows the method.
    """
    for name, counts in KEPT.items():
        if round(name * n / WHOLE) == budget:
            return tuple(max(1, round(count * n / WHOLE)) for count in counts)
    have = ", ".join(str(round(name * n / WHOLE)) for name in KEPT)
    raise VtbenchError(
        f"SparseVLM's table has no --keep {budget} of {n} tokens: give {have}, which are means over layers"
    )


class SparseVLM(Reducer):
    """The budget is the mean over all layers of LLaVA-1.5-7B, as in the method's name. A cut lies behind layers 2, 6
    and 15 (before 3, 7 and 16), or behind those of the option."""

    needs = Needs(text=True)

    def schedule(self, depth: int, n: int, budget: int) -> list[tuple[int, Cut]]:
        layers = layers_of(self.options["layers"], "sparsevlm") or list(LAYERS)
        if len(layers) != len(LAYERS):
            raise VtbenchError(f"SparseVLM's layers {self.options['layers']!r}: give three, such as layers=2+6+15")
        # All are kept where all are asked for: then there is nothing to merge either.
        if budget == n:
            return []
        counts = kept_of(budget, n)
        return [(layer + 1, self._cut(count)) for layer, count in zip(layers, counts, strict=True)]

    def _cut(self, count: int) -> Cut:
        def cut(view: TowerView) -> Reduction:
            import torch

            assert view.text is not None
            first = view.prefix + len(view)
            queries = first + raters(view.extra["first"], view.text)
            scores = view.image(view.extra["attention"](queries)).mean(dim=(0, 1))
            keep = min(count, len(view) - 1)
            order = best(scores, len(view))
            kept, dropped = in_place(order[:keep]), order[keep:]
            # As upstream: of the dropped ones the best 30 % and one more, merged into a tenth of these and one more.
            again = in_place(dropped[: int(len(dropped) * 0.3) + 1])
            merged = int(len(again) / 10) + 1
            x = view.features[again]
            noise = torch.rand(len(x), generator=torch.Generator().manual_seed(view.seed)).to(x)
            _, cluster = centres_of(x, noise, merged, merged, exact=True)
            rows = torch.cat([view.features[kept], means(x, cluster, merged)])
            share = torch.nn.functional.one_hot(cluster, merged).sum(dim=0).to(x.dtype)
            sources = torch.cat(
                [
                    torch.stack([torch.arange(len(kept)), kept.cpu()], dim=1),
                    torch.stack([len(kept) + cluster.cpu(), again.cpu()], dim=1),
                ]
            )
            weights = torch.cat([torch.ones(len(kept)), (1 / share)[cluster].cpu().float()])
            places = torch.cat([kept, kept.new_full((merged,), -1)])
            return Reduction(places, rows, sources, weights, "renumbered")

        return cut


REDUCERS = (
    ReducerCard(
        "sparsevlm",
        "SparseVLM: rated by text tokens, the dropped partly merged",
        ("llm",),
        "select and merge",
        query_aware=True,
        needs=("attention of layers 2, 6 and 15", "text"),
        positions="renumbered (version 1)",
        knob="192, 128, 96 or 64: a mean over layers",
        code="https://github.com/Gumpest/SparseVLMs",
        commit="26a5f48813c4",
        rules={"sparsevlm-rank": _rank, "sparsevlm-merge": _merge},
        build=SparseVLM,
        options={"layers": ""},
    ),
)
