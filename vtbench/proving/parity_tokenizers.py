"""Parity of tokenizers: does a native network compute the tokens, latents and pictures that upstream's class computes?

One code path for every family:

1. the network is built from `arch` alone, and its names and shapes must equal the file's (`optional` ones aside);
2. it is filled, the input is encoded, tokens must be equal and latents within the file's tolerance, both of what our
   network gives in float64, so that no processor's rounding decides (`rounding`);
3. a fresh, equally filled network decodes from the tokens (or the latent, if continuous) alone;
4. every further entry of `runs` is done the same way.

The network is called as `encode(input, **encode, **encode_with arrays)` and `decode(first array of from, size=...,
**further arrays of from by name, **settings)`. Settings are the entry's other keys that are not null; a string that
names an array of the NPZ stands for that array; `stage` is passed unless it is "recon". `tokens: n` cuts the latent to
its n leading positions before the network sees it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vtbench import registry
from vtbench.models.made_weights import fill_
from vtbench.models.names import compare_names, names_of
from vtbench.models.network import build_network
from vtbench.proving.fixtures import Report, merge
from vtbench.proving.rounding import Array, measure
from vtbench.types.errors import VtbenchError

if TYPE_CHECKING:
    import numpy as np
    import torch

ENCODED = ("pre_quant", "quantized", "latent_mean")
"""What an encoder may give beside tokens, as an attribute of `Encoded` and as an array of a fixture."""
_NOT_SETTINGS = frozenset({"array", "from", "tokens", "stage", "what", "encode", "arch", "arrays"})


@dataclass(frozen=True)
class Step:
    """One call of a network: an encoding, or the decoding of an entry."""

    arch: Mapping[str, Any]
    settings: Mapping[str, Any] | None
    arrays: Mapping[str, str]
    """{what: name of upstream's array} of an encoding; {"recon": name} of a decoding."""
    tolerances: tuple[str, ...]
    """The keys whose tolerance counts, the first that the file states; an encoding's own `what` comes after."""
    decodes: bool = False


class TokenizerCheck:
    """The steps, on one fixture."""

    def __init__(self, facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray[Any, Any]], report: Report) -> None:
        self.facts, self.arrays, self.report = facts, arrays, report
        self.family = registry.family(facts["family"])
        self.plan = self.steps()

    def run(self) -> None:
        import torch

        facts = self.facts
        network = build_network(self.family, facts["arch"], random=False)
        self.report.reasons += compare_names(names_of(network), facts["state_dict"], facts.get("optional") or ())
        if self.report.reasons:
            return
        ours = self.evaluate(torch.float32, nullcontext())
        arrays: dict[str, tuple[str, Array]] = {}
        for k, step in enumerate(self.plan):
            for what, name in step.arrays.items():
                array = self.compared(step, what, name, ours[f"{k} {what}"])
                if array is not None:
                    arrays[f"{k} {what}"] = name, array
        self.report.no_float64 = measure({key: array for key, (_, array) in arrays.items()}, self.evaluate)
        self.report.judge(arrays.values())

    def steps(self) -> list[Step]:
        facts = self.facts
        kept = {name: name for name in ("tokens_canonical", *ENCODED) if name in self.arrays}
        out = [Step(facts["arch"], facts.get("encode"), kept, ())]
        out.append(Step(facts["arch"], facts["decode"], {"recon": facts["decode"]["array"]}, ("recon",), True))
        for entry in facts.get("runs") or ():
            arch = merge(facts["arch"], entry.get("arch"))
            if entry.get("arrays"):
                settings = merge(facts.get("encode") or {}, entry.get("encode"))
                out.append(Step(arch, settings, entry["arrays"], ("runs",)))
            out.append(Step(arch, entry, {"recon": entry["array"]}, ("runs", "recon"), True))
        return out

    def evaluate(self, dtype: torch.dtype, rounding: AbstractContextManager[Any]) -> dict[str, torch.Tensor]:
        """{"step what": array} of every step; what a network does not give is left out and said in the report."""
        import torch

        out: dict[str, torch.Tensor] = {}
        for k, step in enumerate(self.plan):
            # A fresh one each time: a decoder must not have seen what the encoder saw.
            network = self.network(step.arch).to(dtype)
            call = self.decoded if step.decodes else self.encoded
            with torch.inference_mode(), rounding:
                results = call(network, step, dtype)
            out |= {f"{k} {what}": results[what] for what in step.arrays}
        return out

    def encoded(self, network: Any, step: Step, dtype: torch.dtype) -> dict[str, Any]:
        settings = {key: self.setting(v, dtype) for key, v in (step.settings or {}).items() if v is not None}
        further = {name: self.array(name, dtype) for name in self.facts.get("encode_with") or ()}
        encoded = network.encode(self.array(self.facts["input"]["array"], dtype), **settings, **further)
        return {w: encoded.tokens if w == "tokens_canonical" else getattr(encoded, w, None) for w in step.arrays}

    def decoded(self, network: Any, step: Step, dtype: torch.dtype) -> dict[str, Any]:
        entry = step.settings or {}
        first, *others = entry["from"]
        latent = self.array(first, dtype)
        if entry.get("tokens") is not None:
            # Positions are axis 1, of tokens and of (B, L, C); a one-dimensional NCHW latent has them last.
            axis = 1 if first.startswith("tokens") or self.facts.get("latent_layout") != "NCHW" else latent.ndim - 1
            latent = latent.narrow(axis, 0, min(int(entry["tokens"]), latent.shape[axis]))
        settings = {name: self.array(name, dtype) for name in others}
        for key, value in entry.items():
            if key not in _NOT_SETTINGS and value is not None:
                settings[key] = self.setting(value, dtype)
        if entry.get("stage") not in (None, "recon"):
            settings["stage"] = entry["stage"]
        # (H, W) of pictures, (T, H, W) of clips.
        size = tuple(int(n) for n in self.array(self.facts["input"]["array"]).shape[2:])
        return {"recon": network.decode(latent, size=size, **settings)}

    def compared(self, step: Step, what: str, name: str, ours: torch.Tensor | None) -> Array | None:
        """Upstream's array beside ours in float32; None, and a reason, if they cannot be compared."""
        theirs = self.array(name)
        if ours is None:
            self.report.reasons.append(f"our network gives no {what}")
        elif tuple(ours.shape) != tuple(theirs.shape):
            self.report.reasons.append(f"{name} is {tuple(ours.shape)}, upstream's {tuple(theirs.shape)}")
        else:
            kinds = step.tolerances if step.decodes else (*step.tolerances, what)
            return Array(theirs, self.limit(theirs, kinds) if theirs.is_floating_point() else 0.0, ours.cpu())
        return None

    def limit(self, theirs: torch.Tensor, kinds: tuple[str, ...]) -> float:
        """The tolerance of the first of the `kinds` that the file has one for."""
        stated = next((self.facts["tolerance"][k] for k in kinds if self.facts["tolerance"].get(k) is not None), None)
        if stated is None:
            raise VtbenchError(f"the fixture states no tolerance for {kinds[0]}")
        return (
            float(stated["rtol"]) * float(theirs.double().abs().max()) if isinstance(stated, Mapping) else float(stated)
        )

    def network(self, arch: Mapping[str, Any]) -> Any:
        """A fresh network, filled as the fixture's was: by name, tied entries and formula constants put right."""
        import torch

        network = fill_(build_network(self.family, arch).float())
        state = network.state_dict()
        with torch.no_grad():
            for alias, used in (self.facts.get("shared") or {}).items():
                if alias in state and used in state:
                    state[alias].copy_(state[used])
            for name, constant in (self.facts.get("not_filled") or {}).items():
                if name in state:
                    state[name].copy_(self.constant(constant).reshape(state[name].shape))
        return network.requires_grad_(False)

    def setting(self, value: Any, dtype: torch.dtype) -> Any:
        """A setting's value: the array that it names, or itself."""
        return self.array(value, dtype) if isinstance(value, str) and value in self.arrays else value

    def constant(self, value: Any) -> torch.Tensor:
        """A constant that the file lists: the values, {"values": …}, or the name of an array."""
        import torch

        if isinstance(value, Mapping):
            value = value.get("values", value.get("value"))
        if isinstance(value, str):
            return self.array(value)
        return torch.tensor(value)

    def array(self, name: str, dtype: torch.dtype | None = None) -> torch.Tensor:
        """The array of the NPZ; floats as `dtype` if that is given."""
        import torch

        if name not in self.arrays:
            raise VtbenchError(f"the NPZ lacks the array {name}, which the fixture names")
        array = torch.from_numpy(self.arrays[name])
        return array.to(dtype) if dtype is not None and array.is_floating_point() else array
