"""Whole checkpoints of every kind that is read, and damage to them by a seed: what disks and enemies do."""

from __future__ import annotations

import io
import json
import pickle
import random
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2), "b.step": torch.tensor(7)}
NUMBERS = {name: tensor.numpy() for name, tensor in TENSORS.items()}


class Settings:
    """Of a class that torch's own safe reader does not know, so that ours reads the file."""

    def __init__(self) -> None:
        self.rate = 1.0


def _sharded(folder: Path) -> Path:
    folder.mkdir()
    torch.save({"a.weight": TENSORS["a.weight"]}, folder / "m-1.bin")
    torch.save({"a.bias": TENSORS["a.bias"], "b.step": TENSORS["b.step"]}, folder / "m-2.bin")
    where = {"a.weight": "m-1.bin", "a.bias": "m-2.bin", "b.step": "m-2.bin"}
    index = folder / "m.bin.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 40}, "weight_map": where}))
    return index


def _old(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


SEEDS: dict[str, Callable[[Path], object]] = {
    "new.pt": lambda path: torch.save({"state_dict": TENSORS, "epoch": 3}, path),
    "old.pth": lambda path: _old({"model": TENSORS}, path),
    "stubs.ckpt": lambda path: torch.save({"state_dict": TENSORS, "settings": Settings()}, path),
    "oldstubs.ckpt": lambda path: _old({"state_dict": TENSORS, "settings": Settings()}, path),
    "module.pt": lambda path: torch.save(torch.nn.Sequential(torch.nn.Linear(3, 2)), path),
    "arrays.pkl": lambda path: path.write_bytes(pickle.dumps({"params": NUMBERS, "step": 3}, protocol=2)),
    "tensors.pkl": lambda path: path.write_bytes(pickle.dumps({"ema": TENSORS})),
    "one.safetensors": lambda path: save_file(TENSORS, path, metadata={"format": "pt"}),
    "plain.npz": lambda path: np.savez(path, **NUMBERS),  # type: ignore[arg-type]
    "packed.npz": lambda path: np.savez_compressed(path, **NUMBERS),  # type: ignore[arg-type]
    "dictionary.npy": lambda path: np.save(path, np.array(NUMBERS, dtype=object), allow_pickle=True),  # type: ignore[arg-type]
    "m.bin.index.json": lambda path: _sharded(path.parent / "shards"),
}
"""{file: what writes it}; the index and its shards lie in a folder of their own."""


def write_seed(name: str, folder: Path) -> Path:
    """The whole file of a seed."""
    made = SEEDS[name](folder / name)
    return made if isinstance(made, Path) else folder / name


# -- damage ------------------------------------------------------------------------------------------------------------

EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1 << 70, 1e308, "", "x" * 3000, "..", "/dev/zero", "a\nb\x1b[31m", "\ud800", [], {}, [[]],
    [1 << 40, 1 << 40], {"": {}},
)  # fmt: skip


def damaged(data: bytes, rng: random.Random) -> bytes:
    """One or two random changes of bytes."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 2)):
        place = rng.randrange(len(out) + 1) if out else 0
        kind = rng.randrange(6)
        if kind == 0 and out:
            out[place % len(out)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            width = rng.choice((1, 2, 4, 8))
            out[place : place + width] = (rng.choice(EXTREMES) % (1 << 8 * width)).to_bytes(width, "little")
        elif kind == 2:
            del out[place : place + rng.randint(1, 64)]
        elif kind == 3:
            out[place:place] = rng.randbytes(rng.randint(1, 16))
        elif kind == 4:
            start = rng.randrange(len(out) + 1)
            out[place:place] = out[start : start + rng.randint(1, 64)]
        else:
            del out[place:]
    return bytes(out)


def _damaged_value(value: Any, rng: random.Random) -> Any:
    """One node of JSON replaced, renamed or removed."""
    if isinstance(value, dict) and value and rng.random() < 0.8:
        key = rng.choice(sorted(value))
        kind = rng.randrange(4)
        if kind == 0:
            return {**value, str(rng.choice(VALUES)): value[key]}
        if kind == 1:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: _damaged_value(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        place = rng.randrange(len(value))
        return [*value[:place], _damaged_value(value[place], rng), *value[place + 1 :]]
    return rng.choice(VALUES)


def _safetensors(data: bytes, rng: random.Random) -> bytes:
    length = int.from_bytes(data[:8], "little")
    head = json.dumps(_damaged_value(json.loads(data[8 : 8 + length]), rng)).encode()
    return len(head).to_bytes(8, "little") + head + data[8 + length :]


def _archive(data: bytes, rng: random.Random) -> bytes:
    """Damage inside a member, whose checksum is right again."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(out, "w") as target:
        members = source.infolist()
        struck = rng.choice([m for m in members if m.filename.endswith((".pkl", ".npy"))] or members)
        for member in members:
            content = source.read(member)
            target.writestr(
                member.filename, damaged(content, rng) if member is struck else content, member.compress_type
            )
    return out.getvalue()


def damage(path: Path, seed: int) -> None:
    """Damages the file in place, its bytes or what stands in it by its format's rules; one seed, one damage."""
    rng = random.Random(f"{path.name} {seed}")
    if path.suffix == ".json" and rng.random() < 0.3:
        # The index stays whole, and one of its shards does not.
        path = rng.choice(sorted(path.parent.glob("*.bin")))
    data = path.read_bytes()
    if rng.random() < 0.5:
        data = damaged(data, rng)
    elif path.suffix == ".json":
        data = json.dumps(_damaged_value(json.loads(data), rng)).encode()
    elif path.suffix == ".safetensors":
        data = _safetensors(data, rng)
    elif data.startswith(b"PK"):
        data = _archive(data, rng)
    else:
        data = damaged(data, rng)
    path.write_bytes(data)


def damaged_seed(name: str, seed: int, folder: Path) -> Path:
    """A damaged file in a fresh folder `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    path = write_seed(name, folder)
    damage(path, seed)
    return path
