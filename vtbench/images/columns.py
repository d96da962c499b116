"""Which column of a table of rows holds its images, and which their texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vtbench.images.kinds import HEAD, is_picture
from vtbench.types.errors import VtbenchError, near
from vtbench.types.shortage import refuse_shortage

TEXTS = ("text", "caption")
LOOKED_AT = 16
"""So many rows are looked at until one holds bytes, where the column's type does not say that it holds images."""
FORM = "#CONFIG/SPLIT/COLUMN, of which parts may be empty"


@dataclass(frozen=True)
class Columns:
    """Names of the columns; texts is None where there is none."""

    images: str
    texts: str | None


def rows_of(splits: Mapping[str, Any], split: str, column: str, name: str, before: str) -> tuple[Any, Columns]:
    """The rows of one split, or ("") of all in the order of their names, with their images as bytes.

    column: the images', by default the only one that holds images. before: what a column's name is written behind, to
    choose it. Raises VtbenchError, with what there is, where the
    split or column is none, or several columns hold images and none is named.
    """
    import datasets

    if split and split not in splits:
        raise VtbenchError(f"{name} has no split {split!r}{near(split, splits)}; it has {', '.join(splits)}")
    parts = [splits[split]] if split else [splits[s] for s in sorted(splits)]
    columns = _columns(parts[0], column, name, before)
    wanted = [columns.images, *([columns.texts] if columns.texts is not None else [])]
    try:
        rows = [_with_images(part.select_columns(wanted), columns.images) for part in parts]
        return (rows[0] if len(rows) == 1 else datasets.concatenate_datasets(rows)), columns
    except Exception as bad:
        refuse_shortage(bad, name)
        # The library and pyarrow raise exceptions of their own for columns that differ, or hold something else.
        text = (str(bad).strip().splitlines() or [""])[0][:160]
        raise VtbenchError(
            f"the column {columns.images} of {name} cannot be read as images of all splits ({text}): name a split and "
            f"a column by {FORM}"
        ) from bad


def _with_images(rows: Any, column: str) -> Any:
    """The rows with the column's images as {bytes, path}."""
    import datasets

    if getattr(rows.features[column], "dtype", "") == "large_binary":
        # Older releases of datasets cannot turn these into images in one step.
        rows = rows.cast_column(column, datasets.Value("binary"))
    return rows.cast_column(column, datasets.Image(decode=False))


def _columns(rows: Any, column: str, name: str, before: str) -> Columns:
    features = rows.features
    texts = next((c for c in TEXTS if c in features and c != column), None)
    if column:
        if column not in features:
            raise VtbenchError(f"{name} has no column {column!r}{near(column, features)}; it has {', '.join(features)}")
        return Columns(column, texts)
    images = _of_images(rows)
    if not images:
        raise VtbenchError(f"{name} has no image column; it has {', '.join(features)}: name one by {FORM}")
    if len(images) > 1:
        raise VtbenchError(
            f"{name} has several image columns ({', '.join(images)}): name one by {FORM}, as in {before}{images[0]}"
        )
    return Columns(images[0], texts)


def _of_images(rows: Any) -> list[str]:
    """Columns typed as images; where there are none, those of bytes, alone or beside a path, that are pictures."""
    import datasets

    typed = [c for c, feature in rows.features.items() if isinstance(feature, datasets.Image)]
    if typed:
        return typed
    return [c for c, feature in rows.features.items() if _of_bytes(feature) and _holds_pictures(rows, c)]


def _of_bytes(feature: Any) -> bool:
    if isinstance(feature, Mapping):
        return "bytes" in feature and _of_bytes(feature["bytes"])
    return getattr(feature, "dtype", "") in ("binary", "large_binary")


def _holds_pictures(rows: Any, column: str) -> bool:
    """Whether the first bytes of the first row that has any are a picture's."""
    alone = rows.select_columns([column])
    for index in range(min(LOOKED_AT, len(alone))):
        cell = alone[index][column]
        data = cell.get("bytes") if isinstance(cell, Mapping) else cell
        if data:
            return is_picture(bytes(data[:HEAD]))
    return False
