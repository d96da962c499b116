"""Pickled checkpoints read without ever running what is in them.

`torch.load(weights_only=True)` first. Training checkpoints often hold objects of classes that are not installed
(configs, trainers, whole modules): those are rebuilt as inert stubs, which keep their contents and run nothing.
"""

from __future__ import annotations

import io
import pickle
import struct
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from vtbench.models.pickle_limits import LEGACY_MAGIC, NoPickle, check
from vtbench.models.pickled_arrays import CONSTRUCTORS, room_for, take_room
from vtbench.models.torch_archives import check_archive
from vtbench.types.errors import VtbenchError
from vtbench.types.foreign import cause, reading

if TYPE_CHECKING:
    import torch


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


def read_pickle(path: Path) -> Any:
    """The content of a pickled checkpoint, every unknown class a `Stub`; raises VtbenchError if it is damaged."""
    import torch

    with reading(path, "a checkpoint", DAMAGED):
        archive = check_pickled(path)
        if archive and is_script(path):
            # Some releases of torch hand these to torch.jit.load, which may run what is in them.
            return _zip_load(path)
        try:
            with warnings.catch_warnings():
                # About pickle protocols: either it loads, or the sentence below says why not.
                warnings.simplefilter("ignore")
                return torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
        except Exception as bad:
            # A damaged file makes torch raise anything; and our own reader takes more than torch does.
            refusal = bad
        if archive:
            return _zip_load(path)
        try:
            with path.open("rb") as source, room_for(path.stat().st_size):
                return _legacy_load(source, path.stat().st_size)
        except Exception:
            # Whatever a damaged file makes this reader stumble over, torch's own refusal tells more.
            raise _not_a_checkpoint(path, refusal) from None


DAMAGED = "it is truncated, damaged or not a checkpoint"


def check_pickled(path: Path) -> bool:
    """Refuses, before anything of the file is built, what no checkpoint holds. True if it is an archive of torch's."""
    with reading(path, "a checkpoint", DAMAGED):
        try:
            with path.open("rb") as source:
                # By the mark that torch itself goes by: a pickle may have an archive behind it.
                archive = source.read(4) == b"PK\x03\x04"
                if not archive:
                    source.seek(0)
                    check(source, path.stat().st_size)
            if archive:
                with zipfile.ZipFile(path) as opened:
                    check_archive(path, opened)
        except NoPickle as bad:
            raise _not_a_checkpoint(path, bad) from bad
    return archive


def is_script(path: Path) -> bool:
    """True for a TorchScript archive: code, with the tensors of its modules."""
    with reading(path, "a checkpoint", DAMAGED):
        if not zipfile.is_zipfile(path):
            return False
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_script(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a TorchScript archive by the names of its state dict; none of its code runs.

    Raises VtbenchError if it is damaged, or holds none.
    """
    with reading(path, "a TorchScript archive", DAMAGED):
        check_pickled(path)
        out = dict(_tensors(_zip_load(path), "", set()))
    if not out:
        raise VtbenchError(f"{path} is a TorchScript archive without tensors: give a file of weights")
    return out


def _tensors(module: Any, prefix: str, seen: set[int]) -> Iterator[tuple[str, torch.Tensor]]:
    """A module that stands in several places is named by the first: a hostile file may hold each twice in the next."""
    import torch

    if isinstance(module, torch.Tensor):
        yield prefix, module
    elif isinstance(module, Stub) and id(module) not in seen:
        seen.add(id(module))
        for name, part in vars(module).items():
            yield from _tensors(part, f"{prefix}.{name}" if prefix else name, seen)


def _not_a_checkpoint(path: Path, refusal: Exception) -> VtbenchError:
    """torch's refusal of a file in our words: its own text goes on to advise loading the file unsafely."""
    with path.open("rb") as source:
        start = source.read(2)
    if start[:1] != b"\x80" and start != b"PK":
        return VtbenchError(
            f"{path} is not a checkpoint ({'it is empty' if not start else f'it starts with {start!r}'}): "
            "give a .safetensors file, or one that torch.save wrote"
        )
    reason = str(refusal) if isinstance(refusal, NoPickle) else cause(refusal)
    if isinstance(refusal, pickle.UnpicklingError) or "weights_only" in str(refusal):
        reason = "a pickle, but not one that torch.save made of tensors; nothing in it was run"
    return VtbenchError(f"{path} cannot be read as a checkpoint ({reason}): {DAMAGED}")


# -- constructors that tensors need ----------------------------------------------------------------------------------


def _storage_dtypes() -> dict[str, torch.dtype]:
    import torch

    return {
        "FloatStorage": torch.float32,
        "DoubleStorage": torch.float64,
        "HalfStorage": torch.float16,
        "BFloat16Storage": torch.bfloat16,
        "LongStorage": torch.int64,
        "IntStorage": torch.int32,
        "ShortStorage": torch.int16,
        "CharStorage": torch.int8,
        "ByteStorage": torch.uint8,
        "BoolStorage": torch.bool,
        "ComplexFloatStorage": torch.complex64,
        "ComplexDoubleStorage": torch.complex128,
        # Bytes whose dtype the tensor states itself (float8, uint16, …).
        "UntypedStorage": torch.uint8,
    }


def _dtype(name: str) -> torch.dtype | None:
    import torch

    value = getattr(torch, name, None)
    return value if isinstance(value, torch.dtype) else None


class _StorageType:
    def __init__(self, name: str) -> None:
        self.name = name


def _rebuild_tensor(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> Any:
    import torch

    return torch.as_strided(storage, tuple(size), tuple(stride), int(offset)) if storage is not None else Stub()


def _rebuild_tensor_v3(
    storage: Any, offset: int, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *_: Any
) -> Any:
    import torch

    if storage is None or not isinstance(dtype, torch.dtype):
        return Stub()
    return torch.as_strided(storage.view(dtype), tuple(size), tuple(stride), int(offset))


def _rebuild_from_type(rebuild: Any, kind: Any, args: Any, state: Any) -> Any:
    """A tensor of a subclass, or with attributes: the tensor. `rebuild` is one of ours, or a stub."""
    return rebuild(*args)


def _rebuild_parameter(data: Any, *_: Any) -> Any:
    return data


def _storage_of_bytes(content: Any = None, *_: Any) -> Any:
    """How a plain `pickle.dump` of tensors keeps a storage: as bytes in torch's old format."""
    if not isinstance(content, bytes):
        return None
    take_room(len(content))
    check(io.BytesIO(content), len(content))
    return _legacy_load(io.BytesIO(content), len(content))


def _new_ordered_dict(*args: Any) -> OrderedDict[Any, Any]:
    return OrderedDict(*args)


_HARMLESS: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _rebuild_tensor_v3,
    ("torch._tensor", "_rebuild_from_type_v2"): _rebuild_from_type,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _rebuild_parameter,
    ("collections", "OrderedDict"): _new_ordered_dict,
    ("torch.storage", "_load_from_bytes"): _storage_of_bytes,
    **CONSTRUCTORS,
}
"""(module, name) in a pickle -> what is called in its place. Besides these, dtypes and storages nothing is real."""


class _Unpickler(pickle.Unpickler):
    """Knows the handful of constructors that tensors need; every other global becomes a Stub."""

    def __init__(self, source: IO[bytes], storages: Callable[[Any], Any]) -> None:
        super().__init__(source, encoding="utf-8")
        self._storages = storages

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _HARMLESS:
            return _HARMLESS[module, name]
        if module == "torch" and (dtype := _dtype(name)) is not None:
            return dtype
        if module in ("torch", "torch.storage") and name.endswith("Storage"):
            return _StorageType(name)
        return type(name if name.isidentifier() else "Unknown", (Stub,), {"__module__": "vtbench.stub"})

    def persistent_load(self, pid: Any) -> Any:
        return self._storages(pid)


# -- torch's two formats ---------------------------------------------------------------------------------------------


def _zip_load(path: Path) -> Any:
    """The object in a checkpoint of torch's zip format, which was checked; tensors alone alive."""
    import torch

    with zipfile.ZipFile(path) as archive, room_for(path.stat().st_size):
        (name,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        root = name.removesuffix("data.pkl")
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

        return _Unpickler(io.BytesIO(archive.read(name)), storage).load()


def read_plain_pickle(content: bytes) -> Any:
    """The one object that Python's own pickle wrote, every unknown class a `Stub`; nothing in it runs.

    Raises NoPickle for what is none; and whatever a damaged one makes it stumble over.
    """
    check(io.BytesIO(content), len(content))
    with room_for(len(content)):
        return _Unpickler(io.BytesIO(content), lambda pid: None).load()


def _legacy_load(source: IO[bytes], size: int) -> Any:
    """The object in a checkpoint of torch's format before 1.6: four pickles, the storages' keys, then their bytes.

    A plain pickle of a dictionary is read too. `size`: bytes of the file, which no storage can exceed.
    """
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
        if key not in kept and dtype is not None and 0 <= length * dtype.itemsize <= size:
            # Filled below: the bytes stand behind the pickles.
            take_room(length * dtype.itemsize)
            kept[key] = torch.empty(length, dtype=dtype)
        return kept.get(key)

    first = _Unpickler(source, storage).load()
    if isinstance(first, dict):
        return first
    if first != LEGACY_MAGIC:
        raise VtbenchError("the file does not start like a torch checkpoint")
    for _ in ("protocol", "system"):
        _Unpickler(source, storage).load()
    content = _Unpickler(source, storage).load()
    for key in _Unpickler(source, storage).load():
        (length,) = struct.unpack("<q", source.read(8))
        target = kept[str(key)]
        raw = source.read(length * target.element_size())
        target.copy_(torch.frombuffer(bytearray(raw), dtype=target.dtype))
    return content
