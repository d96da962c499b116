"""SparseVLM: text tokens that look at the picture rate its tokens, layer by layer; the dropped are partly merged.

Gumpest/SparseVLMs at 26a5f48, llava/model/language_model/score.py, utils.py:159-239, modelling_sparse_llama.py:195-320.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.adapters.reducers._dpc_knn import centres_of, means
from vtbench.adapters.reducers._selection import best, in_place
from vtbench.types.reduction import ReducerCard

LAYERS = (2, 6, 15)
KEPT = {192: (300, 200, 110), 128: (303, 110, 36), 96: (238, 48, 26), 64: (66, 30, 17)}
"""Tokens kept at these layers, by the number in the method's name, which is a mean over all layers (version 1.0)."""


def _rank(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """text_rows (1, heads, raters, N): the raters' attention to the image tokens."""

    relation = inputs["text_rows"].mean(dim=1).mean(dim=1)
    count = min(KEPT[params["retain"]][LAYERS.index(params["layer"])], relation.shape[1] - 1)
    return {"relation": relation, "kept": in_place(best(relation[0], count))}


def _merge(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    count = params["cluster_num"]
    _, cluster = centres_of(inputs["x"][0], inputs["noise"][0], count, count)
    return {"tokens": means(inputs["x"][0], cluster, count)[None]}


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
    ),
)
