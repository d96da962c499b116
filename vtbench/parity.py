"""Parity: does a native network compute what upstream's class computes?

A fixture holds upstream's outputs for a small configuration whose weights are made from the parameters' names, so that
our network, filled by the same rule, must give the same numbers. One code path for every family:

1. the network is built from `arch` alone, and its names and shapes must equal the file's (`optional` ones aside);
2. it is filled, the input is encoded, tokens are compared exactly and latents within the file's tolerance;
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
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench import registry
from vtbench.models.made_weights import fill_ as fill_
from vtbench.models.made_weights import values as values
from vtbench.models.names import compare_names as compare_names
from vtbench.models.names import is_optional
from vtbench.models.names import manifest as manifest
from vtbench.models.names import manifest_of as manifest_of
from vtbench.models.names import names_of as names_of
from vtbench.models.network import Encoded, build_network
from vtbench.types.errors import VtbenchError

if TYPE_CHECKING:
    import numpy as np
    import torch

SCHEMA = 1
optional_name = is_optional
ENCODED = ("pre_quant", "quantized", "latent_mean")
_NOT_SETTINGS = frozenset({"array", "from", "tokens", "stage", "what", "encode", "arch", "arrays"})


@dataclass(frozen=True)
class Difference:
    """The greatest absolute difference of an array from upstream's, and how great it may be."""

    array: str
    greatest: float
    allowed: float

    @property
    def ok(self) -> bool:
        return self.greatest <= self.allowed  # False for NaN


@dataclass
class Report:
    """What the check of one fixture found."""

    name: str
    differences: list[Difference] = field(default_factory=list)
    equal_tokens: float | None = None
    """Share of equal tokens over all encodings; None if continuous."""
    reasons: list[str] = field(default_factory=list)
    """Why it failed; empty if it passed."""

    @property
    def ok(self) -> bool:
        return not self.reasons

    def line(self) -> str:
        """One line: verdict, name, share of equal tokens, greatest differences, reasons."""
        parts = [f"{'pass' if self.ok else 'FAIL'}  {self.name}"]
        if self.equal_tokens is not None:
            parts.append(f"tokens {self.equal_tokens:.2%} equal")
        parts += [f"{d.array} {d.greatest:.1e}" for d in self.differences]
        return "  ".join(parts) + (f"  ({'; '.join(self.reasons)})" if self.reasons else "")


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


class _Check:
    """The steps, on one fixture."""

    def __init__(self, facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray[Any, Any]], report: Report) -> None:
        _check_form(facts)
        self.facts, self.arrays, self.report = facts, arrays, report
        self.family = registry.family(facts["family"])
        self.equal = self.total = 0

    def run(self) -> None:
        facts = self.facts
        network = self.network(facts["arch"])
        self.report.reasons += compare_names(names_of(network), facts["state_dict"], facts.get("optional") or ())
        if self.report.reasons:
            return
        kept = {name: name for name in ("tokens_canonical", *ENCODED) if name in self.arrays}
        self.compare_encoded(self.encode(network, facts.get("encode")), kept, run=False)
        self.compare_decoded(facts["arch"], facts["decode"], tolerance="recon")
        for entry in facts.get("runs") or ():
            arch = merge(facts["arch"], entry.get("arch"))
            if entry.get("arrays"):
                settings = merge(facts.get("encode") or {}, entry.get("encode"))
                self.compare_encoded(self.encode(self.network(arch), settings), entry["arrays"], run=True)
            self.compare_decoded(arch, entry, tolerance="runs")
        if self.total:
            self.report.equal_tokens = self.equal / self.total

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

    def array(self, name: str) -> torch.Tensor:
        import torch

        if name not in self.arrays:
            raise VtbenchError(f"the NPZ lacks the array {name}, which the fixture names")
        return torch.from_numpy(self.arrays[name])

    @property
    def input(self) -> torch.Tensor:
        return self.array(self.facts["input"]["array"])

    def encode(self, network: Any, settings: Mapping[str, Any] | None) -> Encoded:
        import torch

        given = {key: value for key, value in (settings or {}).items() if value is not None}
        further = {name: self.array(name) for name in self.facts.get("encode_with") or ()}
        with torch.inference_mode():
            made: Encoded = network.encode(self.input, **given, **further)
        return made

    def compare_encoded(self, made: Encoded, names: Mapping[str, str], *, run: bool) -> None:
        """`names`: {what: name of upstream's array}."""
        for what, name in names.items():
            theirs = self.array(name)
            ours = made.tokens if what == "tokens_canonical" else getattr(made, what, None)
            if ours is None:
                self.report.reasons.append(f"our network gives no {what}")
            elif tuple(ours.shape) != tuple(theirs.shape):
                self.report.reasons.append(f"{name} is {tuple(ours.shape)}, upstream's {tuple(theirs.shape)}")
            elif what == "tokens_canonical":
                same = int((ours.cpu() == theirs).sum())
                self.equal, self.total = self.equal + same, self.total + theirs.numel()
                if same < theirs.numel():
                    self.report.reasons.append(f"{theirs.numel() - same} of {theirs.numel()} {name} differ")
            else:
                self.difference(name, ours, theirs, ("runs", what) if run else (what,))

    def compare_decoded(self, arch: Mapping[str, Any], entry: Mapping[str, Any], *, tolerance: str) -> None:
        import torch

        theirs = self.array(entry["array"])
        first, *others = entry["from"]
        latent = self.array(first)
        if entry.get("tokens") is not None:
            # Positions are axis 1, of tokens and of (B, L, C); a one-dimensional NCHW latent has them last.
            axis = 1 if first.startswith("tokens") or self.facts.get("latent_layout") != "NCHW" else latent.ndim - 1
            latent = latent.narrow(axis, 0, min(int(entry["tokens"]), latent.shape[axis]))
        settings = {name: self.array(name) for name in others}
        for key, value in entry.items():
            if key not in _NOT_SETTINGS and value is not None:
                named = isinstance(value, str) and value in self.arrays
                settings[key] = self.array(value) if named else value
        if entry.get("stage") not in (None, "recon"):
            settings["stage"] = entry["stage"]
        size = (int(self.input.shape[2]), int(self.input.shape[3]))
        with torch.inference_mode():
            ours = self.network(arch).decode(latent, size=size, **settings)
        if tuple(ours.shape) != tuple(theirs.shape):
            self.report.reasons.append(f"{entry['array']} is {tuple(ours.shape)}, upstream's {tuple(theirs.shape)}")
            return
        self.difference(entry["array"], ours, theirs, (tolerance, "recon"))

    def difference(self, name: str, ours: torch.Tensor, theirs: torch.Tensor, kinds: tuple[str, ...]) -> None:
        """Compares with the first of the `kinds` that the file has a tolerance for."""
        stated = next((self.facts["tolerance"][k] for k in kinds if self.facts["tolerance"].get(k) is not None), None)
        if stated is None:
            raise VtbenchError(f"the fixture states no tolerance for {kinds[0]}")
        wide = theirs.double()
        if isinstance(stated, Mapping):
            stated = float(stated["rtol"]) * float(wide.abs().max())
        found = Difference(name, float((ours.cpu().double() - wide).abs().max()), float(stated))
        self.report.differences.append(found)
        if not found.ok:
            self.report.reasons.append(f"{name} differs by {found.greatest:.1e}, allowed are {found.allowed:.1e}")
