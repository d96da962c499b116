"""What a generator's network sees of a parity fixture: its inputs, and the settings of the outputs to compute.

A network of a generator has `replay(fixture) -> {output: array}`, which computes every output from a `Replay` alone.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vtbench.types.errors import VtbenchError

if TYPE_CHECKING:
    import torch

_PAIR = re.compile(
    r"\b([a-z_]\w*)="
    r"(\[[^\]]*\]|'[^']*'|\"[^\"]*\"|-?\d+(?:\.\d+)?(?:e-?\d+)?(?=[\s,):;\]]|$)|[A-Za-z][\w-]*(?=[,):;]|$))"
)


def pairs(text: str) -> dict[str, Any]:
    """The `name=value` pairs of a description, values as Python literals or bare words.

    >>> pairs("generate(cfg_scale=3.0, decay=power-cosine, top_k=40): t = 2*x")
    {'cfg_scale': 3.0, 'decay': 'power-cosine', 'top_k': 40}
    """
    out: dict[str, Any] = {}
    for name, raw in _PAIR.findall(text):
        try:
            out.setdefault(name, ast.literal_eval(raw))
        except (ValueError, SyntaxError):
            out.setdefault(name, raw)
    return out


def settings_of(outputs: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """{output: the pairs of its description}; "as OTHER with ..." starts from OTHER's."""
    out: dict[str, dict[str, Any]] = {}
    for name, text in outputs.items():
        base = re.match(r"(?:same )?as (\w+)\b", text)
        start = out.get(base[1], {}) if base else {}
        out[name] = {**start, **pairs(text)}
    return out


class Inputs(dict[str, "torch.Tensor"]):
    """A fixture's input arrays: int64, and floats in the network's dtype. One that is not there is named."""

    def __missing__(self, name: str) -> torch.Tensor:
        raise VtbenchError(f"the fixture records no input {name}, which our network needs")


@dataclass(frozen=True)
class Replay:
    """The inputs of a fixture and what it says of its outputs, whose arrays are not here."""

    config: Mapping[str, Any]
    arrays: Inputs
    settings: Mapping[str, Mapping[str, Any]]
    """{output: sampler settings}, as `settings_of` reads them."""
    texts: Mapping[str, str]
    """The descriptions of the outputs."""
    noise_shapes: Mapping[str, Iterable[Iterable[int]]]
    """{run: shapes of its draws in the order of the calls}."""
    stated: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """{run: sampler settings} where the file holds them as data (`settings`); they go before the descriptions."""

    def runs(self, *endings: str, marks: Iterable[str]) -> dict[str, dict[str, Any]]:
        """{run: settings} of the sampler's runs, whose outputs are `run` or `run_ENDING`.

        `marks` are the settings by which a sampler's run is told from a plain forward pass: it states one or more.
        """
        marks, out = set(marks), dict[str, dict[str, Any]]()
        if self.stated:
            return {run: dict(settings) for run, settings in self.stated.items() if marks & set(settings)}
        for name, settings in self.settings.items():
            if marks & set(settings):
                out.setdefault(_stem(name, endings), {}).update(settings)
        return out

    def wanted(self, run: str, ending: str) -> bool:
        """Has the fixture the output `run_ending`?"""
        return f"{run}_{ending}" in self.settings

    def draws(self, run: str) -> list[torch.Tensor]:
        """The flat array `noise_RUN`, cut into its draws in the order of the calls."""
        flat, stated = self.noise(f"noise_{run}"), self.noise_shapes.get(run)
        if stated is None:
            raise VtbenchError(f"the fixture states no noise_shapes for {run}")
        shapes = [tuple(shape) for shape in stated]
        if sum(math.prod(shape) for shape in shapes) != flat.numel():
            raise VtbenchError(f"noise_{run} has {flat.numel()} numbers, but its noise_shapes take another count")
        parts = flat.split([math.prod(shape) for shape in shapes])  # type: ignore[no-untyped-call]
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]

    def noise(self, name: str) -> torch.Tensor:
        """The recorded noise `name`."""
        if name not in self.arrays:
            raise VtbenchError(f"the fixture records no {name}, which its sampler needs")
        return self.arrays[name]


def _stem(name: str, endings: Iterable[str]) -> str:
    return next((name[: -len(e) - 1] for e in endings if name.endswith(f"_{e}")), name)
