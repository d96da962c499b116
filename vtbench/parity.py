"""Parity: does a native network compute what upstream's class computes?

A fixture holds upstream's outputs for a small configuration whose weights are made from the parameters' names, so that
our network, filled by the same rule, must give the same numbers. One code path for every family:

1. the network is built from `arch` alone, and its names and shapes must equal the file's (`optional` ones aside);
2. it is filled, the input is encoded, tokens must be equal and latents within the file's tolerance, both of what our
   network gives in float64, so that no processor's rounding decides (`vtbench.proving.rounding`);
3. a fresh, equally filled network decodes from the tokens (or the latent, if continuous) alone;
4. every further entry of `runs` is done the same way.

What the network is given: `encode(input, **encode, **encode_with arrays)` and `decode(first array of from, size=...,
**further arrays of from by name, **settings)`. Settings are the entry's other keys that are not null; a string that
names an array of the NPZ stands for that array; `stage` is given unless it is "recon". `tokens: n` cuts the latent to
its n leading positions before the network sees it.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench import registry
from vtbench.models.made_weights import fill_ as fill_
from vtbench.models.made_weights import values as values
from vtbench.models.names import compare_names as compare_names
from vtbench.models.names import manifest as manifest
from vtbench.models.names import manifest_of as manifest_of
from vtbench.models.names import names_of as names_of
from vtbench.models.network import build_network
from vtbench.proving.rounding import Array, greatest_difference, measure
from vtbench.types.errors import VtbenchError

if TYPE_CHECKING:
    import numpy as np
    import torch

SCHEMA = 1
ENCODED = ("pre_quant", "quantized", "latent_mean")
_NOT_SETTINGS = frozenset({"array", "from", "tokens", "stage", "what", "encode", "arch", "arrays"})


@dataclass(frozen=True)
class Difference:
    """The greatest absolute difference of our float32 array from upstream's, and how it was judged."""

    array: str
    greatest: float
    allowed: float
    """How far upstream's array and ours may each be from our network's in float64."""
    ok: bool
    exact: float | None = None
    """Greatest difference of upstream's array from ours in float64; None if our network has no float64."""
    raised: bool = False
    """Is `allowed` more than the fixture's limit, because rounding moves this array further?"""

    def text(self) -> str:
        """`sample 9.2e-04`, and where the limit is raised, what float64 says of it."""
        more = f" (float64 {self.exact:.1e}, rounding up to {self.allowed:.1e})" if self.raised else ""
        return f"{self.array} {self.greatest:.1e}{more}"


@dataclass
class Report:
    """What the check of one fixture found."""

    name: str
    differences: list[Difference] = field(default_factory=list)
    equal_tokens: float | None = None
    """Share of equal tokens over all encodings; None if continuous."""
    ties: int = 0
    """Tokens that differ where rounding alone decides, as float64 shows."""
    no_float64: str | None = None
    """Why our network gives nothing in float64, so that float32 is held to the plain limits."""
    reasons: list[str] = field(default_factory=list)
    """Why it failed; empty if it passed."""

    @property
    def ok(self) -> bool:
        return not self.reasons

    def line(self) -> str:
        """One line: verdict, name, share of equal tokens, greatest differences, reasons."""
        parts = [f"{'pass' if self.ok else 'FAIL'}  {self.name}"]
        if self.equal_tokens is not None:
            at_ties = f" ({self.ties} at a tie)" if self.ties else ""
            parts.append(f"tokens {self.equal_tokens:.2%} equal{at_ties}")
        parts += [d.text() for d in self.differences]
        if self.no_float64 is not None:
            parts.append(f"no float64: {self.no_float64}")
        return "  ".join(parts) + (f"  ({'; '.join(self.reasons)})" if self.reasons else "")

    def judge(self, named: Iterable[tuple[str, Array]]) -> None:
        """Writes down what `measure` found of each array."""
        equal = total = 0
        for name, array in named:
            strays = int(array.strays().sum())
            if array.recorded.is_floating_point():
                self.differences.append(_difference(name, array, ok=not strays))
                if strays:
                    self.reasons.append(_reason(self.differences[-1], array))
                continue
            same, count = array.ours == array.recorded, array.recorded.numel()
            equal, total = equal + int(same.sum()), total + count
            self.ties += count - strays - int((same & ~array.strays()).sum())
            if strays:
                self.reasons.append(f"{strays} of {count} {name} differ")
        self.equal_tokens = equal / total if total else None


def _difference(name: str, array: Array, *, ok: bool) -> Difference:
    exact = None if array.exact is None else greatest_difference(array.recorded, array.exact)
    greatest, allowed = greatest_difference(array.ours, array.recorded), array.allowed
    raised = allowed > array.plain and max(greatest, exact or 0.0, array.off(array.ours)) > array.plain
    return Difference(name, greatest, allowed, ok, exact, raised)


def _reason(difference: Difference, array: Array) -> str:
    """Why a float array fails: in float64 too, which is a real deviation, or in float32 alone."""
    d, ours = difference, array.off(array.ours)
    if d.exact is None:
        return f"{d.array} differs by {d.greatest:.2e}, allowed are {d.allowed:.2e}"
    if not d.exact <= d.allowed:
        return f"{d.array} differs by {d.greatest:.2e} (in float64 by {d.exact:.2e}), allowed are {d.allowed:.2e}"
    return f"{d.array} in float32 differs by {ours:.2e} from our own float64, allowed are {d.allowed:.2e}"


def merge(base: Mapping[str, Any], change: Mapping[str, Any] | None) -> dict[str, Any]:
    """`base` with `change` put over it, dictionaries within dictionaries too."""
    out = dict(base)
    for key, value in (change or {}).items():
        inner = out.get(key)
        out[key] = merge(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return out


def check_fixture(path: Path) -> Report:
    """The report on one fixture; what is wrong with the file itself is a reason too.

    A file without `schema` is a generator's, of another form, and is checked by `vtbench.parity_gen`.
    """
    path = Path(path)
    report = Report(path.stem)
    try:
        facts, arrays = _read(path)
        if "schema" not in facts:
            from vtbench import parity_gen

            made: Report = parity_gen.check_fixture(path)
            return made
        if facts["schema"] != SCHEMA:
            raise VtbenchError(f"the fixture has schema {facts['schema']!r}, this vtbench checks schema {SCHEMA}")
        check = _Check(facts, arrays, report)
        _check_shapes(facts, arrays)
        check.run()
    except VtbenchError as bad:
        report.reasons.append(str(bad))
    except Exception as bad:
        # A network that breaks on one fixture must not keep the others from being checked.
        report.reasons.append(
            f"our network broke: {type(bad).__name__}: {str(bad).splitlines()[0] if str(bad) else ''}"
        )
    return report


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray[Any, Any]]]:
    import numpy as np

    try:
        facts = json.loads(path.read_text())
    except (OSError, ValueError) as bad:
        raise VtbenchError(f"{path} cannot be read as a fixture ({bad}): give FAMILY__VARIANT.json") from bad
    if not isinstance(facts, dict):
        raise VtbenchError(f"{path} holds no JSON object: give FAMILY__VARIANT.json")
    if "schema" not in facts:
        return facts, {}
    beside = path.with_suffix(".npz")
    try:
        with np.load(beside, allow_pickle=False) as found:
            return facts, {name: found[name] for name in found.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error) as bad:
        raise VtbenchError(f"{beside} cannot be read ({bad}): the arrays lie beside the JSON") from bad


_FORM: Mapping[str, tuple[type, str]] = {
    "family": (str, "a name"),
    "arch": (Mapping, "a dictionary"),
    "state_dict": (Mapping, "a dictionary of shapes"),
    "decode": (Mapping, "a dictionary"),
    "tolerance": (Mapping, "a dictionary"),
    "input": (Mapping, "a dictionary"),
}
"""Keys of a fixture that the checker cannot do without."""


def _check_form(facts: Mapping[str, Any]) -> None:
    """Raises VtbenchError where the file is not of the schema, so that it is not taken for a fault of our network."""
    missing = [k for k in _FORM if k not in facts]
    if missing:
        raise VtbenchError(f"the fixture lacks {', '.join(missing)}: it is not of schema {SCHEMA}")
    for key, (kind, what) in _FORM.items():
        if not isinstance(facts[key], kind):
            raise VtbenchError(f"the fixture's {key} is {facts[key]!r}, wanted {what}: it is not of schema {SCHEMA}")
    if not isinstance(facts["input"].get("array"), str):
        raise VtbenchError("the fixture's input names no array: it is not of schema 1")
    entries = facts.get("runs") or []
    if not isinstance(entries, list) or not all(isinstance(e, Mapping) for e in entries):
        raise VtbenchError("the fixture's runs are no list of dictionaries: it is not of schema 1")
    for where, entry in (("decode", facts["decode"]), *((f"run {i + 1}", e) for i, e in enumerate(entries))):
        names = entry.get("from")
        good = isinstance(names, list) and names and all(isinstance(n, str) for n in names)
        if not good or not isinstance(entry.get("array"), str):
            raise VtbenchError(f"the fixture's {where} does not say array and from: it is not of schema {SCHEMA}")
    for name, value in facts["tolerance"].items():
        allowed = value.get("rtol") if isinstance(value, Mapping) else value
        if value is not None and (not isinstance(allowed, int | float) or isinstance(allowed, bool) or allowed < 0):
            raise VtbenchError(f"the fixture's tolerance of {name} is {value!r}, wanted a number of at least 0")


def _check_shapes(facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Raises VtbenchError unless every array that the file lists is there: a missing one would not be compared."""
    for name, shape in (facts.get("shapes") or {}).items():
        if name not in arrays or list(arrays[name].shape) != list(shape):
            found = f"is {list(arrays[name].shape)}" if name in arrays else "is not there"
            raise VtbenchError(f"the array {name} of the NPZ {found}, the fixture says {shape}: copy both files again")


@dataclass(frozen=True)
class _Step:
    """One call of a network: an encoding, or the decoding of an entry."""

    arch: Mapping[str, Any]
    settings: Mapping[str, Any] | None
    arrays: Mapping[str, str]
    """{what: name of upstream's array} of an encoding; {"recon": name} of a decoding."""
    tolerances: tuple[str, ...]
    """The keys whose tolerance counts, the first that the file states; an encoding's own `what` comes after."""
    decodes: bool = False


class _Check:
    """The steps, on one fixture."""

    def __init__(self, facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray[Any, Any]], report: Report) -> None:
        _check_form(facts)
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

    def steps(self) -> list[_Step]:
        facts = self.facts
        kept = {name: name for name in ("tokens_canonical", *ENCODED) if name in self.arrays}
        out = [_Step(facts["arch"], facts.get("encode"), kept, ())]
        out.append(_Step(facts["arch"], facts["decode"], {"recon": facts["decode"]["array"]}, ("recon",), True))
        for entry in facts.get("runs") or ():
            arch = merge(facts["arch"], entry.get("arch"))
            if entry.get("arrays"):
                settings = merge(facts.get("encode") or {}, entry.get("encode"))
                out.append(_Step(arch, settings, entry["arrays"], ("runs",)))
            out.append(_Step(arch, entry, {"recon": entry["array"]}, ("runs", "recon"), True))
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

    def encoded(self, network: Any, step: _Step, dtype: torch.dtype) -> dict[str, Any]:
        settings = {key: value for key, value in (step.settings or {}).items() if value is not None}
        further = {name: self.array(name, dtype) for name in self.facts.get("encode_with") or ()}
        encoded = network.encode(self.array(self.facts["input"]["array"], dtype), **settings, **further)
        return {w: encoded.tokens if w == "tokens_canonical" else getattr(encoded, w, None) for w in step.arrays}

    def decoded(self, network: Any, step: _Step, dtype: torch.dtype) -> dict[str, Any]:
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
                named = isinstance(value, str) and value in self.arrays
                settings[key] = self.array(value, dtype) if named else value
        if entry.get("stage") not in (None, "recon"):
            settings["stage"] = entry["stage"]
        height, width = self.array(self.facts["input"]["array"]).shape[2:]
        return {"recon": network.decode(latent, size=(int(height), int(width)), **settings)}

    def compared(self, step: _Step, what: str, name: str, ours: torch.Tensor | None) -> Array | None:
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
