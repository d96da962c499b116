"""Published numbers beside a run's own: only where the run meets every condition that the source states."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vtbench.reporting import runs as records
from vtbench.reporting.measured import metric_card, value
from vtbench.reporting.values import finite, mapping
from vtbench.results.record import Run
from vtbench.types.conditions import (
    EVALUATORS,
    OPEN_IN_WORDS,
    ORIGINAL,
    PLAIN_NAMES,
    SQUARES,
    Conditions,
    conditions_of,
)

NO_CONDITIONS = "the source states no protocol, so nothing may stand beside it"
NO_IMAGES = "the source does not say which images these are, so nothing may stand beside it"
OF_A_PROTOCOL = ("order", "resampling", "antialias", "rounding", "data_range", "window", "reduction")
"""What a protocol of vtbench's states by its name."""


@dataclass(frozen=True)
class Beside:
    """A claim of the model's card; `measured` is the run's number where it may stand beside it, else `why` says why
    not. `left_open`: what the source does not state, in words."""

    metric: str
    claimed: float | None
    measured: float | None
    source: str
    conditions: Conditions | None
    note: str | None = None
    why: str | None = None
    left_open: tuple[str, ...] = ()


def claims_beside(run: Run) -> list[Beside]:
    """Every published number of the model's card as it was when the run was made, in its order."""
    published = records.model_card(run).get("published")
    listed = published if isinstance(published, list | tuple) else []
    return [_beside(run, claim) for claim in listed if isinstance(claim, Mapping)]


def _beside(run: Run, claim: Mapping[str, Any]) -> Beside:
    stated, metric = conditions_of(claim.get("protocol")), str(claim.get("metric", ""))
    ours = _measured_as(run, metric)
    facts = conditions_met(run, ours)
    why = why_not(stated, facts)
    measured = value(run, ours) if why is None else None
    if why is None and measured is None:
        why = f"this run has no value of {ours}"
    return Beside(
        metric,
        finite(claim.get("value")),
        measured,
        str(claim.get("source") or ""),
        stated,
        str(claim["note"]) if claim.get("note") else None,
        why,
        _left_open(stated, facts) if stated is not None else (),
    )


def _measured_as(run: Run, metric: str) -> str:
    """The metric of ours that a plain name means, unless the run has one of that very name."""
    return metric if run.score(metric) is not None else PLAIN_NAMES.get(metric, metric)


def conditions_met(run: Run, metric: str) -> dict[str, Any]:
    """{field of Conditions: what is true of this run's number}; a field that its record does not tell is missing."""
    suite, protocol, card = records.section(run, "suite"), records.protocol(run), records.model_card(run)
    # "256+srgb" where colour profiles were applied.
    side = records.view_name(run).partition("+")[0]
    size: Any = ORIGINAL if side == "native" else finite(_number(side))
    square = SQUARES.get(str(protocol)) if size != ORIGINAL else None
    of_metric = metric_card(run, metric)
    drawn = records.kind(run) == "generator"
    split = " ".join(str(suite[k]) for k in ("dataset", "split") if suite.get(k))
    fixed = finite(mapping(card.get("sizes")).get("size"))
    copies = {c.averaged for c in run.info.model.weights.copies}
    whole = records.is_complete(run) and run.info.n == records.suite_images(run)
    facts = {
        # A generator's suite is what its images are compared with.
        "dataset": suite.get("dataset") if whole and not drawn else None,
        "split": suite.get("split") if whole and not drawn else None,
        "images": run.info.n if records.is_complete(run) else None,
        "size": size,
        "model_size": fixed or (size if size != ORIGINAL else None),
        **(dataclasses.asdict(square) if square else {}),
        "rounding": "round",
        **(mapping(of_metric.conventions) if of_metric else {}),
        "reference": split if split and of_metric is not None and of_metric.kind == "set" else None,
        "averaged": copies.pop() if len(copies) == 1 else None,
        "named": protocol,
    }
    return {name: fact for name, fact in facts.items() if fact is not None} | {"options": dict(records.options(run))}


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() and len(text) < 6 else None


def why_not(stated: Conditions | None, facts: Mapping[str, Any]) -> str | None:
    """Why a number made under `facts` may not stand beside a claim; None if it may."""
    if stated is None or not stated.stated():
        return NO_CONDITIONS
    if not (stated.dataset or stated.named or stated.reference):
        return NO_IMAGES
    reasons = [_unmet(name, wanted, facts) for name, wanted in stated.stated().items()]
    return "; ".join(reason for reason in reasons if reason) or None


def _unmet(name: str, wanted: Any, facts: Mapping[str, Any]) -> str | None:
    if name == "other":
        return f"the source says {'; '.join(wanted)}, of which a run says nothing"
    if name == "options":
        options = facts.get("options", {})
        differ = [f"{option}={setting}" for option, setting in wanted if options.get(option) != setting]
        return f"the source is of {', '.join(differ)}" if differ else None
    if name == "evaluator":
        name, wanted = "inception_resize", EVALUATORS.get(wanted, wanted)
    here = facts.get(name)
    if here == wanted:
        return None
    what = OPEN_IN_WORDS.get(name, name.replace("_", " "))
    return f"{what}: the source says {_shown(wanted)}, this run {_shown(here) if here is not None else 'does not say'}"


def _shown(fact: Any) -> str:
    if isinstance(fact, bool):
        return "yes" if fact else "no"
    return f"{fact:,g}" if isinstance(fact, int | float) else str(fact)


def _left_open(stated: Conditions, facts: Mapping[str, Any]) -> tuple[str, ...]:
    """What decides this number and the source does not state, in words; a protocol's name states the square too."""
    known = stated.stated()
    if stated.named is not None:
        known = {**known, **dict.fromkeys(OF_A_PROTOCOL)}
    if stated.evaluator is not None:
        known["inception_resize"] = stated.evaluator
    return tuple(words for name, words in OPEN_IN_WORDS.items() if name in facts and name not in known)
