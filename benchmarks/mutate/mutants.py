"""Mutants by cosmic-ray: what can be changed in a group of modules, a sample of it, and what the tests say."""

from __future__ import annotations

import ast
import difflib
import hashlib
import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.mutate.plan import Group
from benchmarks.mutate.suite import Suite

Position = tuple[int, int]
"""(line from 1, column from 0)."""


@dataclass(frozen=True)
class Mutant:
    """One change that cosmic-ray can make: the n-th place of an operator in a module, and where that lies."""

    module: str
    source: str
    """The first digits of the sha256 of the module's text: another text has other mutants."""
    operator: str
    arguments: tuple[tuple[str, Any], ...]
    occurrence: int
    start: Position
    end: Position

    @property
    def place(self) -> tuple[str, Position, Position]:
        return self.module, self.start, self.end

    def within(self, parts: Sequence[tuple[Position, Position]]) -> bool:
        return any(start <= self.start and self.end <= end for start, end in parts)

    @property
    def key(self) -> str:
        options = "".join(f" {name}={value}" for name, value in self.arguments)
        return f"{self.module}@{self.source} {self.operator}{options} {self.occurrence}"


def annotations(tree: ast.AST) -> list[tuple[Position, Position]]:
    """Where annotations stand: with `from __future__ import annotations` they are never evaluated."""
    nodes = (getattr(node, name, None) for node in ast.walk(tree) for name in ("annotation", "returns"))
    return [(_start(node), _end(node)) for node in nodes if isinstance(node, ast.expr)]


def operators(tree: ast.AST) -> list[tuple[Position, Position]]:
    """Where the signs of operations between two numbers stand; other stars and slashes are marks of a signature."""
    return [(_end(node.left), _start(node.right)) for node in ast.walk(tree) if isinstance(node, ast.BinOp)]


def _start(node: ast.expr) -> Position:
    return node.lineno, node.col_offset


def _end(node: ast.expr) -> Position:
    return node.end_lineno or node.lineno, node.end_col_offset or 0


def mutants(folder: Path, group: Group) -> list[Mutant]:
    """Every mutant of the group's modules as they lie below `folder`, but for what is never evaluated."""
    return [mutant for module in group.modules for mutant in _of_module(folder, module)]


def _of_module(folder: Path, module: str) -> Iterator[Mutant]:
    from cosmic_ray.commands.init import init
    from cosmic_ray.work_db import WorkDB, use_db

    text = (folder / module).read_text()
    source, tree = hashlib.sha256(text.encode()).hexdigest()[:12], ast.parse(text)
    typed, signs = annotations(tree), operators(tree)
    with use_db(":memory:", WorkDB.Mode.create) as database:
        init([folder / module], database, {})
        for item in database.work_items:
            (spec,) = item.mutations
            options = tuple(sorted(spec.operator_args.items()))
            ends = spec.start_pos, spec.end_pos
            mutant = Mutant(module, source, spec.operator_name, options, spec.occurrence, *ends)
            sign = mutant.operator.startswith("core/ReplaceBinaryOperator")
            if mutant.operator != "core/NoOp" and not mutant.within(typed) and (not sign or mutant.within(signs)):
                yield mutant


def sampled(every: Sequence[Mutant], count: int, seed: int, known: Collection[str] = ()) -> list[Mutant]:
    """`count` places drawn by the seed, and of each place one mutant; all mutants where count is 0. known: keys of
    mutants that were tried before and count among them, where their module is still the same."""
    if not count:
        return list(every)
    rng = random.Random(seed)
    before = [mutant for mutant in every if mutant.key in known]
    by_place: dict[tuple[str, Position, Position], list[Mutant]] = {}
    for mutant in sorted(every, key=lambda m: m.key):
        by_place.setdefault(mutant.place, []).append(mutant)
    for mutant in before:
        by_place.pop(mutant.place, None)
    places = rng.sample(sorted(by_place), min(max(0, count - len(before)), len(by_place)))
    return [*before, *(rng.choice(by_place[place]) for place in places)]


def tried(suite: Suite, group: Group, mutant: Mutant, timeout: float) -> dict[str, Any]:
    """What the tests say of a mutant: {outcome: killed or survived, file, line, from, to}."""
    from cosmic_ray.mutating import use_mutation
    from cosmic_ray.plugins import get_operator

    operator = get_operator(mutant.operator)(**dict(mutant.arguments))
    with use_mutation(suite.folder / mutant.module, operator, mutant.occurrence) as (code, mutated):
        if mutated is None:
            raise SystemExit(f"cosmic-ray finds no place for {mutant.key}")
        survived = suite.passes(group, timeout)
    before, after = changed_lines(code, mutated)
    return {
        "outcome": "survived" if survived else "killed",
        "file": mutant.module,
        "line": mutant.start[0],
        "from": before,
        "to": after,
    }


def changed_lines(before: str, after: str) -> tuple[str, str]:
    """The lines that differ, those of each side as one string without indentation."""
    lines = [line for line in difflib.ndiff(before.splitlines(), after.splitlines())]
    one, two = (" ".join(line[2:].strip() for line in lines if line.startswith(sign)) for sign in ("- ", "+ "))
    return one, two
