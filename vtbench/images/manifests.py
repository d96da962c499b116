"""Suites by manifest: a JSONL file with a header line, then one image a line, with the hash that it must have.

    {"suite": "mine", "version": "1", "title": "My photographs", "licence": "CC0-1.0"}
    {"item": "cat", "file": "images/cat.png", "sha256_file": "…", "sha256_rgb": "…", "meta": {…}}

A header's "language" (a BCP 47 tag) is that of every image's text whose meta states no other.

`file` is relative to the manifest and lies below its folder, or `skimage:NAME`, an image of scikit-image's wheel. One
of the two hashes is needed; sha256_rgb, over shape and pixels, decides where both are there. Built-in manifests stand
in `vtbench/tasks/suites/`, others anywhere; `vtbench.images.freezing` writes one of a folder.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from vtbench.images.jsonl import numbered_objects
from vtbench.images.limits import read_regular
from vtbench.images.suite import Suite
from vtbench.types.environment import package_folder
from vtbench.types.errors import VtbenchError
from vtbench.types.foreign import reading
from vtbench.types.item import Item

MANIFESTS = package_folder("vtbench.tasks.suites")
"""Where the built-in manifests stand."""
FORM = (
    'wanted a header such as {"suite": "mine", "version": "1"}, then one image a line such as '
    '{"item": "cat", "file": "images/cat.png", "sha256_file": "…"}'
)


class ManifestSuite(Suite):
    """Images below the manifest's folder, or (`skimage:NAME`) in scikit-image's wheel."""

    def __init__(self, folder: Path, head: Mapping[str, Any], items: Sequence[Item], *, builtin: bool = False) -> None:
        digest = hashlib.sha256()
        for item in items:
            content = f"file:{item.sha256_file}" if item.sha256_rgb is None else item.sha256_rgb
            digest.update(f"{item.id}\0{content}\0{json.dumps(item.meta, sort_keys=True)}\n".encode())
        licence = licence_of(head, str(head["suite"]))
        super().__init__(
            str(head["suite"]), items, digest.hexdigest(), version=str(head.get("version", "1")), licence=licence
        )
        self.folder = folder
        if builtin:
            self.remedy = "reinstall the package that carries it"
        else:
            # Those of packages may be links themselves: installers keep files elsewhere.
            self.within = folder

    def lies_within(self, item: Item) -> bool:
        return package_of(str(item.place)) is not None or super().lies_within(item)

    def path(self, item: Item) -> Path:
        place = str(item.place)
        return self.folder / place if package_of(place) is None else _scikit_image() / place.partition(":")[2]


def builtin_suites() -> list[str]:
    """Names of the manifests that vtbench carries."""
    return sorted(p.stem for p in MANIFESTS.glob("*.jsonl"))


def manifest_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The header, then one image a line."""
    with reading(path, "a manifest", FORM):
        text = read_regular(path, str(path)).decode()
    for _, entry in numbered_objects(text, path.name, FORM, names=("item", "file")):
        yield entry


def builtin_lines(name: str) -> list[dict[str, Any]]:
    """The lines of the built-in manifest `name`."""
    return list(manifest_lines(MANIFESTS / f"{name}.jsonl"))


def open_builtin(name: str) -> Suite:
    """The suite of the built-in manifest `name`."""
    suite = open_manifest(MANIFESTS / f"{name}.jsonl", builtin=True)
    if suite.name != name:
        raise VtbenchError(
            f"the manifest {name}.jsonl calls itself {suite.name!r}: its file and its suite are one name"
        )
    return suite


def open_manifest(path: Path, *, builtin: bool = False) -> Suite:
    """The suite of a manifest; every line is checked, no image is read. Raises VtbenchError with the line."""
    head, *lines = list(manifest_lines(path)) or [{}]
    if not isinstance(head.get("suite"), str) or not head["suite"].strip():
        raise VtbenchError(f"{path} names no suite in its first line: {FORM}")
    if not lines:
        raise VtbenchError(f"{path} lists no image: {FORM}")
    language = head.get("language")
    if language is not None and not (isinstance(language, str) and language.strip()):
        raise VtbenchError(f"{path} states the language {language!r}: give a tag such as en, de or zh-Hant")
    items: dict[str, Item] = {}
    for number, entry in enumerate(lines, 1):
        item = _item(entry, f"image {number} of {path}", {} if language is None else {"language": language})
        if item.id in items:
            raise VtbenchError(f"{path} has the item {item.id!r} twice: every name must be its own")
        items[item.id] = item
    return ManifestSuite(path.parent, head, list(items.values()), builtin=builtin)


def _item(entry: Mapping[str, Any], where: str, of_all: Mapping[str, Any]) -> Item:
    """of_all: what the header states of every image."""
    name, file, meta = entry.get("item"), entry.get("file"), entry.get("meta", {})
    if not isinstance(name, str) or not name or "\0" in name or not isinstance(file, str) or not isinstance(meta, dict):
        raise VtbenchError(f"{where} has no item and file, or a meta that is no object: {FORM}")
    hashes = entry.get("sha256_file"), entry.get("sha256_rgb")
    if hashes == (None, None):
        raise VtbenchError(f"{where} ({name}) states no sha256: give sha256_file (of the file) or sha256_rgb")
    for value in hashes:
        if value is not None and not (isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value)):
            raise VtbenchError(f"{where} ({name}) states the sha256 {value!r}: wanted 64 hexadecimal digits")
    refuse_escape(file, f"{where} ({name})")
    return Item(name, file, *hashes, {**of_all, **meta})


def licence_of(head: Mapping[str, Any], where: str) -> str | None:
    """What a header states of the licence."""
    licence = head.get("licence")
    if licence is not None and not isinstance(licence, str):
        raise VtbenchError(f"{where} states the licence {licence!r}: give a text such as CC0-1.0, or leave it out")
    return licence


def package_of(file: str) -> str | None:
    """The package of `package:NAME`; None for a path, whose names may hold colons behind a slash (./12:30.png)."""
    package, colon, _ = file.partition(":")
    return package if colon and "/" not in package else None


def refuse_escape(file: str, where: str) -> None:
    """A manifest may name what lies below its own folder, and nothing else: it may come from anywhere."""
    package = package_of(file)
    if package not in (None, "skimage"):
        raise VtbenchError(f"{where} names a file of {package}, which no suite may use: copy it beside the manifest")
    path = PurePosixPath(file if package is None else file.partition(":")[2])
    if path.is_absolute() or ".." in path.parts or {"\\", "\0"} & {*file} or not path.parts:
        raise VtbenchError(f"{where} names the file {file!r}: give a relative path below the manifest's folder")


def _scikit_image() -> Path:
    """The folder of scikit-image's pictures."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise VtbenchError(
            "scikit-image, which carries images of the built-in suites, is not installed: reinstall vtbench"
        )
    return Path(spec.origin).parent / "data"
