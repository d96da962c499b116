"""What a run's record says of the model that reads pictures, and of the reducer that drops its tokens."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from vtbench.reporting.values import mapping, text
from vtbench.results.record import Run

REDUCERS = ("reducer", "trained reducer", "query-aware reducer", "trained query-aware reducer")
"""Kinds of reducers, which no rank joins: what was trained, and what reads the question, stands by itself."""


def _model(run: Run) -> Mapping[str, Any]:
    return mapping(run.info.get("model"))


FEWER = " with fewer visual tokens"
"""How titles of tasks end that are about reducers, and about tokenizers as well."""


def kind_of(model: Mapping[str, Any]) -> str:
    """The kind that a record of a model states; of a reducer one of REDUCERS."""
    stated = str(model.get("kind", ""))
    if stated != REDUCERS[0]:
        return stated
    facts = mapping(model.get("reducer"))
    trained = "trained " if facts.get("training") == "trained" else ""
    return f"{trained}{'query-aware ' if facts.get('query_aware') else ''}{REDUCERS[0]}"


def is_baseline(run: Run) -> bool:
    """Whether a reducer is one of those that every table holds beside the methods."""
    return mapping(_model(run).get("reducer")).get("baseline") is True


def spread_over(run: Run) -> str | None:
    """The option of a reducer that only says which throw of the dice it is."""
    return text(mapping(_model(run).get("reducer")).get("spread_over"))


def reader_name(run: Run) -> str | None:
    """The model that reads the pictures, of a run that asks what is understood of them."""
    return text(mapping(_model(run).get("tower")).get("name"))


def subject_title(run: Run, title: str) -> str:
    """A task's title, of what is its subject here: tokens that are dropped, or a tokenizer's pictures that are read."""
    read = reader_name(run) is not None and _model(run).get("kind") != REDUCERS[0]
    return title.removesuffix(FEWER) + " from reconstructions" if read and title.endswith(FEWER) else title


def reader(run: Run) -> str:
    """Equal for runs of one model that reads pictures, read in one way, with one rule for positions; whether it reads
    fewer tokens or other pictures. Empty where there is none. The kind of attention moves rounding alone."""
    asked = mapping(mapping(mapping(run.info.get("question")).get("model")).get("tower"))
    if not asked:
        return ""
    reduces = _model(run).get("kind") == REDUCERS[0]
    policy = mapping(_model(run).get("options")).get("positions") if reduces else None
    facts = [{k: v for k, v in asked.items() if k != "attention"}, policy, reduces]
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]
