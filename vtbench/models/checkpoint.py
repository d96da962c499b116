"""The named tensors of a checkpoint file, or of a folder of shards, without ever running what is in it.

safetensors, or a pickle that `pickles` reads safely; whatever trainers put around the weights (containers, whole
modules, wrappers' prefixes) is taken off here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench.models.pickles import Stub, read_pickle
from vtbench.types.errors import VtbenchError

if TYPE_CHECKING:
    import torch

SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".pkl")
CONTAINERS = ("state_dict", "model", "ema", "model_ema_state_dict", "model_state_dict", "module", "params", "net")
"""Keys under which trainers put a state dict, tried in this order after those that a card names."""
WRAPPERS = ("module.", "_orig_mod.")
"""What torch's wrappers of a whole model put before every name, in any order, once or twice."""
DEEPEST = 60
"""Levels of nesting that are searched for tensors: a damaged or hostile file may nest without end."""


def read(path: Path, key: Sequence[str] | None = None) -> dict[str, torch.Tensor]:
    """The named tensors of one checkpoint file or of a folder of sharded safetensors, on the CPU, in the file's dtypes.

    key: containers to look into, the first that is there; then the usual ones, then the file itself. The prefixes
    `module.` of data-parallel training and `_orig_mod.` of compiled modules are taken off when every name has them.
    Raises VtbenchError if the file is truncated, no checkpoint, or holds no tensors.
    """
    if path.is_dir() or (path.name.endswith(".index.json") and path.is_file()):
        return _read_shards(path if path.is_dir() else path.parent)
    if not path.is_file():
        raise VtbenchError(f"{path} does not exist: give a checkpoint file")
    with path.open("rb") as source:
        start = source.read(64)
    if start.startswith(b"version https://git-lfs"):
        raise VtbenchError(f"{path} is a git-lfs pointer, not the weights: fetch the file itself")
    if path.suffix == ".safetensors" or (start[8:9] == b"{" and not start.startswith((b"PK", b"\x80"))):
        return _safetensors(path)
    content = read_pickle(path)
    # The user's own file may come from another trainer than the released one, whose containers the card names.
    tensors = dict(_walk(_container(content, (*(key or ()), *CONTAINERS)), "", set()))
    if not tensors:
        raise VtbenchError(
            f"{path} holds no tensors ({type(content).__name__} inside): it is not a checkpoint of weights"
        )
    for wrapper in WRAPPERS * 2:
        if all(n.startswith(wrapper) for n in tensors):
            tensors = {n.removeprefix(wrapper): t for n, t in tensors.items()}
    return tensors


def _container(content: Any, names: Sequence[str]) -> Any:
    """The first of `names` ("trainer/unitok" goes down two levels) that holds tensors, else the content itself."""
    import torch

    if not isinstance(content, (Mapping, Stub)):
        return content
    table = content if isinstance(content, Mapping) else content.__dict__
    for name in names:
        part: Any = table
        for step in name.split("/"):
            part = part.get(step) if isinstance(part, Mapping) else getattr(part, step, None)
        if part is None or isinstance(part, torch.Tensor):
            continue
        if next(_walk(part, "", set()), None) is not None:
            return part
    return content


def _walk(value: Any, prefix: str, seen: set[int], depth: int = 0) -> Iterator[tuple[str, torch.Tensor]]:
    """Tensors in nested dicts, lists and stubs of whole modules, named as a state dict names them."""
    import torch

    if isinstance(value, torch.Tensor):
        yield prefix.rstrip("."), value
        return
    if depth > DEEPEST or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Stub):
        state = value.__dict__
        modules, parameters, buffers = (state.get(k) for k in ("_modules", "_parameters", "_buffers"))
        if isinstance(modules, dict) or isinstance(parameters, dict):
            for part in (parameters, buffers, modules):
                if isinstance(part, dict):
                    yield from _walk(part, prefix, seen, depth + 1)
            # dall_e's attrs classes keep nothing else; other attributes of a module are not parameters.
            return
        for key, part in state.items():
            name = "" if key in ("items_", "list_", "args") else f"{key}."
            yield from _walk(part, prefix + name, seen, depth + 1)
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _walk(part, f"{prefix}{key}.", seen, depth + 1)
    elif isinstance(value, (list, tuple)):
        for index, part in enumerate(value):
            yield from _walk(part, f"{prefix}{index}.", seen, depth + 1)


def _safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as bad:
        raise VtbenchError(f"{path} is not a whole safetensors file ({bad}): it is truncated or damaged") from bad


def _read_shards(folder: Path) -> dict[str, torch.Tensor]:
    indexes = sorted(folder.glob("*.safetensors.index.json"))
    if indexes:
        try:
            table = json.loads(indexes[0].read_text())["weight_map"]
            names = sorted({str(v) for v in table.values()})
        except (ValueError, KeyError, AttributeError, OSError) as bad:
            raise VtbenchError(f"{indexes[0]} is not an index of sharded weights ({bad})") from bad
    else:
        names = sorted(p.name for p in folder.glob("*.safetensors"))
    if not names:
        raise VtbenchError(f"{folder} holds no .safetensors file: give the checkpoint file itself")
    out: dict[str, torch.Tensor] = {}
    for name in names:
        if Path(name).name != name:
            raise VtbenchError(f"{indexes[0]} names {name!r}, which is not beside it: refused")
        if not (folder / name).is_file():
            raise VtbenchError(f"the shard {folder / name} is missing: its index names {len(names)} shards")
        out.update(_safetensors(folder / name))
    return out
