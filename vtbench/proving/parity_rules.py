"""Parity of rules over tokens, which are no networks: integers in, integers out, and every one of them must be equal.

Such a fixture has a schema of its own, which a family claims (`Family.replays`). Its `outputs` describe every array of
the NPZ, what goes in and what comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from vtbench import registry
from vtbench.models.network import load_class
from vtbench.proving.fixtures import Difference, Report
from vtbench.types.errors import VtbenchError

if TYPE_CHECKING:
    import numpy as np

    Arrays = Mapping[str, np.ndarray[Any, Any]]

Rule = Callable[[Mapping[str, Any], "Arrays"], "Arrays"]
"""(facts, arrays of a fixture) -> what ours makes of it, by the names of its outputs."""


class _Read(dict[str, "np.ndarray[Any, Any]"]):
    """Arrays that know which of them were asked for: the inputs of a rule."""

    def __init__(self, arrays: Arrays) -> None:
        super().__init__(arrays)
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> np.ndarray[Any, Any]:
        self.names.add(name)
        return super().__getitem__(name)


def rule_of(facts: Mapping[str, Any]) -> Rule | None:
    """The rule that some family has for the fixture's schema; None where none claims it, as a network's."""
    schema = facts.get("schema")
    places = {name: place for family in registry.families().values() for name, place in family.replays.items()}
    if not isinstance(schema, str) or schema not in places:
        return None
    rule: Rule = load_class(places[schema])
    return rule


def check_rule(rule: Rule, facts: Mapping[str, Any], arrays: Arrays, report: Report) -> None:
    """Compares every output of the fixture; raises VtbenchError where the file does not hold what the rule needs."""
    import numpy as np

    read = _Read(arrays)
    try:
        ours = rule(facts, read)
    except KeyError as lacking:
        raise VtbenchError(f"the fixture lacks {lacking}: it is not of schema {facts['schema']}") from lacking
    equal = total = 0
    for name in sorted(set(ours) & set(arrays)):
        recorded, array = arrays[name], ours[name]
        if recorded.shape != array.shape:
            report.reasons.append(f"{name} has shape {list(array.shape)}, upstream's {list(recorded.shape)}")
            continue
        off = np.abs(array.astype(np.int64) - recorded)
        report.differences.append(Difference(name, float(off.max(initial=0)), 0.0, not off.any()))
        equal, total = equal + int((off == 0).sum()), total + off.size
        if off.any():
            report.reasons.append(f"{int((off != 0).sum())} of {off.size} {name} differ")
    ignored = sorted(set(arrays) - set(ours) - read.names)
    if ignored:
        report.reasons.append(f"the rule neither reads nor makes {', '.join(ignored)}")
    report.equal_tokens = equal / total if total else None
    if not report.differences and not report.reasons:
        raise VtbenchError("the fixture holds none of the rule's outputs: there is nothing to compare")
