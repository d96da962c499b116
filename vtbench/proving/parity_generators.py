"""Parity of generators: does a native generator compute what upstream's class and sampler compute?

A fixture holds upstream's logits, features and samples at a small configuration. One code path for every family:

1. the network is built from `config` alone, and its names and shapes must equal `state_dict` (what a network or the
   file calls optional aside); helper networks (`aux_state_dicts`) are compared in the same way;
2. it is filled by names (`not_filled` keeps the constant of the network, `post_fill_scale` and `tied` are applied);
3. `network.replay(fixture)` gets the arrays listed in `inputs`, never those of `outputs`, and computes every array of
   `outputs`: integers must be equal, floats within `RELATIVE` of their spread, both of what the network gives in
   float64, so that no processor's rounding decides (`rounding`).

Sampler settings stand in a fixture as data (`settings`: {run: {option: value}}), in an older one as `name=value` pairs
in the description of an output ("generate(cfg_scale=3.0, top_k=40)"): `models.replay.pairs` reads exactly those, and
each network refuses a setting that it does not know.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from vtbench import registry
from vtbench.models.made_weights import values
from vtbench.models.names import compare_names, is_optional, names_of
from vtbench.models.network import build_network, load_class
from vtbench.models.replay import Inputs, Replay, settings_of
from vtbench.proving.fixtures import Report
from vtbench.proving.rounding import JUMP, Array, measure
from vtbench.types.errors import VtbenchError

if TYPE_CHECKING:
    import numpy as np
    import torch

RELATIVE = 1e-4
"""A float array may differ by this share of its spread: the project's limit for logits, whose spread is about one; by
more where the file says so (`tolerance`: twenty times what upstream's own array is off in float64). Where a sampler of
many passes amplifies rounding beyond that, `rounding` measures how far."""


class GeneratorCheck:
    """The steps, on one fixture."""

    def __init__(self, facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray[Any, Any]], report: Report) -> None:
        self.facts, self.recorded, self.report = facts, arrays, report
        self.settings = settings_of(facts["outputs"])

    def run(self) -> None:
        import torch

        self.network = self.filled_network()
        if self.report.reasons:
            return
        lacking = [name for name in self.facts["inputs"] if name not in self.recorded]
        if lacking:
            raise VtbenchError(f"the NPZ lacks the inputs {', '.join(lacking)}")
        arrays = self.compared(self.evaluate(torch.float32, nullcontext()))
        self.report.no_float64 = measure(arrays, self.evaluate)
        self.report.judge(arrays.items())

    def evaluate(self, dtype: torch.dtype, rounding: AbstractContextManager[Any]) -> dict[str, torch.Tensor]:
        """{output: array}, computed in `dtype`."""
        import torch

        inputs = Inputs()
        for name in self.facts["inputs"]:
            array = torch.from_numpy(self.recorded[name])
            inputs[name] = array.to(dtype) if array.is_floating_point() else array.long()
        shapes = self.facts.get("noise_shapes") or {}
        stated = self.facts.get("settings") or {}
        fixture = Replay(self.facts["config"], inputs, self.settings, self.facts["outputs"], shapes, stated)
        network = in_dtype(self.network, dtype)
        with torch.inference_mode(), rounding:
            arrays: dict[str, torch.Tensor] = network.replay(fixture)
        return arrays

    def compared(self, ours: Mapping[str, torch.Tensor]) -> dict[str, Array]:
        """Upstream's outputs beside ours in float32; a reason for each that cannot be compared."""
        import torch

        arrays: dict[str, Array] = {}
        for name in self.facts["outputs"]:
            if name not in self.recorded:
                raise VtbenchError(f"the NPZ lacks the output {name}, which the JSON lists")
            theirs = torch.from_numpy(self.recorded[name])
            if name not in ours:
                self.report.reasons.append(f"our network gives no {name}")
            elif tuple(ours[name].shape) != tuple(theirs.shape):
                self.report.reasons.append(f"{name} is {tuple(ours[name].shape)}, upstream's {tuple(theirs.shape)}")
            else:
                array = arrays[name] = Array(theirs, 0.0, ours[name].cpu())
                if theirs.is_floating_point():
                    array.plain = max(RELATIVE * array.spread, min(self._stated(name), JUMP * array.spread))
        return arrays

    def _stated(self, name: str) -> float:
        """The limit that the file has for an array, of upstream's own run in float64; 0 where it has none."""
        stated = (self.facts.get("tolerance") or {}).get(name)
        return float(stated) if isinstance(stated, int | float) and stated >= 0 else 0.0

    def filled_network(self) -> Any:
        """The network, filled as the fixture's was; what does not fit is written into the report."""
        facts, report = self.facts, self.report
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


def in_dtype(network: Any, dtype: torch.dtype) -> Any:
    """A copy of the float32 network and its helpers in another dtype; the network itself for float32."""
    import torch

    if dtype == torch.float32:
        return network
    network = copy.deepcopy(network).to(dtype)
    for helper in getattr(network, "helpers", {}).values():
        helper.to(dtype)
    return network


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
                filling = torch.from_numpy(np.asarray(values(name, tuple(tensor.shape)))).to(tensor.dtype)
                tensor.copy_(filling * scale.get(name, 1.0))
        for alias, used in tied.items() if isinstance(tied, Mapping) else ():
            if alias in state and used in state:
                state[alias].copy_(state[used])
    return network
