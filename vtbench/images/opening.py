"""From what the user wrote to a suite or a set of images.

THE rule for a text of two meanings: a path that exists is that path, whatever else is called so; the suite says in a
note that there are two meanings, and `suite:NAME` is the other one. What a file holds is read from its first bytes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vtbench.images.arrays import open_npy, open_npz
from vtbench.images.folders import FolderSuite, matches, open_folder, open_glob, suite_of_names
from vtbench.images.hub import REMOTE, is_saved_to_disk, is_table, open_hub, open_rows
from vtbench.images.kinds import Kind, head_of, is_npz, kind_of, packing
from vtbench.images.manifests import ManifestSuite, builtin_suites, open_builtin, open_manifest
from vtbench.images.questions import holds_questions, open_questions
from vtbench.images.selection import normal, suffixes
from vtbench.images.sets import ImageSet, set_of_suite
from vtbench.images.shards import open_shards
from vtbench.images.suite import Suite
from vtbench.images.views import View
from vtbench.images.zips import open_zip
from vtbench.results.drawings import read_notes
from vtbench.types.errors import VtbenchError, near
from vtbench.types.item import Item
from vtbench.types.readable import as_the_system_has_it
from vtbench.types.shortage import refuse_shortage

NAMED = "suite:"
"""Begins the name of a suite that is no path, whatever lies here."""


def open_suite(spec: str) -> Suite:
    """DIR, GLOB, MANIFEST.jsonl, a tar, zip or parquet file (`x.parquet[#[SPLIT/]COLUMN]`), tar shards
    (`x-{0000..0009}.tar`), a suite's name, or `hf:NAME@REVISION[#CONFIG[/SPLIT[/COLUMN]]]`. Lists the images; hashes
    none."""
    if not spec.strip():
        raise VtbenchError(
            "--images is empty: give a suite, a folder, a glob, a manifest, tar shards or hf:NAME@REVISION"
        )
    if spec.startswith("hf:"):
        return open_hub(spec)
    if spec.startswith(NAMED):
        return open_named(spec.removeprefix(NAMED))
    path = Path(spec).expanduser()
    if not os.path.lexists(path):
        path = Path(as_the_system_has_it(spec)).expanduser()
    if os.path.lexists(path):
        return _of_two_meanings(open_path(path), spec)
    if spec in suite_names():
        return open_named(spec)
    table, mark, part = spec.rpartition("#")
    if mark and is_table(place := Path(table).expanduser()):
        return open_rows([place], table, _of_table(part))
    if ".tar" in spec and (spec.endswith(".tar") or "{" in spec or "#" in spec):
        return open_shards(spec)
    if any(c in spec for c in "*?["):
        return _of_glob(spec)
    raise VtbenchError(
        f"there is no suite, folder or glob '{spec}'{near(spec, suite_names())}: `vtbench list suites` shows all"
    )


def suite_names() -> list[str]:
    """The names of suites, of which none is a path."""
    return [*builtin_suites(), *REMOTE]


def open_named(name: str) -> Suite:
    """The suite of a name, whatever lies at a path that is called so."""
    if name in builtin_suites():
        return open_builtin(name)
    if name in REMOTE:
        return open_hub(REMOTE[name]["address"])
    raise VtbenchError(f"there is no suite {name!r}{near(name, suite_names())}: `vtbench list suites` shows all")


def open_of_task(spec: str) -> Suite:
    """A suite that a task names: the built-in one before a path of this machine, which the task does not know."""
    return open_named(spec) if spec in suite_names() else open_suite(spec)


def open_again(spec: str, hash_: str | None) -> Suite:
    """The suite that a run names: where its name has two meanings, the one whose contents are the run's."""
    suite = open_suite(spec)
    if spec not in suite_names() or suite.hash == hash_:
        return suite
    try:
        named = open_named(spec)
    except VtbenchError as bad:
        refuse_shortage(bad, spec)
        return suite
    return named if named.hash == hash_ else suite


def _of_two_meanings(suite: Suite, spec: str) -> Suite:
    if spec in suite_names():
        suite.notes.append(
            f"{spec} is a path here, which was taken, and the name of a suite of vtbench, which is {NAMED}{spec}"
        )
    return suite


def open_path(path: Path) -> Suite:
    """The suite of a folder or file that is there, by what it holds."""
    if path.is_dir():
        return open_rows([path], str(path)) if is_saved_to_disk(path) else open_folder(path)
    if is_folder_or_manifest(path):
        return open_questions(path) if holds_questions(path) else open_manifest(path)
    if path.suffix == ".tar":
        return open_shards(str(path))
    kind = kind_of(path)
    if kind == "tar":
        return open_shards(str(path))
    if kind == "zip":
        return open_zip(path)
    if kind in ("parquet", "arrow"):
        return open_rows([path], str(path))
    if kind == "picture" or (kind == "other" and path.suffix.lower() in suffixes()):
        return suite_of_names(path.name, path.parent, [path.name])
    raise VtbenchError(f"{path} {_no_suite(path, kind)}")


def is_folder_or_manifest(path: Path) -> bool:
    """Whether the path is what names its pictures one by one, each a file: a folder, or a manifest of one."""
    return path.is_dir() or (path.suffix == ".jsonl" and os.path.lexists(path))


def _no_suite(path: Path, kind: Kind) -> str:
    if kind == "packed":
        return f"is compressed or packed with {packing(head_of(path))}: unpack it, and give the tar or the folder"
    if kind in ("npz", "npy"):
        return "holds arrays, which are a set without files: give it to `score --set`, or a folder of images"
    if kind == "torch":
        return "is a file of torch.save, a checkpoint perhaps: give images"
    return "holds no images: give a folder, an image, a manifest (.jsonl), a tar, a zip or a parquet file"


def _of_glob(pattern: str) -> Suite:
    """A glob of images, or of parquet files whose rows are one suite (`*.parquet[#[SPLIT/]COLUMN]`)."""
    for files, part in ((pattern, ""), (pattern.partition("#")[0], pattern.partition("#")[2])):
        tables = [path for path in matches(files) if path.suffix in (".parquet", ".arrow")]
        if tables and len(tables) == len(matches(files)):
            return open_rows(tables, files, _of_table(part))
    return open_glob(pattern)


def _of_table(part: str) -> str:
    """What stands after the `#` of a table, which has no configurations, as after that of `hf:`."""
    return f"/{part}" if "/" in part.lstrip("/") and not part.startswith("/") else part


def open_set(path: Path, view: View | None = None) -> ImageSet:
    """A folder, a tar or shards, a zip, a parquet file, or an array of images (.npz with `arr_0`, .npy); refuses
    everything else in a sentence. view: of files, by default as they are; arrays state no profile."""
    if path.is_file():
        if is_npz(path):
            return open_npz(path)
        if kind_of(path) == "npy":
            return open_npy(path)
    elif not os.path.lexists(path) and not str(path).startswith(("hf:", NAMED)) and not {*"*{#"} & {*str(path)}:
        raise VtbenchError(f"{path} does not exist: give a folder, a tar, a zip, or an .npz with arr_0")
    suite = open_suite(str(path))
    items, labels, remarks = _with_prompts(path, suite)
    return set_of_suite(suite, items, view, labels=labels, remarks=remarks, notes=suite.notes)


def _with_prompts(path: Path, suite: Suite) -> tuple[Sequence[Item], list[int] | None, list[str]]:
    """(items, labels, remarks): what `vtbench generate` noted in samples.jsonl, in the folder or in the one above."""
    places = [path, path.parent]
    if isinstance(suite, ManifestSuite):
        # Its pictures may lie further down; never above the manifest, which may come from anywhere.
        above = suite.path(suite.items[0]).parents
        places = [p for p in above if p == suite.folder or suite.folder in p.parents][:2]
    notes = next((p / "samples.jsonl" for p in places if (p / "samples.jsonl").is_file()), None)
    if notes is None or not (isinstance(suite, ManifestSuite) or (isinstance(suite, FolderSuite) and path.is_dir())):
        return suite.items, None, []
    lines = {normal(str((notes.parent / note.file).resolve())): note for note in read_notes(notes)}
    items, labels = [], list[int]()
    for item in suite.items:
        note = lines.pop(normal(str(suite.path(item).resolve())), None)
        if note is not None:
            item = replace(item, meta=note.meta())
            if note.label is not None:
                labels.append(note.label)
        items.append(item)
    unknown = [i.id for i in items if "prompt" not in i.meta]
    remarks = [f"{len(unknown)} images stand in no line of samples.jsonl: {unknown[0]}"] if unknown else []
    if lines:
        remarks.append(f"{len(lines)} images of samples.jsonl are missing: {Path(next(iter(lines))).name}")
    return items, labels or None, remarks
