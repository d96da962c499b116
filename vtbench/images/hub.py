"""Data sets of the Hugging Face hub, or local folders in their layout, as suites."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vtbench.images.suite import Suite, gone
from vtbench.types.environment import offline
from vtbench.types.errors import MissingExtra, Unavailable, VtbenchError, near
from vtbench.types.item import Item

_VTBENCH = (
    ("vtbench-imagenet", "task1-imagenet", 50_000),
    ("vtbench-high-resolution", "task1-high-resolution", 100),
    ("vtbench-varying-resolution", "task1-varying-resolution", 100),
    ("vtbench-detail", "task2-detail-preservation", 100),
    ("vtbench-movie-posters", "task3-movie-posters", 100),
    ("vtbench-arxiv-abstracts", "task3-arxiv-abstracts", 100),
    ("vtbench-multilingual", "task3-multilingual", 400),
)
REMOTE: Mapping[str, Mapping[str, Any]] = {
    name: {"address": f"hf:huaweilin/VTBench@main#{config}", "n": n, "title": f"VTBench {config}"}
    for name, config, n in _VTBENCH
}
"""Data sets on the hub by a short name: configurations and splits as in huawei-lin/VTBench README.md, "Dataset". No
commit could be looked up where this table was written, so `main` stands here: `_commit` asks the hub which commit that
is, and the suite's version and hash are the commit's."""


class HubSuite(Suite):
    """Rows of a Hugging Face data set, memory-mapped by the datasets library; bytes as stored, decoded by our rule.

    A commit says which bytes they are. A local folder has none, so its identity is that of the rows as they are read:
    names, bytes and texts. (The library's own fingerprint follows the folder's path and the files' times.)
    """

    def __init__(self, name: str, rows: Any, columns: tuple[str, str | None], version: str, hash_: str | None) -> None:
        self.rows, (self.column, texts) = rows, columns
        text_of = None if texts is None else (lambda i: rows[i][texts])
        super().__init__(name, HubItems(len(rows), text_of), hash_, version=version)

    def read(self, item: Item) -> bytes:
        cell = self.rows[int(item.place)][self.column]
        if isinstance(cell, Mapping):
            if cell.get("bytes") is not None:
                return bytes(cell["bytes"])
            if cell.get("path"):
                try:
                    return Path(cell["path"]).read_bytes()
                except OSError as bad:
                    raise gone(item, bad) from bad
        raise VtbenchError(f"{item.id} of {self.name} holds no image bytes in column {self.column!r}")

    def contents(self) -> Iterator[str]:
        for item, content in zip(self.items, super().contents(), strict=True):
            text = item.meta.get("text")
            yield content if text is None else hashlib.sha256(f"{content}\0{text}".encode()).hexdigest()


class HubItems(Sequence[Item]):
    """Items of `n` rows, created when they are asked for, so that a million rows cost nothing."""

    def __init__(self, n: int, texts: Any = None) -> None:
        self._n, self._texts = n, texts

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(self._n))]
        if i < 0:
            i += self._n
        if not 0 <= i < self._n:
            raise IndexError(i)
        meta = {} if self._texts is None else {"text": self._texts(i)}
        return Item(f"{i:06d}", i, meta=meta)


def open_hub(spec: str) -> Suite:
    """`hf:NAME@REVISION[#CONFIG[/SPLIT]]`; NAME may be a local folder in the same layout (revision `local`)."""
    address, _, part = spec.removeprefix("hf:").partition("#")
    name, at, revision = address.rpartition("@")
    if not at or not name or not revision:
        raise VtbenchError(f"{spec!r} names no revision: write hf:NAME@REVISION, so that the images stay the same")
    config, _, split = part.partition("/")
    local = Path(name).expanduser().is_dir()
    splits, revision = _load(name, revision, config, local)
    rows = _rows_of(splits, split, name)
    columns = _columns(rows, name)
    import datasets

    rows = rows.cast_column(columns[0], datasets.Image(decode=False))
    commit = hashlib.sha256(f"{name}\0{revision}\0{part}\0{len(rows)}".encode()).hexdigest()
    return HubSuite(f"{name}{f'#{part}' if part else ''}", rows, columns, revision, None if local else commit)


def _load(name: str, revision: str, config: str, local: bool) -> tuple[Any, str]:
    """({split: rows}, revision) of a local folder, or of the commit that `revision` stands for on the hub."""
    if not local and offline():
        raise Unavailable(
            f"{name} is a data set on the hub, and VTBENCH_OFFLINE forbids the network: give a local folder"
        )
    try:
        import datasets
    except ImportError:
        raise MissingExtra("datasets", "hub", f"the data set {name}") from None
    try:
        if local:
            return datasets.load_dataset(str(Path(name).expanduser()), config or None), revision
        revision = _commit(name, revision)
        return datasets.load_dataset(name, config or None, revision=revision), revision
    except Exception as bad:
        # Network, rights, layout: the hub's libraries raise their own and requests' exceptions.
        text = (str(bad).strip().splitlines() or [""])[0][:160]
        raise Unavailable(f"the data set {name} at {revision} cannot be had ({type(bad).__name__}: {text})") from bad


def _commit(name: str, revision: str) -> str:
    """The commit that a branch or tag of a data set stands for now, so that a run states what it read."""
    if re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    from huggingface_hub import HfApi

    return str(HfApi().dataset_info(name, revision=revision, timeout=20).sha)


def _rows_of(splits: Any, split: str, name: str) -> Any:
    """The rows of one split, or of all in the order of their names."""
    import datasets

    if split and split not in splits:
        raise VtbenchError(f"{name} has no split {split!r}{near(split, splits)}; it has {', '.join(splits)}")
    return splits[split] if split else datasets.concatenate_datasets([splits[s] for s in sorted(splits)])


def _columns(rows: Any, name: str) -> tuple[str, str | None]:
    """The column of images, and that of their texts where there is one."""
    import datasets

    images = [c for c, feature in rows.features.items() if isinstance(feature, datasets.Image)]
    if not images:
        raise VtbenchError(f"{name} has no image column; it has {', '.join(rows.features)}")
    return images[0], next((c for c in ("text", "caption") if c in rows.features), None)
