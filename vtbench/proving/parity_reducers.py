"""Parity of reducers: does our rule keep the tokens, and make the values, that upstream's own function did?

A fixture ("what": "reducer fixture") holds the inputs of upstream's function on a small case, its parameters and what
it gave. Indices must be equal, but for what float64 shows to be a tie; values lie within what rounding explains.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
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
SCALED = re.compile(r"every \*?\.?(\w+)\.weight (?:times|multiplied by) (\d+)")
"""How a fixture's words say that some weights are larger than the filling."""
AS_SETS = "compare as sets"
"""How a fixture's `meaning` says of positions that any members of a cluster may give them."""


def check_reducer(facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray[Any, Any]], report: Report) -> None:
    """Compares every output of the fixture with that of the rule for its method."""
    import torch

    rule = _rule(str(facts.get("method")))
    stated = facts.get("outputs")
    params = facts.get("params")
    if not isinstance(stated, dict) or not isinstance(params, dict):
        raise VtbenchError(
            "the fixture lacks outputs or params, which must be JSON objects: it is no reducer's fixture"
        )
    recorded = {n: torch.from_numpy(_array(arrays, o)) for n, o in stated.items() if isinstance(o, dict)}
    plain = {name: value for name, value in stated.items() if not isinstance(value, dict)}
    cases = [case.get("out") for case in params.get("cases") or () if isinstance(case, dict) and "out" in case]
    if cases:
        plain["cases"] = cases
    if not recorded and not plain:
        raise VtbenchError("the fixture lists no outputs: there is nothing to compare")

    def evaluate(dtype: torch.dtype, rounding: AbstractContextManager[Any]) -> dict[str, Any]:
        inputs = {name: _cast(_array(arrays, stated), dtype) for name, stated in (facts.get("inputs") or {}).items()}
        with torch.inference_mode(), rounding:
            return dict(rule(inputs, params, _weights(facts, dtype)))

    ours = evaluate(torch.float32, nullcontext())
    compared: dict[str, Array] = {}
    for name in [n for n in recorded if AS_SETS in str((facts.get("meaning") or {}).get(n))]:
        theirs = recorded.pop(name)
        for whose, rows in (("our", ours.get(name)), ("upstream's", theirs)):
            if not _members_positions(rows, _array(arrays, facts["inputs"][name]), ours["assign"][0].tolist()):
                report.reasons.append(f"{whose} {name} are not those of members of our clusters")
    for name, theirs in recorded.items():
        if name not in ours:
            report.reasons.append(f"our rule gives no {name}")
        elif tuple(ours[name].shape) != tuple(theirs.shape):
            report.reasons.append(f"{name} is {tuple(ours[name].shape)}, upstream's {tuple(theirs.shape)}")
        elif not torch.equal(ours[name].isnan(), theirs.isnan()):
            report.reasons.append(f"{name} has no number in other places than upstream's")
        else:
            number = _numbers(theirs)
            compared[name] = Array(number, _limit(facts, name, number), _numbers(ours[name]))
    for name, value in plain.items():
        if not _alike(ours.get(name), value):
            report.reasons.append(f"{name} is {ours.get(name)!r}, upstream's {value!r}")
    if compared:
        report.no_float64 = measure(compared, lambda *how: {n: _numbers(a) for n, a in evaluate(*how).items()})
    report.judge(compared.items())


def _members_positions(rows: torch.Tensor | None, triples: np.ndarray[Any, Any], cluster: list[int]) -> bool:
    """Is every column of rows (3 * each, clusters) a list of `each` members' own triples (3, N), none of them twice
    before all have stood there, and then the same again? Which members they are, upstream leaves to an unstable sort.
    """
    if rows is None or rows.ndim != 2 or rows.shape[0] % 3 or rows.shape[1] != max(cluster) + 1:
        return False
    for number, column in enumerate(rows.T.reshape(rows.shape[1], 3, -1).transpose(1, 2).tolist()):
        members = [triples[:, i].tolist() for i, one in enumerate(cluster) if one == number]
        first = column[: len(members)]
        own = all(one in members for one in first) and len({tuple(one) for one in first}) == len(first)
        if not own or any(one != column[i % len(members)] for i, one in enumerate(column)):
            return False
    return True


def _numbers(output: Any) -> Any:
    """An array with 0 for NaN, which upstream gives where a method defines nothing. Whether both have it in the same
    places is asked before."""
    import torch

    if not isinstance(output, torch.Tensor) or not output.is_floating_point():
        return output
    return torch.where(output.isnan(), 0.0, output)


def _rule(method: str) -> Rule:
    rules = {name: rule for _, card in registry.reducers().items() for name, rule in card.rules.items()}
    if method not in rules:
        raise VtbenchError(f"no reducer has a rule for the method {method!r}: there are {', '.join(sorted(rules))}")
    return rules[method]


def _array(arrays: Mapping[str, np.ndarray[Any, Any]], stated: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    name = str(stated.get("array"))
    if name not in arrays or list(arrays[name].shape) != list(stated.get("shape") or ()):
        raise VtbenchError(f"the NPZ holds no array {name} of the shape {stated.get('shape')}: copy both files again")
    return arrays[name]


def _cast(array: np.ndarray[Any, Any], dtype: torch.dtype) -> torch.Tensor:
    import torch

    tensor = torch.from_numpy(array.copy())
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _weights(facts: Mapping[str, Any], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Made from the parameters' names, with the scale that the fixture's words state."""
    import numpy as np
    import torch

    stated = facts.get("weights") or {}
    scaled = {suffix: float(factor) for suffix, factor in SCALED.findall(str(stated.get("scheme", "")))}
    out = {}
    for name, shape in (stated.get("state_dict") or {}).items():
        factor = next((f for suffix, f in scaled.items() if name.endswith(f"{suffix}.weight")), 1.0)
        out[name] = (torch.from_numpy(np.asarray(values(name, tuple(shape)), dtype=np.float32)) * factor).to(dtype)
    return out


def _limit(facts: Mapping[str, Any], name: str, theirs: torch.Tensor) -> float:
    """The fixture's own: relative to the greatest magnitude. 0 for integers and booleans."""
    if not theirs.is_floating_point():
        return 0.0
    tolerance = facts.get("tolerance") or {}
    relative = (tolerance.get(name) or tolerance.get("values") or {}).get("rtol", 1e-5)
    return float(relative) * float(theirs.double().abs().max()) if theirs.numel() else 0.0


def _alike(ours: Any, theirs: Any) -> bool:
    """Plain numbers: integers equal, others to eight digits."""
    if isinstance(theirs, list):
        same = isinstance(ours, list | tuple) and len(ours) == len(theirs)
        return same and all(_alike(a, b) for a, b in zip(ours, theirs, strict=True))
    if isinstance(theirs, float) and isinstance(ours, int | float):
        return abs(ours - theirs) <= 1e-8 * max(1.0, abs(theirs))
    return bool(ours == theirs)
