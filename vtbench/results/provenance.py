"""What a run needs to be repeated and believed: code, packages, device, seeds."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from vtbench.results import sources
from vtbench.results.files import read_json
from vtbench.types.version import VERSION

ROOT = sources.ROOT
RELEASE = ROOT / "release.json"
PACKAGES = (
    "torch",
    "torchvision",
    "torch-fidelity",
    "lpips",
    "scikit-image",
    "open_clip_torch",
    "easyocr",
    "rapidocr",
    "piq",
    "pillow",
    "numpy",
    "scipy",
    "rapidfuzz",
    "constriction",
    "diffusers",
    "transformers",
    "timm",
)
PIPELINES = ("vtbench.running.evaluate", "vtbench.running.folders", "vtbench.running.sets", "vtbench.running.rescore")
"""Where numbers are made: what these import is the core."""
DATA = ("*.jsonl", "*.safetensors")
"""Suites, prompts and fitted weights: what else decides a number."""


def core_files() -> list[Path]:
    """The pipelines' files."""
    return [path for name in PIPELINES if (path := sources.file_of(name)) is not None]


def _listed(package: str) -> Iterator[Path]:
    """Modules that the registry finds by looking into a folder rather than by an import, and the data beside them."""
    init = sources.file_of(f"{sources.PROJECT}.{package}")
    if init is not None:
        for pattern in ("*.py", *DATA):
            yield from init.parent.rglob(pattern)


def source_files() -> list[Path]:
    """Every file that decides a number of some run: the core, all metrics, tasks, suites and adapters, and whatever
    those import."""
    listed = [p for package in ("metrics", "tasks", "adapters") for p in _listed(package)]
    return list(sources.closure([*core_files(), *listed]))


@functools.cache
def code_digest() -> str:
    """sha256 over names and contents of `source_files`, as this process first saw them."""
    return sources.digest_of(source_files())


@functools.cache
def release() -> dict[str, Any]:
    """The version, digest and files that the release states of itself; `make release` writes them."""
    return dict(read_json(RELEASE)) if RELEASE.is_file() else {}


def changed(roots: Iterable[Path] | None = None) -> list[str]:
    """Files that decide numbers and are not as the release states them; `roots`: what a run is made by (None: all).

    An adapter that the release does not know is somebody's own, and no change of the release.
    """
    stated = release()
    if stated.get("version") != VERSION:
        return ["release.json"]
    known: dict[str, str] = stated.get("files", {})
    paths = source_files() if roots is None else sources.closure([*core_files(), *roots])
    return [
        name
        for name, value in sources.hashes(p for p in paths if sources.is_ours(p))
        if known.get(name) != value and (name in known or not name.startswith("adapters/"))
    ]


def is_release(roots: Iterable[Path] | None = None) -> bool:
    """True if every file that decides a number (of a run made by `roots`) is the release's."""
    return not changed(roots)


@functools.cache
def packages() -> dict[str, str]:
    out = {}
    for name in PACKAGES:
        try:
            out[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return out


@functools.cache
def git_commit() -> str | None:
    """The commit of the checkout that vtbench runs from, with `+` if the tree was changed; None if installed."""

    def git(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", *words], cwd=ROOT.parent, capture_output=True, text=True, timeout=10, check=check)

    try:
        head = git("rev-parse", "HEAD").stdout.strip()
        if git("ls-files", "--error-unmatch", str(ROOT / "registry.py"), check=False).returncode:
            return None
        edited = git("status", "--porcelain", "-uno").stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return head + ("+" if edited else "")


def device_facts(device: str) -> dict[str, Any]:
    """Kind and name of the device, threads, memory. A device that only other machines have is stated without a name."""
    import torch

    kind = device.partition(":")[0]
    facts: dict[str, Any] = {"kind": kind, "threads": torch.get_num_threads(), "cpu": _cpu(), "cores": os.cpu_count()}
    if kind == "cuda" and torch.cuda.is_available():
        facts["name"] = torch.cuda.get_device_name(torch.device(device))
    return facts


@functools.cache
def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def facts(roots: Iterable[Path] | None = None) -> dict[str, Any]:
    """What a record says of the code and its surroundings; `roots`: what the run is made by (None: all)."""
    return {
        "vtbench": VERSION,
        "git": git_commit(),
        "code_sha256": code_digest(),
        "release": is_release(roots),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": packages(),
    }


def write_release() -> Path:
    """Writes release.json for the files as they are now."""
    files = source_files()
    stated = {"version": VERSION, "digest": sources.digest_of(files), "files": dict(sources.hashes(files))}
    RELEASE.write_text(json.dumps(stated, indent=1) + "\n")
    return RELEASE


def peak_memory() -> int | None:
    """Bytes: the greatest resident memory of this process; None where the system does not tell.

    Linux's getrusage counts what the parent held when it started this process (the mark survives exec), so the kernel's
    mark of this address space is read where there is one; getrusage counts kibibytes there and bytes on macOS.
    """
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    print(write_release())
