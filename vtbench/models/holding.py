"""The torch modules behind an object, wherever it holds them, and those in eval mode while it is measured."""

from __future__ import annotations

import contextlib
import functools
import gc
import sys
import types
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from vtbench.results import sources
from vtbench.types.bytecode import is_library
from vtbench.types.errors import VtbenchError

ATOMS = (str, bytes, bytearray, int, float, complex, type(None), types.BuiltinFunctionType, types.CodeType, range)
FRAMES = (types.FrameType, types.TracebackType)


def held_modules(holder: Any) -> list[Any]:
    """Every torch module that an object reaches, the nearest first, those inside other modules included.

    Looked for in attributes, slots, dictionaries, lists and other containers, in objects that it holds, partials, bound
    methods, closures, caches, weak references, class attributes, and in the globals that the user's own functions name.
    Nothing is called and no property is asked: only references are followed, each object once, so that circles end.
    """
    import torch
    from torch import nn

    out: list[Any] = []
    seen: set[int] = set()
    waiting: deque[Any] = deque([holder])
    while waiting:
        value = waiting.popleft()
        # By its type alone: a proxy may do anything when it is asked for its class.
        if issubclass(type(value), (*ATOMS, *FRAMES, torch.Tensor)) or id(value) in seen:
            continue
        seen.add(id(value))
        if issubclass(type(value), nn.Module):
            out.append(value)
        waiting.extend(_references(value))
    return out


def outermost(modules: Iterable[Any]) -> list[Any]:
    """Those of the modules that are inside none of the others, in order."""
    modules = list(modules)
    inner = {id(part) for module in modules for part in module.modules() if part is not module}
    return [module for module in modules if id(module) not in inner]


def _references(value: Any) -> Iterable[Any]:
    """What a value refers to, as far as a model may be kept there."""
    kind = type(value)
    if issubclass(kind, types.ModuleType):
        return ()
    if issubclass(kind, types.FunctionType):
        return _of_function(value)
    if issubclass(kind, type):
        return list(vars(value).values()) if _is_users(value.__module__) else ()
    if issubclass(kind, weakref.ReferenceType):
        return [value()]
    if kind is dict and "__spec__" in value and "__loader__" in value:
        # A module's own namespace: what functions use of it is looked up by name.
        return ()
    # Its classes too, for what they hold for all their objects.
    return [*gc.get_referents(value), *kind.__mro__]


def _of_function(function: types.FunctionType) -> list[Any]:
    """A function's closure, defaults and attributes; of the user's own functions also the globals that it names."""
    cells = [_content(cell) for cell in function.__closure__ or ()]
    out = [*cells, function.__defaults__, function.__kwdefaults__, *vars(function).values()]
    if _is_users(function.__module__):
        names = set(_names(function.__code__))
        for name in sorted(names & function.__globals__.keys()):
            value = function.__globals__[name]
            if isinstance(value, types.ModuleType) and _is_users(value.__name__):
                # `settings.network(images)`: of the user's own modules what the function names.
                out += [vars(value)[n] for n in sorted(names & vars(value).keys())]
            else:
                out.append(value)
    return out


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        # Not filled yet.
        return None


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


@functools.lru_cache(maxsize=4096)
def _is_users(module: Any) -> bool:
    """True for names of modules of the user's own: no library, none of Python's and none of vtbench's."""
    if not isinstance(module, str) or module == "builtins":
        return False
    loaded = sys.modules.get(module)
    file = getattr(loaded, "__file__", None)
    if loaded is None or file is None:
        return module not in sys.builtin_module_names
    path = Path(file).resolve()
    return not is_library(path.parent) and not sources.is_ours(path)


@contextlib.contextmanager
def in_eval_mode(modules: Iterable[Any]) -> Iterator[None]:
    """The modules in eval mode, and back as they were: a training loop goes on untouched.

    Raises VtbenchError if a module cannot be brought into eval mode.
    """
    modes = [(module, bool(module.training)) for module in _outer_first(modules)]
    try:
        _switch([(module, False) for module, _ in modes])
        yield
    finally:
        _switch(modes)


def _outer_first(modules: Iterable[Any]) -> list[Any]:
    """Each before those inside it."""
    return sorted(modules, key=lambda module: -sum(1 for _ in module.modules()))


def _switch(modes: Iterable[tuple[Any, bool]]) -> None:
    """Each module by its own `train`, which may do more than set the flag (weights that are merged for inference) and
    does it for those inside as well; then the flag itself, where a module's `train` keeps it as it is."""
    modes = list(modes)
    for module, training in modes:
        if bool(module.training) == training:
            continue
        try:
            module.train(training)
        except NotImplementedError:
            # An exported program has one mode, which its graph has already.
            continue
        except Exception as bad:
            raise VtbenchError(
                f"{type(module).__name__}.train({training}) raised {type(bad).__name__}: {bad}; the model is measured "
                "in eval mode and left as it was: mend it"
            ) from bad
    for module, training in modes:
        if bool(module.training) != training:
            module.training = training
