"""vtbench: measures image tokenizers and the generators built on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vtbench.types.bytecode import compile_own_files
from vtbench.types.version import VERSION as __version__

if TYPE_CHECKING:
    from vtbench.api import check, compare, evaluate, list_models, load, read_runs, score
    from vtbench.running.monitor import Monitor
    from vtbench.types.adapter import ClosedSystem, Generator, Prompt, Tokenizer
    from vtbench.types.cards import Card, Family, Fixed, Multiple, Published, Weights
    from vtbench.types.conditions import Conditions
    from vtbench.types.errors import Unavailable, VtbenchError
    from vtbench.types.metric import Batch, ImageMetric, MetricCard, RowMetric, SetMetric, SetValue, TokenMetric, Value
    from vtbench.types.reduction import Needs, Reducer, ReducerCard, Reduction, TowerView
    from vtbench.types.task import Task
    from vtbench.types.tokens import Bitstream, Codes, Latents

# Before anything else of vtbench is imported: what runs is then what its files say.
compile_own_files()

_NAMES = {
    "api": ("check", "compare", "evaluate", "list_models", "load", "read_runs", "score"),
    "running.monitor": ("Monitor",),
    "types.adapter": ("ClosedSystem", "Generator", "Prompt", "Tokenizer"),
    "types.cards": ("Card", "Family", "Fixed", "Multiple", "Published", "Weights"),
    "types.conditions": ("Conditions",),
    "types.errors": ("Unavailable", "VtbenchError"),
    "types.metric": (
        "Batch",
        "ImageMetric",
        "MetricCard",
        "RowMetric",
        "SetMetric",
        "SetValue",
        "TokenMetric",
        "Value",
    ),
    "types.reduction": ("Needs", "Reducer", "ReducerCard", "Reduction", "TowerView"),
    "types.task": ("Task",),
    "types.tokens": ("Bitstream", "Codes", "Latents"),
}
"""Where the public names stand: what authors of adapters, metrics and tasks need, and the verbs."""
_PLACES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "Batch",
    "Bitstream",
    "Card",
    "ClosedSystem",
    "Codes",
    "Conditions",
    "Family",
    "Fixed",
    "Generator",
    "ImageMetric",
    "Latents",
    "MetricCard",
    "Monitor",
    "Multiple",
    "Needs",
    "Prompt",
    "Published",
    "Reducer",
    "ReducerCard",
    "Reduction",
    "RowMetric",
    "SetMetric",
    "SetValue",
    "Task",
    "TokenMetric",
    "Tokenizer",
    "TowerView",
    "Unavailable",
    "Value",
    "VtbenchError",
    "Weights",
    "__version__",
    "check",
    "compare",
    "evaluate",
    "list_models",
    "load",
    "read_runs",
    "score",
]


def __getattr__(name: str) -> Any:
    # Lazily, so that `vtbench --help` and `vtbench list` import nothing heavy.
    if name not in _PLACES:
        raise AttributeError(f"module 'vtbench' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"vtbench.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
