"""From what the user wrote to a suite or a set of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vtbench.images.arrays import open_npz
from vtbench.images.folders import FolderSuite, open_folder, open_glob, suite_of_paths
from vtbench.images.hub import REMOTE, open_hub
from vtbench.images.manifests import builtin_suites, open_builtin, open_manifest
from vtbench.images.sets import ImageSet, set_of_suite
from vtbench.images.shards import open_shards
from vtbench.images.suite import Suite
from vtbench.results.drawings import read_notes
from vtbench.types.errors import VtbenchError, near
from vtbench.types.item import Item


def open_suite(spec: str) -> Suite:
    """A built-in name, DIR, GLOB, MANIFEST.jsonl, `hf:NAME@REVISION[#CONFIG[/SPLIT]]`, or tar shards
    (`x-{0000..0009}.tar`). Lists the images; reads and hashes none."""
    if not spec.strip():
        raise VtbenchError(
            "--images is empty: give a suite, a folder, a glob, a manifest, tar shards or hf:NAME@REVISION"
        )
    if spec.startswith("hf:"):
        return open_hub(spec)
    if spec in builtin_suites():
        return open_builtin(spec)
    if spec in REMOTE:
        return open_hub(REMOTE[spec]["address"])
    path = Path(spec).expanduser()
    if path.is_dir():
        return open_folder(path)
    if spec.endswith(".tar") or (".tar" in spec and "{" in spec):
        return open_shards(spec)
    if any(c in spec for c in "*?["):
        return open_glob(spec)
    if path.is_file() and path.suffix == ".jsonl":
        return open_manifest(path)
    if path.is_file():
        return suite_of_paths(path.name, path.parent, [path])
    names = [*builtin_suites(), *REMOTE]
    raise VtbenchError(
        f"there is no suite, folder or glob {spec!r}{near(spec, names)}: `vtbench list suites` shows all"
    )


def open_set(path: Path) -> ImageSet:
    """A folder, tar shards, or an .npz with uint8 `arr_0`; refuses everything else in a sentence."""
    if path.suffix == ".npz":
        return open_npz(path)
    if not path.exists() and "*" not in str(path) and "{" not in str(path):
        raise VtbenchError(f"{path} does not exist: give a folder, a tar, or an .npz with arr_0")
    suite = open_suite(str(path))
    items, labels, remarks = _with_prompts(path, suite)
    return set_of_suite(suite, items, labels=labels, remarks=remarks)


def _with_prompts(path: Path, suite: Suite) -> tuple[Sequence[Item], list[int] | None, list[str]]:
    """(items, labels, remarks): what `vtbench generate` noted in samples.jsonl, in the folder or in the one above."""
    notes = next((p / "samples.jsonl" for p in (path, path.parent) if (p / "samples.jsonl").is_file()), None)
    if notes is None or not isinstance(suite, FolderSuite) or not path.is_dir():
        return suite.items, None, []
    lines = {(notes.parent / note.file).resolve(): note for note in read_notes(notes)}
    items, labels = [], list[int]()
    for item in suite.items:
        note = lines.pop(suite.path(item).resolve(), None)
        if note is not None:
            item = replace(item, meta=note.meta())
            if note.label is not None:
                labels.append(note.label)
        items.append(item)
    unknown = [i.id for i in items if "prompt" not in i.meta]
    remarks = [f"{len(unknown)} images stand in no line of samples.jsonl: {unknown[0]}"] if unknown else []
    if lines:
        remarks.append(f"{len(lines)} images of samples.jsonl are missing: {next(iter(lines)).name}")
    return items, labels or None, remarks
