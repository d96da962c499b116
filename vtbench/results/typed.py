"""The base of all records on disk: typed fields, strictly checked, and the keys of the file itself."""

from __future__ import annotations

import functools
from collections.abc import Iterator, KeysView, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vtbench.results.files import read_lines
from vtbench.types.errors import VtbenchError

Pair = Annotated[list[int], Field(min_length=2, max_length=2)]
"""Two whole numbers: (height, width) in pixels, or shard i of n."""


class Record(BaseModel):
    """An object of JSON with named fields; also a read-only mapping of the keys that the file had."""

    model_config = ConfigDict(
        strict=True, allow_inf_nan=False, extra="allow", frozen=True, populate_by_name=True, protected_namespaces=()
    )

    def __getitem__(self, key: str) -> Any:
        extra = self.__pydantic_extra__ or {}
        if key in extra:
            return extra[key]
        name = self._field(key)
        if name is None:
            raise KeyError(key)
        return getattr(self, name)

    @classmethod
    def _field(cls, key: str) -> str | None:
        return _field_of(cls, key)

    def get(self, key: str, default: Any = None) -> Any:
        # A page asks this a million times: no exception where a key is not there.
        extra = self.__pydantic_extra__
        if extra and key in extra:
            return extra[key]
        name = _field_of(type(self), key)
        return default if name is None else getattr(self, name)

    def keys(self) -> KeysView[str]:
        """The keys that were stated, in the order of the fields, then the unknown ones."""
        fields = self.model_fields_set
        stated = [key for key, name in _keys_of(type(self)).items() if name in fields]
        return dict.fromkeys([*stated, *(self.__pydantic_extra__ or {})]).keys()

    def __contains__(self, key: object) -> bool:
        return key in self.keys()

    def __bool__(self) -> bool:
        return bool(self.model_fields_set or self.__pydantic_extra__)

    def __len__(self) -> int:
        return len(self.keys())

    def __iter__(self) -> Iterator[str]:  # type: ignore[override]
        return iter(self.keys())

    def items(self) -> list[tuple[str, Any]]:
        return [(k, self[k]) for k in self.keys()]

    def as_dict(self) -> dict[str, Any]:
        """A plain copy of what was stated, ready for JSON."""
        return self.model_dump(by_alias=True, exclude_unset=True)


Mapping.register(Record)


@functools.cache
def _keys_of(record: type[Record]) -> dict[str, str]:
    """The field of every key."""
    return {f.alias or n: n for n, f in record.model_fields.items()}


@functools.lru_cache(maxsize=1024)
def _field_of(record: type[Record], key: str) -> str | None:
    """The field that has a key, by its name or its alias; a page asks this a million times."""
    fields = record.model_fields
    return key if key in fields else next((n for n, f in fields.items() if f.alias == key), None)


R = TypeVar("R", bound=Record)


def validated(record: type[R], value: Any, where: str) -> R:
    """`value` as the record, or one sentence that names the field, what stands there and what was wanted."""
    try:
        return record.model_validate(value)
    except ValidationError as bad:
        first = bad.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the whole"
        shown = repr(first.get("input"))
        raise VtbenchError(
            f"{where}: {place} is {shown if len(shown) <= 60 else shown[:57] + '…'} ({first['msg']}): the file is "
            "damaged, or no result of vtbench"
        ) from bad


def read_records(record: type[R], path: Path, largest: int | None = None) -> Iterator[R]:
    """The lines of a JSONL file of at most `largest` bytes as records, one at a time; none where it is not there."""
    line = f"{path} line"
    for number, value in enumerate(read_lines(path, largest), 1):
        yield validated(record, value, f"{line} {number}")
