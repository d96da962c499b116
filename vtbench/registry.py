"""Finds models, reducers, tasks and metrics: built-ins in folders, plug-ins by entry point, a file by path@name.

Importing an adapter imports no torch. Two of one name are an error; a plug-in that cannot be imported is reported.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from vtbench.types.cards import Adopting, Card, Family, Wrapping
from vtbench.types.errors import VtbenchError, near
from vtbench.types.names import FileRegistry, Registry, Source
from vtbench.types.plugins import file_of, is_path_and_name, module_of, path_and_name, plugins
from vtbench.types.reduction import ReducerCard
from vtbench.types.secrets import secret
from vtbench.types.task import Task

ENTRY_POINTS, METRIC_PLUGINS, TASK_PLUGINS = "vtbench.adapters", "vtbench.metrics", "vtbench.tasks"
REDUCER_PLUGINS = "vtbench.reducers"
"""Groups of entry points: each names a module with FAMILY, METRICS, TASK or REDUCERS."""


@dataclass(frozen=True)
class Entry:
    """A card with what is needed to build it."""

    card: Card
    family: Family
    file: Path
    """The adapter's file; what it is and what it imports are part of the question."""
    builtin: bool
    inner: Entry | None = None
    """The model that this one wraps, whose adapter and weights decide its numbers too."""


NOT_WALKED = ("networks", "reducers", "fits", "suites", "prompts", "geneval")
"""Networks import torch, reducers have a list of their own, fits, suites and prompts are data, geneval is a scorer."""


def _modules(package: str) -> list[ModuleType]:
    """The modules of a package and of its sub-packages at any depth, imported, by their own names."""
    # By their own names, so that the order of a list does not hang on the folder that a file lies in.
    names = sorted(names_of_modules(package), key=lambda name: name.rpartition(".")[::-1])
    return [importlib.import_module(name) for name in names]


def names_of_modules(package: str) -> Iterator[str]:
    """Dotted names of the modules of a package and of its sub-packages, `NOT_WALKED` aside."""
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        name = f"{package}.{module.name}"
        if module.name.startswith("_") or (module.ispkg and module.name in NOT_WALKED):
            continue
        yield from names_of_modules(name) if module.ispkg else (name,)


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

    def add(self, module: ModuleType, source: Source) -> None:
        file = Path(str(module.__file__))
        for family in _families_of(module):
            self.families.add(family.name, family, source)
            if family.wraps is not None:
                if family.wraps.prefix in RESERVED:
                    raise VtbenchError(
                        f"{source.words} wraps models as {family.wraps.prefix}:NAME, which is taken: rename it"
                    )
                self.wrapping.add(family.wraps.prefix, (family, file), source)
            for card in family.cards:
                for name in dict.fromkeys((card.name, *card.aliases)):
                    self.models.add(name, Entry(card, family, file, source.builtin), source)


@functools.cache
def _all() -> _Models:
    every = _Models()
    for module in _modules("vtbench.adapters"):
        every.add(module, Source.of_builtin(module))
    broken = plugins(ENTRY_POINTS, lambda module, words: every.add(module, Source(words, file_of(module))))
    every.broken.update(broken)
    return every


def families() -> dict[str, Family]:
    return dict(_all().families.items())


def entries() -> list[Entry]:
    """Every model once (aliases aside), by name."""
    seen = {id(e.card): e for _, e in _all().models.items()}
    return sorted(seen.values(), key=lambda e: e.card.name)


def broken_adapters() -> dict[str, str]:
    """{name of the entry point: why its adapters cannot be used}."""
    return dict(_all().broken)


def broken_plugins() -> dict[str, str]:
    """{name of the entry point: why it cannot be used}, of adapters, metrics and tasks."""
    out: dict[str, str] = {}
    for broken in (broken_adapters(), metrics().broken, tasks().broken, reducers().broken):
        for name, why in broken.items():
            out[name] = f"{out[name]}; {why}" if name in out else why
    return out


def family(name: str) -> Family:
    registry = _all().families
    for _, one in registry.items():
        if name not in registry and name in one.fixtures:
            return one
    return registry.get(name)


def from_file(spec: str) -> Entry:
    """`path/to/file.py@name`: the model of that name in a file of the user's."""
    path, name = path_and_name(spec)
    module = module_of(path, "FAMILY")
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
    if is_path_and_name(name):
        return from_file(name)
    if name.startswith("family:"):
        one = family(name.removeprefix("family:"))
        if one.network is None:
            raise VtbenchError(f"the family {one.name} has no native network: choose one of its models by name")
        source = importlib.import_module(one.build.__module__).__file__
        return Entry(unreleased(one, one.cards[0], name), one, Path(str(source)), True)
    models = _all().models
    for one in families().values() if name not in models else ():
        one.refuse_for_model(name)
    return models.get(name)


def unreleased(family: Family, card: Card, name: str) -> Card:
    """The card of an own configuration: the released weights do not belong to it, what is loaded is the user's file."""
    weights = tuple(replace(w, hub=None, url=None, sha256=None, package=None) for w in card.weights)
    title = f"{family.title}, own configuration"
    return replace(card, name=name, aliases=(), title=title, published=(), note=None, weights=weights)


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
    builtin = _all().wrapping.source(wrapping.prefix).builtin and inner.builtin
    return Entry(wrapping.card_for(inner.card), family, file, builtin, inner)


def adopting(candidate: Any) -> tuple[Adopting, Card] | None:
    """(how it is adopted, its card) of a library's object that a family takes as it is; None for any other."""
    for one in families().values():
        card = one.adopts.card_for(candidate) if one.adopts is not None else None
        if one.adopts is not None and card is not None:
            return one.adopts, card
    return None


def split_options(entry: Entry, texts: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """(every option of a wrapping entry, resolved; the texts that are for the model inside).

    An option that both know is the inner model's.
    """
    inner = entry.inner.card.options if entry.inner is not None else {}
    own = {k: v for k, v in texts.items() if k in entry.card.options and k not in inner}
    rest = {k: v for k, v in texts.items() if k not in own}
    return {**entry.card.options, **parse_options(entry.card, own)}, rest


def build(entry: Entry, options: Mapping[str, Any]) -> Any:
    """The unloaded model. What its card reads from the environment is hidden from then on."""
    for variable in entry.card.environment:
        secret(variable)
    return entry.family.build(entry.card, options)


@functools.cache
def tasks() -> FileRegistry[Task]:
    registry = FileRegistry("task", "tasks", "TASK", _tasks_of)
    for module in _modules("vtbench.tasks"):
        registry.add_module(module, Source.of_builtin(module))
    registry.add_plugins(TASK_PLUGINS)
    return registry


def _tasks_of(module: ModuleType) -> list[tuple[str, Task]]:
    """The module's TASK. Metrics in files and manifests that it names are looked for beside it."""
    task = getattr(module, "TASK", None)
    if not isinstance(task, Task):
        return []
    folder = file_of(module).parent

    def beside(spec: str) -> str:
        if not is_path_and_name(spec):
            path = folder / Path(spec).expanduser()
            return str(path) if spec.endswith(".jsonl") and path.is_file() else spec
        # As it stands beside the task, also where a folder or a name holds an @.
        path, name = path_and_name(str(folder / Path(spec).expanduser()))
        return f"{path}@{name}" if path.is_file() else spec

    task = replace(
        task,
        suites=tuple(map(beside, task.suites)),
        prompts=tuple(map(beside, task.prompts)),
        metrics=tuple(metric_names(map(beside, task.metrics))),
    )
    return [(task.name, task)]


def default_tasks(*, images_given: bool, generators: bool) -> list[Task]:
    """What is asked where nobody names a task: of generators or of tokenizers, on the tasks' own suites or on images
    that the user gave."""
    fitting = [t for _, t in tasks().items() if bool(t.prompts) == generators and t.runs_by_default(images_given)]
    return sorted(fitting, key=lambda t: (t.order, t.name))


@functools.cache
def reducers() -> FileRegistry[ReducerCard]:
    registry = FileRegistry("reducer", "reducers", "REDUCERS", lambda m: [(c.name, c) for c in m.REDUCERS])
    for module in _modules("vtbench.adapters.reducers"):
        registry.add_module(module, Source.of_builtin(module))
    registry.add_plugins(REDUCER_PLUGINS)
    return registry


@functools.cache
def metrics() -> FileRegistry[Callable[[], Any]]:
    """Names to zero-argument factories of metrics; `card_of(factory)` reads the card without torch."""
    registry = FileRegistry("metric", "metrics", "METRICS", _metrics_of)
    for module in _modules("vtbench.metrics"):
        registry.add_module(module, Source.of_builtin(module))
    registry.add_plugins(METRIC_PLUGINS)
    return registry


def _metrics_of(module: ModuleType) -> list[tuple[str, Callable[[], Any]]]:
    return [(card_of(factory).name, factory) for factory in getattr(module, "METRICS", ())]


def metric_names(specs: Iterable[str]) -> list[str]:
    """The names under which metrics are recorded; those given as `path/to/file.py@name` are read."""
    return [metrics().name_of(spec) if is_path_and_name(spec) else spec for spec in specs]


def not_of_the_release(task: Task) -> list[str]:
    """Sentences on a task and on metrics that stand outside vtbench: what they decide is no number of a release."""
    out = []
    for registry, names in ((tasks(), (task.name,)), (metrics(), task.metrics)):
        out += [
            f"the {registry.what} {name} is not vtbench's own"
            for name in names
            if name in registry and not registry.source(name).builtin
        ]
    return out


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


def metric_version(name: str) -> int | None:
    """The version of a metric as it is installed here; None where there is none of the name, or it is broken."""
    known = metrics()
    if name not in known:
        return None
    try:
        return int(card_of(known.get(name)).version)
    except VtbenchError:
        return None
