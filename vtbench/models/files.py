"""Files of models' weights: where an earlier download of them lies, and the download itself; offline first."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import urllib.parse
from pathlib import Path

from vtbench.images.hub import TOKENS
from vtbench.models.downloads import BEGIN, fetch_file
from vtbench.models.downloads import sha256_file as sha256_file
from vtbench.models.hub_files import refuse_damaged
from vtbench.models.licences import agree
from vtbench.types.cards import Card, Weights
from vtbench.types.environment import HUB, cache_dir, hub_address, offline
from vtbench.types.errors import MissingExtra, Unavailable, VtbenchError
from vtbench.types.secrets import secret

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""Errors of a disk on which nothing more can be written, which name no file."""


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
    return cached(weight) or fetch(card, weight)


def fetch(card: Card, weight: Weights) -> Path:
    """The file of a card, downloaded now; raises as `download` does."""
    if weight.hub is None and weight.url is None:
        raise VtbenchError(
            f"{card.name} needs {weight.file}, which is no released file: give it with --checkpoint FILE"
        )
    source = _source(weight)
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
        if isinstance(bad, OSError) and (bad.filename is not None or bad.errno in FULL):
            raise VtbenchError(
                f"{weight.file} of {card.name} could not be written to the hub's cache ({bad.strerror or bad}): free "
                "space there, or set HF_HOME to another folder"
            ) from bad
        text = str(bad).strip().splitlines()
        raise Unavailable(
            f"{card.name} needs {weight.file} from {source}, which could not be downloaded "
            f"({type(bad).__name__}: {text[0][:120] if text else ''}): give it with --checkpoint"
        ) from bad


def _source(weight: Weights) -> str:
    """Whence a file comes, for a sentence: of a mirror, its host alone, since an address may hold a password."""
    if not weight.hub:
        return str(weight.url)
    address = hub_address()
    return (
        weight.hub if address == HUB else f"{weight.hub} of {urllib.parse.urlsplit(address).hostname or 'HF_ENDPOINT'}"
    )


def _from_hub(weight: Weights) -> Path | None:
    """The file or folder by huggingface_hub, and what the hub states it to be; None where that is not installed and the
    card has a URL beside."""
    try:
        from huggingface_hub import hf_hub_download, hf_hub_url, snapshot_download
    except ImportError:
        if weight.url is None:
            raise MissingExtra("huggingface_hub", "hub", f"downloading {weight.hub}") from None
        return None
    for name in TOKENS:
        secret(name)
    hub, revision, address = str(weight.hub), weight.revision, hub_address()
    _reach(hf_hub_url(hub, weight.file, revision=revision, endpoint=address))
    if weight.role == "folder":
        patterns = [f"{weight.file}*", "*.json", "*.safetensors"]
        path = Path(snapshot_download(hub, revision=revision, endpoint=address, allow_patterns=patterns))
    else:
        path = Path(hf_hub_download(hub, weight.file, revision=revision, endpoint=address))
    refuse_damaged(path)
    return path


def _reach(url: str) -> None:
    """Asks the hub once. Without a network its library would try for half a minute, and then not say why it failed."""
    from huggingface_hub import get_hf_file_metadata
    from huggingface_hub.errors import HfHubHTTPError

    # Whatever else it answers (no such file, no right), its library says better.
    with contextlib.suppress(HfHubHTTPError):
        get_hf_file_metadata(url, timeout=BEGIN)
