"""The house in a few lines: lines by package, the largest file and function, modules flat in vtbench/.

    python -m benchmarks.house

Lines are counted as the formatter leaves them, blank ones and comments included. Standard library only.
"""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BESIDE = ("adapters", "tasks", "leaderboard")


def shipped() -> list[Path]:
    """Every Python file that an installation carries."""
    core = [p for p in (ROOT / "vtbench").rglob("*.py") if p.relative_to(ROOT / "vtbench").parts[0] not in BESIDE]
    return sorted([*core, *(p for folder in BESIDE for p in (ROOT / folder).rglob("*.py"))])


def package(path: Path) -> str:
    parts = path.relative_to(ROOT).parts
    return "/".join(parts[: 2 if parts[0] == "vtbench" and len(parts) > 2 else 1])


def functions(path: Path) -> list[tuple[int, str]]:
    """(lines, name) of every function of a file, decorators aside."""
    nodes = (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
    return [((n.end_lineno or n.lineno) - n.lineno + 1, n.name) for n in nodes]


def main() -> None:
    lines = {path: len(path.read_text().splitlines()) for path in shipped()}
    by_package: Counter[str] = Counter()
    for path, count in lines.items():
        by_package[package(path)] += count
    for name, count in sorted(by_package.items()):
        print(f"{count:7,}  {name}")
    print(f"{sum(lines.values()):7,}  in all, {len(lines)} files")
    file = max(lines, key=lambda p: lines[p])
    print(f"largest file: {lines[file]} lines, {file.relative_to(ROOT)}")
    size, function, where = max((n, f, p) for p in lines for n, f in functions(p))
    print(f"largest function: {size} lines, {function} in {where.relative_to(ROOT)}")
    print(f"modules directly in vtbench/: {sum(p.parent == ROOT / 'vtbench' for p in lines)}")


if __name__ == "__main__":
    main()
