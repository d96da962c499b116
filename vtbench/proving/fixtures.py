"""Parity fixtures: their files, what must stand in them, and the report on one.

A fixture is FAMILY__VARIANT.json beside FAMILY__VARIANT.npz: upstream's outputs at a small configuration whose weights
are made from the parameters' names. A tokenizer's file states its `schema`, a generator's has none.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench.proving.rounding import Array, greatest_difference
from vtbench.types.errors import VtbenchError

if TYPE_CHECKING:
    import numpy as np

SCHEMA = 1
"""Of a tokenizer's fixture."""


# -- reports ---------------------------------------------------------------------------------------------------------


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
    """What the check of one fixture came to."""

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
        """Writes down what `rounding.measure` gave of each array: differences, equal tokens, reasons to fail."""
        equal = total = 0
        for name, array in named:
            strays = array.strays()
            count = int(strays.sum())
            if array.recorded.is_floating_point():
                self.differences.append(_difference(name, array, ok=not count))
                if count:
                    self.reasons.append(_reason(self.differences[-1], array))
                continue
            same = array.ours == array.recorded
            equal, total = equal + int(same.sum()), total + array.recorded.numel()
            self.ties += int((~same & ~strays).sum())
            if count:
                self.reasons.append(f"{count} of {array.recorded.numel()} {name} differ")
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


# -- files -----------------------------------------------------------------------------------------------------------


def read_facts(path: Path) -> dict[str, Any]:
    """What the JSON of a fixture says; raises VtbenchError if it is no JSON object."""
    try:
        facts = json.loads(path.read_text())
    except (OSError, ValueError) as bad:
        raise VtbenchError(f"{path} cannot be read as a fixture ({bad}): give FAMILY__VARIANT.json") from bad
    if not isinstance(facts, dict):
        raise VtbenchError(f"{path} holds no JSON object: give FAMILY__VARIANT.json")
    return facts


def read_arrays(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of the NPZ beside the JSON `path`; raises VtbenchError if it cannot be read."""
    import numpy as np

    beside = path.with_suffix(".npz")
    try:
        with np.load(beside, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error) as bad:
        raise VtbenchError(f"{beside} cannot be read ({bad}): the arrays lie beside the JSON") from bad


def merge(base: Mapping[str, Any], change: Mapping[str, Any] | None) -> dict[str, Any]:
    """`base` with `change` put over it, dictionaries within dictionaries too."""
    out = dict(base)
    for key, value in (change or {}).items():
        inner = out.get(key)
        out[key] = merge(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return out


# -- what must stand in them -----------------------------------------------------------------------------------------

_FORM: Mapping[str, tuple[type, str]] = {
    "family": (str, "a name"),
    "arch": (Mapping, "a dictionary"),
    "state_dict": (Mapping, "a dictionary of shapes"),
    "decode": (Mapping, "a dictionary"),
    "tolerance": (Mapping, "a dictionary"),
    "input": (Mapping, "a dictionary"),
}
"""Keys of a tokenizer's fixture that the checker cannot do without."""


def check_tokenizer(facts: Mapping[str, Any]) -> None:
    """Raises VtbenchError where the file is not of the schema, so that it is not taken for a fault of our network."""
    if facts["schema"] != SCHEMA:
        raise VtbenchError(f"the fixture has schema {facts['schema']!r}, this vtbench checks schema {SCHEMA}")
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


def check_shapes(facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Raises VtbenchError unless every array that the file lists is there: a missing one would not be compared."""
    for name, shape in (facts.get("shapes") or {}).items():
        if name not in arrays or list(arrays[name].shape) != list(shape):
            present = f"is {list(arrays[name].shape)}" if name in arrays else "is not there"
            raise VtbenchError(
                f"the array {name} of the NPZ {present}, the fixture says {shape}: copy both files again"
            )


def check_generator(facts: Mapping[str, Any], path: Path) -> None:
    """Raises VtbenchError where the file is no generator's fixture."""
    lacking = [k for k in ("family", "config", "inputs", "outputs", "state_dict") if k not in facts]
    if lacking:
        raise VtbenchError(f"{path} lacks {', '.join(lacking)}: it is no generator's fixture")
    if not isinstance(facts["family"], str):
        raise VtbenchError(f"{path}: family is {facts['family']!r}, but must be a family's name")
    objects = ("config", "inputs", "outputs", "state_dict", "float64_rerun", "noise_shapes", "aux_state_dicts")
    for key in (*objects, "settings", "tolerance"):
        if facts.get(key) is not None and not isinstance(facts[key], dict):
            raise VtbenchError(f"{path}: {key} is {type(facts[key]).__name__}, but must be a JSON object")
    for run, settings in (facts.get("settings") or {}).items():
        if not isinstance(settings, dict):
            raise VtbenchError(f"{path}: the settings of {run} are {settings!r}, but must be a JSON object")
    if not facts["outputs"]:
        raise VtbenchError(f"{path} lists no outputs: there is nothing to compare")
    for name, text in facts["outputs"].items():
        if not isinstance(text, str):
            raise VtbenchError(f"{path}: the output {name} is described by {text!r}, but must be by a text")
