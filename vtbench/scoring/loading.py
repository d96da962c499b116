"""Which metrics can be had here, and for the others the reason why not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from vtbench import registry
from vtbench.metrics import weights
from vtbench.types.errors import RAISED, VtbenchError
from vtbench.types.metric import (
    Extractor,
    ImageMetric,
    Metric,
    MetricCard,
    ReadingMetric,
    RowMetric,
    SetMetric,
    TokenMetric,
)
from vtbench.types.outside import outside
from vtbench.types.shortage import refuse_shortage

KINDS: Mapping[str, type[Metric]] = {"image": ImageMetric, "set": SetMetric, "tokens": TokenMetric, "run": RowMetric}
"""What a metric is by the kind that its card states."""


@dataclass(frozen=True)
class Metrics:
    """`wanted`: the names asked for, in order; `ready`: those that can be computed, and the inputs that they need;
    `unavailable`: the others, each with its reason."""

    wanted: tuple[str, ...]
    ready: Mapping[str, Metric] = field(default_factory=dict)
    unavailable: Mapping[str, str] = field(default_factory=dict)

    def cards(self) -> dict[str, MetricCard]:
        """The cards of what was asked for, in order."""
        return {name: registry.card_of(registry.metrics().get(name)) for name in self.wanted}

    def per_image(self) -> dict[str, ImageMetric]:
        return {n: m for n, m in self.ready.items() if isinstance(m, ImageMetric)}

    def of_sets(self) -> dict[str, SetMetric]:
        return {n: m for n, m in self.ready.items() if isinstance(m, SetMetric)}

    def extractors(self) -> dict[str, Extractor]:
        """The feature networks that the metrics of sets share, by id."""
        out: dict[str, Extractor] = {}
        for metric in self.of_sets().values():
            extractor = metric.extractor()
            out.setdefault(extractor.id, extractor)
        return out

    def beside_model(self, device: str) -> bool:
        """Whether they work beside a model: a metric's network on the same cores only slows both."""
        return not (device == "cpu" and any(m.card.needs for m in self.ready.values()))

    def only(self, names: Sequence[str]) -> Metrics:
        """Those of these names that are ready."""
        return Metrics(tuple(names), {n: self.ready[n] for n in names})

    def without(self, reasons: Mapping[str, str]) -> Metrics:
        """The same, with these metrics unavailable for these reasons."""
        ready = {n: m for n, m in self.ready.items() if n not in reasons}
        return Metrics(self.wanted, ready, {**self.unavailable, **reasons})

    def reading(self, dim: int | None) -> Metrics:
        """The same, for a system that pools `dim` features of a picture; None: for one that reads none."""
        reads = {n: m for n, m in self.ready.items() if isinstance(m, ReadingMetric)}
        if dim is None:
            return self.without(dict.fromkeys(reads, "no model reads these pictures"))
        return replace(self, ready={**self.ready, **{n: m.of_dim(dim) for n, m in reads.items()}})

    def unverified(self) -> list[str]:
        """Metric networks that were given by path: their numbers are shown and never ranked."""
        known = weights.needed_by()
        needs = {need for m in self.ready.values() for need in m.card.needs if need in known}
        return [f"unverified metric weights: {why}" for need in sorted(needs) if (why := weights.unverified(need))]


def unverified_files(cards: Iterable[MetricCard]) -> list[str]:
    """Names and hashes of networks' files that were given by path and are not the released ones: part of a question,
    since another file gives other numbers."""
    out = set()
    for need in {need for card in cards for need in card.needs if need in weights.TABLE}:
        # A file that is not there is the reason of a null, said where the metric is loaded.
        with contextlib.suppress(VtbenchError):
            if mark := weights.unverified_mark(need):
                out.add(f"{need}{mark}")
    return sorted(out)


def load_metrics(names: Sequence[str], device: str, *, sets: bool = True) -> Metrics:
    """Loads what can be loaded. sets: False leaves the networks of set metrics unloaded, where there are too few images
    for them to be asked."""
    ready: dict[str, Metric] = {}
    unavailable: dict[str, str] = {}
    for name in names:
        _load(name, device, ready, unavailable, sets)
    for metric in list(ready.values()):
        # A number made from other per-image values needs those in the rows, asked for or not.
        for name in metric.inputs if isinstance(metric, RowMetric) else ():
            if name not in ready and name not in unavailable:
                _load(name, device, ready, unavailable, sets)
            if name in unavailable:
                ready.pop(metric.card.name)
                unavailable[metric.card.name] = unavailable[name]
                break
    return Metrics(tuple(names), ready, {n: w for n, w in unavailable.items() if n in names})


def inputs_of(name: str) -> tuple[str, ...]:
    """The metrics whose per-image values `name` is made from."""
    factory = registry.metrics().get(name)
    if registry.card_of(factory).kind != "run":
        return ()
    # Of a class they are read without making a metric, which may fail: why is said where it is loaded.
    return tuple(getattr(factory if hasattr(factory, "inputs") else factory(), "inputs", ()))


def _of_its_kind(metric: Any) -> Metric:
    """The metric; raises where it is not what its card says, as everything goes by the one or the other."""
    kind = KINDS[metric.card.kind]
    if not isinstance(metric, kind):
        raise TypeError(f"its card says {metric.card.kind}, and it is no {kind.__name__} of vtbench")
    return metric


def _load(name: str, device: str, ready: dict[str, Metric], unavailable: dict[str, str], sets: bool) -> None:
    make = registry.metrics().get(name)
    try:
        with outside():
            metric: Metric = _of_its_kind(make())
            if sets or not isinstance(metric, SetMetric):
                metric.load(device)
            if sets and isinstance(metric, SetMetric):
                # Where its features come from is asked for again, when images come: it can be had, or is said here.
                metric.extractor().load(device)
    except VtbenchError as bad:
        refuse_shortage(bad, f"what the metric {name} wants")
        # Refused weights or a missing extra: the number is null with this reason, the other metrics go on.
        unavailable[name] = str(bad)
    except RAISED as bad:
        refuse_shortage(bad, f"what the metric {name} wants")
        # A file of tensors that are not this network's, a package that is not here: each says so in its own way.
        text = (str(bad).strip().splitlines() or [""])[0][:160]
        unavailable[name] = f"the metric {name} could not be loaded ({type(bad).__name__}: {text})"
    else:
        ready[name] = metric
