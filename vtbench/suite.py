"""Suites: images with hashes, opened by name, folder, glob, tar shards or hub address; lazy, verified on loading.

Nothing is decoded before it is asked for, and an item is a few hundred bytes: memory does not grow with the images.
"""

from __future__ import annotations

import glob as globbing
import hashlib
import importlib.util
import json
import os
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from vtbench.types.environment import offline
from vtbench.types.errors import MissingExtra, Unavailable, VtbenchError, near
from vtbench.types.item import Item

if TYPE_CHECKING:
    import numpy as np

MANIFESTS = Path(__file__).resolve().parent / "tasks" / "suites"
SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".jp2", ".ppm", ".pgm", ".gif")
)
"""What a folder's files must end in to be taken as images; everything else is left alone."""


class Suite:
    """A named list of images. `hash` identifies it in the question: contents for manifests, names, sizes and times of
    change for folders (whose contents are hashed as they are read, into every row)."""

    def __init__(
        self, name: str, items: Sequence[Item], hash_: str, *, version: str = "1", licence: str | None = None
    ) -> None:
        self.name, self.items, self.hash, self.version, self.licence = name, items, hash_, version, licence

    def path(self, item: Item) -> Path:
        """The item's file, where it has one of its own."""
        return Path(item.place)

    def read(self, item: Item) -> bytes:
        try:
            return self.path(item).read_bytes()
        except OSError as bad:
            from vtbench.images import BadImage

            raise BadImage(f"{item.id} cannot be read ({bad.strerror or bad}): was it removed?") from bad

    def load(self, item: Item) -> np.ndarray[Any, Any]:
        """uint8 RGB (H, W, 3); BadImage if it cannot be read, VtbenchError by name if it is not the image it was."""
        from vtbench.images import decode, rgb_sha256

        data = self.read(item)
        rgb = decode(data, item.id)
        if item.sha256_rgb is not None and rgb_sha256(rgb) != item.sha256_rgb:
            same = item.sha256_file is not None and hashlib.sha256(data).hexdigest() == item.sha256_file
            raise VtbenchError(
                f"{item.id} of {self.name} is not the image that its manifest states (sha256 of the pixels differs): "
                + ("its file is the same, so Pillow decodes it otherwise here: install a release of Pillow with libjpeg"
                   "-turbo" if same else "reinstall the package that carries it")
            )  # fmt: skip
        return rgb


def open_suite(spec: str) -> Suite:
    """A built-in name, DIR, GLOB, `hf:NAME@REVISION[#CONFIG[/SPLIT]]`, or tar shards (`x-{0000..0009}.tar`)."""
    if not spec.strip():
        raise VtbenchError("--images is empty: give a suite, a folder, a glob, tar shards or hf:NAME@REVISION")
    if spec.startswith("hf:"):
        return _hub(spec)
    if spec in builtin():
        return _manifest(spec)
    if spec in REMOTE:
        return _hub(REMOTE[spec]["address"])
    path = Path(spec).expanduser()
    if path.is_dir():
        return _folder(path)
    if spec.endswith(".tar") or (".tar" in spec and "{" in spec):
        return _shards(spec)
    if any(c in spec for c in "*?["):
        return _glob(spec)
    if path.is_file():
        return _of_paths(path.name, path.parent, [path])
    names = [*builtin(), *REMOTE]
    raise VtbenchError(
        f"there is no suite, folder or glob {spec!r}{near(spec, names)}: `vtbench list suites` shows all"
    )


def builtin() -> list[str]:
    return sorted(p.stem for p in MANIFESTS.glob("*.jsonl"))


# -- manifests -------------------------------------------------------------------------------------------------------


class _Manifest(Suite):
    def path(self, item: Item) -> Path:
        package, colon, inner = str(item.place).partition(":")
        if not colon:
            return MANIFESTS / str(item.place)
        if package != "skimage":
            raise VtbenchError(f"{self.name} names a file of {package}, which no suite may use")
        spec = importlib.util.find_spec("skimage")
        if spec is None or spec.origin is None:
            raise VtbenchError(
                "scikit-image, which carries images of the built-in suites, is not installed: reinstall vtbench"
            )
        return Path(spec.origin).parent / "data" / inner


def manifest_lines(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            yield json.loads(line)
        except ValueError as bad:
            raise VtbenchError(f"{path.name} line {number} is not JSON ({bad}): the manifest is damaged") from bad


def _manifest(name: str) -> Suite:
    """The manifest NAME.jsonl: a header line, then one image a line."""
    head, *lines = manifest_lines(MANIFESTS / f"{name}.jsonl")
    items = [Item(str(x["item"]), x["file"], x.get("sha256_file"), x["sha256_rgb"], x.get("meta", {})) for x in lines]
    digest = hashlib.sha256()
    for item in items:
        digest.update(f"{item.id}\0{item.sha256_rgb}\0{json.dumps(item.meta, sort_keys=True)}\n".encode())
    return _Manifest(name, items, digest.hexdigest(), version=str(head["version"]), licence=head.get("licence"))


# -- folders ---------------------------------------------------------------------------------------------------------

_WORDNET = re.compile(r"n\d{8}")
"""ImageNet's class folders, val/n01440764/ILSVRC2012_val_00000293.JPEG; a flat validation folder has no classes."""


def _images_below(root: Path) -> list[Path]:
    """Files with an image's suffix, hidden ones and hidden folders left out, in sorted order of relative path.

    Links to folders are followed, each real folder once: a link that points upwards ends there.
    """
    found = []
    seen: set[str] = set()
    for folder, below, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(b for b in below if not b.startswith("."))
        found += [Path(folder) / f for f in files if not f.startswith(".") and Path(f).suffix.lower() in SUFFIXES]
    return sorted(found, key=lambda p: p.relative_to(root).as_posix())


class _Folder(Suite):
    """Items keep only the relative path; the root stands once."""

    root: Path

    def path(self, item: Item) -> Path:
        return self.root / str(item.place)


def _of_paths(name: str, root: Path, paths: Sequence[Path]) -> Suite:
    digest = hashlib.sha256()
    items = []
    nothing: Mapping[str, Any] = {}
    classes: dict[str, Mapping[str, Any]] = {}
    for path in paths:
        relative = path.relative_to(root).as_posix()
        facts = path.stat()
        digest.update(f"{relative}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode())
        # The items of a class share one mapping; 50,000 of their own would be 12 MB.
        parent = path.parent.name
        meta = classes.setdefault(parent, {"class": parent}) if _WORDNET.fullmatch(parent) else nothing
        items.append(Item(relative, relative, meta=meta))
    suite = _Folder(name, items, digest.hexdigest())
    suite.root = root
    return suite


def _folder(root: Path) -> Suite:
    paths = _images_below(root)
    if not paths:
        raise VtbenchError(f"{root} holds no image ({', '.join(sorted(SUFFIXES))}): give a folder of images")
    return _of_paths(root.resolve().name, root, paths)


def _glob(spec: str) -> Suite:
    found = sorted(
        Path(p) for p in globbing.glob(os.path.expanduser(spec), recursive=True)
        if os.path.isfile(p) and Path(p).suffix.lower() in SUFFIXES
    )  # fmt: skip
    if not found:
        raise VtbenchError(f"no image matches {spec!r}: quote the pattern, and mind its suffix")
    return _of_paths(spec, Path(os.path.commonpath([p.parent for p in found])), found)


# -- webdataset tar shards -------------------------------------------------------------------------------------------


class _Shards(Suite):
    """Items are (shard, offset, size): bytes are read in place, nothing is unpacked."""

    def path(self, item: Item) -> Path:
        return Path(item.place[0])

    def read(self, item: Item) -> bytes:
        shard, offset, size = item.place
        with Path(shard).open("rb") as source:
            source.seek(offset)
            return source.read(size)


def _braces(spec: str) -> list[str]:
    """`x-{0000..0003}.tar` as four names."""
    before, brace, rest = spec.partition("{")
    inner, close, after = rest.partition("}")
    if not brace:
        return [spec]
    first, dots, last = inner.partition("..")
    if not close or not dots or not first.isdigit() or not last.isdigit() or int(last) - int(first) > 1_000_000:
        raise VtbenchError(f"{spec!r} is no list of shards: write x-{{0000..0009}}.tar, or a glob")
    return [n for i in range(int(first), int(last) + 1) for n in _braces(f"{before}{i:0{len(first)}d}{after}")]


def _shards(spec: str) -> Suite:
    names = [p for n in _braces(os.path.expanduser(spec)) for p in (sorted(globbing.glob(n)) or [n])]
    items: list[Item] = []
    digest = hashlib.sha256()
    for name in names:
        try:
            with tarfile.open(name, "r:") as archive:
                for member in archive:
                    if member.isfile() and PurePosixPath(member.name).suffix.lower() in SUFFIXES:
                        items.append(Item(f"{Path(name).stem}/{member.name}", (name, member.offset_data, member.size)))
        except (OSError, tarfile.TarError) as bad:
            raise VtbenchError(f"the shard {name} cannot be read ({bad}): give whole, uncompressed tar files") from bad
        facts = Path(name).stat()
        digest.update(f"{Path(name).name}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode())
    if not items:
        raise VtbenchError(f"{spec} holds no image: shards hold files such as 000001.jpg")
    return _Shards(spec, items, digest.hexdigest())


# -- the Hugging Face hub --------------------------------------------------------------------------------------------

_VTBENCH = (
    ("vtbench-imagenet", "task1-imagenet", 50_000), ("vtbench-high-resolution", "task1-high-resolution", 100),
    ("vtbench-varying-resolution", "task1-varying-resolution", 100),
    ("vtbench-detail", "task2-detail-preservation", 100), ("vtbench-movie-posters", "task3-movie-posters", 100),
    ("vtbench-arxiv-abstracts", "task3-arxiv-abstracts", 100), ("vtbench-multilingual", "task3-multilingual", 400),
)  # fmt: skip
REMOTE: Mapping[str, Mapping[str, Any]] = {
    name: {"address": f"hf:huaweilin/VTBench@main#{config}", "n": n, "title": f"VTBench {config}"}
    for name, config, n in _VTBENCH
}
"""Data sets on the hub by a short name: configurations and splits as in huawei-lin/VTBench README.md, "Dataset". No
commit could be looked up where this table was written, so `main` stands here: `_commit` asks the hub which commit that
is, and the suite's version and hash are the commit's."""


class _Hub(Suite):
    """Rows of a Hugging Face data set, memory-mapped by the datasets library; bytes as stored, decoded by our rule."""

    rows: Any
    column: str

    def read(self, item: Item) -> bytes:
        cell = self.rows[int(item.place)][self.column]
        if isinstance(cell, Mapping):
            if cell.get("bytes") is not None:
                return bytes(cell["bytes"])
            if cell.get("path"):
                return Path(cell["path"]).read_bytes()
        raise VtbenchError(f"{item.id} of {self.name} holds no image bytes in column {self.column!r}")


def _commit(name: str, revision: str) -> str:
    """The commit that a branch or tag of a data set stands for now, so that a run states what it read."""
    if re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    from huggingface_hub import HfApi

    return str(HfApi().dataset_info(name, revision=revision, timeout=20).sha)


class _Rows(Sequence[Item]):
    """Items made when they are asked for, so that a million rows cost nothing."""

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


def _hub(spec: str) -> Suite:
    """`hf:NAME@REVISION[#CONFIG[/SPLIT]]`; NAME may be a local folder in the same layout (revision `local`)."""
    address, _, part = spec.removeprefix("hf:").partition("#")
    name, at, revision = address.rpartition("@")
    if not at or not name or not revision:
        raise VtbenchError(f"{spec!r} names no revision: write hf:NAME@REVISION, so that the images stay the same")
    config, _, split = part.partition("/")
    local = Path(name).expanduser().is_dir()
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
            found = datasets.load_dataset(str(Path(name).expanduser()), config or None)
        else:
            revision = _commit(name, revision)
            found = datasets.load_dataset(name, config or None, revision=revision)
    except Exception as bad:
        # Network, rights, layout: the hub's libraries raise their own and requests' exceptions.
        text = (str(bad).strip().splitlines() or [""])[0][:160]
        raise Unavailable(f"the data set {name} at {revision} cannot be had ({type(bad).__name__}: {text})") from bad
    if split and split not in found:
        raise VtbenchError(f"{name} has no split {split!r}{near(split, found)}; it has {', '.join(found)}")
    rows = found[split] if split else datasets.concatenate_datasets([found[s] for s in sorted(found)])
    columns = [c for c, f in rows.features.items() if isinstance(f, datasets.Image)]
    if not columns:
        raise VtbenchError(f"{name} has no image column; it has {', '.join(rows.features)}")
    texts = next((c for c in ("text", "caption") if c in rows.features), None)
    rows = rows.cast_column(columns[0], datasets.Image(decode=False))
    words = None if texts is None else (lambda i: rows[i][texts])
    key = hashlib.sha256(
        f"{name}\0{revision}\0{part}\0{getattr(rows, '_fingerprint', '')}\0{len(rows)}".encode()
    ).hexdigest()
    suite = _Hub(f"{name}{f'#{part}' if part else ''}", _Rows(len(rows), words), key, version=revision)
    suite.rows, suite.column = rows, columns[0]
    return suite


# -- the list --------------------------------------------------------------------------------------------------------


def list_suites() -> list[dict[str, Any]]:
    """Every suite by name, with what it needs; reads manifests' headers only."""
    out = []
    for name in builtin():
        lines = list(manifest_lines(MANIFESTS / f"{name}.jsonl"))
        out.append(
            {"name": name, "title": lines[0].get("title", ""), "n": len(lines) - 1, "version": lines[0]["version"],
             "licence": lines[0].get("licence"), "state": "ready", "needs": ""}
        )  # fmt: skip
    have = importlib.util.find_spec("datasets") is not None
    for name, facts in REMOTE.items():
        needs = f"network, {facts['address']}" if have else "pip install 'vtbench[hub]', network"
        out.append({"name": name, "title": facts["title"], "n": facts["n"], "version": "main", "licence": None,
                    "state": "needs download" if have else "needs extra", "needs": needs})  # fmt: skip
    return out
