"""What the shipped code imports is what pyproject.toml asks for."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

from vtbench.types import errors

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ONLY_FOR_MAKERS = {"matplotlib": "tasks/suites/make_starter.py"}
"""{package of the test extra: the shipped script of maintainers that uses it}"""


def distribution(requirement: str) -> str:
    name = re.match(r"[\w.-]+", requirement)
    assert name is not None
    return re.sub(r"[-_.]+", "-", name[0]).lower()


ALONE = {distribution(r) for r in errors.ALONE.values()}
"""Packages that no extra can bring, and that are installed beside one."""
DECLARED = {distribution(r) for r in PROJECT["dependencies"]} | {
    distribution(r) for extra, lines in PROJECT["optional-dependencies"].items() if extra != "test" for r in lines
}


def imported() -> dict[str, set[str]]:
    """{top-level module of another project: files that import it}, imports inside functions included."""
    out: dict[str, set[str]] = {}
    for folder in ("vtbench", "adapters", "tasks", "leaderboard"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if name.startswith(("vtbench/adapters/", "vtbench/tasks/", "vtbench/leaderboard/")):
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                modules = []
                if isinstance(node, ast.Import):
                    modules = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    modules = [node.module or ""]
                for module in modules:
                    top = module.partition(".")[0]
                    if top not in sys.stdlib_module_names and top != "vtbench":
                        out.setdefault(top, set()).add(name)
    return out


def test_every_import_is_of_a_declared_requirement() -> None:
    places = importlib.metadata.packages_distributions()
    found = imported()
    assert {"torch", "numpy", "PIL"} <= set(found)
    undeclared = {}
    for module, files in found.items():
        owners = {distribution(d) for d in places.get(module, [module])}
        if not owners & (DECLARED | ALONE) and {*files} - {ONLY_FOR_MAKERS.get(module)}:
            undeclared[module] = sorted(files)
    assert undeclared == {}, "add to dependencies, or to an extra, in pyproject.toml"


def test_what_no_extra_can_bring_is_of_an_extra_and_excluded_by_us() -> None:
    """compressai asks for numpy below 2: an extra that named it could not be installed. The Makefile installs it."""
    assert set(errors.ALONE) <= set(PROJECT["optional-dependencies"])
    assert not ALONE & DECLARED
    for requirement in errors.ALONE.values():
        wanted = [Requirement(r) for r in importlib.metadata.requires(distribution(requirement)) or ()]
        ours = {distribution(r): Requirement(r).specifier for r in PROJECT["dependencies"]}
        lowest = {name: next(iter(spec)).version for name, spec in ours.items()}
        clash = [r.name for r in wanted if r.name in lowest and not r.specifier.contains(lowest[r.name])]
        assert clash, f"{requirement} can be in an extra by now"
        assert f"--no-deps '{requirement}'" in (ROOT / "Makefile").read_text()


def test_no_requirement_is_without_a_lower_bound() -> None:
    lines = [*PROJECT["dependencies"], *(r for v in PROJECT["optional-dependencies"].values() for r in v)]
    assert [r for r in lines if ">=" not in r and not r.startswith("vtbench[")] == []


def test_no_hint_names_the_package_index() -> None:
    """vtbench is on none yet: what is said must work in a checkout."""
    pages = [
        ROOT / name for name in ("README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in ROOT.glob("docs/*.md")))
    ]
    folders = ("vtbench", "adapters", "tasks", "leaderboard", "benchmarks")
    sources = [p for folder in folders for p in (ROOT / folder).rglob("*.py") if not p.is_symlink()]
    hint = re.compile(r"pip install(?: -\S+)* '?vtbench\b")
    assert len(sources) > 300
    assert [p.name for p in (*pages, *sources) if hint.search(p.read_text(encoding="utf-8"))] == []
    assert errors.how_to_install("hub") == "pip install '.[hub]' in the checkout of vtbench"
