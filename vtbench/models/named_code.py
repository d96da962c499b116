"""Code that a run's record names is not run for that: whoever wrote the record need not be who reads it.

A user who names `file.py@name` has chosen to run it, and the cache keeps the digest of what the file and all that it
imports held. A record's code is imported only if it has such a note, or is named beside the run (`--code`); and only if
it is what the record says made the run. Both are looked at before anything is imported.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vtbench import registry
from vtbench.models.adapter_files import CODE, refuse_code_within
from vtbench.models.files import sha256_file
from vtbench.results import sources
from vtbench.results.cache_files import write_cache
from vtbench.results.named_files import code_and_named
from vtbench.results.record import ReadRecord, Run
from vtbench.types.cards import Card
from vtbench.types.environment import cache_dir
from vtbench.types.errors import VtbenchError
from vtbench.types.plugins import is_path_and_name, path_and_name

NOTES = "code"
"""The folder of the cache that holds a file a digest."""


def code_named(spec: str) -> Path | None:
    """The file of code that `registry.model(spec)` would import: of `file.py@name`, wrapped or not; else None."""
    wrapping = registry.wrapper(spec)
    if wrapping is not None:
        return code_named(wrapping[1])
    return path_and_name(spec)[0] if is_path_and_name(spec) and not spec.startswith("folder:") else None


def files_of_code(file: Path) -> list[Path]:
    """The file and what runs with it of somebody's own: what it imports, modules and compiled code that its texts name,
    and the files of metrics that a task names. Nothing is imported to look."""
    begin = [file.resolve()]
    while True:
        code, named = code_and_named(begin)
        files = {*begin, *code, *(path for path in named if path.suffix in CODE)}
        own = [path for path in files if not sources.is_ours(path)]
        more = {part for path in own if path.suffix == ".py" for part in _by_path(path)} - files
        if not more:
            return sorted(own)
        begin += sorted(more)


def _by_path(path: Path) -> list[Path]:
    """What stands in a text of code as `path/to/file.py@name`, beside it."""
    named = re.findall(rb"""["']([^"'\n]{1,255}?\.py)@""", path.read_bytes())
    places = (path.parent / text.decode(errors="replace") for text in named)
    return [place.resolve() for place in places if os.path.isfile(place)]


def recorded_code(file: Path) -> list[dict[str, Any]]:
    """The same files as a record keeps them: names, and the sha256 of what they hold."""
    return [{"file": path.name, "sha256": sha256_file(path)} for path in files_of_code(file)]


def note_choice(spec: str) -> list[dict[str, Any]]:
    """Keeps in mind that the user names this code; empty where a spec names none. Returns it as a record keeps it."""
    file = code_named(spec)
    if file is None or not file.is_file():
        return []
    place = _note_of(file)
    if not place.is_file():
        write_cache(place, [f"{file.name}\n".encode()])
    return recorded_code(file)


def _note_of(file: Path) -> Path:
    return cache_dir() / NOTES / sources.digest_of(files_of_code(file))


def code_of_run(run: Run, code: str | None) -> str:
    """The spec by which a run's model is loaded again. code: the spec by which the user names its code now.

    Raises VtbenchError if the record alone names code that the user has not named before, or if the code is not what
    made the run.
    """
    stated = run.info.model.spec or ""
    if code is None:
        refuse_unnamed(stated, run.path)
    else:
        file = code_named(code)
        if code_named(stated) is None:
            raise VtbenchError(f"{run.path} is of {stated}, which no file of yours brings: leave out --code")
        if file is None or not file.is_file():
            raise VtbenchError(f"--code {code} names no file that is here: give path/to/file.py@name")
    refuse_other(stated if code is None else code, run.info.model.code, run.path)
    return stated if code is None else code


def refuse_unnamed(spec: str, record: Path, option: str = "--code") -> None:
    """Raises VtbenchError where the record at `record` names code that the user has not named himself. option: by which
    he does so now."""
    file = code_named(spec)
    if file is None:
        return
    refuse_code_within(spec, record)
    if not file.is_file():
        raise VtbenchError(f"{record} names the code {file}, which is not here: name it as it is here, {option} {spec}")
    if not _note_of(file).is_file():
        raise VtbenchError(
            f"{record} names the code {file}, which is not run as you have not named it yourself, or not as it is now: "
            f"read it, and name it with {option} {spec}"
        )


def refuse_other(spec: str, stated: Sequence[ReadRecord], record: Path) -> None:
    """Raises VtbenchError where the code is not what the record states; older records state none."""
    file = code_named(spec)
    if file is None or not stated:
        return
    wanted = sorted((one.file, one.sha256 or "") for one in stated)
    there = sorted((one["file"], one["sha256"]) for one in recorded_code(file))
    if there != wanted:
        others = sorted({name for name, _ in {*wanted} ^ {*there}})
        raise VtbenchError(
            f"{file} is not the code that made {record} ({', '.join(others[:3])} differs from its record): name that "
            "with --code, or run evaluate again"
        )


def refuse_addresses(card: Card, options: Mapping[str, Any], record: Path) -> None:
    """Raises VtbenchError where a record states to which address a model sends a secret of the user's."""
    for name, value in options.items() if card.environment else ():
        default = card.options.get(name)
        if value != default and any("://" in str(text) for text in (value, default)):
            raise VtbenchError(
                f"{record} states where {card.name} sends {card.environment[0]} ({name}={value}), which a record does "
                f"not decide: run evaluate {card.name} with --option {name}=… yourself"
            )
