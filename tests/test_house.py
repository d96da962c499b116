"""How the code reads: names that say something, files and functions of one subject, nothing kept from the formatter."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ("adapters", "tasks", "leaderboard", "benchmarks")
EMPTY = {"made", "found", "given", "told", "kin", "odd", "stuff", "thing", "things", "foo", "tmp", "res", "ret"}
"""Names that say that something came from somewhere, and not what it is."""
VAGUE_FILES = re.compile(r"(_more|_2|utils?|helpers?|misc|common|stuff)$")
LINES, FUNCTION, FLAT = 350, 60, 12


def sources() -> list[Path]:
    """Every Python file that ships, and the benchmarks."""
    core = [p for p in (ROOT / "vtbench").rglob("*.py") if p.relative_to(ROOT / "vtbench").parts[0] not in SHIPPED]
    return sorted([*core, *(p for folder in SHIPPED for p in (ROOT / folder).rglob("*.py"))])


SOURCES = {str(p.relative_to(ROOT)): p for p in sources()}
TESTS = {str(p.relative_to(ROOT)): p for p in sorted((ROOT / "tests").rglob("*.py"))}


def names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, name) of everything that is given a name: variables, parameters, attributes, functions, classes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id if isinstance(node, ast.Name) else node.attr
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name


@pytest.mark.parametrize("file", SOURCES)
def test_a_file_reads_well(file: str) -> None:
    text = SOURCES[file].read_text()
    tree = ast.parse(text)
    empty = [f"line {line}: {name}" for line, name in names(tree) if name in EMPTY]
    long = [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > FUNCTION
    ]
    assert (empty, long) == ([], [])
    assert len(text.splitlines()) <= LINES
    assert "fmt: " + "skip" not in text
    assert "fmt: " + "off" not in text
    assert not VAGUE_FILES.search(SOURCES[file].stem)


@pytest.mark.parametrize("file", TESTS)
def test_a_file_of_tests_is_of_one_subject(file: str) -> None:
    assert len(TESTS[file].read_text().splitlines()) <= LINES
    assert not VAGUE_FILES.search(TESTS[file].stem)


def test_the_hall_is_small() -> None:
    """What lies directly in vtbench/: the faces, the registry, and old names that forward for one release."""
    flat = sorted(p.name for p in (ROOT / "vtbench").glob("*.py"))
    assert len(flat) <= FLAT, flat


def test_nothing_shims() -> None:
    """Old names forward where test_layers lists them, in plain words, and nowhere else."""
    assert [f for f, p in SOURCES.items() if p.read_text().startswith('"""Shim')] == []


BROAD = {"Exception", "BaseException", "RAISED"}


def caught(node: ast.expr | None) -> set[str]:
    """Names of what an `except` catches."""
    if node is None:
        return {"BaseException"}
    if isinstance(node, ast.Tuple):
        return {name for part in node.elts for name in caught(part)}
    return {node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")}


@pytest.mark.parametrize("file", SOURCES)
def test_what_catches_everything_raises_again_or_says_why(file: str) -> None:
    text = SOURCES[file].read_text()
    lines = text.splitlines()
    silent = [
        node.lineno
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ExceptHandler) and BROAD & caught(node.type)
        if not any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
        if not any("# " in line for line in lines[node.lineno - 1 : node.end_lineno])
    ]
    assert silent == []
