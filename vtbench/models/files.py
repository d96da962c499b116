"""Files of weights: their sha256, where an earlier download of them lies, and the download itself; offline first."""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from vtbench.types.cards import Card, Weights
from vtbench.types.environment import cache_dir, offline
from vtbench.types.errors import MissingExtra, Unavailable, VtbenchError

CHUNK = 1 << 20
"""Bytes that are read and shown at a time while a file is downloaded."""


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
        return path or _fetch(str(weight.url), place_in_cache(weight), weight.sha256)
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
    hub = str(weight.hub)
    if weight.role == "folder":
        patterns = [f"{weight.file}*", "*.json", "*.safetensors"]
        return Path(snapshot_download(hub, revision=weight.revision, allow_patterns=patterns))
    return Path(hf_hub_download(hub, weight.file, revision=weight.revision))


def _fetch(url: str, target: Path, sha256: str | None) -> Path:
    """Downloads with a progress bar, goes on where an earlier try stopped, verifies before the file gets its name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as bad:
        if bad.code != 416:
            raise
        # The part is whole already: nothing is left to ask for.
    else:
        with answer:
            _receive(answer, part, have if answer.status == 206 else 0, url, target.name)
    if sha256 is not None and (digest := sha256_file(part)) != sha256:
        part.unlink()
        raise VtbenchError(
            f"{url} gave sha256 {digest}, wanted {sha256}: the file was deleted; try again or ask upstream"
        )
    os.replace(part, target)
    return target


def _receive(answer: Any, part: Path, have: int, url: str, name: str) -> None:
    """Appends an HTTP answer's body to `part`, which holds `have` bytes of the file already."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    length = answer.headers.get("Content-Length")
    total = have + int(length) if length else None
    shown = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*shown, TimeRemainingColumn()) as bar, part.open("ab" if have else "wb") as out:
        job = bar.add_task(name, total=total, completed=have)
        while chunk := answer.read(CHUNK):
            out.write(chunk)
            bar.advance(job, len(chunk))
    if total is not None and part.stat().st_size < total:
        raise Unavailable(f"the download of {url} broke off: run the command again, it goes on where it stopped")
