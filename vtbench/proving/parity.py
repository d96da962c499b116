"""Parity: does a native network compute what upstream's class computes?

A fixture holds upstream's outputs for a small configuration whose weights are made from the parameters' names, so that
our network, filled by the same rule, must give the same numbers: within what float32's rounding explains, which float64
tells (`rounding`). `parity_tokenizers` and `parity_generators` say what is computed and compared; so does
`parity_rules`, of what is no network.
"""

from __future__ import annotations

from pathlib import Path

from vtbench.models.isolation import isolated
from vtbench.proving.fixtures import Report, check_generator, check_shapes, check_tokenizer, read_arrays, read_facts
from vtbench.proving.parity_generators import GeneratorCheck
from vtbench.proving.parity_reducers import WHAT, check_reducer
from vtbench.proving.parity_rules import check_rule, rule_of
from vtbench.proving.parity_tokenizers import TokenizerCheck
from vtbench.types.errors import VtbenchError


@isolated()
def check_fixture(path: Path) -> Report:
    """The report on one fixture, FAMILY__VARIANT.json; what is wrong with the file itself is a reason too."""
    path = Path(path)
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
    facts = read_facts(path)
    if "schema" not in facts:
        check_generator(facts, path)
        GeneratorCheck(facts, read_arrays(path), report).run()
        return
    arrays = read_arrays(path)
    if facts.get("what") == WHAT:
        check_reducer(facts, arrays, report)
        return
    rule = rule_of(facts)
    if rule is not None:
        check_shapes(facts, arrays)
        check_rule(rule, facts, arrays, report)
        return
    if "what" in facts and "family" not in facts:
        raise VtbenchError(f"the fixture's what is {facts['what']!r}: {WHAT!r} is known here, and networks' without it")
    check_tokenizer(facts)
    check_shapes(facts, arrays)
    TokenizerCheck(facts, arrays, report).run()
