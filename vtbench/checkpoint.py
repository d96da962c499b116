"""Reads tensors from checkpoint files without ever running what is in them.

safetensors, or `torch.load(weights_only=True)`. Training checkpoints often hold objects of classes that are not
installed (configs, trainers, whole modules): those are rebuilt as inert stubs, which keep their contents and run
nothing, and the tensors are taken from what is left.
"""

from __future__ import annotations

import io
import json
import pickle
import struct
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from vtbench.types.errors import VtbenchError

if TYPE_CHECKING:
    import torch

SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".pkl")
CONTAINERS = ("state_dict", "model", "ema", "model_ema_state_dict", "model_state_dict", "module", "params", "net")
"""Keys under which trainers put a state dict, tried in this order after those that a card names."""
_WRAPPERS = ("module.", "_orig_mod.")
"""What torch's wrappers of a whole model put before every name, in any order, once or twice."""


class Stub:
    """Stands where a checkpoint names a class or function that is not on the list of harmless ones. It runs nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args

    def __call__(self, *args: Any, **kwargs: Any) -> Stub:
        return Stub(*args)

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update({str(k): v for k, v in state.items()})
        elif isinstance(state, tuple) and len(state) == 2 and isinstance(state[0], dict):
            self.__dict__.update({str(k): v for k, v in state[0].items()})

    # What pickle's SETITEM(S) and APPEND(S) call on an object that was a dict or list subclass.
    def __setitem__(self, key: Any, value: Any) -> None:
        self.__dict__.setdefault("items_", {})[key] = value

    def append(self, value: Any) -> None:
        self.__dict__.setdefault("list_", []).append(value)

    def extend(self, values: Any) -> None:
        self.__dict__.setdefault("list_", []).extend(values)


def _storage_dtypes() -> dict[str, torch.dtype]:
    import torch

    return {
        "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
        "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
        "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
        "ComplexFloatStorage": torch.complex64, "ComplexDoubleStorage": torch.complex128,
        # Bytes whose dtype the tensor states itself (float8, uint16, …).
        "UntypedStorage": torch.uint8,
    }  # fmt: skip


def _dtype(name: str) -> torch.dtype | None:
    import torch

    found = getattr(torch, name, None)
    return found if isinstance(found, torch.dtype) else None


class _StorageType:
    def __init__(self, name: str) -> None:
        self.name = name


def _rebuild_tensor(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> Any:
    import torch

    return torch.as_strided(storage, tuple(size), tuple(stride), int(offset)) if storage is not None else Stub()


def _rebuild_tensor_v3(storage: Any, offset: int, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any,
                       *_: Any) -> Any:  # fmt: skip
    import torch

    if storage is None or not isinstance(dtype, torch.dtype):
        return Stub()
    return torch.as_strided(storage.view(dtype), tuple(size), tuple(stride), int(offset))


def _rebuild_from_type(rebuild: Any, kind: Any, args: Any, state: Any) -> Any:
    """A tensor of a subclass, or with attributes: the tensor. `rebuild` is one of ours, or a stub."""
    return rebuild(*args)


def _rebuild_parameter(data: Any, *_: Any) -> Any:
    return data


def _new_ordered_dict(*args: Any) -> OrderedDict[Any, Any]:
    return OrderedDict(*args)


class _Unpickler(pickle.Unpickler):
    """Knows the handful of constructors that tensors need; every other global becomes a Stub."""

    def __init__(self, source: IO[bytes], storages: Any) -> None:
        super().__init__(source, encoding="utf-8")
        self._storages = storages

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_tensor"):
            return _rebuild_tensor
        if module == "torch._utils" and name == "_rebuild_tensor_v3":
            return _rebuild_tensor_v3
        if module == "torch._tensor" and name == "_rebuild_from_type_v2":
            return _rebuild_from_type
        if module == "torch" and (dtype := _dtype(name)) is not None:
            return dtype
        if module == "torch._utils" and name in ("_rebuild_parameter", "_rebuild_parameter_with_state"):
            return _rebuild_parameter
        if module == "collections" and name == "OrderedDict":
            return _new_ordered_dict
        if module in ("torch", "torch.storage") and name.endswith("Storage"):
            return _StorageType(name)
        return type(name if name.isidentifier() else "Unknown", (Stub,), {"__module__": "vtbench.stub"})

    def persistent_load(self, pid: Any) -> Any:
        return self._storages(pid)


def _zip_load(path: Path) -> Any:
    """The object in a checkpoint of torch's zip format, tensors alone alive."""
    import torch

    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        pickles = [n for n in names if n.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise VtbenchError(f"{path} is a zip file without one data.pkl: it is not a torch checkpoint")
        root = pickles[0].removesuffix("data.pkl")
        dtypes = _storage_dtypes()
        kept: dict[str, torch.Tensor | None] = {}

        def storage(pid: Any) -> torch.Tensor | None:
            if not isinstance(pid, tuple) or len(pid) < 5 or not isinstance(pid[1], _StorageType):
                return None
            key = str(pid[2])
            if key not in kept:
                dtype = dtypes.get(pid[1].name)
                raw = bytearray(archive.read(f"{root}data/{key}"))
                width = torch.empty(0, dtype=dtype).element_size() if dtype else 1
                kept[key] = (
                    torch.frombuffer(raw, dtype=dtype)
                    if dtype and raw and len(raw) % width == 0
                    else (torch.empty(0, dtype=dtype) if dtype else None)
                )
            return kept[key]

        return _Unpickler(io.BytesIO(archive.read(pickles[0])), storage).load()


def _object(path: Path) -> Any:
    """What a pickled checkpoint holds, read safely."""
    import torch

    try:
        with warnings.catch_warnings():
            # About pickle protocols and TorchScript: either it loads, or the sentence below says why not.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        OSError,
        AttributeError,
        TypeError,
    ) as bad:
        first = bad
    if zipfile.is_zipfile(path):
        try:
            return _zip_load(path)
        except VtbenchError:
            raise
        except Exception as bad:
            raise VtbenchError(
                f"{path} cannot be read as a checkpoint ({type(bad).__name__}: {bad}): it is damaged"
            ) from bad
    try:
        return _legacy_load(path)
    except Exception as bad:
        # Whatever a damaged file makes the reader stumble over, the first refusal tells more.
        del bad
    text = str(first).strip()
    reason = text.splitlines()[0].split(". ")[0][:160] if text else type(first).__name__
    with path.open("rb") as source:
        start = source.read(2)
    if start[:1] != b"\x80" and start != b"PK":
        raise VtbenchError(
            f"{path} is not a checkpoint ({'it is empty' if not start else f'it starts with {start!r}'}): "
            "give a .safetensors file, or one that torch.save wrote"
        )
    if isinstance(first, pickle.UnpicklingError) or "weights_only" in text:
        # torch's own text goes on to advise loading it unsafely.
        reason = "a pickle, but not one that torch.save made of tensors; nothing in it was run"
    raise VtbenchError(
        f"{path} cannot be read as a checkpoint ({reason}): it is truncated, damaged or not a checkpoint"
    )


def _legacy_load(path: Path) -> Any:
    """The object in a checkpoint of torch's format before 1.6: four pickles, the storages' keys, then their bytes."""
    import torch

    dtypes = _storage_dtypes()
    kept: dict[str, torch.Tensor] = {}

    def storage(pid: Any) -> Any:
        if isinstance(pid, tuple) and len(pid) > 1 and pid[0] == "module":
            # A whole module was saved, its class beside its source text: the class is a stub here.
            return pid[1]
        if not isinstance(pid, tuple) or len(pid) < 5 or not isinstance(pid[1], _StorageType):
            return None
        dtype, key, length = dtypes.get(pid[1].name), str(pid[2]), int(pid[4])
        if key not in kept and dtype is not None and 0 <= length <= path.stat().st_size:
            # Filled below: the bytes stand behind the pickles.
            kept[key] = torch.empty(length, dtype=dtype)
        return kept.get(key)

    with path.open("rb") as source:
        if _Unpickler(source, storage).load() != 0x1950A86A20F9469CFC6C:
            raise VtbenchError(f"{path} does not start like a torch checkpoint")
        for _ in ("protocol", "system"):
            _Unpickler(source, storage).load()
        found = _Unpickler(source, storage).load()
        for key in _Unpickler(source, storage).load():
            (length,) = struct.unpack("<q", source.read(8))
            target = kept[str(key)]
            raw = source.read(length * target.element_size())
            target.copy_(torch.frombuffer(bytearray(raw), dtype=target.dtype))
    return found


def _walk(value: Any, prefix: str, seen: set[int], depth: int = 0) -> Iterator[tuple[str, torch.Tensor]]:
    """Tensors in nested dicts, lists and stubs of whole modules, named as a state dict names them."""
    import torch

    if isinstance(value, torch.Tensor):
        yield prefix.rstrip("."), value
        return
    if depth > 60 or id(value) in seen:
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


def read(path: Path, key: Sequence[str] | None = None) -> dict[str, torch.Tensor]:
    """The named tensors of one checkpoint file or of a folder of sharded safetensors.

    key: containers to look into, the first that is there; then the usual ones, then the file itself. The prefixes
    `module.` of data-parallel training and `_orig_mod.` of compiled modules are taken off when every name has them.
    Raises VtbenchError if the file is truncated, no checkpoint, or holds no tensors.
    """
    import torch

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
    loaded = _object(path)
    # The user's own file may come from another trainer than the released one, whose containers the card names.
    candidates = [*(key or ()), *CONTAINERS]
    inner: Any = loaded
    if isinstance(loaded, (Mapping, Stub)):
        table = loaded if isinstance(loaded, Mapping) else loaded.__dict__
        for name in candidates:
            part: Any = table
            for step in name.split("/"):
                part = part.get(step) if isinstance(part, Mapping) else getattr(part, step, None)
            if (
                part is not None
                and not isinstance(part, torch.Tensor)
                and next(_walk(part, "", set()), None) is not None
            ):
                inner = part
                break
    tensors = {n: t for n, t in _walk(inner, "", set()) if isinstance(t, torch.Tensor)}
    if not tensors:
        raise VtbenchError(
            f"{path} holds no tensors ({type(loaded).__name__} inside): it is not a checkpoint of weights"
        )
    for wrapper in _WRAPPERS * 2:
        if all(n.startswith(wrapper) for n in tensors):
            tensors = {n.removeprefix(wrapper): t for n, t in tensors.items()}
    return tensors


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
