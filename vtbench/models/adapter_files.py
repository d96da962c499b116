"""What decides an adapter's numbers beside its weights: its code, the files that it declares, the files that it reads.

An adapter of somebody's own may read anything. What it declares (`Family.files`) is part of a run's identity. What it
reads beside that is part of it too, as far as it was read before the run began; but nobody else can know of it, so that
such a run is not ranked.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtbench import registry
from vtbench.models.files import sha256_file
from vtbench.results import sources
from vtbench.results.named_files import code_and_named
from vtbench.types.bytecode import is_library
from vtbench.types.errors import VtbenchError
from vtbench.types.opened import Opened
from vtbench.types.plugins import is_path_and_name, opened_at_import, path_and_name, place_of, search_path_of

CODE = (".py", ".pyc", ".so", ".pyd", ".dylib", ".dll")
SYSTEM = ("/usr", "/etc", "/lib", "/lib64", "/bin", "/sbin", "/dev", "/proc", "/sys", "/run", "/System", "/Library")
"""The system's own folders: time zones, certificates, compiled libraries. What an adapter has there still counts."""
CACHES = frozenset(("__pycache__", "torch_extensions", ".triton", ".nv", "matplotlib", "fontconfig"))
INDUCTOR = "torchinductor_"
"""Folders in which libraries keep what they have worked out, to be quicker the next time; torch's has a user's name."""
CACHE_VARIABLES = (
    "TORCHINDUCTOR_CACHE_DIR",
    "TRITON_CACHE_DIR",
    "TORCH_EXTENSIONS_DIR",
    "NUMBA_CACHE_DIR",
    "MPLCONFIGDIR",
    "CUDA_CACHE_PATH",
)
"""Where a user has put such folders."""
FONTS = (".ttf", ".otf", ".ttc", ".pfb", ".woff", ".woff2")
HUB = ("hub", "datasets", "modules")
"""Folders of Hugging Face's cache that hold what was downloaded; beside them lie notes on versions and tokens."""


@dataclass(frozen=True)
class AdapterFiles:
    """code: where it begins. declared: files that the family declares. read: what it reads beside both and beside its
    weights. places: where its author's files lie, of an adapter of somebody's own."""

    code: tuple[Path, ...] = ()
    declared: tuple[Path, ...] = ()
    read: tuple[Path, ...] = ()
    places: tuple[Path, ...] = ()

    def digest(self) -> str:
        """sha256 over the code, its networks and all that these import, the core aside, and over what it reads."""
        code = sources.digest(self.code, core=False)
        data = [(sources.name_of(path), sha256_file(path)) for path in (*self.declared, *self.read)]
        if not data:
            return code
        text = "".join(f"{name}\0{digest}\n" for name, digest in sorted(data))
        return hashlib.sha256(f"{code}\n{text}".encode()).hexdigest()

    def since(self, opened: Opened | None, weights: Iterable[Path]) -> list[Path]:
        """What was read by now and was not known: the adapter read it while it worked."""
        known = {*self.read, *sources.closure(self.code)}
        return [p for p in _undeclared(_paths(opened), self, weights) if p not in known]


def files_of(entry: registry.Entry, opened: Opened | None, weights: Iterable[Path]) -> AdapterFiles:
    """The files of a model of the registry, and of the model that it wraps. opened: what it opened while it was loaded,
    of an adapter of somebody's own; weights: the files that it was given.

    Raises VtbenchError if a declared file is not there, or if a module of another adapter runs in place of its own.
    """
    entries = [entry]
    while entries[-1].inner is not None:
        entries.append(entries[-1].inner)
    begin = [path for one in entries for path in _begins(one)]
    own = [one.file.resolve() for one in entries if not one.builtin]
    declared = [path for one in entries for path in _declared(one)]
    code, named = code_and_named(begin)
    if own:
        _refuse_others(code, search_path_of(own[0]))
    places = tuple(place_of(one.file) for one in entries)
    bare = AdapterFiles(tuple(begin), tuple(declared), (), places)
    paths = [*_by_importing(own), *_paths(opened), *map(str, named)]
    read = _undeclared(paths, bare, weights)
    code = [*_beyond(begin, code), *(path for path in read if path.suffix in CODE)]
    return AdapterFiles(
        tuple(dict.fromkeys([*begin, *code])),
        bare.declared,
        tuple(path for path in read if path.suffix not in CODE),
        places,
    )


def code_of(files: Iterable[Path]) -> list[Path]:
    """Where the code of metrics, tasks, reducers or feature networks begins, and what it names or opened when it was
    imported: files beside it decide a number as its code does."""
    begin = list(dict.fromkeys(file.resolve() for file in files))
    code, named = code_and_named(begin)
    bare = AdapterFiles(tuple(begin), (), (), tuple(place_of(file) for file in begin))
    read = _undeclared([*_by_importing(begin), *map(str, named)], bare, ())
    return [*begin, *_beyond(begin, code), *read]


def _beyond(begin: Iterable[Path], code: Iterable[Path]) -> list[Path]:
    """The code, without what vtbench's own files import: that is found by where it begins."""
    imported = {path for path in sources.closure(begin) if sources.is_ours(path)}
    return [path for path in code if path not in imported]


def reason(name: str, read: Iterable[Path]) -> str | None:
    """Why such a run is not ranked; None where nothing was read that is not declared."""
    names = sorted({path.name for path in read})
    if not names:
        return None
    listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"{name} reads {listed}, which it does not declare: list what it reads in Family(files=…)"


def recorded(read: Iterable[Path], *, at_work: bool) -> list[dict[str, Any]]:
    """The files as a record keeps them: names, and the sha256 of what they hold."""
    return [{"file": path.name, "sha256": _sha256(path), "at_work": at_work} for path in read]


def _sha256(path: Path) -> str | None:
    try:
        return sha256_file(path)
    except OSError:
        # Gone by now, or no longer readable.
        return None


def _begins(entry: registry.Entry) -> list[Path]:
    """Where a model's code begins: its adapter, and its native network."""
    files = [entry.file, *_file_of(entry.family.build.__module__)]
    if entry.family.network is not None:
        files += _file_of(entry.family.network.partition(":")[0])
    return files


def _file_of(name: str) -> list[Path]:
    """The file of a module, without importing it; none for what has no file."""
    spec = importlib.util.find_spec(name)
    return [Path(spec.origin)] if spec is not None and spec.origin is not None and Path(spec.origin).is_file() else []


def _declared(entry: registry.Entry) -> list[Path]:
    out = []
    for name in entry.family.files:
        path = entry.file.resolve().parent / Path(name).expanduser()
        if not path.exists():
            raise VtbenchError(f"the family {entry.family.name} declares {name}, and {path} does not exist: add it")
        out.append(path.resolve())
    return out


def _refuse_others(code: Iterable[Path], search: Sequence[str]) -> None:
    """Two adapters may each have a `levels.py` beside them; Python keeps one module of a name in a process."""
    for path in code:
        if sources.is_ours(path) or is_library(path.parent):
            continue
        place = place_of(path)
        name = place.name if (place / "__init__.py").is_file() else path.stem
        loaded = getattr(sys.modules.get(name), "__file__", None)
        if loaded is None or is_library(Path(loaded).resolve().parent):
            continue
        spec = importlib.machinery.PathFinder.find_spec(name, search)
        origin = Path(spec.origin).resolve() if spec is not None and spec.origin is not None else None
        if origin in (path, place / "__init__.py") and origin != Path(loaded).resolve():
            raise VtbenchError(
                f"{path} cannot be used in this process, which has loaded another module called {name} ({loaded}): "
                "run the command once for each adapter, or rename one of the two"
            )


def _by_importing(files: Iterable[Path]) -> list[str]:
    """What was opened while those of them that are somebody's own were imported."""
    own = [file for file in files if not sources.is_ours(file)]
    return [path for file in own for path in opened_at_import(file) if not sources.is_ours(Path(path).resolve())]


def _paths(opened: Opened | None) -> list[str]:
    """What was opened, vtbench's own files aside: whether they are opened hangs on what the process did before."""
    paths = opened.paths if opened is not None else ()
    return [path for path in paths if not sources.is_ours(Path(path).resolve())]


def _undeclared(paths: Iterable[str], files: AdapterFiles, weights: Iterable[Path]) -> list[Path]:
    """Of the paths those that decide a number, links resolved, each once, and that neither the code begins with nor
    the family declares nor the model was given as weights."""
    known = [place for path in (*files.code, *files.declared, *weights) for place in (path.absolute(), path.resolve())]
    out: dict[Path, None] = {}
    for text in paths:
        path = _source_of(Path(text))
        # By its own name too: the hub's cache keeps links to files that are named by their hashes.
        below = any(one.is_relative_to(place) for one in (path, path.resolve()) for place in known)
        if not below and path.is_file() and _decides(path.resolve(), files.places):
            out[path.resolve()] = None
    return list(out)


def _source_of(path: Path) -> Path:
    """A module's own file where Python read its compiled one."""
    if path.suffix != ".pyc":
        return path
    try:
        source = Path(importlib.util.source_from_cache(str(path)))
    except ValueError:
        return path
    return source if source.is_file() else path


def _decides(path: Path, places: Iterable[Path]) -> bool:
    """Whether what a file holds may decide a number: no library's, none of the system's, of a cache or of vtbench."""
    own = [place for place in places if path.is_relative_to(place)]
    if _is_cached(path):
        return False
    if sources.is_ours(path):
        return bool(own)
    if is_library(path.parent):
        return any(is_library(place.parent) for place in own)
    if own:
        return True
    prefixes = (sys.prefix, sys.base_prefix)
    system = path.as_posix().startswith(tuple(f"{folder}/" for folder in SYSTEM))
    if system or path.suffix.lower() in FONTS or any(path.is_relative_to(Path(p).resolve()) for p in prefixes):
        return False
    return not _notes_of_the_hub(path)


def _is_cached(path: Path) -> bool:
    folders = path.parent.parts
    caches = [Path(os.environ[name]).resolve() for name in CACHE_VARIABLES if os.environ.get(name)]
    named = bool(CACHES & {*folders}) or any(part.startswith(INDUCTOR) for part in folders)
    return named or any(path.is_relative_to(cache) for cache in caches)


def _notes_of_the_hub(path: Path) -> bool:
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface")).resolve()
    return path.is_relative_to(home) and path.relative_to(home).parts[0] not in HUB


def refuse_code_within(spec: str, folder: Path) -> None:
    """Raises VtbenchError where a record names code that lies in the run's own folder: it came with the run, from
    wherever that came, and nobody here chose to run it."""
    # What wraps a model stands before a colon, and a folder's name may hold one.
    parts = [spec, *(spec[i + 1 :] for i, letter in enumerate(spec) if letter == ":")]
    for part in filter(is_path_and_name, parts):
        file, _ = path_and_name(part)
        if file.expanduser().resolve().is_relative_to(folder.resolve()):
            raise VtbenchError(
                f"{folder} names {file} as its model, code that came with it, which is not run: read it, and evaluate "
                "it from a place of your own"
            )
