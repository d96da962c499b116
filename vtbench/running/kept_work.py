"""What a command has made so far, in folders of the cache while it lasts: one that is stopped goes on from there.

A place is named by everything that decides what lies in it, as far as it is known before anything is read: the
question, the code of vtbench and of the metrics, the packages, the kind of device. A command that comes to its end
leaves nothing; what one that never came back has left is `vtbench cache prune`'s.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vtbench import registry
from vtbench.models.adapter_files import code_of
from vtbench.results import provenance, sources
from vtbench.results.cache_files import IN_WORK
from vtbench.results.folder import RunFolder
from vtbench.scoring.loading import Metrics, unverified_files
from vtbench.types.environment import cache_dir
from vtbench.types.errors import VtbenchError
from vtbench.types.item import Item
from vtbench.types.shortage import Short

RULE = 2
"""Goes up when a folder under a name comes to mean something else."""


def question_of(
    facts: Mapping[str, Any], metrics: Metrics, device: str, begins: Iterable[Path] = ()
) -> dict[str, Any] | None:
    """Everything that decides rows and features of these metrics, in plain values; None where nothing says by what code
    they are made: it lies in no file, or was edited meanwhile. facts: what else decides them, in plain values. begins:
    files where other code begins that makes them."""
    known = registry.metrics()
    try:
        files = [Path(inspect.getfile(type(metric))) for metric in metrics.ready.values()]
        # A file may hand out a class of another one with settings of its own.
        files += [known.source(name).file for name in metrics.ready if name in known]
        code = sources.digest([*provenance.core_files(), *code_of(files), *begins])
    except (KeyError, OSError, TypeError, VtbenchError):
        # A metric that was registered without a source, too.
        return None
    cards = {n: m.card for n, m in metrics.ready.items()}
    return {
        **facts,
        # In their order, as rows state their values.
        "metrics": [(n, card.version) for n, card in cards.items()],
        "weights": unverified_files(cards.values()),
        "networks": sorted(metrics.extractors()),
        "code": code,
        "device": device.partition(":")[0],
        **surroundings(),
    }


def surroundings() -> dict[str, Any]:
    """What decides the work of every command beside its question, in plain values."""
    return {"rule": RULE, "packages": provenance.packages()}


def place_of(facts: Mapping[str, Any], metrics: Metrics, device: str, begins: Iterable[Path] = ()) -> Path | None:
    """Where rows and features lie while these metrics are measured, as `question_of` takes them and has None."""
    decisive = question_of(facts, metrics, device, begins)
    return None if decisive is None else place_named(decisive)


def place_named(decisive: Mapping[str, Any]) -> Path:
    """The place of work that all of this decides, in plain values."""
    key = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
    return cache_dir() / IN_WORK / key[:24]


def of_items(items: Sequence[Item]) -> str:
    """64 hexadecimal digits over the names of all items, and what is known of each."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(f"{(item.id, dict(item.meta))!r}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def rows_begun(folder: RunFolder, batch: int) -> int:
    """How many rows an earlier try has left, in whole batches; cuts the folder to these. None of them, and a folder
    that is cleared, where a line is not as it was written: a power cut may leave such a one."""
    begun = folder.keep_rows(batch)
    try:
        for _ in folder.read_rows():
            pass
    except Short:
        raise
    except VtbenchError:
        folder.clear()
        return 0
    return begun


@contextlib.contextmanager
def held(place: Path | None, names: Sequence[str], scratch: Path) -> Iterator[list[RunFolder]]:
    """A folder of each name below `place`; where another command has one of them, or they cannot be written, below
    `scratch`. They are removed when the command is through with them, and stay where it is stopped."""
    with contextlib.ExitStack() as stack:
        folders = _all_of(stack, place or scratch, names)
        if folders is None:
            folders = [stack.enter_context(RunFolder(scratch / name)) for name in names]
        yield folders
        for folder in folders:
            with contextlib.suppress(VtbenchError):
                folder.remove()
        with contextlib.suppress(OSError):
            folders[0].path.parent.rmdir()


def _all_of(stack: contextlib.ExitStack, place: Path, names: Sequence[str]) -> list[RunFolder] | None:
    """The folders below `place`, entered; None where not all of them can be had, and then none is."""
    with contextlib.ExitStack() as entered:
        try:
            folders = [entered.enter_context(RunFolder(place / name)) for name in names]
        except VtbenchError:
            return None
        stack.enter_context(entered.pop_all())
    return folders
