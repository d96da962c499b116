"""Modules that stand outside vtbench: those of installed plug-ins, and single files of the user's."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

from vtbench.types.bytecode import LIBRARIES
from vtbench.types.errors import RAISED, VtbenchError
from vtbench.types.opened import Opened, noting

_opened: dict[Path, Opened] = {}
"""What was opened while modules from outside were imported: of a plug-in by its package, of a file by the file."""
_search: dict[Path, list[str]] = {}
"""Where Python looked for modules as a file of the user's had been imported; later files add their own folders."""


def plugins(group: str, add: Callable[[ModuleType, str], None]) -> dict[str, str]:
    """Hands (module, words for a message) of every entry point of a group to `add`.

    Returns {name of the entry point: why} of those that fail, whatever they raise: somebody else's package must not
    take everybody's list down.
    """
    broken = {}
    for point in importlib.metadata.entry_points(group=group):
        opened = Opened()
        try:
            with noting(opened):
                target = point.load()
            module = target if isinstance(target, ModuleType) else sys.modules[target.__module__]
            _keep(place_of(file_of(module)), opened)
            add(module, f"the plug-in {point.value}")
        except RAISED as bad:
            # Of somebody's package: what breaks in it must not take the others along.
            broken[point.name] = f"{point.value}: {type(bad).__name__}: {bad}"
    return broken


def place_of(file: Path) -> Path:
    """What a module's author gave it: the outermost package that its file lies in, else the file's folder; among
    installed libraries, where a folder is everybody's, the file alone."""
    file = file.resolve()
    folder = file.parent
    if not (folder / "__init__.py").is_file():
        return file if {*LIBRARIES} & {folder.name} else folder
    while (folder.parent / "__init__.py").is_file():
        folder = folder.parent
    return folder


def _keep(place: Path, opened: Opened) -> None:
    kept = _opened.setdefault(place, Opened())
    for path in opened.paths:
        kept.note(path, writes=False)


def opened_at_import(file: Path) -> list[str]:
    """What was opened while this file of somebody's own was imported, or the plug-in's package that it lies in."""
    places = {file.resolve(), place_of(file)}
    return [path for place in places if place in _opened for path in _opened[place].paths]


def search_path_of(file: Path) -> list[str]:
    """Where Python looked for what this file imports."""
    return _search.get(file.resolve(), sys.path)


def is_path_and_name(spec: str) -> bool:
    return ".py@" in spec


def refuse_paths(names: Iterable[str], where: Path) -> None:
    """Raises VtbenchError where a record states `path/to/file.py@name` as a name: code is named by who runs it."""
    for name in filter(is_path_and_name, names):
        raise VtbenchError(f"{where} names {name}, a file of code, as a metric: no record of vtbench does")


def path_and_name(spec: str) -> tuple[Path, str]:
    """The two parts of `path/to/file.py@name`; folders and names may hold an @ too: the file is the first there is."""
    ends = [match.end() for match in re.finditer(r"\.py(?=@)", spec)]
    paths = [Path(spec[:end]).expanduser() for end in ends]
    first = next((k for k, path in enumerate(paths) if path.is_file()), len(ends) - 1)
    return paths[first], spec[ends[first] + 1 :]


def module_of(file: Path, mark: str) -> ModuleType:
    """A file of the user's as a module, imported once a process. `mark`: the attribute that it should define."""
    if not file.is_file():
        raise VtbenchError(f"{file} does not exist: give path/to/file.py@name with a file that defines {mark}")
    unique = "vtbench_user_" + hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:12]
    if unique in sys.modules:
        return sys.modules[unique]
    opened = Opened()
    try:
        with noting(opened):
            module = _imported(unique, file)
    except RAISED as bad:
        raise VtbenchError(f"{file} cannot be imported ({type(bad).__name__}: {bad}): mend the file") from bad
    _keep(file.resolve(), opened)
    _search[file.resolve()] = list(sys.path)
    return module


def _imported(unique: str, file: Path) -> ModuleType:
    """The file as a module of this name; where it imports relatively, as a part of the package that it lies in."""
    try:
        return _executed(unique, file)
    except ImportError as bad:
        if "no known parent package" not in str(bad):
            raise
    place = place_of(file)
    place = place if place.is_dir() else file.resolve().parent
    package = f"{unique}_package"
    if (place / "__init__.py").is_file():
        _executed(package, place / "__init__.py", [str(place)])
    else:
        sys.modules[package] = ModuleType(package)
        sys.modules[package].__path__ = [str(place)]
    parts = file.resolve().relative_to(place).with_suffix("").parts
    try:
        module = importlib.import_module(".".join([package, *parts]))
    except BaseException:
        for name in [n for n in sys.modules if n == package or n.startswith(f"{package}.")]:
            del sys.modules[name]
        raise
    sys.modules[unique] = module
    return module


def _executed(name: str, file: Path, search: list[str] | None = None) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=search)
    if spec is None or spec.loader is None:
        raise ImportError("its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def file_of(module: ModuleType) -> Path:
    """The module's file, with links resolved."""
    return Path(str(module.__file__)).resolve()
