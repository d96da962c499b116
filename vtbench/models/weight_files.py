"""Which files of a folder hold weights: an index and its shards, one file, or several, of each the best of its kind."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vtbench.types.errors import VtbenchError
from vtbench.types.foreign import read_object

SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".pkl", ".npz", ".npy")
"""Of two files of one name, the one whose suffix stands first is read."""
TRAINING_STATES = re.compile(
    r"^(optimizer|optim|scheduler|lr_scheduler|scaler|sampler|dl_state_dict|random_states|rng_state|training_args)(_|\d|\.|$)"
)
"""What accelerate, the trainer of transformers and Lightning's loops write beside the weights."""
VARIANTS = ("fp16", "bf16", "fp32", "fp8", "non_ema", "ema")
"""Precisions and kinds that stand in a file's name before its suffix, as diffusers' `variant` writes them."""
INDEX = re.compile(r"\.(safetensors|bin|pt|pth)\.index\.(?:(?P<variant>\w+)\.)?json$")
DISTRIBUTED = (".distcp",)
"""Shards of torch.distributed.checkpoint, which are no files of named tensors."""


@dataclass(frozen=True)
class WeightFile:
    """A file of weights, and the names of those beside it that hold the same in another format or precision."""

    path: Path
    beside: tuple[str, ...] = ()


@dataclass(frozen=True)
class Index:
    """An index of shards: {tensor: file}, the files in order, and other indexes beside it that were not taken."""

    path: Path
    table: Mapping[str, str]
    files: tuple[str, ...]
    beside: tuple[str, ...] = ()


def kind_of(name: str) -> tuple[str, str]:
    """(a file's name without variant and suffix, its variant or ""): model.fp16.safetensors is ("model", "fp16").

    transformers and diffusers call the pickled twin of model.safetensors pytorch_model.bin: one kind.
    """
    stem = Path(name).stem
    first, dot, last = stem.rpartition(".")
    variant = last if dot and last in VARIANTS else ""
    stem = first if variant else stem
    return ("model" if stem == "pytorch_model" else stem), variant


def weight_files(folder: Path) -> list[WeightFile]:
    """The files of a folder that may hold weights, by name; of one kind the whole before a variant, safetensors before
    pickles. Training states are left out."""
    kinds: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix in SUFFIXES and path.is_file() and not TRAINING_STATES.match(path.name):
            kinds.setdefault(kind_of(path.name)[0], []).append(path)
    out = []
    for paths in kinds.values():
        paths.sort(key=lambda p: (kind_of(p.name)[1] != "", SUFFIXES.index(p.suffix), p.name))
        first = paths[0]
        rivals = [p for p in paths[1:] if kind_of(p.name)[1] and p.suffix == first.suffix]
        if kind_of(first.name)[1] and rivals:
            raise VtbenchError(
                f"{folder} holds the variants {first.name} and {rivals[0].name}, and no file without one: give the "
                "file itself"
            )
        out.append(WeightFile(first, tuple(p.name for p in paths[1:])))
    return sorted(out, key=lambda file: file.path.name)


def index_in(folder: Path) -> Path | None:
    """The index of a folder's shards: safetensors before pickles, whole before a variant; None if it has none."""
    matches = [(p, m) for p in sorted(folder.glob("*.index*.json")) if (m := INDEX.search(p.name))]
    ranked = sorted(matches, key=lambda pair: (pair[1]["variant"] is not None, pair[1][1] != "safetensors"))
    ranks = [(m["variant"] is not None, m[1] != "safetensors") for _, m in ranked]
    if len(ranks) > 1 and ranks[0] == ranks[1]:
        raise VtbenchError(f"{folder} holds {ranked[0][0].name} and {ranked[1][0].name}: give the index itself")
    return ranked[0][0] if ranked else None


def read_index(path: Path) -> Index:
    """An index of shards; refused where it names files that are not beside it."""
    table = read_object(path).get("weight_map")
    if not isinstance(table, dict) or not all(isinstance(file, str) for file in table.values()):
        raise VtbenchError(f"{path} has no weight_map of names and files, as an index of sharded weights has")
    files = sorted(set(table.values()))
    for name in files:
        if Path(name).name != name:
            raise VtbenchError(f"{path} names {name!r}, which is not beside it: refused")
    if not files:
        raise VtbenchError(f"{path} names no shards: fetch it again")
    others = [p.name for p in sorted(path.parent.glob("*.index*.json")) if INDEX.search(p.name) and p != path]
    return Index(path, table, tuple(files), tuple(others))


def beside_shards(folder: Path, index: Index) -> tuple[list[WeightFile], tuple[str, ...]]:
    """(files of a folder that are no shards, and may hold other weights; names of those that are the same in another
    format, such as a pickled file beside safetensors in shards)."""
    shards = set(index.files)
    for name in index.beside:
        shards |= set(read_index(folder / name).files)
    kind = kind_of(INDEX.sub(f".{SUFFIXES[0][1:]}", index.path.name))[0]
    files = [file for file in weight_files(folder) if file.path.name not in shards]
    twins = [file for file in files if kind_of(file.path.name)[0] == kind]
    return [file for file in files if file not in twins], tuple(file.path.name for file in twins)


def nothing_in(folder: Path, wanted: str) -> VtbenchError:
    """What to say of a folder without a file of weights: where they may be instead."""
    if any(p.suffix in DISTRIBUTED for p in folder.glob("**/*")):
        return VtbenchError(
            f"{folder} holds shards of torch.distributed.checkpoint: join them with `python -m "
            "torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE` and give the file"
        )
    inner = sorted(
        p.name
        for p in folder.iterdir()
        if p.is_dir() and (index_in(p) is not None or any(map(_is_weights, p.iterdir())))
    )
    if inner:
        return VtbenchError(
            f"{folder} holds no {wanted} itself; {', '.join(inner[:4])} in it hold weights: give one of these"
        )
    return VtbenchError(f"{folder} does not hold {wanted}: give a folder with it, or the checkpoint file itself")


def _is_weights(path: Path) -> bool:
    return path.suffix in SUFFIXES and path.is_file() and not TRAINING_STATES.match(path.name)
