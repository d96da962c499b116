"""Full-size official architectures through `vtbench evaluate`, one image each, on the CPU.

    python benchmarks/official.py [MODEL ...] [--folder DIR] [--size 256]

No checkpoint is downloaded: for each model (default: the first of every family with a native network) a file of
deterministic weights is written in the official container, under the card's file name, keys and prefix; the command
runs in a process of its own, whose time and peak memory are those that the operating system states; then the file is
deleted. Such weights are not the official ones, so the runs are `unverified` and never ranked: the script fails if one
is. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from vtbench import registry
from vtbench.models import made_weights
from vtbench.models.names import manifest_of, part_of, places_of
from vtbench.models.network import on_meta
from vtbench.types.cards import Card, Weights


def default_models() -> list[str]:
    """The first model of every family of tokenizers that has a native network."""
    first: dict[str, str] = {}
    for family in registry.families().values():
        for card in family.cards:
            if family.network and card.arch is not None and card.kind != "generator":
                first.setdefault(family.name, card.name)
    return sorted(first.values())


def _values(name: str, shape: list[int]) -> torch.Tensor:
    return torch.from_numpy(np.asarray(made_weights.values(name, tuple(shape)), dtype=np.float32))


def _module(tensors: Mapping[str, torch.Tensor]) -> nn.Module:
    """A module of bare modules whose state dict is `tensors`: how a file that is a pickled whole module keeps them."""
    top = nn.Module()
    for name, tensor in tensors.items():
        *path, leaf = name.split(".")
        inner = top
        for step in path:
            if step not in inner._modules:
                inner.add_module(step, nn.Module())
            inner = inner.get_submodule(step)
        inner.register_parameter(leaf, nn.Parameter(tensor, requires_grad=False))
    return top


def write(card: Card, names: Mapping[str, list[int]], folder: Path) -> None:
    """The card's files with weights made from the names."""
    for weight in card.weights:
        tensors = {n: _values(n, s) for n, s in _names_in(weight, card, names).items()}
        path = folder / weight.file
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".safetensors":
            from safetensors.torch import save_file

            save_file({(weight.prefix or "") + n: t for n, t in tensors.items()}, path)
        else:
            torch.save(_module(tensors) if path.suffix == ".pkl" else _container(weight, tensors), path)


def _names_in(weight: Weights, card: Card, names: Mapping[str, list[int]]) -> Mapping[str, list[int]]:
    """Of several files each has the names under its role, the model's what is under nobody's, and a network that is no
    part of the checkpoint its own: the network has a method of that role's name that makes it."""
    if len(card.weights) == 1:
        return names
    network = on_meta(registry.family(card.family), card.arch or {})
    places = {w.role: places_of(network).get(w.role, w.role) for w in card.weights}
    own = part_of(names, weight.role, places)
    if weight.role == "model" or len(own) < len(names):
        return own
    with torch.device("meta"):
        return {n: list(t.shape) for n, t in getattr(network, weight.role)().state_dict().items()}


def _container(weight: Weights, tensors: Mapping[str, torch.Tensor]) -> Any:
    """As upstream's trainer writes it: under the card's key and prefix, averaged copies beside raw zeros."""
    kept = {(weight.prefix or "") + n: t for n, t in tensors.items()}
    key = (weight.key or ("",))[0]
    if weight.ema and key == "state_dict":
        # Lightning's LitEma: `model_ema.` and the name without dots. Raw zeros that share one element take no room.
        averaged = {f"model_ema.{n.replace('.', '')}": t for n, t in kept.items()}
        kept = {**{n: torch.zeros(()).expand(t.shape) for n, t in kept.items()}, **averaged}
    container: Any = kept
    for step in reversed(key.split("/") if key else []):
        container = {step: container}
    return container


def run(model: str, folder: Path, size: int) -> dict[str, Any]:
    """One row of the table."""
    entry = registry.model(model)
    names = manifest_of(model)
    weights = folder / "weights"
    # In a process of its own: a child's peak counts what its parent held when it was started.
    subprocess.run([sys.executable, __file__, "--write", model, "--folder", str(weights)], check=True)
    bytes_ = sum(p.stat().st_size for p in weights.rglob("*") if p.is_file())
    checkpoint = weights if len(entry.card.weights) > 1 else weights / entry.card.weights[0].file
    pictures = folder / "images"
    pictures.mkdir()
    _picture(size).save(pictures / "one.png")
    out = folder / "out"
    command = [sys.executable, "-m", "vtbench", "evaluate", model, "--checkpoint", str(checkpoint)]
    command += ["--images", str(pictures), "--task", "compression", "--view", str(size), "--out", str(out)]
    started = time.perf_counter()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{model}: {' '.join(command)} gave {process.returncode}:\n{(folder / 'log').read_text()}")
    (record,) = out.glob("*/run.json")
    info = json.loads(record.read_text())
    state = info["model"]["weights"]["status"]
    # Where no weights were released, every file is the user's own.
    wanted = "unverified" if any(w.hub or w.url for w in entry.card.weights) else "own"
    if state != wanted or (wanted == "unverified" and info["ranked"]):
        raise SystemExit(f"{model}: these weights are not official, yet the run is {state}, ranked {info['ranked']}")
    scores = {s["metric"]: s["value"] for s in map(json.loads, (record.parent / "scores.jsonl").open())}
    peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {
        "model": model,
        "file": bytes_ / 2**20,
        "parameters": sum(int(np.prod(s)) for s in names.values()) / 1e6,
        "peak": peak / 2**20,
        "wall": wall,
        "model_seconds": (scores.get("encode-seconds-p50") or 0) + (scores.get("decode-seconds-p50") or 0),
        "bpp": scores["bpp"],
    }


def _picture(size: int) -> Image.Image:
    from skimage import data

    return Image.fromarray(data.astronaut()).resize((size, size), Image.Resampling.LANCZOS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=None)
    parser.add_argument("--folder", type=Path, help="where the files are written, one model at a time")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--write", metavar="MODEL", help="only write this model's files into --folder, and keep them")
    args = parser.parse_args()
    if args.write:
        if args.folder is None:
            parser.error("--write needs --folder")
        write(registry.model(args.write).card, manifest_of(args.write), args.folder)
        return
    print("| model | parameters, M | file, MiB | peak memory, MiB | wall, s | encode + decode, s | bpp |")
    print("|---|---|---|---|---|---|---|")
    for model in args.models or default_models():
        with tempfile.TemporaryDirectory(dir=args.folder) as scratch:
            row = run(model, Path(scratch), args.size)
        print(
            f"| {row['model']} | {row['parameters']:.1f} | {row['file']:.0f} | {row['peak']:.0f} | {row['wall']:.1f} | "
            f"{row['model_seconds']:.2f} | {row['bpp']:.4g} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
