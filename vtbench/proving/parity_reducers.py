"""Parity of reducers: does our rule keep the tokens, and make the values, that upstream's own function did?

A fixture ("what": "reducer fixture") holds the inputs of upstream's function on a small case, its parameters and what
it gave. Indices must be equal, but for what float64 shows to be a tie; values lie within what rounding explains.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from vtbench import registry
from vtbench.models.made_weights import values
from vtbench.proving.fixtures import Report
from vtbench.proving.rounding import Array, measure
from vtbench.types.errors import VtbenchError
from vtbench.types.reduction import Rule

if TYPE_CHECKING:
    import numpy as np
    import torch

WHAT = "reducer fixture"
SCALED = re.compile(r"every \*?\.?([\w.]+)\.weight (?:times|multiplied by) (\d+(?:\.\d+)?)")
"""How a fixture's words say that some weights are larger than the filling."""
AS_SETS = "compare as sets"
"""How a fixture's `meaning` says of positions that any members of a cluster may give them."""
SCHEMA = 1
RTOL, LOOSEST = 1e-5, 0.1
"""Of the greatest magnitude: where a fixture states nothing, and the most that it may state."""
MOST_WEIGHTS = 2**26
"""Numbers of a fixture's weights, which are made in memory."""


class _Read(dict[str, Any]):
    """Parameters that know which of them the rule has asked for."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        super().__init__(params)
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.names.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return super().get(name, default)


def check_reducer(facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray[Any, Any]], report: Report) -> None:
    """Compares every output of the fixture with that of the rule for its method.

    What agrees within the fixture's own tolerance is right; of the rest, float64 says what rounding explains.
    """
    import torch

    _check_form(facts)
    method = str(facts.get("method"))
    rule, params = _rule(method), _Read({**facts["params"], "outputs": facts["outputs"]})
    recorded, plain = _listed(facts, arrays)
    named = {name: _tensor(arrays, name, entry) for name, entry in (facts.get("inputs") or {}).items()}

    def evaluate(dtype: torch.dtype, rounding: AbstractContextManager[Any]) -> dict[str, Any]:
        inputs = {n: (a.to(dtype) if a.is_floating_point() else a).clone() for n, a in named.items()}
        with torch.inference_mode(), rounding:
            return dict(rule(inputs, params, _weights(facts, dtype)))

    ours = _taken(method, evaluate)
    for name in [n for n in recorded if AS_SETS in str((facts.get("meaning") or {}).get(n))]:
        for whose, rows in (("our", ours.get(name)), ("upstream's", recorded.pop(name))):
            if name not in named or not _members_positions(rows, named[name], ours["assign"][0].tolist()):
                report.reasons.append(f"{whose} {name} are not those of members of our clusters")
    for name, value in plain.items():
        if not _alike(ours.get(name), value):
            report.reasons.append(f"{name} is {ours.get(name)!r}, upstream's {value!r}")
    compared = {
        name: array for name, theirs in recorded.items() if (array := _paired(facts, name, ours, theirs, report))
    }
    apart = {name: array for name, array in compared.items() if bool(array.strays().any())}
    if apart:
        report.no_float64 = measure(apart, lambda *how: {n: _numbers(a) for n, a in evaluate(*how).items()})
    report.judge(compared.items())
    ignored = sorted(set(facts["params"]) - params.names)
    if report.reasons and ignored:
        report.reasons.append(f"our rule for {method} does not read the params {', '.join(ignored)}")


def _listed(
    facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray[Any, Any]]
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The fixture's outputs: (arrays, plain numbers and lists)."""
    stated = facts["outputs"]
    recorded = {name: _tensor(arrays, name, entry) for name, entry in stated.items() if isinstance(entry, dict)}
    plain = {name: value for name, value in stated.items() if not isinstance(value, dict)}
    rows = facts["params"].get("cases")
    cases = [row["out"] for row in rows if isinstance(row, dict) and "out" in row] if isinstance(rows, list) else []
    if cases:
        plain["cases"] = cases
    if not recorded and not plain:
        raise VtbenchError("the fixture lists no outputs: there is nothing to compare")
    return recorded, plain


def _paired(
    facts: Mapping[str, Any], name: str, ours: Mapping[str, Any], theirs: torch.Tensor, report: Report
) -> Array | None:
    """One output beside upstream's. None, and a reason of the report's, where they are not of one form."""
    import torch

    if name not in ours:
        report.reasons.append(f"our rule gives no {name}")
        return None
    mine = torch.as_tensor(ours[name])
    if tuple(mine.shape) != tuple(theirs.shape):
        report.reasons.append(f"{name} is {tuple(mine.shape)}, upstream's {tuple(theirs.shape)}")
        return None
    if not torch.equal(mine.isnan(), theirs.isnan()):
        report.reasons.append(f"{name} has no number in other places than upstream's")
        return None
    number = _numbers(theirs)
    return Array(number, _limit(facts, name, number), _numbers(mine))


def _check_form(facts: Mapping[str, Any]) -> None:
    """Raises VtbenchError where the file is not of the schema, so that it is not taken for a fault of our rule."""
    if facts.get("schema") != SCHEMA:
        raise VtbenchError(f"the fixture has schema {facts.get('schema')!r}, this vtbench checks schema {SCHEMA}")
    if not isinstance(facts.get("outputs"), dict) or not isinstance(facts.get("params"), dict):
        raise VtbenchError(
            "the fixture lacks outputs or params, which must be JSON objects: it is no reducer's fixture"
        )
    for key in ("inputs", "weights", "tolerance", "meaning"):
        if not isinstance(facts.get(key) or {}, dict):
            raise VtbenchError(f"the fixture's {key} is {facts[key]!r}, but must be a JSON object")
    shapes = (facts.get("weights") or {}).get("state_dict") or {}
    entries = shapes.items() if isinstance(shapes, dict) else [("state_dict", shapes)]
    count = 0
    for name, shape in entries:
        if not isinstance(shape, list) or not all(type(side) is int and side >= 0 for side in shape):
            raise VtbenchError(f"the fixture's weight {name} has the shape {shape!r}, but must have a list of sides")
        count += math.prod(shape)
    if count > MOST_WEIGHTS:
        raise VtbenchError(f"the fixture asks for {count} weights: at most {MOST_WEIGHTS} are made for one")
    for name in facts.get("tolerance") or {}:
        _share(facts, name)


def _taken(
    method: str, evaluate: Callable[[torch.dtype, AbstractContextManager[Any]], dict[str, Any]]
) -> dict[str, Any]:
    """The rule's outputs in float32. Raises VtbenchError where it cannot take what the fixture gives it."""
    import torch

    try:
        return evaluate(torch.float32, nullcontext())
    except VtbenchError:
        raise
    except KeyError as lacking:
        raise VtbenchError(
            f"our rule for {method} asks for {lacking}, which the fixture's params, inputs and weights do not have: "
            f"compare them with those of another fixture of the method"
        ) from lacking
    except Exception as bad:
        # Whatever a rule raises on values that upstream's function was never given.
        first = (str(bad).splitlines() or [""])[0]
        raise VtbenchError(
            f"our rule for {method} cannot take the fixture's params, inputs and weights ({type(bad).__name__}: "
            f"{first}): compare them with those of another fixture of the method"
        ) from bad


def _members_positions(rows: torch.Tensor | None, places: torch.Tensor, cluster: list[int]) -> bool:
    """Is every column of rows (R * each, clusters) a list of `each` members' own positions (R, N), none of them twice
    before all have stood there, and then the same again? Which members they are, upstream leaves to an unstable sort.
    """
    if rows is None or rows.ndim != 2 or rows.shape[0] % len(places) or rows.shape[1] != max(cluster) + 1:
        return False
    for number, column in enumerate(rows.T.reshape(rows.shape[1], len(places), -1).transpose(1, 2).tolist()):
        members = [places[:, i].tolist() for i, one in enumerate(cluster) if one == number]
        first = column[: len(members)]
        own = all(one in members for one in first) and len({tuple(one) for one in first}) == len(first)
        if not own or any(one != column[i % len(members)] for i, one in enumerate(column)):
            return False
    return True


def _numbers(output: Any) -> Any:
    """A tensor with 0 for NaN, which upstream gives where a method defines nothing. Whether both have it in the same
    places is asked before."""
    import torch

    output = torch.as_tensor(output)
    if not output.is_floating_point():
        return output
    return torch.where(output.isnan(), 0.0, output)


def _rule(method: str) -> Rule:
    rules = {name: rule for _, card in registry.reducers().items() for name, rule in card.rules.items()}
    if method not in rules:
        raise VtbenchError(f"no reducer has a rule for the method {method!r}: there are {', '.join(sorted(rules))}")
    return rules[method]


def _tensor(arrays: Mapping[str, np.ndarray[Any, Any]], name: str, stated: Any) -> torch.Tensor:
    import torch

    key = stated.get("array") if isinstance(stated, dict) else None
    if not isinstance(key, str):
        raise VtbenchError(f"the fixture's {name} is {stated!r}, but must say array, shape and dtype")
    if key not in arrays or list(arrays[key].shape) != stated.get("shape"):
        raise VtbenchError(f"the NPZ holds no array {key} of the shape {stated.get('shape')}: copy both files again")
    if arrays[key].dtype.kind not in "biuf" or arrays[key].dtype.itemsize > 8:
        raise VtbenchError(f"the array {key} of the NPZ is {arrays[key].dtype}, but must hold numbers or booleans")
    return torch.from_numpy(arrays[key].astype(arrays[key].dtype.newbyteorder("=")))


def _weights(facts: Mapping[str, Any], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Made from the parameters' names, with the scale that the fixture's words state."""
    import numpy as np
    import torch

    stated = facts.get("weights") or {}
    later = stated.get("after_fill")
    if later and not SCALED.search(str(later)):
        raise VtbenchError(
            f"the fixture's weights were changed after they were filled, {later!r}: that is not known here"
        )
    words = f"{stated.get('scheme')}; {later}"
    scaled = {suffix: float(factor) for suffix, factor in SCALED.findall(words)}
    out = {}
    for name, shape in (stated.get("state_dict") or {}).items():
        factor = next((f for suffix, f in scaled.items() if name.endswith(f"{suffix}.weight")), 1.0)
        out[name] = (torch.from_numpy(np.asarray(values(name, tuple(shape)), dtype=np.float32)) * factor).to(dtype)
    return out


def _limit(facts: Mapping[str, Any], name: str, theirs: torch.Tensor) -> float:
    """The fixture's own: relative to the greatest magnitude. 0 for integers and booleans."""
    if not theirs.is_floating_point():
        return 0.0
    return _share(facts, name) * float(theirs.double().abs().max()) if theirs.numel() else 0.0


def _share(facts: Mapping[str, Any], name: str) -> float:
    """What the fixture allows of an output: its own, that of all values, or RTOL. Raises VtbenchError for nonsense."""
    tolerance = facts.get("tolerance") or {}
    stated = tolerance.get(name) or tolerance.get("values")
    share = stated.get("rtol") if isinstance(stated, dict) else stated
    if share is None:
        return RTOL
    if not isinstance(share, int | float) or isinstance(share, bool) or not 0 <= share <= LOOSEST:
        raise VtbenchError(f"the fixture's tolerance of {name} is {stated!r}, wanted an rtol of 0 to {LOOSEST}")
    return float(share)


def _alike(ours: Any, theirs: Any) -> bool:
    """Plain numbers: integers equal, others to eight digits."""
    import torch

    if isinstance(ours, torch.Tensor):
        ours = ours.tolist()
    if isinstance(theirs, list):
        same = isinstance(ours, list | tuple) and len(ours) == len(theirs)
        return same and all(_alike(a, b) for a, b in zip(ours, theirs, strict=True))
    if isinstance(theirs, float) and isinstance(ours, int | float):
        return abs(ours - theirs) <= 1e-8 * max(1.0, abs(theirs))
    return bool(ours == theirs)
