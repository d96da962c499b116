"""Weights that metrics need: where a file is looked for, whether it is the released one, and its download at first use.

A file counts only if its sha256 is the released one; any other is refused by name and hash. A file named in
VTBENCH_METRIC_WEIGHTS (`name=path`, several joined by the system's path separator) or handed over as a parameter is
taken whatever it holds, and every number made with it is marked unverified.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vtbench import registry
from vtbench.metrics.released_weights import TABLE as TABLE
from vtbench.metrics.released_weights import MetricWeights, own_folder
from vtbench.models.downloads import fetch_file
from vtbench.models.pickles import check_pickled
from vtbench.types.environment import offline
from vtbench.types.errors import Unavailable, VtbenchError, near
from vtbench.types.foreign import reading

VARIABLE = "VTBENCH_METRIC_WEIGHTS"
CHECKED_AT_ONCE = 32 * 2**20
"""`status` hashes files up to this size; a larger one is verified when it is used, or on request."""


def entry(name: str) -> MetricWeights:
    if name not in TABLE:
        raise VtbenchError(f"there are no metric weights {name!r}{near(name, TABLE)}: `vtbench doctor` shows all")
    return TABLE[name]


def from_variable(name: str) -> Path | None:
    """The file named for `name` in VTBENCH_METRIC_WEIGHTS."""
    entry(name)
    for part in os.environ.get(VARIABLE, "").split(os.pathsep):
        key, _, path = part.partition("=")
        if part and not path:
            raise VtbenchError(f"{VARIABLE} holds {part!r}: give name=path, several joined by {os.pathsep!r}")
        if key and key not in TABLE:
            raise VtbenchError(f"{VARIABLE} names {key!r}, and there are no such metric weights{near(key, TABLE)}")
        if key == name:
            return Path(path).expanduser()
    return None


def own_file(name: str, path: Path | None = None) -> Path | None:
    """The user's file for `name`, `path` or that of the variable, which must exist; None if there is none."""
    chosen = path or from_variable(name)
    if chosen is not None and not chosen.is_file():
        raise VtbenchError(f"{chosen}, given for the metric weights {name}, does not exist: give a file")
    return chosen


def places(weights: MetricWeights) -> Iterator[Path]:
    """Paths where the file may lie, in the order of looking."""
    yield own_folder() / weights.file
    hub = Path(os.environ["TORCH_HOME"]) if os.environ.get("TORCH_HOME") else Path.home() / ".cache" / "torch"
    yield hub / "hub" / "checkpoints" / weights.file
    for folder in weights.folders:
        yield Path.home() / folder / weights.file
    if weights.package is not None:
        spec = importlib.util.find_spec(weights.package[0])
        for root in (spec.submodule_search_locations or ()) if spec is not None else ():
            yield Path(root) / weights.package[1]


@functools.lru_cache(maxsize=256)
def _sha256(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def sha256(path: Path) -> str:
    """The file's hash, taken once a process for every time that it changed."""
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _md5(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def released(weights: MetricWeights, path: Path) -> bool:
    """Whether the file has the hash that upstream states of the released one."""
    if weights.sha256:
        return sha256(path).startswith(weights.sha256)
    stat = path.stat()
    return _md5(path, stat.st_size, stat.st_mtime_ns) == weights.md5


def find(name: str, path: Path | None = None) -> Path:
    """The file of `name`, verified by its hash. `path` (or the variable) is taken as it is: see `unverified`.

    Raises Unavailable if it is nowhere, or only with another hash.
    """
    weights = entry(name)
    own = own_file(name, path)
    if own is not None:
        return own
    wrong = []
    for place in places(weights):
        if place.is_file():
            if released(weights, place):
                return place
            wrong.append(place)
    if wrong:
        raise Unavailable(
            f"{wrong[0]} has sha256 {sha256(wrong[0])[:16]}…, wanted {weights.stated.removeprefix('sha256 ')}: "
            f"unverified metric weights are refused; replace it by the released {weights.file} ({weights.url})"
        )
    absent = f"{weights.file} ({weights.stated}, {weights.megabytes:.0f} MB, {weights.licence}) is not here"
    if not weights.comes_by_itself:
        raise Unavailable(f"{absent}: {weights.how}")
    if offline():
        raise Unavailable(f"{absent}, and VTBENCH_OFFLINE forbids the network: {weights.how}")
    return _downloaded(weights)


ASKED_AGAIN = 60.0
"""Seconds after which a server that failed is asked again: not for each metric and run, and yet within a notebook."""
_failed: dict[str, tuple[float, str]] = {}
"""{file: (when, why) it could not be downloaded} of this process."""


def _downloaded(weights: MetricWeights) -> Path:
    """The released file, brought here. Raises Unavailable with the reason of a null where it cannot be."""
    when, why = _failed.get(weights.file, (-ASKED_AGAIN, ""))
    if time.monotonic() - when >= ASKED_AGAIN:
        try:
            return fetch_file(weights.url, own_folder() / weights.file, sha256=weights.sha256)
        except VtbenchError as bad:
            why = str(bad)
            _failed[weights.file] = (time.monotonic(), why)
    raise Unavailable(why)


def unverified(name: str, path: Path | None = None) -> str | None:
    """The sentence that marks numbers made with a user's file that is not the released one; None if it is."""
    chosen = path or from_variable(name)
    if chosen is None or (chosen.is_file() and released(entry(name), chosen)):
        return None
    return f"unverified weights ({name} from {chosen.name}): this number means nothing outside a test"


def unverified_mark(name: str, path: Path | None = None) -> str:
    """What a cache key must say of the weights: nothing if they are the released ones, else the file's own hash."""
    own = own_file(name, path)
    return f"-unverified-{sha256(own)[:16]}" if own is not None and unverified(name, path) else ""


def identity(name: str, path: Path | None = None) -> str:
    """`name@` and the first 16 digits of the sha256 of the file in use: for cache keys and records."""
    return f"{name}@{sha256(find(name, path))[:16]}"


def load_state(name: str, path: Path | None = None) -> dict[str, Any]:
    """The tensors of `name`'s file; nothing in it ever runs."""
    import torch

    file = find(name, path)
    advice = "give a PyTorch file of a state dict, or .safetensors"
    with reading(f"{file}, given for the metric weights {name},", "tensors", advice):
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(str(file))
        check_pickled(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise VtbenchError(f"{file} holds a {type(state).__name__}: wanted a dictionary of tensors for {name}")
    return state


def needed_by() -> dict[str, list[str]]:
    """Names of weights and extras -> the metrics whose cards need them."""
    out: dict[str, list[str]] = {}
    for name, factory in registry.metrics().items():
        for need in registry.card_of(factory).needs:
            out.setdefault(need, []).append(name)
    return {need: sorted(names) for need, names in out.items()}


def status(check: bool = False) -> list[dict[str, Any]]:
    """One line a file, for `doctor` and `list`: name, file, state, needed_by, how, path, licence, megabytes.

    needed_by: the metrics whose cards name the file, or the texts for which they ask for it. `state`: see `_state`;
    `check` hashes large files too.
    """
    needed = needed_by()
    out = []
    for weights in TABLE.values():
        state, path = _state(weights, check)
        line = {
            "name": weights.name,
            "file": weights.file,
            "state": state,
            "needed_by": needed.get(weights.name, [f"text in {weights.reads}"] if weights.reads else []),
            "how": "" if state in ("verified", "here", "given") else weights.how,
            "path": str(path) if path else None,
            "comes_by_itself": weights.comes_by_itself,
            "sha256": weights.sha256 or None,
            "md5": weights.md5,
            "licence": weights.licence,
            "megabytes": weights.megabytes,
        }
        out.append(line)
    return out


def _state(weights: MetricWeights, check: bool) -> tuple[str, Path | None]:
    """("verified", "here" (large, not hashed yet), "refused" (another hash), "given" (unverified, by the variable) or
    "missing", the file)."""
    own = from_variable(weights.name)
    if own is not None:
        return ("given" if own.is_file() else "missing"), own
    state: tuple[str, Path | None] = ("missing", None)
    for place in places(weights):
        if not place.is_file():
            continue
        if not check and place.stat().st_size > CHECKED_AT_ONCE:
            return "here", place
        if released(weights, place):
            return "verified", place
        state = ("refused", place)
    return state
