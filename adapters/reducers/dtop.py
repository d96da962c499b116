"""DToP: in segmentation, a token whose class an auxiliary head is sure of takes no part in later layers
(zbwxp/Dynamic-Token-Pruning at 2baefff, mmseg_custom/decode_heads/prune_head.py:20-25 and 80-135)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.adapters.reducers._selection import best
from vtbench.types.reduction import ReducerCard

UNPRUNED = 1.0
"""The threshold that stands for no pruning."""


def _finished(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """pred (B, classes, N): class probability times the mask's sigmoid; finished_before (B, N) bool.

    Of every class that some sure token has, the surest few go on, so that later layers know of the class.
    """
    before = inputs["finished_before"]
    after = before.clone()
    if params["threshold"] < UNPRUNED:
        for i, pred in enumerate(inputs["pred"]):
            alive = (~before[i]).nonzero().flatten()
            score, label = pred[:, alive].max(dim=0)
            sure = score > params["threshold"]
            going = sure.clone()
            for one in label[sure].unique():
                members = (sure & (label == one)).nonzero().flatten()
                going[members[best(score[members], params["keep_per_class"])]] = False
            after[i, alive[going]] = True
    return {"finished_after": after}


REDUCERS = (
    ReducerCard(
        "dtop",
        "DToP: sure tokens leave early, in segmentation",
        ("vit",),
        "select",
        training="trained",
        needs=("class maps of auxiliary heads",),
        positions="kept: every token stays in the map of the output",
        knob="threshold (0.9), tokens kept a class (5)",
        licence="BSD-2-Clause",
        code="https://github.com/zbwxp/Dynamic-Token-Pruning",
        commit="2baefffc8796",
        note="the number of tokens is each image's own",
        rules={"dtop": _finished},
    ),
)
