"""Damaged and hostile checkpoints: tensors or one sentence, and no code of theirs runs."""

from __future__ import annotations

import io
import os
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from damaged_checkpoints import NUMBERS, SEEDS, TENSORS, damage, damaged_seed, write_seed
from harness import Kind
from pictures import check_sentence

from vtbench.models import checkpoint
from vtbench.types.errors import VtbenchError


class Runs:
    """Makes a folder when it is unpickled by a reader that runs what it reads."""

    def __init__(self, canary: Path) -> None:
        self.canary = str(canary)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return os.mkdir, (self.canary,)


def _old(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def _joblib_like(content: Any, path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        out = io.BytesIO()
        np.save(out, np.array(content, dtype=object), allow_pickle=True)
        archive.writestr("w.npy", out.getvalue())


HOSTILE: dict[str, Callable[[Any, Path], object]] = {
    "new.pt": torch.save,
    "old.pth": _old,
    "plain.pkl": lambda content, path: path.write_bytes(pickle.dumps(content)),
    "two.pkl": lambda content, path: path.write_bytes(pickle.dumps(content, protocol=2)),
    "object.npy": lambda content, path: np.save(path, np.array(content, dtype=object), allow_pickle=True),
    "object.npz": _joblib_like,
}
"""{file: what packs an object that runs code into it}"""


def whole(folder: Path) -> int:
    """All seeds, and the hostile containers without the object that runs."""
    for name in SEEDS:
        assert checkpoint.inventories(write_seed(name, folder)), name
    for name, write in HOSTILE.items():
        path = folder / f"tame-{name}"
        write({"w": TENSORS} if path.suffix not in (".npy", ".npz") else {"w": NUMBERS}, path)
        assert checkpoint.inventories(path), name
    return len(SEEDS) + len(HOSTILE)


def case(seed: int, number: int, folder: Path) -> str:
    canary = folder / "ran"
    rng = random.Random(f"{seed} checkpoint {number}")
    if number % 4 == 0:
        name = rng.choice(sorted(HOSTILE))
        path = folder / name
        content = rng.choice([{"w": TENSORS, "x": Runs(canary)}, {"w": [Runs(canary)]}, Runs(canary)])
        HOSTILE[name](content, path)
        if rng.random() < 0.5:
            damage(path, rng.randrange(1 << 30))
    else:
        name = sorted(SEEDS)[number % len(SEEDS)]
        path = damaged_seed(name, rng.randrange(1 << 30), folder / "file")
    try:
        shapes = [one.shapes() for one in checkpoint.inventories(path)]
        assert all(isinstance(n, int) for one in shapes for shape in one.values() for n in shape)
        word = "read"
    except VtbenchError as bad:
        check_sentence(bad, code=2)
        word = "refused"
    assert not canary.exists(), "its code ran"
    return word


KIND = Kind(
    "checkpoints",
    "A checkpoint is read or refused in one sentence (exit 2); its code never runs, and it takes no memory that it "
    "only claims to need.",
    "twelve containers (torch new and old, pickles, npy, npz, safetensors, shards) damaged in their bytes or by their "
    "format's rules, checksums right; every fourth packs an object that makes a folder when it is unpickled",
    whole,
    case,
)
