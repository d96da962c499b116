"""Files of weights: their sha256, where an earlier download of them lies, and the download itself; offline first."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from vtbench.images import web
from vtbench.results.files import flushed
from vtbench.types.cards import Card, Weights
from vtbench.types.environment import cache_dir, offline
from vtbench.types.errors import MissingExtra, Unavailable, VtbenchError
from vtbench.types.secrets import secret

STALL = 60.0
"""Seconds in which a download must go on (`web.CHUNK` bytes, 1 kB/s)."""
LARGEST = 1 << 37
"""Bytes of a download at most, 137 GB: above every checkpoint of a tokenizer or generator."""
HUB_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
"""What huggingface_hub reads from the environment."""


def sha256_file(path: Path) -> str:
    """sha256 of a file, or of a folder's files (names and contents, in sorted order)."""
    digest = hashlib.sha256()
    if path.is_dir():
        for part in sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith(".")):
            digest.update(f"{part.relative_to(path).as_posix()}\0{sha256_file(part)}\n".encode())
        return digest.hexdigest()
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def place_in_cache(weight: Weights) -> Path:
    """Where our own download of this file lies, or would lie."""
    name = hashlib.sha256(f"{weight.hub}\0{weight.url}\0{weight.revision}\0{weight.file}".encode()).hexdigest()[:16]
    return cache_dir() / "weights" / name / Path(weight.file).name


def cached(weight: Weights) -> Path | None:
    """Where an earlier download of this file lies, if it does; never touches the network."""
    if weight.role != "folder":
        path = place_in_cache(weight)
        if path.is_file():
            return path
    if not weight.hub:
        return None
    try:
        from huggingface_hub import snapshot_download, try_to_load_from_cache
    except ImportError:
        return None
    if weight.role == "folder":
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            return Path(snapshot_download(weight.hub, revision=weight.revision, local_files_only=True))
        except (LocalEntryNotFoundError, OSError, ValueError):
            return None
    kept = try_to_load_from_cache(weight.hub, weight.file, revision=weight.revision)
    return Path(kept) if isinstance(kept, str) else None


def download(card: Card, weight: Weights) -> Path:
    """The file of a card: an earlier download, or a new one.

    Raises VtbenchError if nobody released the file, Unavailable if the network is forbidden or fails.
    """
    earlier = cached(weight)
    if earlier is not None:
        return earlier
    if weight.hub is None and weight.url is None:
        raise VtbenchError(
            f"{card.name} needs {weight.file}, which is no released file: give it with --checkpoint FILE"
        )
    source = weight.hub or weight.url
    if offline():
        raise Unavailable(
            f"{card.name} needs {weight.file} from {source}, which is not here, and VTBENCH_OFFLINE forbids the "
            "network: give it with --checkpoint"
        )
    try:
        path = _from_hub(weight) if weight.hub else None
        return path or _fetch(str(weight.url), place_in_cache(weight), weight.sha256 or weight.sha256_begins)
    except VtbenchError:
        raise
    except Exception as bad:
        text = str(bad).strip().splitlines()
        raise Unavailable(
            f"{card.name} needs {weight.file} from {source}, which could not be downloaded "
            f"({type(bad).__name__}: {text[0][:120] if text else ''}): give it with --checkpoint"
        ) from bad


def _from_hub(weight: Weights) -> Path | None:
    """The file or folder by huggingface_hub; None where that is not installed and the card has a URL beside."""
    try:
        from huggingface_hub import hf_hub_download, snapshot_download
    except ImportError:
        if weight.url is None:
            raise MissingExtra("huggingface_hub", "hub", f"downloading {weight.hub}") from None
        return None
    for name in HUB_TOKENS:
        secret(name)
    hub = str(weight.hub)
    if weight.role == "folder":
        patterns = [f"{weight.file}*", "*.json", "*.safetensors"]
        return Path(snapshot_download(hub, revision=weight.revision, allow_patterns=patterns))
    return Path(hf_hub_download(hub, weight.file, revision=weight.revision))


def _fetch(url: str, target: Path, sha256: str | None) -> Path:
    """Downloads with a progress bar, goes on where an earlier try stopped, verifies before the file gets its name.

    sha256: all of its digits, or the first.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    have = part.stat().st_size if part.exists() else 0
    try:
        with _shown(target.name) as begins:
            web.download(url, part, have, stall=STALL, most=LARGEST, begins=begins)
    except web.Refused as bad:
        # 416: the part is whole already, and nothing is left to ask for.
        if bad.status != 416 or not have:
            again = ": run the command again, it goes on where it stopped" if bad.again else ""
            raise Unavailable(f"{target.name} could not be downloaded: {bad}{again}") from bad
    if sha256 is not None and not (digest := sha256_file(part)).startswith(sha256):
        part.unlink()
        raise VtbenchError(
            f"{url} gave sha256 {digest}, wanted {sha256}: the file was deleted; try again or ask upstream"
        )
    flushed(part)
    os.replace(part, target)
    return target


@contextlib.contextmanager
def _shown(name: str) -> Iterator[Callable[[int, int | None], Callable[[int], None]]]:
    """A progress bar that begins when the bytes that are there, and those in all, are known."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn()) as bar:

        def begins(have: int, total: int | None) -> Callable[[int], None]:
            job = bar.add_task(name, total=total, completed=have)
            return lambda count: bar.advance(job, count)

        yield begins
