"""Reading an `arch` so that nothing in it is ignored: every key is read, and what nobody reads is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vtbench.types.errors import VtbenchError, near


class Config:
    """One level of an `arch`; `done()` refuses keys that were not read (null ones aside: they do not apply)."""

    def __init__(self, arch: Mapping[str, Any] | None, where: str) -> None:
        if arch is None:
            raise VtbenchError(f"{where} is null, but this network cannot do without it: give its sizes")
        self._arch, self._where, self._read = arch, where, set[str]()

    def _value(self, key: str, default: Any) -> Any:
        self._read.add(key)
        if key in self._arch and self._arch[key] is not None:
            return self._arch[key]
        if default is not _REQUIRED:
            return default
        raise VtbenchError(f"{where_key(self._where, key)} is missing: the network cannot be built without it")

    def _refuse(self, key: str, value: Any, wanted: str) -> VtbenchError:
        return VtbenchError(f"{where_key(self._where, key)} is {value!r}, but must be {wanted}")

    def integer(self, key: str, default: Any = ..., *, at_least: int = 1) -> int:
        value = self._value(key, _REQUIRED if default is ... else default)
        if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
            raise self._refuse(key, value, f"an integer of at least {at_least}")
        return value

    def integers(
        self, key: str, *, length: int | None = None, empty: bool = False, default: Any = ...
    ) -> tuple[int, ...]:
        value = self._value(key, _REQUIRED if default is ... else default)
        good = isinstance(value, Sequence) and not isinstance(value, str)
        if not good or any(not isinstance(v, int) or isinstance(v, bool) or v < 0 for v in value):
            raise self._refuse(key, value, "a list of integers")
        if (not value and not empty) or (length is not None and len(value) != length):
            raise self._refuse(key, value, f"a list of {length or 'one or more'} integers")
        return tuple(value)

    def number(self, key: str, default: Any = ...) -> float:
        value = self._value(key, _REQUIRED if default is ... else default)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self._refuse(key, value, "a number")
        return float(value)

    def flag(self, key: str, default: Any = ...) -> bool:
        value = self._value(key, _REQUIRED if default is ... else default)
        if not isinstance(value, bool):
            raise self._refuse(key, value, "true or false")
        return value

    def choice(self, key: str, of: Sequence[Any], default: Any = ...) -> Any:
        value = self._value(key, _REQUIRED if default is ... else default)
        if value not in of:
            raise self._refuse(key, value, " or ".join(repr(o) for o in of))
        return value

    def any(self, key: str, default: Any = None) -> Any:
        """The value as it stands, for the caller to check."""
        return self._value(key, default)

    def sub(self, key: str) -> Config:
        """The sub-dictionary `key`."""
        value = self._value(key, None)
        if value is not None and not isinstance(value, Mapping):
            raise self._refuse(key, value, "a dictionary")
        return Config(value, where_key(self._where, key))

    def unused(self, keys: Sequence[str], because: str) -> None:
        """Refuses keys that another option makes meaningless, unless they are absent, null, false or an empty list.

        `because` ends the sentence "arch.heads is 4, but must be null: ".
        """
        for key in keys:
            value = self._value(key, None)
            if value is not None and value is not False and value != []:
                raise self._refuse(key, value, f"null: {because}")

    def done(self) -> None:
        """Refuses the first key that nobody read and that is not null."""
        for key, value in self._arch.items():
            if key not in self._read and value is not None:
                raise VtbenchError(
                    f"{where_key(self._where, key)} is a key that this network does not know"
                    f"{near(key, self._read)}: it knows {', '.join(sorted(self._read))}"
                )


def where_key(where: str, key: str) -> str:
    """`arch.quantizer.depth`."""
    return f"{where}.{key}"


_REQUIRED = object()
