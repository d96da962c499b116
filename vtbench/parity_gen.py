"""Parity of generators: does a native generator compute what upstream's class and sampler compute?

A fixture (FAMILY__VARIANT.json beside .npz) holds upstream's logits, features and samples at a small configuration.
One code path for every family:

1. the network is built from `config` alone, and its names and shapes must equal `state_dict` (what a network or the
   file calls optional aside); helper networks (`aux_state_dicts`) are compared in the same way;
2. it is filled by names (`not_filled` keeps the constant of the network, `post_fill_scale` and `tied` are applied);
3. `network.replay(given)` gets the arrays listed in `inputs`, never those of `outputs`, and computes every array of
   `outputs`: integers must be equal, floats within `RELATIVE` of their spread, both of what the network gives in
   float64, so that no processor's rounding decides (`vtbench.proving.rounding`).

Sampler settings stand in a fixture as `name=value` pairs in the description of an output ("generate(cfg_scale=3.0,
top_k=40)"): `pairs` reads exactly those, and each network refuses a setting that it does not know.
"""

from __future__ import annotations

import ast
import copy
import json
import math
import re
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench import registry
from vtbench.models.made_weights import values
from vtbench.models.names import compare_names, is_optional, names_of
from vtbench.models.network import build_network, load_class
from vtbench.parity import Report
from vtbench.proving.rounding import Array, measure
from vtbench.types.errors import VtbenchError

if TYPE_CHECKING:
    import numpy as np
    import torch

_PAIR = re.compile(
    r"\b([a-z_]\w*)="
    r"(\[[^\]]*\]|'[^']*'|\"[^\"]*\"|-?\d+(?:\.\d+)?(?:e-?\d+)?(?=[\s,):;\]]|$)|[A-Za-z][\w-]*(?=[,):;]|$))"
)
RELATIVE = 1e-4
"""A float array may differ by this share of its spread: the project's limit for logits, whose spread is about one.
Where a sampler of many passes amplifies rounding beyond that, `vtbench.proving.rounding` measures how far."""


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


@dataclass(frozen=True)
class Given:
    """What a network may see of a fixture: its inputs, and the names and settings of the outputs to compute."""

    config: Mapping[str, Any]
    arrays: Mapping[str, torch.Tensor]
    """Inputs as tensors: int64, float32."""
    settings: Mapping[str, Mapping[str, Any]]
    """{output: the pairs of its description}; "as OTHER with ..." starts from OTHER's."""
    texts: Mapping[str, str]
    """The descriptions of the outputs."""
    noise_shapes: Mapping[str, Iterable[Iterable[int]]]

    def runs(self, *endings: str, marks: Iterable[str]) -> dict[str, dict[str, Any]]:
        """{run: settings} of the sampler's runs, whose outputs are `run` or `run_ENDING`.

        `marks` are the settings by which a sampler's run is told from a plain forward pass: it states one or more.
        """
        marks, out = set(marks), dict[str, dict[str, Any]]()
        for name, found in self.settings.items():
            if marks & set(found):
                out.setdefault(_stem(name, endings), {}).update(found)
        return out

    def wanted(self, run: str, ending: str) -> bool:
        return f"{run}_{ending}" in self.settings

    def draws(self, run: str) -> list[torch.Tensor]:
        """The flat array `noise_RUN`, cut into its draws in the order of the calls."""
        flat, shapes = self.noise(f"noise_{run}"), self.noise_shapes.get(run)
        if shapes is None:
            raise VtbenchError(f"the fixture states no noise_shapes for {run}")
        shapes = [tuple(shape) for shape in shapes]
        if sum(math.prod(shape) for shape in shapes) != flat.numel():
            raise VtbenchError(f"noise_{run} has {flat.numel()} numbers, but its noise_shapes take another count")
        parts = flat.split([math.prod(shape) for shape in shapes])
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]

    def noise(self, name: str) -> torch.Tensor:
        if name not in self.arrays:
            raise VtbenchError(f"the fixture records no {name}, which its sampler needs")
        return self.arrays[name]


class Arrays(dict[str, "torch.Tensor"]):
    """A fixture's inputs; one that is not there is named."""

    def __missing__(self, name: str) -> torch.Tensor:
        raise VtbenchError(f"the fixture records no input {name}, which our network needs")


def _stem(name: str, endings: Iterable[str]) -> str:
    return next((name[: -len(e) - 1] for e in endings if name.endswith(f"_{e}")), name)


def check_fixture(path: Path) -> Report:
    """The report on one fixture; what is wrong with the file itself is a reason too."""
    report = Report(path.stem)
    try:
        _check(path, report)
    except VtbenchError as bad:
        report.reasons.append(str(bad))
    except Exception as bad:
        # A network that breaks on one fixture must not keep the others from being checked.
        first = (str(bad).splitlines() or [""])[0]
        report.reasons.append(f"our network broke: {type(bad).__name__}: {first}")
    return report


def _check(path: Path, report: Report) -> None:
    import torch

    facts, recorded = _read(path)
    network = _filled(facts, report)
    if report.reasons:
        return
    inputs = _inputs(facts, recorded)

    def evaluate(dtype: torch.dtype, rounding: AbstractContextManager[Any]) -> dict[str, torch.Tensor]:
        given = Given(
            facts["config"],
            Arrays({name: t.to(dtype) if t.is_floating_point() else t for name, t in inputs.items()}),
            _settings(facts["outputs"]),
            facts["outputs"],
            facts.get("noise_shapes") or {},
        )
        cast = _as(network, dtype)
        with torch.inference_mode(), rounding:
            arrays: dict[str, torch.Tensor] = cast.replay(given)
        return arrays

    ours = evaluate(torch.float32, nullcontext())
    arrays: dict[str, Array] = {}
    for name in facts["outputs"]:
        if name not in recorded:
            raise VtbenchError(f"the NPZ lacks the output {name}, which the JSON lists")
        theirs = torch.from_numpy(recorded[name])
        if name not in ours:
            report.reasons.append(f"our network gives no {name}")
        elif tuple(ours[name].shape) != tuple(theirs.shape):
            report.reasons.append(f"{name} is {tuple(ours[name].shape)}, upstream's {tuple(theirs.shape)}")
        else:
            array = Array(theirs, 0.0, ours[name].cpu())
            if theirs.is_floating_point():
                array.plain = RELATIVE * array.spread
            arrays[name] = array
    report.no_float64 = measure(arrays, evaluate)
    report.judge(arrays.items())


def _as(network: Any, dtype: torch.dtype) -> Any:
    """A copy of the network and its helpers in another dtype; the network itself if that is its own."""
    import torch

    if dtype == torch.float32:
        return network
    network = copy.deepcopy(network).to(dtype)
    for helper in getattr(network, "helpers", {}).values():
        helper.to(dtype)
    return network


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray[Any, Any]]]:
    import numpy as np

    try:
        facts = json.loads(path.read_text())
    except (OSError, ValueError) as bad:
        raise VtbenchError(f"{path} cannot be read as a fixture ({bad}): give FAMILY__VARIANT.json") from bad
    if not isinstance(facts, dict):
        raise VtbenchError(f"{path} holds no JSON object: give FAMILY__VARIANT.json")
    lacking = [k for k in ("family", "config", "inputs", "outputs", "state_dict") if k not in facts]
    if lacking:
        raise VtbenchError(f"{path} lacks {', '.join(lacking)}: it is no generator's fixture")
    if not isinstance(facts["family"], str):
        raise VtbenchError(f"{path}: family is {facts['family']!r}, but must be a family's name")
    for key in ("config", "inputs", "outputs", "state_dict", "float64_rerun", "noise_shapes", "aux_state_dicts"):
        if facts.get(key) is not None and not isinstance(facts[key], dict):
            raise VtbenchError(f"{path}: {key} is {type(facts[key]).__name__}, but must be a JSON object")
    if not facts["outputs"]:
        raise VtbenchError(f"{path} lists no outputs: there is nothing to compare")
    for name, text in facts["outputs"].items():
        if not isinstance(text, str):
            raise VtbenchError(f"{path}: the output {name} is described by {text!r}, but must be by a text")
    beside = path.with_suffix(".npz")
    try:
        with np.load(beside, allow_pickle=False) as found:
            return facts, {name: found[name] for name in found.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as bad:
        raise VtbenchError(f"{beside} cannot be read ({bad}): the arrays lie beside the JSON") from bad


def _inputs(facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray[Any, Any]]) -> Arrays:
    import torch

    lacking = [name for name in facts["inputs"] if name not in arrays]
    if lacking:
        raise VtbenchError(f"the NPZ lacks the inputs {', '.join(lacking)}")
    out = {name: torch.from_numpy(arrays[name]) for name in facts["inputs"]}
    return Arrays({name: t if t.is_floating_point() else t.long() for name, t in out.items()})


def _settings(outputs: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    out: dict[str, dict[str, Any]] = {}
    for name, text in outputs.items():
        base = re.match(r"(?:same )?as (\w+)\b", text)
        start = out.get(base[1], {}) if base else {}
        out[name] = {**start, **pairs(text)}
    return out


def _filled(facts: Mapping[str, Any], report: Report) -> Any:
    """The network, filled as the fixture's was; what does not fit is written into the report."""
    family, config = registry.family(facts["family"]), facts["config"]
    # A configuration may leave open what the parameters' names tell (Bert and LFQBert share theirs).
    complete = getattr(load_class(family.network), "complete", None) if family.network else None
    network = build_network(family, config if complete is None else complete(config, facts["state_dict"]))
    helpers: Mapping[str, Any] = getattr(network, "helpers", {})
    optional = (*getattr(network, "optional", ()), *(facts.get("training_only_prefixes") or ()))
    expected = {n: s for n, s in facts["state_dict"].items() if n not in (facts.get("int_buffers") or {})}
    report.reasons += compare_names(names_of(network), expected, optional)
    aux = facts.get("aux_state_dicts") or {}
    if set(aux) != set(helpers):
        raise VtbenchError(f"the fixture has the helper networks {sorted(aux)}, our network {sorted(helpers)}")
    for name, expected in aux.items():
        report.reasons += compare_names(names_of(helpers[name]), expected, getattr(helpers[name], "optional", ()))
        fill(helpers[name], {})
    fill(network, facts)
    return network.requires_grad_(False)


def fill(network: Any, facts: Mapping[str, Any]) -> Any:
    """Every floating entry gets the values of its name, by the rules of the fixture's keys."""
    import numpy as np
    import torch

    kept, scale = set(facts.get("not_filled") or ()), facts.get("post_fill_scale") or {}
    tied, optional = facts.get("tied") or {}, tuple(getattr(network, "optional", ()))
    state = network.state_dict()
    with torch.no_grad():
        for name, tensor in state.items():
            if tensor.is_floating_point() and name not in kept and not is_optional(name, optional):
                made = torch.from_numpy(np.asarray(values(name, tuple(tensor.shape)))).to(tensor.dtype)
                tensor.copy_(made * scale.get(name, 1.0))
        for alias, used in tied.items() if isinstance(tied, Mapping) else ():
            if alias in state and used in state:
                state[alias].copy_(state[used])
    return network
