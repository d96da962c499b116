"""Choices that a published number leaves open: its view, its rounding, the metric that its name stands for."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vtbench import registry
from vtbench.explaining.systems import Explained
from vtbench.images.protocols import PROTOCOLS, Protocol
from vtbench.images.rounding import ROUNDINGS, Rounding

ALIASES = {"lpips": "lpips-alex", "fid": "rfid"}
"""Names that papers use for metrics of ours."""
OTHER_NETS = {"lpips-alex": ("lpips-vgg", "lpips-squeeze")}
"""Choices that a plain name leaves open without being conventions of one metric."""


@dataclass(frozen=True)
class Choice:
    """One way to make a number: the view's protocol, the rounding, the metric."""

    view: str
    rounding: Rounding
    metric: str


@dataclass(frozen=True)
class Alternative:
    """A choice that is not the default. `dimension`: view, rounding, metric, or protocol: several of them at once."""

    dimension: str
    name: str
    choice: Choice
    source: str


def default_choice(explained: Explained, metric: str) -> Choice:
    return Choice(explained.default, "round", metric)


def conventions(metric: str) -> list[str]:
    """The metric and every other that its plain name may stand for."""
    known = registry.metrics()
    others = [name for name, factory in known.items() if registry.card_of(factory).convention_of == metric]
    return [metric, *others, *(name for name in OTHER_NETS.get(metric, ()) if name in known)]


def alternatives(explained: Explained, metric: str) -> list[Alternative]:
    """Every alternative to the default for one claimed metric: one choice at a time, then jointly as the named
    protocols make them."""
    default = default_choice(explained, metric)
    views = [view for view, why in explained.views.items() if view != explained.default and not why]
    out = [Alternative("view", view, replace(default, view=view), _source_of_view(view)) for view in views]
    for rounding in explained.roundings:
        if rounding != "round":
            out.append(Alternative("rounding", rounding, replace(default, rounding=rounding), ROUNDINGS[rounding]))
    for name in conventions(metric)[1:]:
        card = registry.card_of(registry.metrics().get(name))
        out.append(Alternative("metric", name, replace(default, metric=name), card.source))
    known = {default, *(alternative.choice for alternative in out)}
    for protocol in PROTOCOLS.values():
        joint = _joint(explained, protocol, metric)
        if joint not in known:
            out.append(Alternative("protocol", protocol.name, joint, protocol.source))
            known.add(joint)
    return out


def _source_of_view(view: str) -> str:
    crop = PROTOCOLS[view].crop
    return crop.source if crop else "pictures as they are"


def _joint(explained: Explained, protocol: Protocol, metric: str) -> Choice:
    """A protocol's choices together, each as far as it can be made here."""
    name = protocol.means(metric)
    return Choice(
        protocol.name if not explained.views.get(protocol.name, "-") else explained.default,
        protocol.rounding if protocol.rounding in explained.roundings else "round",
        name if name in registry.metrics() else metric,
    )
