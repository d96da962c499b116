"""Which metrics can be had here, and for the others the reason why not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from vtbench import registry
from vtbench.metrics import weights
from vtbench.types.errors import Unavailable, VtbenchError
from vtbench.types.metric import Extractor, ImageMetric, Metric, MetricCard, ReadingMetric, RowMetric, SetMetric
from vtbench.types.outside import Ended, outside


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
        for metric in reads.values():
            metric.features.dim = dim or 0
        return self if dim is not None else self.without(dict.fromkeys(reads, "no model reads these pictures"))

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
    if registry.card_of(registry.metrics().get(name)).kind != "run":
        return ()
    metric = registry.metric(name)
    return tuple(metric.inputs) if isinstance(metric, RowMetric) else ()


def _load(name: str, device: str, ready: dict[str, Metric], unavailable: dict[str, str], sets: bool) -> None:
    metric: Metric = registry.metric(name)
    if isinstance(metric, SetMetric) and not sets:
        ready[name] = metric
        return
    try:
        with outside():
            metric.load(device)
    except (Unavailable, VtbenchError) as bad:
        # Refused weights or a missing extra: the number is null with this reason, the other metrics go on.
        unavailable[name] = str(bad)
    except (KeyError, RuntimeError, ValueError, TypeError, AttributeError, OSError, Ended) as bad:
        # A file of tensors that are not this network's: libraries say so in many ways.
        text = (str(bad).strip().splitlines() or [""])[0][:160]
        unavailable[name] = f"the network of {name} could not be loaded ({type(bad).__name__}: {text})"
    else:
        ready[name] = metric
