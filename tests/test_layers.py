"""Who may import whom: floors from below upwards, no circle, no import hidden in a function to dodge either."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS: tuple[tuple[str, ...], ...] = (
    ("types",),
    ("registry", "statistics", "results"),
    ("images", "reporting"),
    ("models",),
    ("metrics", "proving"),
    ("scoring",),
    ("running",),
    ("explaining", "publishing", "api"),
    ("cli",),
)
"""A file imports from floors below its own, or from its own package; never up, never sideways."""
BESIDE = {
    "adapters": ("types", "models", "images"),
    "tasks": ("types", "results", "images", "metrics"),
    "leaderboard": ("types", "registry", "statistics", "results", "reporting"),
}
"""The folders at the top level, and what each may import beside itself."""
USES_BESIDE = {"cli": ("tasks", "leaderboard")}
"""Who may import those folders: the command line, whose verbs build the page and score GenEval."""
FACES = ("", "__main__")
"""The lazy faces: `vtbench` itself and `python -m vtbench`, which may name anything and import it when asked."""
FORWARDING = ("adapter", "cards", "tokens", "metric", "task", "errors", "weights")
"""Old names that forward for one release."""
LOCAL_IMPORTS = ("cli", "api")
"""Where a function may import our own modules: start-up would load torch otherwise."""


def files() -> dict[str, Path]:
    """{module without the leading `vtbench.`: file} of everything that ships."""
    out = {}
    for path in sorted((ROOT / "vtbench").rglob("*.py")):
        if path.relative_to(ROOT / "vtbench").parts[0] not in BESIDE:
            out[_module(path.relative_to(ROOT / "vtbench"))] = path
    for folder in BESIDE:
        for path in sorted((ROOT / folder).rglob("*.py")):
            out[_module(path.relative_to(ROOT))] = path
    return out


def _module(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix("__init__").rstrip(".")


FILES = files()


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """(module of ours, is it inside a function?) of every import, those for type checkers included."""

    def of(node: ast.AST, local: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            names: list[str] = []
            if isinstance(child, ast.Import):
                names = [n.name for n in child.names]
            elif isinstance(child, ast.ImportFrom) and child.module and not child.level:
                whole = [f"{child.module}.{n.name}" for n in child.names]
                names = [w if w.removeprefix("vtbench.") in FILES else child.module for w in whole]
            for name in dict.fromkeys(names):
                if name.startswith("vtbench."):
                    yield name.removeprefix("vtbench."), local
            yield from of(child, local or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))

    yield from of(ast.parse(path.read_text()), False)


def floor(module: str) -> int | None:
    """The floor of a module; None for the faces and the folders beside."""
    top = module.partition(".")[0]
    return next((k for k, names in enumerate(FLOORS) if top in names), None)


def test_every_file_has_a_place() -> None:
    known = {*(n for names in FLOORS for n in names), *BESIDE, *FACES, *FORWARDING}
    assert {m for m in FILES if m.partition(".")[0] not in known} == set()


def _may(module: str, other: str) -> bool:
    mine, theirs = module.partition(".")[0], other.partition(".")[0]
    if mine == theirs:
        return True
    if mine in BESIDE:
        return theirs in BESIDE[mine]
    if theirs in BESIDE:
        return theirs in USES_BESIDE.get(mine, ())
    low, high = floor(other), floor(module)
    return low is not None and high is not None and low < high


@pytest.mark.parametrize("module", [m for m in FILES if m not in (*FACES, *FORWARDING)])
def test_imports_go_down(module: str) -> None:
    assert [other for other, _ in imports(FILES[module]) if not _may(module, other)] == []


def test_no_circle() -> None:
    graph = {m: {o for o, _ in imports(p) if o != m} for m, p in FILES.items() if m not in FACES}
    far: dict[str, set[str]] = {}
    for start in graph:
        seen: set[str] = set()
        todo = list(graph[start])
        while todo:
            at = todo.pop()
            if at not in seen:
                seen.add(at)
                todo.extend(graph.get(at, ()))
        far[start] = seen
    assert {m for m, reached in far.items() if m in reached} == set()


def test_no_import_of_ours_hides_in_a_function() -> None:
    """Adapters and metrics import torch late, but what is ours stands at the top, or under TYPE_CHECKING."""
    hidden = [
        f"{module} imports {other}"
        for module, path in FILES.items()
        if module not in FACES and module.partition(".")[0] not in LOCAL_IMPORTS
        for other, local in imports(path)
        if local
    ]
    assert hidden == []
