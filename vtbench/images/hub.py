"""Data sets of the Hugging Face hub, or local folders in their layout, as suites."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vtbench.images.columns import Columns, rows_of
from vtbench.images.kinds import kind_of
from vtbench.images.limits import inside, read_inside
from vtbench.images.suite import Suite, gone
from vtbench.types.environment import hub_address, offline
from vtbench.types.errors import MissingExtra, Unavailable, VtbenchError
from vtbench.types.item import Item
from vtbench.types.secrets import secret
from vtbench.types.shortage import refuse_shortage

_VTBENCH = (
    ("vtbench-imagenet", "task1-imagenet", 50_000),
    ("vtbench-high-resolution", "task1-high-resolution", 100),
    ("vtbench-varying-resolution", "task1-varying-resolution", 100),
    ("vtbench-detail", "task2-detail-preservation", 100),
    ("vtbench-movie-posters", "task3-movie-posters", 100),
    ("vtbench-arxiv-abstracts", "task3-arxiv-abstracts", 100),
    ("vtbench-multilingual", "task3-multilingual", 400),
)
TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
"""What huggingface_hub reads from the environment."""
LOCAL = "local"
"""The revision of what lies here."""
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

    def __init__(
        self,
        name: str,
        rows: Any,
        columns: Columns,
        version: str,
        hash_: str | None,
        folders: Sequence[Path] = (),
    ) -> None:
        """folders: where files lie that cells may name; a cell that names another is refused."""
        self.rows, self.column, self.folders = rows, columns.images, folders
        text_of = None if columns.texts is None else (lambda i: rows[i][columns.texts])
        super().__init__(name, HubItems(len(rows), text_of), hash_, version=version)

    def read(self, item: Item) -> bytes:
        cell = self.rows[int(item.place)][self.column]
        if isinstance(cell, Mapping):
            if cell.get("bytes") is not None:
                return bytes(cell["bytes"])
            if cell.get("path"):
                path = str(cell["path"])
                try:
                    return read_inside(path, self.folders, f"{item.id} of {self.name}")
                except OSError as bad:
                    raise gone(item, Path(path), bad) from bad
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
    """`hf:NAME@REVISION[#CONFIG[/SPLIT[/COLUMN]]]`; NAME may be a local folder in the same layout, one that
    `save_to_disk` wrote, or a .parquet file (revision `local`). Parts may be empty: `#//mask` is the column alone."""
    address, _, part = spec.removeprefix("hf:").partition("#")
    name, at, revision = address.rpartition("@")
    if not at or not name or not revision:
        raise VtbenchError(f"{spec!r} names no revision: write hf:NAME@REVISION, so that the images stay the same")
    place = Path(name).expanduser()
    if not place.exists():
        chosen = _chosen(part)
        splits, revision = _of_the_hub(name, revision, chosen[0])
        return _suite(name, part, chosen, splits, revision, _cache_of(name))
    suite = open_rows([place], name, part, revision)
    if revision != LOCAL:
        suite.notes.append(
            f"{name} lies here, and was read from there: it may also be the name of a data set on the hub"
        )
    return suite


def open_rows(places: Sequence[Path], name: str, part: str = "", revision: str = LOCAL) -> Suite:
    """Local rows: one folder in the hub's layout or of `save_to_disk`, or files of parquet or arrow. part: as after the
    `#` of `open_hub`, a single word naming a split or column where there are no configurations; the identity is that of
    the rows as they are read."""
    config, split, column = _chosen(part)
    table = is_table(places[0])
    if table and "/" not in part:
        config, split = "", part
    splits = _local_splits(places, name, config)
    folders = [*_own_folders(places), _cache(places)]
    return _suite(name, part, (config, split, column), splits, revision, folders, local=True, table=table)


def _chosen(part: str) -> tuple[str, str, str]:
    """(configuration, split, column) of what stands after the `#`; "" for what is left open."""
    config, split, column = [*part.split("/", 2), "", ""][:3]
    return config, split, column


def _own_folders(places: Sequence[Path]) -> list[Path]:
    """The folder of a local data set; in the hub's cache, where a snapshot is links to blobs beside it, that of all its
    snapshots. Files of rows have none: what they name could be anything of this machine's."""
    folders = [place.resolve() for place in places if place.is_dir()]
    return [folder.parents[1] if folder.parent.name == "snapshots" else folder for folder in folders]


def _cache(places: Sequence[Path]) -> Path:
    """Where the library keeps what it makes of a local data set (an archive's files, say)."""
    import datasets

    return Path(datasets.config.HF_DATASETS_CACHE) / "vtbench" / _state(places)


def _cache_of(name: str) -> list[Path]:
    """Where the libraries keep the files of a data set of the hub, and those that its archives hold."""
    import datasets
    from huggingface_hub import constants

    own = Path(constants.HF_HUB_CACHE) / f"datasets--{name.replace('/', '--')}"
    return [own, Path(datasets.config.DOWNLOADED_DATASETS_PATH), Path(datasets.config.EXTRACTED_DATASETS_PATH)]


def _suite(
    name: str,
    part: str,
    chosen: tuple[str, str, str],
    splits: Mapping[str, Any],
    revision: str,
    folders: Sequence[Path],
    *,
    local: bool = False,
    table: bool = False,
) -> Suite:
    _, split, column = chosen
    if split not in splits and not column and any(split in rows.features for rows in splits.values()):
        # A path joins slashes: of `#//mask` it leaves `#/mask`.
        split, column = "", split
    rows, columns = rows_of(splits, split, column, name, f"{name}#" if table else f"hf:{name}@{revision}#//")
    commit = hashlib.sha256(f"{name}\0{revision}\0{part}\0{len(rows)}".encode()).hexdigest()
    return HubSuite(f"{name}{f'#{part}' if part else ''}", rows, columns, revision, None if local else commit, folders)


def is_table(place: Path) -> bool:
    """Whether a path here is rows by itself, without configurations: a file of them, or a folder of `save_to_disk`."""
    return is_saved_to_disk(place) if place.is_dir() else place.is_file() and kind_of(place) in ("parquet", "arrow")


def is_saved_to_disk(folder: Path) -> bool:
    """Whether `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote the folder."""
    one = (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    return one or (folder / "dataset_dict.json").is_file()


def _of_the_hub(name: str, revision: str, config: str) -> tuple[Mapping[str, Any], str]:
    """({split: rows}, commit) of the commit that `revision` stands for on the hub."""
    if offline():
        raise Unavailable(
            f"{name} is a data set on the hub, and VTBENCH_OFFLINE forbids the network: give a local folder"
        )
    datasets = _library(name)
    for variable in TOKENS:
        secret(variable)
    try:
        revision = _commit(name, revision)
        return datasets.load_dataset(name, config or None, revision=revision), revision
    except Exception as bad:
        raise _not_had(name, revision, bad) from bad


def _local_splits(places: Sequence[Path], name: str, config: str) -> Mapping[str, Any]:
    """{split: rows} of what lies here."""
    datasets = _library(name)
    first = places[0]
    saved = first.is_dir() and is_saved_to_disk(first)
    if config and (saved or not first.is_dir()):
        raise VtbenchError(f"{name} has no configurations, so none is {config!r}: write #/SPLIT/COLUMN")
    try:
        if saved:
            rows = datasets.load_from_disk(str(first))
            splits: Mapping[str, Any] = (
                rows if isinstance(rows, datasets.DatasetDict) else {str(rows.split or "all"): rows}
            )
            return splits
        cache = str(_cache(places))
        if first.is_dir():
            _refuse_escapes(datasets.load_dataset_builder(str(first), config or None, cache_dir=cache), places)
            splits = datasets.load_dataset(str(first), config or None, cache_dir=cache)
            return splits
        kind = kind_of(first)
        if kind == "arrow":
            return {"all": datasets.concatenate_datasets([datasets.Dataset.from_file(str(p)) for p in places])}
        splits = datasets.load_dataset(kind, data_files=[str(p) for p in places], cache_dir=cache)
        return splits
    except Exception as bad:
        raise _not_had(name, LOCAL, bad) from bad


def _refuse_escapes(builder: Any, places: Sequence[Path]) -> None:
    """A folder's README says which files its rows are read from: those of the folder, and no others."""
    for files in (builder.config.data_files or {}).values():
        for file in files:
            if not inside(Path(file), _own_folders(places)):
                raise VtbenchError(f"{places[0]} takes rows from {file}, which does not lie in it: they are not read")


def _library(name: str) -> Any:
    if os.environ.get("HF_ENDPOINT"):
        # The library reads it when it is imported, and takes a slash at the end amiss.
        os.environ["HF_ENDPOINT"] = hub_address()
    try:
        import datasets
    except ImportError:
        raise MissingExtra("datasets", "hub", f"the data set {name}") from None
    return datasets


def _not_had(name: str, revision: str, bad: Exception) -> VtbenchError:
    """Network, rights, layout: the hub's libraries raise their own and requests' exceptions."""
    refuse_shortage(bad, name)
    if isinstance(bad, VtbenchError):
        return bad
    text = (str(bad).strip().splitlines() or [""])[0][:160]
    return Unavailable(f"the data set {name} at {revision} cannot be had ({type(bad).__name__}: {text})")


def _state(places: Sequence[Path]) -> str:
    """32 hexadecimal digits over the files' names, sizes, times and inodes. The library keeps what it read under their
    times of change alone, and another file may have the same."""
    digest = hashlib.sha256()
    for place in places:
        below = (Path(folder) / file for folder, _, files in os.walk(place) for file in files)
        for file in sorted(below) if place.is_dir() else [place]:
            facts = file.lstat() if file.is_symlink() and not file.exists() else file.stat()
            times = f"{facts.st_size}\0{facts.st_mtime_ns}\0{facts.st_ctime_ns}\0{facts.st_ino}"
            digest.update(os.fsencode(file) + f"\0{times}\n".encode())
    return digest.hexdigest()[:32]


def _commit(name: str, revision: str) -> str:
    """The commit that a branch or tag of a data set stands for now, so that a run states what it read."""
    if re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    from huggingface_hub import HfApi

    return str(HfApi(endpoint=hub_address()).dataset_info(name, revision=revision, timeout=20).sha)
