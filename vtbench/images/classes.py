"""Which class a picture shows, where its folder or its manifest says so (ImageFolder: root/class/picture.png)."""

from __future__ import annotations

from collections.abc import Iterable

from vtbench.types.item import Item


def class_of(item: Item) -> str | None:
    """What the item's meta calls its class or label, else the folder that it lies in; None where neither is there."""
    for key in ("class", "label"):
        stated = item.meta.get(key)
        if isinstance(stated, str | int) and not isinstance(stated, bool) and str(stated).strip():
            return str(stated).strip()
    return item.id.rpartition("/")[0].rpartition("/")[2] or None


def classes_in(items: Iterable[Item]) -> list[str]:
    """Every class of these pictures, sorted; none where a picture has none, or all are of one: they lie in folders that
    are no classes."""
    names = {class_of(item) for item in items}
    return [] if None in names or len(names) < 2 else sorted(name for name in names if name is not None)
