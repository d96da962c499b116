"""What a system costs, as scores: seconds an image, images a second, memory, parameters, multiply-accumulates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vtbench.results.record import Score

PERCENTILES = (50, 95)
_OPERATIONS = {"library": "torch.utils.flop_counter", "counts": "two operations a multiply-add, eager attention"}
_SECONDS = {"batch_size": 1, "attention": "the full model with its fastest, the reduced one with its own"}
_OF_ANSWERS: Mapping[str, tuple[str, str | None, Mapping[str, Any]]] = {
    name + side: (unit, better if not side else None, details)
    for name, unit, better, details in (
        ("flops-tower", "FLOP/image", "lower", _OPERATIONS),
        ("flops-projector", "FLOP/image", "lower", _OPERATIONS),
        ("flops-prefill", "FLOP/prompt", "lower", _OPERATIONS),
        ("flops-decoded-token", "FLOP/token", "lower", _OPERATIONS),
        ("kv-bytes", "bytes/prompt", "lower", {}),
        ("seconds-prefill", "s/prompt", "lower", _SECONDS),
        ("seconds-decoded-token", "s/token", "lower", _SECONDS),
    )
    for side in ("", "-full")
}
COUNTED: Mapping[str, tuple[str, str | None, Mapping[str, Any]]] = {
    "nfe": ("evaluations/image", "lower", {}),
    "flops": ("FLOP/image", "lower", _OPERATIONS),
    "flops-full": ("FLOP/image", None, _OPERATIONS),
    "flops-score": ("FLOP/image", None, _OPERATIONS),
    "seconds-reduced": ("s/image", "lower", _SECONDS),
    "seconds-full": ("s/image", None, _SECONDS),
    **_OF_ANSWERS,
}
"""Unit, better end and details of what is counted an image: flops of a model whose visual tokens are reduced, of the
full one, and of the rule alone; of a language model that sees also by part, its cache behind the prompt, and how long
the prompt and one more token of the answer take."""
OF_ANSWERS = ("flops", "flops-full", "flops-score", *_OF_ANSWERS)
"""What every run of a language model states, null where it was not counted."""
UNCOUNTED = (
    "not counted: a run of one batch (the first of several is counted), or operations unknown to torch's counter"
)
UNTIMED_ANSWERS = (
    "not timed: a run of one batch (the first of several is timed), or answers of one token, behind which none is "
    "decoded"
)
UNTIMED = "no image was timed: the first batch warms up, and pictures made elsewhere have no time"


@dataclass(frozen=True)
class Costs:
    """Times in seconds an image by what took them ("encode", "decode", "image"); `counts`: further numbers an image by
    name (network evaluations, acceptance, …); peak memory in bytes and whose, or why it is not known; parameters;
    multiply-accumulates by part; `n`: images of the run."""

    n: int
    batch_size: int | None
    times: Mapping[str, Sequence[float]] = field(default_factory=dict)
    counts: Mapping[str, Sequence[float]] = field(default_factory=dict)
    memory: int | None = None
    memory_what: str = ""
    parameters: int | None = None
    macs: Mapping[str, float] | None = None
    counts_macs: bool = True
    """False for generators, whose network evaluations are counted instead."""


def cost_scores(task: str, costs: Costs) -> list[Score]:
    """Percentiles of every time, images a second, counts, memory, parameters; each null with its reason."""
    out: list[Score] = []

    def add(name: str, value: float | None, unit: str, better: str | None, why: str, n: int, **details: Any) -> None:
        known = value is not None
        out.append(
            Score(
                task=task,
                metric=name,
                value=value,
                n=n if known else 0,
                missing=0 if known else costs.n,
                why=None if known else why,
                unit=unit,
                better=better,
                details=details,
            )
        )

    batch = costs.batch_size
    for name, times in costs.times.items():
        ordered = sorted(times)
        for p in PERCENTILES:
            value = ordered[min(len(ordered) - 1, int(p / 100 * len(ordered)))] if ordered else None
            add(f"{name}-seconds-p{p}", value, "s/image", "lower", UNTIMED, len(ordered), batch_size=batch)
    total = math.fsum(math.fsum(times) for times in costs.times.values())
    count = max((len(times) for times in costs.times.values()), default=0)
    rate = count / total if total > 0 else None
    add("images-per-second", rate, "image/s", "higher", "no image was timed", count, batch_size=batch)
    for name, values in sorted(costs.counts.items()):
        mean = math.fsum(values) / len(values) if values else None
        unit, better, details = COUNTED.get(name, ("", None, {}))
        timed = UNTIMED_ANSWERS if name.startswith("seconds-") else UNCOUNTED
        why = timed if name in OF_ANSWERS else "the generator does not count them"
        add(name, mean, unit, better, why, len(values), **details)
    memory = costs.memory / 2**20 if costs.memory else None
    unknown = costs.memory_what or "not measured on this device"
    add("peak-memory", memory, "MiB", "lower", unknown, costs.n, what=costs.memory_what)
    parameters = None if costs.parameters is None else float(costs.parameters)
    no_parameters = "this system has no parameters to count"
    add("parameters", parameters, "parameters", "lower", no_parameters, costs.n)
    if costs.counts_macs:
        macs = sum(costs.macs.values()) if costs.macs else 0
        why = "not counted: no network that torch sees, or a run of one batch (the first of several is counted)"
        add("macs", macs or None, "MAC/image", "lower", why, 1, library=MACS_LIBRARY, **(costs.macs or {}))
    return out


MACS_LIBRARY = "torch.utils.flop_counter"
"""Whose formulas count multiply-accumulates (see vtbench.models.macs)."""
