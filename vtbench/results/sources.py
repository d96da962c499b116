"""Which files decide a number: the import graph of the code that makes it, read from the files themselves.

A run's identity and the release's digest cover what is imported, however deep and wherever it lies, not a list of
folders: a file in a new sub-package is in it by being imported. Standard library only; nothing is imported to look.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

PROJECT = "vtbench"
ROOT = Path(__file__).resolve().parents[1]
"""The folder of the package vtbench."""


@functools.cache
def _folder(package: str) -> Path | None:
    """The folder of `vtbench` or of one of its sub-packages; those at the checkout's top level count as inside."""
    if package == PROJECT:
        return ROOT
    parent = _folder(package.rpartition(".")[0])
    if parent is None:
        return None
    inside = parent / package.rpartition(".")[2]
    if inside.is_dir():
        return inside
    if package.count(".") == 1:
        # An editable installation of a checkout without links finds adapters, tasks and leaderboard beside the package.
        spec = importlib.util.find_spec(package)
        places = list(spec.submodule_search_locations or ()) if spec is not None else []
        return Path(places[0]) if places else None
    return None


def file_of(module: str) -> Path | None:
    """The file of a module of vtbench, by name; None if there is none."""
    package, _, name = module.rpartition(".")
    whole = _folder(module)
    if whole is not None:
        return whole / "__init__.py" if (whole / "__init__.py").is_file() else None
    folder = _folder(package) if package else None
    path = folder / f"{name}.py" if folder is not None else None
    return path if path is not None and path.is_file() else None


_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+(?P<dots>\.*)(?P<module>[\w.]*)[ \t]+import[ \t]+(?P<names>\([^)]*\)|[^\n#]+)"
    r"|import[ \t]+(?P<modules>[^\n#]+))",
    re.MULTILINE,
)
_FOR_TYPES = re.compile(r"^([ \t]*)if (?:typing\.)?TYPE_CHECKING:\n(?:\1[ \t]+[^\n]*\n|[ \t]*\n)+", re.MULTILINE)
"""Imports that only type checkers read: they decide nothing."""


def _imports(path: Path) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    """(level, module, names) of every import that runs. Read by pattern, not parsed: a tenth of the time, and a line of
    a docstring that looks like an import only makes the closure larger."""
    try:
        text = _FOR_TYPES.sub("", path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        # What cannot be read cannot be imported either; its own bytes still count.
        return
    for match in _IMPORT.finditer(text):
        if match["modules"] is not None:
            for name in _words(match["modules"]):
                yield 0, name, ()
        else:
            yield len(match["dots"]), match["module"], _words(match["names"])


def _words(text: str) -> tuple[str, ...]:
    """The names of `a, b as c`, also in parentheses and with comments."""
    lines = (line.partition("#")[0] for line in text.strip("()").splitlines())
    parts = (part.split() for line in lines for part in line.replace("\\", "").split(","))
    return tuple(words[0] for words in parts if words)


def _ours(module: str, names: tuple[str, ...]) -> Iterator[Path]:
    """The files of `from module import names` within vtbench: the modules that are named, and their packages."""
    inner = [path for n in names if (path := file_of(f"{module}.{n}")) is not None]
    own = file_of(module)
    yield from inner
    if own is not None and own != ROOT / "__init__.py":
        yield own


def _beside(path: Path, level: int, module: str, names: tuple[str, ...]) -> Iterator[Path]:
    """The same for somebody's own file: modules in its folder, or in the package that the folder belongs to."""
    folder = path.parent
    for _ in range(max(0, level - 1)):
        folder = folder.parent
    tops = [folder]
    if level == 0:
        # An absolute import within a package starts at the folder that holds the package.
        while (folder / "__init__.py").is_file():
            folder = folder.parent
            tops.append(folder)
    for top in tops:
        place = top.joinpath(*module.split(".")) if module else top
        for one in [*(place / n for n in names), place]:
            for file in (one.with_name(one.name + ".py"), one / "__init__.py"):
                if file.is_file():
                    yield file


@functools.lru_cache(maxsize=4096)
def _next(path: Path, stamp: tuple[int, int]) -> tuple[Path, ...]:
    """What a file imports within the project or beside itself; `stamp` makes a changed file be read again."""
    out: dict[Path, None] = {}
    inside = path.is_relative_to(ROOT) or _is_linked(path)
    for level, module, names in _imports(path):
        if level == 0 and module.partition(".")[0] == PROJECT:
            for file in _ours(module, names):
                out[file.resolve()] = None
        elif not inside:
            for file in _beside(path, level, module, names):
                out[file.resolve()] = None
    out.pop(path, None)
    return tuple(out)


@functools.cache
def _linked() -> tuple[tuple[Path, str], ...]:
    """Where the sub-packages at the checkout's top level really lie, with their names."""
    names = ("adapters", "tasks", "leaderboard")
    return tuple((f.resolve(), n) for n in names if (f := _folder(f"{PROJECT}.{n}")) is not None)


def _is_linked(path: Path) -> bool:
    return any(path.is_relative_to(folder) for folder, _ in _linked())


def closure(roots: Iterable[Path]) -> tuple[Path, ...]:
    """The files at `roots` and all that they import of vtbench, or of the folder that they lie in; sorted."""
    seen: set[Path] = set()
    waiting = [p.resolve() for p in roots]
    while waiting:
        path = waiting.pop()
        if path in seen or not path.is_file():
            continue
        seen.add(path)
        if path.suffix == ".py":
            facts = path.stat()
            waiting.extend(_next(path, (facts.st_mtime_ns, facts.st_size)))
    return tuple(sorted(seen))


def name_of(path: Path) -> str:
    """A file's name wherever vtbench is installed: `adapters/networks/taesd.py`; for somebody's own its last part."""
    for folder, name in _linked():
        if path.is_relative_to(folder):
            return f"{name}/{path.relative_to(folder).as_posix()}"
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name


def hashes(paths: Iterable[Path]) -> dict[str, str]:
    """{name: sha256 of the contents}; two files of one name (of somebody's own) are told apart by their folder."""
    out: dict[str, str] = {}
    for path in paths:
        name = name_of(path)
        if name in out:
            name = f"{path.parent.name}/{name}"
        out[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return out


def is_core(path: Path) -> bool:
    """True for files of vtbench itself that are no adapter, network or fit."""
    return (path.is_relative_to(ROOT) or _is_linked(path)) and not name_of(path).startswith("adapters/")


def digest(roots: Iterable[Path], *, core: bool = True) -> str:
    """sha256 over names and contents of `closure(roots)`; core: False leaves the core's files out."""
    files = [path for path in closure(roots) if core or not is_core(path)]
    whole = hashlib.sha256()
    for name, value in sorted(hashes(files).items()):
        whole.update(f"{name}\0{value}\n".encode())
    return whole.hexdigest()
