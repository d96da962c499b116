"""Where vtbench lies, and where it keeps what it can make again: features of originals, readings, weights."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path


def cache_dir() -> Path:
    """`$VTBENCH_CACHE`, else `$XDG_CACHE_HOME/vtbench`, else `~/.cache/vtbench`. Not created here."""
    chosen = os.environ.get("VTBENCH_CACHE")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "vtbench"


def offline() -> bool:
    """True if `VTBENCH_OFFLINE` forbids every use of the network."""
    return os.environ.get("VTBENCH_OFFLINE", "").strip().lower() not in ("", "0", "false", "no")


HUB = "https://huggingface.co"


def hub_address() -> str:
    """The Hugging Face hub, or the mirror of it that `HF_ENDPOINT` names."""
    address = os.environ.get("HF_ENDPOINT", "").strip().rstrip("/")
    return (address if "://" in address else f"https://{address}") if address else HUB


def package_folder(package: str) -> Path:
    """The folder of a package of ours that holds data, found as an import finds it.

    `vtbench/tasks` is not everywhere a folder of `vtbench/`: in a checkout it is a link, which a clone without symbolic
    links writes as a text file; an editable install of that one finds the package at the checkout's top level.
    """
    spec = importlib.util.find_spec(package)
    places = spec.submodule_search_locations if spec is not None else None
    if not places:
        raise ModuleNotFoundError(f"{package} is not part of this installation of vtbench: reinstall it")
    return Path(places[0]).resolve()
