"""What a run needs to be repeated and believed: code, packages, device, seeds."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import vtbench

ROOT = Path(vtbench.__file__).resolve().parent
PACKAGES = (
    "torch", "torchvision", "torch-fidelity", "lpips", "scikit-image", "open_clip_torch", "easyocr", "rapidocr", "piq",
    "pillow", "numpy", "scipy", "rapidfuzz", "constriction", "diffusers", "transformers", "timm",
)  # fmt: skip


def source_files() -> list[Path]:
    """The files that decide numbers: the core, the metrics, the tasks and their suites (not adapters, not the page)."""
    core = [p for p in ROOT.glob("*.py") if p.name not in {"cli.py", "__main__.py"}]
    return sorted([*core, *ROOT.glob("metrics/*.py"), *ROOT.glob("tasks/*.py"), *ROOT.glob("tasks/suites/*.jsonl")])


@functools.cache
def code_digest() -> str:
    """sha256 over names and contents of `source_files`."""
    digest = hashlib.sha256()
    for path in source_files():
        digest.update(f"{path.relative_to(ROOT).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def release() -> dict[str, str]:
    """The version and digest that the release states of itself; `make release` writes them."""
    path = ROOT / "release.json"
    return dict(json.loads(path.read_text())) if path.is_file() else {}


def is_release() -> bool:
    stated = release()
    return stated.get("digest") == code_digest() and stated.get("version") == vtbench.__version__


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
    try:
        asked = {"cwd": ROOT.parent, "capture_output": True, "text": True, "timeout": 10}
        head = subprocess.run(["git", "rev-parse", "HEAD"], check=True, **asked).stdout.strip()  # type: ignore[call-overload]
        tracked = subprocess.run(["git", "ls-files", "--error-unmatch", str(ROOT / "cards.py")], **asked)  # type: ignore[call-overload]
        if tracked.returncode:
            return None
        changed = subprocess.run(["git", "status", "--porcelain", "-uno"], check=True, **asked).stdout.strip()  # type: ignore[call-overload]
    except (OSError, subprocess.SubprocessError):
        return None
    return str(head) + ("+" if changed else "")


def device_facts(device: str) -> dict[str, Any]:
    """Kind and name of the device, threads, memory."""
    import torch

    kind = device.partition(":")[0]
    facts: dict[str, Any] = {"kind": kind, "threads": torch.get_num_threads(), "cpu": _cpu(), "cores": os.cpu_count()}
    if kind == "cuda":
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


def facts() -> dict[str, Any]:
    return {
        "vtbench": vtbench.__version__,
        "git": git_commit(),
        "code_sha256": code_digest(),
        "release": is_release(),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": packages(),
    }


def write_release() -> Path:
    path = ROOT / "release.json"
    path.write_text(json.dumps({"version": vtbench.__version__, "digest": code_digest()}, indent=1) + "\n")
    return path


if __name__ == "__main__":
    print(write_release())


def peak_memory() -> int:
    """Bytes: the greatest resident memory of this process.

    Linux's getrusage counts what the parent held when it started this process (the mark survives exec), so the kernel's
    mark of this address space is read where there is one; getrusage counts kibibytes there and bytes on macOS.
    """
    import resource

    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
