"""Finds models, tasks and metrics: built-ins by listing a folder, plug-ins by entry point, a file by path@name.

Importing an adapter imports no torch, so listing is quick. A name given twice is an error; an unknown one offers near
names; a plug-in that cannot be imported is reported, and hides nothing else.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from vtbench.types.cards import Card, Family, Wrapping
from vtbench.types.errors import VtbenchError, near
from vtbench.types.task import Task

T = TypeVar("T")
ENTRY_POINTS = "vtbench.adapters"


class Registry(Generic[T]):
    """Names to entries of one kind; a collision raises, a miss offers near names."""

    def __init__(self, what: str, plural: str) -> None:
        self.what, self.plural = what, plural
        self._entries: dict[str, T] = {}
        self._from: dict[str, str] = {}

    def add(self, name: str, entry: T, source: str) -> None:
        if name in self._entries:
            raise VtbenchError(
                f"the {self.what} {name!r} is defined by both {self._from[name]} and {source}: rename one of them"
            )
        self._entries[name] = entry
        self._from[name] = source

    def get(self, name: str) -> T:
        if name not in self._entries:
            raise VtbenchError(
                f"there is no {self.what} {name!r}{near(name, self._entries)}: `vtbench list {self.plural}` shows all"
            )
        return self._entries[name]

    def source(self, name: str) -> str:
        return self._from[name]

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def items(self) -> list[tuple[str, T]]:
        return list(self._entries.items())


@dataclass(frozen=True)
class Entry:
    """A card with what is needed to build it."""

    card: Card
    family: Family
    file: Path
    """The adapter's file; its sha256 is part of the question."""
    builtin: bool
    inner: Entry | None = None
    """The model that this one wraps, whose adapter and weights decide its numbers too."""

    def adapter_sha256(self) -> str:
        return hashlib.sha256(self.file.read_bytes()).hexdigest()


NOT_WALKED = ("networks", "fits")
"""Folders of `vtbench.adapters` that hold no adapters: networks import torch, fits are data."""


def _modules(package: str) -> list[ModuleType]:
    """The modules of a package and of its sub-packages at any depth, imported, by their own names."""
    # By their own names, so that the order of a list does not hang on the folder that a file lies in.
    return [importlib.import_module(name) for name in sorted(_names(package), key=lambda n: n.rpartition(".")[::-1])]


def _names(package: str) -> Iterator[str]:
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        name = f"{package}.{module.name}"
        if module.name.startswith("_") or (module.ispkg and module.name in NOT_WALKED):
            continue
        if module.ispkg:
            yield from _names(name)
        else:
            yield name


def _families_of(module: ModuleType) -> list[Family]:
    one = getattr(module, "FAMILY", None)
    many = getattr(module, "FAMILIES", ())
    return ([one] if isinstance(one, Family) else []) + [f for f in many if isinstance(f, Family)]


RESERVED = ("family", "folder", "hf")
"""Prefixes of names that have a meaning of their own."""


@dataclass(frozen=True)
class _Models:
    """All that adapters define."""

    families: Registry[Family] = field(default_factory=lambda: Registry("family", "families"))
    models: Registry[Entry] = field(default_factory=lambda: Registry("model", "models"))
    wrapping: Registry[tuple[Family, Path]] = field(default_factory=lambda: Registry("prefix", "families"))
    broken: dict[str, str] = field(default_factory=dict)

    def add(self, module: ModuleType, source: str, builtin: bool) -> None:
        file = Path(str(module.__file__))
        for family in _families_of(module):
            self.families.add(family.name, family, source)
            if family.wraps is not None:
                if family.wraps.prefix in RESERVED:
                    raise VtbenchError(
                        f"{source} wraps models as {family.wraps.prefix}:NAME, which is taken: rename it"
                    )
                self.wrapping.add(family.wraps.prefix, (family, file), source)
            for card in family.cards:
                for name in dict.fromkeys((card.name, *card.aliases)):
                    self.models.add(name, Entry(card, family, file, builtin), source)


@functools.cache
def _all() -> _Models:
    every = _Models()
    for module in _modules("vtbench.adapters"):
        every.add(module, module.__name__, True)
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            loaded = point.load()
            module = loaded if isinstance(loaded, ModuleType) else sys.modules[loaded.__module__]
            every.add(module, f"the plug-in {point.value}", False)
        except Exception as bad:
            # Somebody else's package must not take everybody's list down; `list` and `doctor` show the reason.
            every.broken[point.name] = f"{point.value}: {type(bad).__name__}: {bad}"
    return every


def families() -> dict[str, Family]:
    return dict(_all().families.items())


def entries() -> list[Entry]:
    """Every model once (aliases aside), by name."""
    seen = {id(e.card): e for _, e in _all().models.items()}
    return sorted(seen.values(), key=lambda e: e.card.name)


def broken_plugins() -> dict[str, str]:
    return dict(_all().broken)


def family(name: str) -> Family:
    registry = _all().families
    for _, one in registry.items():
        if name not in registry and name in one.fixtures:
            return one
    return registry.get(name)


def from_file(spec: str) -> Entry:
    """`path/to/file.py@name`: the model of that name in a file of the user's."""
    text, _, name = spec.rpartition("@")
    path = Path(text).expanduser()
    if not path.is_file():
        raise VtbenchError(f"{path} does not exist: give path/to/file.py@name with a file that defines FAMILY")
    unique = "vtbench_user_" + hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    module = sys.modules.get(unique)
    if module is None:
        loading = importlib.util.spec_from_file_location(unique, path)
        if loading is None or loading.loader is None:
            raise VtbenchError(f"{path} cannot be imported as a Python file: its name must end in .py")
        module = importlib.util.module_from_spec(loading)
        sys.modules[unique] = module
        try:
            loading.loader.exec_module(module)
        except Exception as bad:
            del sys.modules[unique]
            raise VtbenchError(f"{path} cannot be imported ({type(bad).__name__}: {bad}): mend the file") from bad
    cards = {c.name: Entry(c, f, path, False) for f in _families_of(module) for c in f.cards}
    if not cards:
        raise VtbenchError(f"{path} defines no FAMILY of vtbench.Family: see CONTRIBUTING.md, add a tokenizer")
    if name not in cards:
        raise VtbenchError(f"{path} has no model {name!r}; it has {', '.join(sorted(cards))}")
    return cards[name]


def model(name: str) -> Entry:
    """The registered model or alias, `file.py@name`, `family:NAME` (its first arch, weights the user's own), or
    `PREFIX:NAME` of a family that wraps other models."""
    wrapping = wrapper(name)
    if wrapping is not None:
        return _wrapped(*wrapping)
    if ".py@" in name:
        return from_file(name)
    if name.startswith("family:"):
        one = family(name.removeprefix("family:"))
        if one.network is None:
            raise VtbenchError(f"the family {one.name} has no native network: choose one of its models by name")
        # The released weights do not belong to another configuration; what is loaded is the user's own file.
        first = one.cards[0]
        card = replace(
            first,
            name=name,
            aliases=(),
            title=f"{one.title}, own configuration",
            published=(),
            note=None,
            weights=tuple(replace(w, hub=None, url=None, sha256=None, package=None) for w in first.weights),
        )
        source = importlib.import_module(one.build.__module__).__file__
        return Entry(card, one, Path(str(source)), True)
    return _all().models.get(name)


def wrapper(name: str) -> tuple[Wrapping, str] | None:
    """(how it is wrapped, the name of the inner model) of `PREFIX:NAME`; None where no family has that prefix."""
    prefix, colon, inner = name.partition(":")
    if not colon or prefix not in _all().wrapping:
        return None
    family, _ = _all().wrapping.get(prefix)
    return (family.wraps, inner) if family.wraps is not None else None


def _wrapped(wrapping: Wrapping, name: str) -> Entry:
    """The entry of a family's model over the model `name`."""
    inner = model(name)
    family, file = _all().wrapping.get(wrapping.prefix)
    return Entry(wrapping.card_for(inner.card), family, file, True, inner)


def split_options(entry: Entry, texts: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """(every option of a wrapping entry, resolved; the texts that are for the model inside).

    An option that both know is the inner model's.
    """
    inner = entry.inner.card.options if entry.inner is not None else {}
    own = {k: v for k, v in texts.items() if k in entry.card.options and k not in inner}
    rest = {k: v for k, v in texts.items() if k not in own}
    return {**entry.card.options, **parse_options(entry.card, own)}, rest


def build(entry: Entry, options: Mapping[str, Any]) -> Any:
    """The unloaded model."""
    return entry.family.build(entry.card, options)


@functools.cache
def tasks() -> Registry[Task]:
    registry: Registry[Task] = Registry("task", "tasks")
    for module in _modules("vtbench.tasks"):
        one = getattr(module, "TASK", None)
        if isinstance(one, Task):
            registry.add(one.name, one, module.__name__)
    return registry


@functools.cache
def metrics() -> Registry[Callable[[], Any]]:
    """Names to zero-argument factories of metrics; `card_of(factory)` reads the card without torch."""
    registry: Registry[Callable[[], Any]] = Registry("metric", "metrics")
    for module in _modules("vtbench.metrics"):
        for factory in getattr(module, "METRICS", ()):
            registry.add(card_of(factory).name, factory, module.__name__)
    return registry


def card_of(factory: Callable[[], Any]) -> Any:
    """The MetricCard of a metric's class or factory."""
    card = getattr(factory, "card", None)
    return card if card is not None else factory().card


def metric(name: str) -> Any:
    """A fresh metric."""
    return metrics().get(name)()


def parse_options(card: Card, texts: Mapping[str, str]) -> dict[str, Any]:
    """Option texts as the types of the card's defaults; unknown names and values are refused."""
    out: dict[str, Any] = {}
    for key, text in texts.items():
        if key not in card.options:
            known = ", ".join(sorted(card.options)) or "none"
            raise VtbenchError(f"{card.name} has no option {key!r}{near(key, card.options)}; its options are: {known}")
        out[key] = convert(f"{card.name}: option {key}", text, card.options[key])
    return out


def convert(what: str, text: str, like: Any) -> Any:
    """`text` in the type of `like`."""
    try:
        if isinstance(like, bool):
            table = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
            return table[text.strip().lower()]
        if isinstance(like, int):
            return int(text)
        if isinstance(like, float):
            return float(text)
        if like is None:
            return text
        return type(like)(text)
    except (KeyError, ValueError, TypeError):
        raise VtbenchError(f"{what} is {text!r}; wanted a {type(like).__name__} like {like!r}") from None
