"""Files of models' weights: where an earlier download of them lies, and the download itself; offline first."""

from __future__ import annotations

import hashlib
from pathlib import Path

from vtbench.images.hub import TOKENS
from vtbench.models.downloads import fetch_file
from vtbench.models.downloads import sha256_file as sha256_file
from vtbench.models.licences import agree
from vtbench.types.cards import Card, Weights
from vtbench.types.environment import cache_dir, offline
from vtbench.types.errors import MissingExtra, Unavailable, VtbenchError
from vtbench.types.secrets import secret


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
    agree(card, weight)
    try:
        path = _from_hub(weight) if weight.hub else None
        checksum = weight.sha256 or weight.sha256_begins
        return path or fetch_file(str(weight.url), place_in_cache(weight), sha256=checksum)
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
    for name in TOKENS:
        secret(name)
    hub = str(weight.hub)
    if weight.role == "folder":
        patterns = [f"{weight.file}*", "*.json", "*.safetensors"]
        return Path(snapshot_download(hub, revision=weight.revision, allow_patterns=patterns))
    return Path(hf_hub_download(hub, weight.file, revision=weight.revision))
