"""Whether runs may stand side by side, and under which names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vtbench.reporting import runs as facts
from vtbench.reporting.measured import metric_cards
from vtbench.reporting.readers import reader, reader_name
from vtbench.results.record import Run
from vtbench.types.errors import VtbenchError

OF_METRIC = "version of "


def protocol_fields(run: Run) -> dict[str, Any]:
    """Everything that must be equal before numbers may stand side by side, by the name that a refusal uses."""
    return {
        "protocol": facts.protocol(run),
        "task": facts.task_name(run),
        "task version": facts.task_version(run),
        "task fit": facts.task_fit(run),
        "suite": facts.suite_name(run),
        "suite hash": facts.suite_hash(run),
        "view": facts.view_name(run),
        "view fingerprint": facts.view_fingerprint(run),
        "model that reads": reader_name(run),
        "way of reading": reader(run),
        **{f"{OF_METRIC}{name}": card.version for name, card in metric_cards(run).items()},
    }


def check_protocols(runs: Sequence[Run]) -> dict[str, Any]:
    """The protocol that all runs share; raises VtbenchError naming the first field that differs."""
    first = protocol_fields(runs[0])
    for run in runs[1:]:
        other = protocol_fields(run)
        one_suite = first["suite hash"] is not None and first["suite hash"] == other["suite hash"]
        for name, value in first.items():
            # The same images under another name, a copy elsewhere, are the same images.
            if name == "suite" and one_suite:
                continue
            # A metric that one run lacks is left out of the comparison, not a difference of protocol.
            if name.startswith(OF_METRIC) and name not in other:
                continue
            if other.get(name) != value:
                raise VtbenchError(
                    f"the runs answer different questions: {name} is {value!r} in {runs[0].path} and "
                    f"{other.get(name)!r} in {run.path}; compare runs of one protocol"
                )
    return first


def labels(runs: Sequence[Run]) -> tuple[str, ...]:
    """A name for every run: the model's, with its options or its folder where names repeat."""
    names = [facts.model_name(run) for run in runs]
    if len(set(names)) == len(names):
        return tuple(names)
    longer = []
    for name, run in zip(names, runs, strict=True):
        options = ", ".join(f"{option}={value}" for option, value in sorted(facts.options(run).items()))
        longer.append(f"{name} ({options})")
    if len(set(longer)) == len(longer):
        return tuple(longer)
    return tuple(run.path.name for run in runs)
