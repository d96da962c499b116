"""Names to what bears them: two of one name are refused, and an unknown one is answered with near names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Generic, TypeVar

from vtbench.types.errors import RAISED, VtbenchError, near
from vtbench.types.plugins import file_of, is_path_and_name, module_of, path_and_name, plugins

T = TypeVar("T")


@dataclass(frozen=True)
class Source:
    """Where a name comes from: in words, and by its file, whose content decides a number."""

    words: str
    file: Path
    builtin: bool = False
    listed: bool = True
    """False where the file was only named by path: it can be used by name from then on, and no list shows it."""

    @staticmethod
    def of_builtin(module: ModuleType) -> Source:
        return Source(module.__name__, file_of(module), builtin=True)


class Registry(Generic[T]):
    """All entries of one kind, by name."""

    def __init__(self, what: str, plural: str) -> None:
        """`what` and `plural` name the kind in messages; `plural` is a word of `vtbench list`."""
        self.what, self.plural = what, plural
        self._entries: dict[str, T] = {}
        self._sources: dict[str, Source] = {}

    def add(self, name: str, entry: T, source: Source) -> None:
        self.refuse_second(name, source)
        self._entries[name] = entry
        self._sources[name] = source

    def refuse_second(self, name: str, source: Source) -> None:
        """Raises if the name is taken."""
        if name in self._entries:
            first = self._sources[name].words
            raise VtbenchError(
                f"the {self.what} {name!r} is given by both {first} and {source.words}: rename one of them"
            )

    def get(self, name: str) -> T:
        if name not in self._entries:
            raise VtbenchError(
                f"there is no {self.what} {name!r}{near(name, self._entries)}: `vtbench list {self.plural}` shows all"
            )
        return self._entries[name]

    def source(self, name: str) -> Source:
        self.get(name)
        return self._sources[name]

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return (name for name, source in self._sources.items() if source.listed)

    def items(self) -> list[tuple[str, T]]:
        return [(name, self._entries[name]) for name in self]


class FileRegistry(Registry[T]):
    """Entries that one file brings: a module of ours, a plug-in's, or `path/to/file.py@name`.

    `mark` is the attribute that such a module defines, and `read` gives the module's (name, entry) pairs.
    """

    def __init__(self, what: str, plural: str, mark: str, read: Callable[[ModuleType], list[tuple[str, T]]]) -> None:
        super().__init__(what, plural)
        self.broken: dict[str, str] = {}
        """Plug-ins that cannot be used: {name of the entry point: why}."""
        self._mark, self._read = mark, read

    def add_module(self, module: ModuleType, source: Source) -> None:
        """All entries of a module, or none if one of its names is taken. Only a built-in module may have none."""
        try:
            pairs = self._read(module) if hasattr(module, self._mark) else []
        except VtbenchError:
            raise
        except RAISED as bad:
            # Of somebody's own, anything may stand there.
            raise VtbenchError(
                f"the {self._mark} of {source.words} cannot be read ({type(bad).__name__}: {bad}): see "
                f"CONTRIBUTING.md, add a {self.what}"
            ) from bad
        if not pairs and not source.builtin:
            raise VtbenchError(f"{source.words} defines no {self._mark}: see CONTRIBUTING.md, add a {self.what}")
        names = [name for name, _ in pairs]
        for name in names:
            self.refuse_second(name, source)
            if names.count(name) > 1:
                raise VtbenchError(f"{source.words} defines the {self.what} {name!r} twice: rename one of them")
        for name, entry in pairs:
            self.add(name, entry, source)

    def add_plugins(self, group: str) -> None:
        """What a group of entry points brings; one that fails is noted in `broken` and hides nothing else."""
        self.broken |= plugins(group, lambda module, words: self.add_module(module, Source(words, file_of(module))))

    def name_of(self, spec: str) -> str:
        """The name under which `spec` is recorded: itself, or that of `path/to/file.py@name`, whose file is read."""
        if not is_path_and_name(spec):
            return spec
        file, name = path_and_name(spec)
        if not self._names_in(file):
            self.add_module(module_of(file, self._mark), Source(str(file), file.resolve(), listed=False))
        names = self._names_in(file)
        if name not in names:
            raise VtbenchError(f"{file} has no {self.what} {name!r}; it has {', '.join(sorted(names))}")
        return name

    def _names_in(self, file: Path) -> list[str]:
        return [name for name, source in self._sources.items() if source.file == file.resolve()]

    def get(self, name: str) -> T:
        """The entry of a name, or of `path/to/file.py@name`."""
        return super().get(self.name_of(name))
