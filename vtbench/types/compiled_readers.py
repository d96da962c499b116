"""Libraries whose compiled code opens a file by itself, so that Python does not tell of it (`opened`).

safetensors (Rust), onnxruntime and TorchScript (C++) get a path and open it outside of Python. The one function that
each is handed the path through is wrapped, where it stands and wherever it was imported to; in libraries that are not
loaded yet, as they are. What a wrapper does more is to say the path.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

READERS = {
    "safetensors": "safe_open",
    "onnxruntime.capi.onnxruntime_inference_collection": "InferenceSession",
    "torch.jit._serialization": "load",
}
"""{module: its function, or class, whose first argument is the path}"""
Tell = Callable[[Any], None]


def tell_of_them(tell: Tell) -> None:
    """From now on `tell(first argument)` at every call of these functions, whoever makes it; once a process."""
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    for name in READERS:
        if name in sys.modules:
            _wrap(sys.modules[name], tell)
    sys.meta_path.insert(0, _Finder(tell))


def _wrap(module: ModuleType, tell: Tell) -> None:
    reader = getattr(module, READERS[module.__name__], None)
    if isinstance(reader, type) and reader.__module__ == module.__name__:
        # A class of Python's keeps its name for `isinstance` and for those who inherit from it.
        reader.__init__ = _wrapped(reader.__init__, tell, 1)  # type: ignore[misc]
    elif callable(reader):
        wrapped = _wrapped(reader, tell, 0)
        for holder in list(sys.modules.values()):
            names = getattr(holder, "__dict__", {})
            for name in [n for n, value in list(names.items()) if value is reader]:
                setattr(holder, name, wrapped)


def _wrapped(function: Any, tell: Tell, place: int) -> Any:
    """place: of the path among the arguments by position; by keyword it may have any name."""

    @functools.wraps(function, updated=())
    def called(*arguments: Any, **named: Any) -> Any:
        for value in (*arguments[place : place + 1], *named.values()):
            tell(value)
        return function(*arguments, **named)

    return called


class _Finder(importlib.abc.MetaPathFinder):
    """Finds nothing by itself: has the module that another finds wrapped once it is executed."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._asking: set[str] = set()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in READERS or name in self._asking:
            return None
        self._asking.add(name)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._asking.discard(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def executed(module: ModuleType) -> None:
                execute(module)
                _wrap(module, self._tell)

            spec.loader.exec_module = executed  # type: ignore[method-assign]
        return spec
