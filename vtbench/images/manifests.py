"""Built-in suites: manifests, one line an image, with the hashes that every image must have."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vtbench.images.suite import Suite
from vtbench.types.environment import package_folder
from vtbench.types.errors import VtbenchError
from vtbench.types.item import Item

MANIFESTS = package_folder("vtbench.tasks.suites")


class ManifestSuite(Suite):
    """Images beside the manifest, or (`skimage:NAME`) in scikit-image's wheel."""

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


def builtin_suites() -> list[str]:
    """Names of the manifests that vtbench carries."""
    return sorted(p.stem for p in MANIFESTS.glob("*.jsonl"))


def manifest_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The header, then one image a line."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            yield json.loads(line)
        except ValueError as bad:
            raise VtbenchError(f"{path.name} line {number} is not JSON ({bad}): the manifest is damaged") from bad


def builtin_lines(name: str) -> list[dict[str, Any]]:
    """The lines of the built-in manifest `name`."""
    return list(manifest_lines(MANIFESTS / f"{name}.jsonl"))


def open_builtin(name: str) -> Suite:
    """The suite of the built-in manifest `name`."""
    head, *lines = builtin_lines(name)
    items = [Item(str(x["item"]), x["file"], x.get("sha256_file"), x["sha256_rgb"], x.get("meta", {})) for x in lines]
    digest = hashlib.sha256()
    for item in items:
        digest.update(f"{item.id}\0{item.sha256_rgb}\0{json.dumps(item.meta, sort_keys=True)}\n".encode())
    return ManifestSuite(name, items, digest.hexdigest(), version=str(head["version"]), licence=head.get("licence"))
