"""Which files decide a number: the import graph of the code that makes it, read from the files themselves.

A run's identity and the release's digest cover what is imported, however deep and wherever it lies, not a list of
folders: a file in a new sub-package is in it by being imported. Nothing is imported to look.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from vtbench.types.bytecode import is_library, is_stale
from vtbench.types.errors import VtbenchError
from vtbench.types.file_facts import YOUNG, Facts, age, facts_of

PROJECT = "vtbench"
ROOT = Path(__file__).resolve().parents[1]
"""The folder of the package vtbench."""
FACE = ROOT / "__init__.py"
"""Hands out everything lazily; what a file uses of it, it imports from where it stands."""


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


_NAMES = r"\((?:[^)#]|#[^\n]*)*\)|(?:[^\n#;\\]|\\\n)+"
"""What follows `import`: in parentheses, with comments, or up to the end of the line and of those that it goes on."""
_IMPORT = re.compile(
    rf"(?:^|[;:])[ \t]*(?:from[ \t]+(?P<dots>\.*)(?P<module>[\w.]*)[ \t]+import[ \t]*(?P<names>{_NAMES})"
    rf"|import[ \t]+(?P<modules>{_NAMES}))",
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
    """The files of `from module import names` within vtbench: the module, and the names that are modules themselves."""
    for name in (module, *(f"{module}.{n}" for n in names)):
        path = file_of(name)
        if path is not None and path != FACE:
            yield path


def _tops(folder: Path, level: int, module: str) -> Iterator[Path]:
    """Folders in which an import by somebody's own file in `folder` looks. An absolute one looks beside the file, in
    every folder that Python was told of, and for its own package where that lies; never for installed libraries."""
    if level:
        yield from [folder, *folder.parents][level - 1 : level]
        return
    for top in (folder, *(Path(p).resolve() for p in sys.path)):
        if not is_library(top):
            yield top
    package = None
    while (folder / "__init__.py").is_file():
        package, folder = folder.name, folder.parent
    if package is not None and package == module.partition(".")[0]:
        yield folder


def _beside(path: Path, level: int, module: str, names: tuple[str, ...]) -> Iterator[Path]:
    """The same for somebody's own file: modules beside it or on Python's path."""
    for top in _tops(path.parent, level, module):
        last = top.joinpath(*module.split(".")) if module else top
        for place in (last, *(last / n for n in names)):
            for file in (place.with_name(place.name + ".py"), place / "__init__.py"):
                if file.is_file():
                    yield file


def _packages(path: Path) -> Iterator[Path]:
    """The `__init__.py` of the packages that a file lies in: they run before it."""
    for folder in path.parents:
        init = folder / "__init__.py"
        if not init.is_file() or init == FACE:
            return
        yield init


@functools.lru_cache(maxsize=4096)
def _next(path: Path, stamp: Facts) -> tuple[Path, ...]:
    """What a file imports within the project or beside itself; `stamp` makes a changed file be read again."""
    out = {file.resolve(): None for file in _packages(path)}
    for level, module, names in _imports(path):
        if level == 0 and module.partition(".")[0] == PROJECT:
            files = _ours(module, names)
        elif level or not is_ours(path):
            files = _beside(path, level, module, names)
        else:
            continue
        out.update((file.resolve(), None) for file in files)
    out.pop(path, None)
    return tuple(out)


@functools.cache
def _linked() -> tuple[tuple[Path, str], ...]:
    """Where the sub-packages at the checkout's top level really lie, with their names."""
    names = ("adapters", "tasks", "leaderboard")
    return tuple((f.resolve(), n) for n in names if (f := _folder(f"{PROJECT}.{n}")) is not None)


@functools.cache
def is_ours(path: Path) -> bool:
    """True for files of vtbench itself."""
    return path.is_relative_to(ROOT) or any(path.is_relative_to(folder) for folder, _ in _linked())


_closures: dict[tuple[Path, ...], dict[Path, Facts | None]] = {}
"""What closures held when they were last looked through, by their roots: it holds as long as no file of one changes."""


def closure(roots: Iterable[Path]) -> tuple[Path, ...]:
    """The files at `roots` and all that they import of vtbench, or of the folder that they lie in; sorted."""
    starts = tuple(p.resolve() for p in roots)
    known = _closures.get(starts)
    if known is None or any(_facts(path) != facts for path, facts in known.items()):
        known = _closures[starts] = _walk(starts)
    return tuple(path for path, facts in known.items() if facts is not None)


def _facts(path: Path) -> Facts | None:
    """Those of a file; None where there is none."""
    try:
        state = os.stat(path)
    except OSError:
        return None
    return facts_of(state) if stat.S_ISREG(state.st_mode) else None


def _walk(starts: Iterable[Path]) -> dict[Path, Facts | None]:
    """The files from `starts` on, sorted, with their facts before they were read; those that are not there too."""
    seen: dict[Path, Facts | None] = {}
    waiting = list(starts)
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        facts = seen[path] = _facts(path)
        if facts is not None and path.suffix == ".py":
            waiting.extend(_next(path, facts))
    return dict(sorted(seen.items(), key=lambda one: one[0]))


@functools.cache
def name_of(path: Path) -> str:
    """A file's name wherever vtbench is installed: `adapters/networks/taesd.py`; for somebody's own its last part."""
    for folder, name in _linked():
        if path.is_relative_to(folder):
            return f"{name}/{path.relative_to(folder).as_posix()}"
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name


_known: dict[Path, tuple[Facts, str]] = {}
"""What files held when they were last read, for as long as their facts stay: a run asks for its code several times."""


def sha256_of(path: Path) -> str:
    """sha256 of a file's contents."""
    known = _known.get(path)
    if known is not None and known[0] == facts_of(os.stat(path)):
        return known[1]
    return _read(path)[0]


def _read(path: Path) -> tuple[str, bytes]:
    """(sha256, contents) of a file."""
    with path.open("rb") as source:
        before = os.fstat(source.fileno())
        # Taken before the first byte is read: a change that comes later has later times.
        old = age(before) >= YOUNG
        text = source.read()
        stayed = facts_of(before) == facts_of(os.fstat(source.fileno()))
    content = hashlib.sha256(text).hexdigest()
    if old and stayed:
        _known[path] = facts_of(before), content
    return content, text


def _over(hashes: Iterable[tuple[str, str]]) -> str:
    return hashlib.sha256("".join(f"{n}\0{h}\n" for n, h in sorted(hashes)).encode()).hexdigest()


def hashes(paths: Iterable[Path]) -> list[tuple[str, str]]:
    """(name, sha256 of the contents) of every file, sorted; files of somebody's own may share a name."""
    return sorted((name_of(path), sha256_of(path)) for path in paths)


def digest_of(paths: Iterable[Path]) -> str:
    """sha256 over the names and contents of these files."""
    return _over(hashes(paths))


_in_memory: dict[Path, str] = {}
"""What this process runs: the contents of each file when its digest was first asked for."""


def digest(roots: Iterable[Path], *, core: bool = True) -> str:
    """sha256 over names and contents of `closure(roots)`; core: False leaves out vtbench's own files that are no
    adapter, network or fit. Raises VtbenchError if a file changed since this process first asked: what it runs is the
    older code, and a result would say that it is of the newer."""
    files = [p for p in closure(roots) if core or not is_ours(p) or name_of(p).startswith("adapters/")]
    contents = {path: _content(path) for path in files}
    return _over((name_of(path), content) for path, content in contents.items())


def _content(path: Path) -> str:
    """sha256 of a file's contents, if they are what this process runs."""
    if path in _in_memory:
        content = sha256_of(path)
    else:
        content, text = _read(path)
        # Where Python ran bytecode of an older text, what it runs is no text that is here.
        stale = path.suffix == ".py" and is_ours(path) and is_stale(path, text)
        _in_memory[path] = "" if stale else content
    if _in_memory[path] != content:
        raise VtbenchError(
            f"{path} has changed since this process read it, so what runs is the older code: run the command again "
            "(in a notebook, restart the kernel)"
        )
    return content
