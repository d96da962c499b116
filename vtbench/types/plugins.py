"""Modules that stand outside vtbench: those of installed plug-ins, and single files of the user's."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from vtbench.types.errors import VtbenchError


def plugins(group: str, add: Callable[[ModuleType, str], None]) -> dict[str, str]:
    """Hands (module, words for a message) of every entry point of a group to `add`.

    Returns {name of the entry point: why} of those that fail, whatever they raise: somebody else's package must not
    take everybody's list down.
    """
    broken = {}
    for point in importlib.metadata.entry_points(group=group):
        try:
            target = point.load()
            module = target if isinstance(target, ModuleType) else sys.modules[target.__module__]
            add(module, f"the plug-in {point.value}")
        except Exception as bad:
            broken[point.name] = f"{point.value}: {type(bad).__name__}: {bad}"
    return broken


def is_path_and_name(spec: str) -> bool:
    return ".py@" in spec


def path_and_name(spec: str) -> tuple[Path, str]:
    """The two parts of `path/to/file.py@name`."""
    path, _, name = spec.rpartition("@")
    return Path(path).expanduser(), name


def module_of(file: Path, mark: str) -> ModuleType:
    """A file of the user's as a module, imported once a process. `mark`: the attribute that it should define."""
    if not file.is_file():
        raise VtbenchError(f"{file} does not exist: give path/to/file.py@name with a file that defines {mark}")
    unique = "vtbench_user_" + hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:12]
    if unique in sys.modules:
        return sys.modules[unique]
    spec = importlib.util.spec_from_file_location(unique, file)
    if spec is None or spec.loader is None:
        raise VtbenchError(f"{file} cannot be imported as a Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[unique] = module
    try:
        spec.loader.exec_module(module)
    except Exception as bad:
        del sys.modules[unique]
        raise VtbenchError(f"{file} cannot be imported ({type(bad).__name__}: {bad}): mend the file") from bad
    return module


def file_of(module: ModuleType) -> Path:
    """The module's file, with links resolved."""
    return Path(str(module.__file__)).resolve()
