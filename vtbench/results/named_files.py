"""Files and modules that somebody's own code names in a text, and that lie beside it.

`importlib.import_module("levels")` and `load_file(HERE / "weights.safetensors")` show neither an import nor, where
compiled code reads, an opened file; the names are texts in the code.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path

from vtbench.results import provenance, sources

LONGEST = 255
"""Characters of a file's name."""
BY_TEXT = ("import_module", "__import__", "run_module", "find_spec")
"""What imports a module that a text names."""


def code_and_named(roots: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """(what the code at `roots` imports, modules that it names in texts included; other files that it names)."""
    begin, named = [path.resolve() for path in roots], dict[Path, None]()
    while True:
        code = [path for path in sources.closure(begin) if path.suffix == ".py"]
        texts = {p: None for path in code if not _is_of_the_release(path) for p in _named_in(path)}
        new = [p for p in texts if p.suffix == ".py" and p not in code]
        named.update((p, None) for p in texts if p.suffix != ".py")
        if not new:
            return code, list(named)
        begin += new


def _is_of_the_release(path: Path) -> bool:
    """Whether the release states the file as it is, and so what it reads: `provenance.DATA` is stated too."""
    if not sources.is_ours(path):
        return False
    stated = provenance.release().get("files", {}).get(sources.name_of(path))
    return bool(stated == sources.sha256_of(path))


def _named_in(path: Path) -> tuple[Path, ...]:
    stat = path.stat()
    return _read(path, (stat.st_mtime_ns, stat.st_size))


@functools.lru_cache(maxsize=1024)
def _read(path: Path, stamp: tuple[int, int]) -> tuple[Path, ...]:
    """Files beside `path`, or in a folder beside it that it names too; `stamp` makes a changed file be read again."""
    try:
        text = path.read_text(encoding="utf-8")
        texts = {node.value for node in ast.walk(ast.parse(text)) if _is_name(node)}  # type: ignore[attr-defined]
    except (OSError, SyntaxError, ValueError, RecursionError):
        # Cannot be imported either.
        return ()
    imports = any(word in text for word in BY_TEXT)
    folders = [path.parent, *(path.parent / t for t in sorted(texts) if _is_folder(path.parent / t))]
    out = {place.resolve(): None for folder in folders for t in sorted(texts) for place in _places(folder, t, imports)}
    return tuple(place for place in out if place != path)


def _is_name(node: ast.AST) -> bool:
    """True for a text that can be a file's name."""
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
        return False
    return 0 < len(node.value) <= LONGEST and node.value.isprintable() and node.value.strip("./") != ""


def _places(folder: Path, text: str, imports: bool) -> Iterator[Path]:
    place = folder / text
    if _is_file(place):
        yield place
    parts = text.strip(".").split(".")
    if imports and all(part.isidentifier() for part in parts):
        ours = sources.file_of(text) if parts[0] == sources.PROJECT else None
        if ours is not None:
            yield ours
        module = folder.joinpath(*parts)
        for file in (module.with_name(f"{module.name}.py"), module / "__init__.py"):
            if _is_file(file):
                yield file


def _is_file(place: Path) -> bool:
    try:
        return place.is_file()
    except (OSError, ValueError):
        return False


def _is_folder(place: Path) -> bool:
    try:
        return place.is_dir()
    except (OSError, ValueError):
        return False
