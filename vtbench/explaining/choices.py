"""Choices that a published number leaves open: its view, its rounding, the metric that its name stands for, and for
distances of sets the reference. What its source states is held; only the rest is tried."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from vtbench import registry
from vtbench.explaining.conventions import card_of, conventions
from vtbench.explaining.systems import Explained
from vtbench.images.protocols import PROTOCOLS, Protocol
from vtbench.images.rounding import ROUNDINGS
from vtbench.images.views import View
from vtbench.types.conditions import EVALUATORS, ORIGINAL, SQUARES, Conditions, Rounding


@dataclass(frozen=True)
class Choice:
    """One way to make a number. reference: the set that a distance is taken against, None: the images' originals."""

    view: View
    rounding: Rounding
    metric: str
    reference: str | None = None


@dataclass(frozen=True)
class Alternative:
    """A choice that is not the default. `dimension`: view, rounding, metric, reference set, or protocol: several of
    them at once. `changes`: how many."""

    dimension: str
    name: str
    choice: Choice
    source: str
    title: str = ""
    changes: int = 1


Stated = Mapping[str, Any]
"""{field of Conditions: what the claim's source says}, with what a protocol's or a metric's name says spelled out."""


def spelled_out(conditions: Conditions | None, metric: str, stated_as: str) -> Stated:
    """What a claim states of choices. metric: ours that is explained; stated_as: the metric's name on the card, which
    may be that of one convention."""
    fields = conditions.stated() if conditions is not None else {}
    if conditions is not None and conditions.text:
        fields["text"] = conditions.text
    named = PROTOCOLS.get(fields.pop("named", ""))
    if named is not None:
        square = SQUARES.get(named.name)
        of_name = {**(dataclasses.asdict(square) if square else {"size": ORIGINAL}), "rounding": named.rounding}
        fields = {**of_name, **card_of(named.means(metric)).conventions, **fields}
    if stated_as != metric and stated_as in conventions(metric):
        fields = {**card_of(stated_as).conventions, **fields}
    if "evaluator" in fields:
        fields.setdefault("inception_resize", EVALUATORS.get(fields["evaluator"]))
    return fields


def facts_of(choice: Choice, explained: Explained) -> dict[str, Any]:
    """What a choice decides, by field. Of saved pictures nobody knows how their square was made."""
    square = SQUARES[choice.view.protocol] if choice.view.size is not None else None
    size = {} if explained.saved else {"size": choice.view.size or ORIGINAL}
    conventions_ = card_of(choice.metric).conventions
    return {**(dataclasses.asdict(square) if square else {}), **size, "rounding": choice.rounding, **conventions_}


def contradictions(choice: Choice, explained: Explained, stated: Stated) -> list[str]:
    """The fields of which the claim's source says something else."""
    facts = facts_of(choice, explained)
    return [name for name, fact in facts.items() if stated.get(name) not in (None, fact)]


def default_choice(explained: Explained, metric: str, stated: Stated) -> Choice:
    """vtbench's default, as far as the claim leaves it open: what its source states is made where it can be."""
    first = Choice(explained.view(explained.default, stated.get("size")), "round", metric)
    views = [explained.view(name, stated.get("size")) for name in (explained.default, *explained.possible)]
    roundings = [r for r in ("round", *explained.roundings) if r in ROUNDINGS]
    for field, candidates in (
        ("view", [replace(first, view=view) for view in views]),
        ("rounding", [replace(first, rounding=r) for r in roundings]),
        ("metric", [replace(first, metric=name) for name in conventions(metric)]),
    ):
        fits = min(candidates, key=lambda choice: len(contradictions(choice, explained, stated)))
        first = replace(first, **{field: getattr(fits, field)})
    return first


def alternatives(
    explained: Explained, metric: str, default: Choice, stated: Stated, reference: str | None = None
) -> list[Alternative]:
    """Every alternative to the default that the claim leaves open: one choice at a time, then jointly as the named
    protocols make them. metric: the one that was claimed; reference: another set for distances."""
    out = []
    for name in explained.possible:
        choice = replace(default, view=explained.view(name, stated.get("size")))
        out.append(Alternative("view", name, choice, _source_of_view(name), PROTOCOLS[name].title))
    for rounding in explained.roundings:
        out.append(Alternative("rounding", rounding, replace(default, rounding=rounding), ROUNDINGS[rounding]))
    for name in conventions(metric):
        card = card_of(name)
        out.append(Alternative("metric", name, replace(default, metric=name), card.source, card.title))
    if reference is not None:
        source = "the set that was given as --reference"
        out.append(Alternative("reference set", reference, replace(default, reference=reference), source))
    out += [
        Alternative("protocol", p.name, _joint(explained, p, metric, default), p.source, p.title, 3)
        for p in PROTOCOLS.values()
    ]
    known, open_ = {default}, []
    # What even the default cannot make (a size that the model does not take) closes nothing.
    unmade = set(contradictions(default, explained, stated))
    for other in out:
        if other.choice not in known and unmade.issuperset(contradictions(other.choice, explained, stated)):
            known.add(other.choice)
            open_.append(other)
    return open_


def _source_of_view(view: str) -> str:
    crop = PROTOCOLS[view].crop
    return crop.source if crop else "pictures as they are"


def _joint(explained: Explained, protocol: Protocol, metric: str, default: Choice) -> Choice:
    """A protocol's choices together, each as far as it can be made here."""
    name = protocol.means(metric)
    return Choice(
        explained.view(protocol.name, default.view.size) if protocol.name in explained.possible else default.view,
        protocol.rounding if protocol.rounding in explained.roundings else default.rounding,
        name if name in registry.metrics() else metric,
    )
