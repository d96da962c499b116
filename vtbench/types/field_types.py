"""Types of what authors state on cards and tasks: refused where it is stated, not where it breaks."""

from __future__ import annotations

from collections.abc import Mapping

from vtbench.types.errors import VtbenchError


def check_types(what: str, record: object, kinds: Mapping[str, type | tuple[type, ...]]) -> None:
    """Refuses a field of another type than stated: what would be read letter by letter, or break where it is used."""
    for name, kind in kinds.items():
        value = getattr(record, name)
        if not isinstance(value, kind) or isinstance(value, bool):
            wanted = " or ".join(one.__name__ for one in (kind if isinstance(kind, tuple) else (kind,)))
            raise VtbenchError(f"{what}: {name} is {value!r}; wanted {wanted}")
