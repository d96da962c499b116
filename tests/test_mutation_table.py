"""What benchmarks/mutate draws and says, and that its table names no survivor. (The mutants themselves: by hand.)"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from benchmarks.mutate.mutants import Mutant, annotations, changed_lines, operators, sampled
from benchmarks.mutate.plan import EQUIVALENT, GROUPS, ROOT, equivalents, reason
from benchmarks.mutate.table import page

SOURCE = """def area(a: int | None, *, b: int = 3) -> int | None:
    x: int | float = 2
    return a * b - x
"""


def mutant(line: int, column: int, operator: str = "core/ReplaceBinaryOperator_Mul_Add", occurrence: int = 0) -> Mutant:
    return Mutant("area.py", "0" * 12, operator, (), occurrence, (line, column), (line, column + 1))


def test_annotations_and_marks_of_a_signature_are_no_places() -> None:
    tree = ast.parse(SOURCE)
    typed, signs = annotations(tree), operators(tree)
    text = SOURCE.splitlines()
    bars = [(i, column) for i, line in enumerate(text, 1) for column, c in enumerate(line) if c == "|"]
    assert len(bars) == 3
    assert all(mutant(*at).within(typed) for at in bars)
    star, times = (1, text[0].index("*")), (3, text[2].index("*"))
    assert not mutant(*star).within(signs)
    assert mutant(*times).within(signs)
    assert not mutant(*times).within(typed)


def test_a_sample_has_one_mutant_a_place_and_keeps_those_that_were_tried() -> None:
    every = [mutant(line, 0, occurrence=3 * line + k) for line in range(40) for k in range(3)]
    chosen = sampled(every, 10, 0)
    assert len({m.place for m in chosen}) == len(chosen) == 10
    assert chosen == sampled(list(reversed(every)), 10, 0)
    assert chosen != sampled(every, 10, 1)
    known = {every[0].key, every[3].key, "another text of a module"}
    again = sampled(every, 10, 0, known)
    assert {every[0], every[3]} < set(again)
    assert len({m.place for m in again}) == len(again) == 10
    assert sampled(every, 0, 0) == every
    assert len(sampled(every, 99, 0)) == 40


def test_a_change_is_said_in_the_lines_that_differ() -> None:
    after = SOURCE.replace("a * b", "a + b")
    assert changed_lines(SOURCE, after) == ("return a * b - x", "return a + b - x")


def test_the_page_counts_and_names_survivors_that_have_no_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    name = next(iter(GROUPS))
    dead = {"outcome": "killed", "file": "a.py", "line": 1, "from": "a", "to": "b"}
    alive = {**dead, "outcome": "survived", "to": "c"}
    harmless = {**alive, "from": "zip(a, b, strict=True)", "to": "zip(a, b, strict=False)"}
    outcomes = {str(i): o for i, o in enumerate([dead, dead, alive, harmless])}
    said = page({name: {"possible": 90, "places": 30, "outcomes": outcomes}}, 4, 7)
    assert f"| {name} | 90 | 30 | 4 | 2 | 1 | 1 |" in said
    assert "| `a.py` | `a` | `c` |" in said.split("## Survivors")[1].split("## Equivalent")[0]
    assert "one length by construction" in said.split("## Equivalent")[1]
    assert "--sample 4 --seed 7" in said


def test_every_equivalent_says_what_it_is_of_and_why() -> None:
    for entry in equivalents():
        assert set(entry) == {"file", "from", "to", "why"}
        assert entry["from"] != entry["to"]
        assert len(entry["why"]) > 20
        # A line that is no longer there is a reason that nobody needs.
        text = " ".join((ROOT / entry["file"]).read_text().split())
        assert " ".join(entry["from"].split()) in text, f"{EQUIVALENT.name}: {entry['file']} has no such line"
        assert reason(equivalents(), {**entry, "outcome": "survived"}) == entry["why"]


def test_the_table_has_every_group_and_no_survivor() -> None:
    table = (Path(ROOT) / "docs" / "mutation.md").read_text()
    assert [name for name in GROUPS if f"| {name} |" not in table] == []
    assert "None that is not equivalent." in table
    for group in GROUPS.values():
        assert [m for m in group.modules if not (ROOT / m).is_file()] == []
