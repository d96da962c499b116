"""The named tensors of a checkpoint, from every kind of file that trainers write, without ever running what is in it.

A file is safetensors, numpy's (.npz, .npy) or a pickle that `pickles` reads safely; a folder holds one of them, the
shards of one, or several, of which `choosing` takes one. Which containers, prefixes and averaged copies are in it is
the business of `containers`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench.models.containers import WRAPPERS, Inventory, Leaf
from vtbench.models.numpy_files import is_numpy, read_numpy
from vtbench.models.pickled_arrays import PickledArray
from vtbench.models.pickles import Stub, read_pickle
from vtbench.models.weight_files import Index, beside_shards, index_in, read_index, weight_files
from vtbench.types.errors import VtbenchError
from vtbench.types.foreign import cause, reading

if TYPE_CHECKING:
    import torch

CONTAINERS = ("state_dict", "model", "ema", "model_ema_state_dict", "model_state_dict", "module", "params", "net")
"""Keys under which trainers put a state dict, for those who ask for one file's tensors without saying which they need;
tried in this order after those that the caller names."""
DAMAGED = "it is truncated, damaged or not a checkpoint"
LARGEST_HEADER = 1 << 26
"""Bytes of a safetensors header: 67 MB state a million tensors."""
MOST_TENSORS = 500_000
LONGEST_NAME = 2000
"""Characters of a tensor's name with the containers that it lies in."""
DEEPEST = 60
"""Levels of nesting that are searched for tensors: a damaged or hostile file may nest without end."""


def inventories(path: Path) -> list[Inventory]:
    """The tensors at a path, on the CPU, in the file's dtypes: of a file, of an index's shards together, or of every
    file of a folder, and of all of them together where no name stands in two.

    Raises VtbenchError if a file is truncated, no checkpoint, or holds no tensors.
    """
    with reading(path, "a checkpoint", DAMAGED):
        return _inventories(path)


def _inventories(path: Path) -> list[Inventory]:
    index = index_in(path) if path.is_dir() else path if ".index." in path.name and path.is_file() else None
    if index is not None and not path.is_dir():
        return [_of_shards(read_index(index))]
    if not path.is_dir():
        return [Inventory(_leaves_of_file(path), path.name)]
    out, unread = [], []
    if index is None:
        files = weight_files(path)
    else:
        shards = read_index(index)
        files, twins = beside_shards(path, shards)
        out.append(_of_shards(replace(shards, beside=(*shards.beside, *twins))))
    for file in files:
        try:
            out.append(Inventory(_leaves_of_file(file.path), file.path.name, file.beside))
        except VtbenchError as bad:
            # A folder of training states holds what is no checkpoint; alone, it is what was asked for.
            unread.append(bad)
    if not out:
        if unread:
            raise unread[0]
        raise VtbenchError(f"{path} holds no file of weights: give the checkpoint file itself")
    if index is not None:
        return out
    names = [leaf.segments for one in out for leaf in one.leaves]
    if len(out) > 1 and len(set(names)) == len(names):
        every = [leaf for one in out for leaf in one.every]
        out.append(Inventory(every, " + ".join(one.file for one in out), joined=True))
    return out


def read(path: Path, key: Sequence[str] | None = None) -> dict[str, torch.Tensor]:
    """The named tensors of one checkpoint file or of a folder of shards, for those who know their file.

    key: containers to look into, the first that is there; then the usual ones, then the file itself. What wrappers of a
    whole model put before every name (`module.`, `_orig_mod.`) is taken off. Raises VtbenchError as `inventories` does.
    """
    whole = inventories(path)
    whole = whole[:1] if path.is_dir() and index_in(path) is not None else whole
    if len(whole) > 1 and not whole[-1].joined:
        raise VtbenchError(f"{path} holds the same names in {whole[0].file} and {whole[1].file}: give one file itself")
    leaves = whole[-1].every
    for name in (*(key or ()), *CONTAINERS):
        container = tuple(name.split("/"))
        inside = [leaf for leaf in leaves if leaf.key[: len(container)] == container]
        if inside:
            depth = len(container)
            break
    else:
        inside, depth = leaves, 0
    tensors = {".".join((*leaf.key[depth:], leaf.name)): leaf.tensor for leaf in inside}
    while True:
        first = next(iter(tensors)).partition(".")[0]
        if first not in WRAPPERS or not all(n.startswith(f"{first}.") for n in tensors):
            return tensors
        tensors = {n.removeprefix(f"{first}."): t for n, t in tensors.items()}


def _leaves_of_file(path: Path) -> list[Leaf]:
    """Every tensor of one file."""
    if not path.is_file():
        raise VtbenchError(f"{path} does not exist: give a checkpoint file")
    with path.open("rb") as source:
        start = source.read(64)
    if start.startswith(b"version https://git-lfs"):
        raise VtbenchError(f"{path} is a git-lfs pointer, not the weights: fetch the file itself")
    content: Any
    if path.suffix == ".safetensors" or (start[8:9] == b"{" and not start.startswith((b"PK", b"\x80"))):
        content = _safetensors(path)
    elif is_numpy(path, start):
        content = read_numpy(path)
    else:
        content = read_pickle(path)
    leaves = list(itertools.islice(_walk(content, (), "", set()), MOST_TENSORS + 1))
    if not leaves:
        raise VtbenchError(
            f"{path} holds no tensors ({type(content).__name__} inside): it is not a checkpoint of weights"
        )
    _check_leaves(leaves, path)
    return leaves


def _check_leaves(leaves: Sequence[Leaf], path: Path) -> None:
    """Refuses names and tensors that no checkpoint has, and that everything behind here would stumble over."""
    import torch

    if len(leaves) > MOST_TENSORS:
        raise VtbenchError(f"{path} holds more than {MOST_TENSORS} tensors: it is no checkpoint of a network")
    for leaf in leaves:
        length = len(leaf.name) + sum(map(len, leaf.key))
        if length > LONGEST_NAME:
            raise VtbenchError(f"{path} has a name of {length} characters: it is no checkpoint of a network")
        tensor = leaf.tensor
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu" or tensor.is_nested:
            raise VtbenchError(
                f"{path}: {leaf.name or 'its tensor'} is sparse, quantized, nested or empty of numbers: save plain ones"
            )


def _safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    with path.open("rb") as source:
        length = int.from_bytes(source.read(8), "little")
    size = path.stat().st_size
    if not 2 <= length <= min(LARGEST_HEADER, size - 8):
        raise VtbenchError(
            f"{path} is not a whole safetensors file (it states a header of {length} bytes, has {size}, and at most "
            f"{LARGEST_HEADER} are read): it is truncated or damaged"
        )
    try:
        return load_file(path)
    except Exception as bad:
        # KeyError: a dtype that this torch does not know.
        raise VtbenchError(
            f"{path} is not a whole safetensors file ({cause(bad)}): it is truncated or damaged"
        ) from bad


def _of_shards(index: Index) -> Inventory:
    """All shards of an index; where two hold one name, the one that the index names."""
    out = []
    for name in index.files:
        file = index.path.parent / name
        if not file.is_file():
            raise VtbenchError(f"the shard {file} is missing: its index names {len(index.files)} shards")
        out += [leaf for leaf in _leaves_of_file(file) if index.table.get(leaf.name, name) == name]
    return Inventory(out, index.path.name, index.beside)


def _walk(
    value: Any,
    key: tuple[str, ...],
    name: str,
    seen: set[int],
    depth: int = 0,
    *,
    listed: bool = False,
    inside: bool = False,
) -> Iterator[Leaf]:
    """Tensors in nested dicts, lists and stubs of whole modules, named as a state dict names them.

    inside: within a module, whose attributes are parts of names and no containers.
    """
    import torch

    if isinstance(value, PickledArray):
        value = value.tensor if value.tensor is not None else value.items
        # An .npy of a dictionary is an array of one object.
        value = value[0] if isinstance(value, list) and len(value) == 1 else value
    if isinstance(value, torch.Tensor):
        yield Leaf(key, name, tuple(value.shape), value.is_floating_point(), value, listed)
        return
    if not isinstance(value, (Stub, Mapping, list, tuple)):
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
                    yield from _walk(part, key, name, seen, depth + 1, inside=True)
            # dall_e's attrs classes keep nothing else; other attributes of a module are not parameters.
            return
        for word, part in state.items():
            if word in ("items_", "list_", "args"):
                yield from _walk(part, key, name, seen, depth + 1, inside=inside)
            else:
                yield from _step(part, word, key, name, seen, depth + 1, inside=inside)
        return
    if isinstance(value, Mapping):
        for word, part in value.items():
            yield from _step(part, word, key, name, seen, depth + 1, inside=inside)
        return
    for number, part in enumerate(value):
        yield from _step(part, number, key, name, seen, depth + 1, inside=inside, listed=True)


def _step(
    part: Any,
    word: Any,
    key: tuple[str, ...],
    name: str,
    seen: set[int],
    depth: int,
    *,
    inside: bool,
    listed: bool = False,
) -> Iterator[Leaf]:
    """One level down: in a module `word` is part of the name, elsewhere a container's key, or the tensor's name."""
    import torch

    tensor = isinstance(part, torch.Tensor) or (isinstance(part, PickledArray) and part.tensor is not None)
    if inside or tensor:
        yield from _walk(part, key, f"{name}.{word}" if name else str(word), seen, depth, listed=listed, inside=inside)
    else:
        yield from _walk(part, (*key, str(word)), "", seen, depth)
