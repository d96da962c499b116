"""Whether a model has seen the pictures that it is measured on: what its card says it was trained on, and the suite."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from vtbench.reporting import runs as records
from vtbench.reporting.values import listed, mapping
from vtbench.results.record import Run

Seen = Literal["trained on these", "same data set", "other data", "not stated", "suite of no known data set"]
"""From worst to best known: the very split; another split of the set; neither; the card names no data; the suite is of
no data set that we know, of which no card speaks."""
_FIRST_WORD = re.compile(r"[a-z]+")


def data_set(name: str) -> str:
    """The family of a data set's name, for comparison: ImageNet-1k, ImageNet-100 and ImageNet are "imagenet", COCO and
    COCO 2017 "coco". "Open Images" is one word here."""
    word = _FIRST_WORD.search(name.lower().replace("open images", "openimages"))
    return word[0] if word else name.lower().strip()


def seen(trained_on: Sequence[str], suite: Mapping[str, Any]) -> Seen:
    """`suite`: a record's section, whose `dataset` and `split` are there where its images are a known public split."""
    dataset = suite.get("dataset")
    if not isinstance(dataset, str) or not dataset:
        return "suite of no known data set"
    if not trained_on:
        return "not stated"
    if data_set(dataset) not in map(data_set, trained_on):
        return "other data"
    return "trained on these" if suite.get("split") == "training" else "same data set"


def run_has_seen(run: Run) -> Seen:
    """Of a run, by its model's card as it was when the run was made."""
    names = [name for name in listed(records.model_card(run).get("trained_on")) if isinstance(name, str)]
    return seen(names, mapping(records.section(run, "suite")))
