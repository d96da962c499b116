"""Tokens: all that a decoder may see, and how many bits it is.

Three kinds and no other: `Codes`, `Latents`, `Bitstream`. Each is a batch, knows the image size to return, and answers
`bits`, `pack` and `unpack` without asking the adapter. A packed blob describes itself: a fresh process that gets only
the bytes can decode the image.

What a decoder can read is counted (`bits`), or it is `layout`, which is the same for every image of one size and so
says nothing of any; the types refuse what would be neither, and `counted` leaves everything else behind.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from vtbench.types import multisets
from vtbench.types.codes import Codes
from vtbench.types.errors import VtbenchError
from vtbench.types.packing import blob, read_rows, split
from vtbench.types.token_batch import Tokens, alike, pair

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = ["Bitstream", "Codes", "Latents", "Tokens", "counted", "unpack", "unpack_batches"]

_DTYPES = ("float16", "bfloat16", "float32", "uint8", "int8", "int16")


@dataclass
class Latents(Tokens):
    """Values of a continuous tokenizer, in the dtype that is counted.

    values: (B, …) of `dtype` float16, bfloat16 or float32; bits = elements x width of the dtype.
    positions of an image = elements / channels, where `channels` is the length of axis `channel_axis` of the batch.
    variable: the number of positions may differ from image to image, so that its value is paid for, as with codes;
    values are then (B, positions, channels) or (B, channels, positions), with one number that may differ.
    """

    values: torch.Tensor
    size: tuple[int, int]
    channel_axis: int = 1
    variable: bool = False

    def __post_init__(self) -> None:
        if self._dtype not in _DTYPES:
            raise VtbenchError(
                f"latents are {self.values.dtype}; the counted dtype must be one of {', '.join(_DTYPES)}"
            )
        self.size, self.variable = pair("size", self.size), bool(self.variable)
        axis, axes = operator.index(self.channel_axis), self.values.ndim
        self.channel_axis = axis + axes if axis < 0 else axis
        if not 0 < self.channel_axis < axes or not self.values.shape[self.channel_axis]:
            raise VtbenchError(
                f"latents of shape {tuple(self.values.shape)} have no channels at axis {axis}: "
                "give the axis, from 1, of at least one channel"
            )
        if self.variable and axes != 3:
            raise VtbenchError(
                f"latents of a variable length have shape {tuple(self.values.shape)}: give (batch, positions, "
                "channels), whose one length is paid for"
            )

    @property
    def _dtype(self) -> str:
        return str(self.values.dtype).removeprefix("torch.")

    def __len__(self) -> int:
        return int(self.values.shape[0])

    def on(self, device: str, dtype: torch.dtype) -> torch.Tensor:
        """The values for a decoder: on `device`, in `dtype`.

        Tokens carry no layout, so the decoder's is chosen here. Maps on a CPU have channels last, in which convolutions
        are quicker (TAESD's by a quarter, a KL autoencoder's by a twentieth), whoever made them and wherever they lay.
        """
        import torch

        values = self.values.to(device=device, dtype=dtype)
        cpu_maps = values.ndim == 4 and self.channel_axis == 1 and values.device.type == "cpu"
        return values.contiguous(memory_format=torch.channels_last) if cpu_maps else values

    @property
    def positions(self) -> list[int | None]:
        each = self.values[0].numel() // self.values.shape[self.channel_axis] if len(self) else 0
        return [each] * len(self)

    def bits(self) -> np.ndarray[Any, Any]:
        import numpy as np

        each = float(self.values[0].numel() * self.values.element_size() * 8) if len(self) else 0.0
        if self.variable and len(self):
            each += math.log2((self.positions[0] or 0) + 1)
        return np.full(len(self), each)

    def layout(self) -> dict[str, Any]:
        shape = [int(n) for n in self.values.shape[1:]]
        if self.variable:
            shape[2 - self.channel_axis] = -1
        return {
            "kind": "latents",
            "size": list(self.size),
            "dtype": self._dtype,
            "shape": shape,
            "channel_axis": self.channel_axis,
            "variable": self.variable,
        }

    def __getitem__(self, index: int) -> Latents:
        return replace(self, values=self.values[index : index + 1])

    @staticmethod
    def join(parts: Sequence[Any]) -> Latents:
        import torch

        first: Latents = alike(parts)
        return replace(first, values=torch.cat([p.values for p in parts]))

    def pack(self) -> list[bytes]:
        import torch

        head = {
            "kind": "latents",
            "size": self.size,
            "dtype": self._dtype,
            "shape": list(self.values.shape[1:]),
            "channel_axis": self.channel_axis,
        }
        if self.variable:
            head["variable"] = True
        plain = self.values.detach().cpu().contiguous()
        return [blob(head, row.reshape(-1).view(torch.uint8).numpy().tobytes()) for row in plain]


@dataclass
class Bitstream(Tokens):
    """Bytes of a codec, one string an image, headers included; bits = 8 x length.

    note: a text that every image's decoder reads; its bytes are counted with each image's own.
    """

    data: list[bytes]
    size: tuple[int, int]
    note: str = field(default="")

    def __post_init__(self) -> None:
        self.size = pair("size", self.size)
        other = next((d for d in self.data if not isinstance(d, bytes | bytearray | memoryview)), None)
        if other is not None or not isinstance(self.note, str):
            what = self.note if other is None else other
            raise VtbenchError(f"a bitstream holds {type(what).__name__}: give bytes, one string an image, and no more")
        self.data = [bytes(d) for d in self.data]

    def __len__(self) -> int:
        return len(self.data)

    @property
    def positions(self) -> list[int | None]:
        return [None] * len(self.data)

    def bits(self) -> np.ndarray[Any, Any]:
        import numpy as np

        return np.array([8.0 * (len(d) + len(self.note.encode(errors="surrogatepass"))) for d in self.data])

    def layout(self) -> dict[str, Any]:
        return {"kind": "bitstream", "size": list(self.size)}

    def __getitem__(self, index: int) -> Bitstream:
        return Bitstream([self.data[index]], self.size, self.note)

    @staticmethod
    def join(parts: Sequence[Any]) -> Bitstream:
        first: Bitstream = alike(parts)
        return Bitstream([d for p in parts for d in p.data], first.size, first.note)

    def pack(self) -> list[bytes]:
        return [blob({"kind": "bitstream", "size": self.size, "note": self.note}, d) for d in self.data]


def counted(tokens: Any) -> Tokens:
    """A copy of tokens with what their kind declares and nothing else: no attributes set on them or on their tensors,
    no memory beside their values, no class of somebody's that counts its bits another way."""
    import torch

    def plain(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.detach().as_subclass(torch.Tensor).clone(memory_format=torch.contiguous_format)

    if type(tokens) is Codes:
        return Codes(
            plain(tokens.indices), tokens.alphabets, tokens.size, tokens.grids, tokens.variable, tokens.unordered
        )
    if type(tokens) is Latents:
        return Latents(plain(tokens.values), tokens.size, tokens.channel_axis, tokens.variable)
    if type(tokens) is Bitstream:
        return Bitstream([bytes(bytearray(d)) for d in tokens.data], tokens.size, str(tokens.note))
    raise VtbenchError(f"tokens are {type(tokens).__name__}: give vtbench's Codes, Latents or Bitstream as they are")


def unpack(packed: bytes) -> Tokens:
    """The tokens (a batch of one) that `pack` wrote; raises VtbenchError if the blob is damaged."""
    import torch

    try:
        head, body = split(packed)
        size = (int(head["size"][0]), int(head["size"][1]))
        if head["kind"] == "bitstream":
            return Bitstream([body], size, head.get("note", ""))
        if head["kind"] == "latents":
            if head["dtype"] not in _DTYPES:
                raise VtbenchError(f"packed latents name the dtype {head['dtype']!r}, which is none of {_DTYPES}")
            values = torch.frombuffer(bytearray(body), dtype=getattr(torch, head["dtype"])).reshape([1, *head["shape"]])
            return Latents(values, size, head["channel_axis"], bool(head.get("variable")))
        return _codes(head, [body])
    except _DAMAGED as bad:
        raise VtbenchError(f"packed tokens are damaged ({bad}): write them again") from bad


_DAMAGED = (KeyError, ValueError, TypeError, RuntimeError, IndexError)


def _codes(head: Mapping[str, Any], bodies: Sequence[bytes]) -> Codes:
    """The codes of images that have one head; of an unordered code, of one image."""
    import torch

    size = (int(head["size"][0]), int(head["size"][1]))
    alphabets = tuple(a for a, n in head["alphabets"] for _ in range(n))
    grids = tuple((int(h), int(w)) for h, w in head["grids"])
    positions = int(head["positions"])
    if head.get("unordered"):
        values = torch.tensor([multisets.from_bytes(bodies[0], positions, alphabets[0])], dtype=torch.int64)
        return Codes(values, alphabets, size, grids, unordered=True)
    if head["absent"]:
        raise VtbenchError(
            "packed tokens have absent ones between others, which an older vtbench did not count: run it again"
        )
    indices = torch.from_numpy(read_rows(bodies, alphabets, positions))
    return Codes(indices, alphabets, size, grids, bool(head["variable"]))


TOGETHER = 1 << 16
"""Bytes of packed codes that are unpacked at once."""


def unpack_batches(packed: Iterable[bytes]) -> Iterator[Tokens | None]:
    """The tokens of every blob, in order: as `unpack` gives them, None for an empty blob. Codes that follow each other
    and have one head come as one batch, which costs a tenth; errors are those of `unpack`."""
    waiting: list[bytes] = []
    for one in packed:
        if waiting and not _alike(waiting, one):
            yield from _unpacked(waiting)
            waiting = []
        if one:
            waiting.append(one)
        else:
            yield None
    yield from _unpacked(waiting)


def _alike(waiting: Sequence[bytes], other: bytes) -> bool:
    """Whether one batch can hold these blobs and the other."""
    first = waiting[0]
    head = 8 + int.from_bytes(first[4:8], "little")
    return len(other) == len(first) and other[:head] == first[:head] and len(first) * len(waiting) < TOGETHER


def _unpacked(packed: Sequence[bytes]) -> Iterator[Tokens]:
    """Blobs of one head and length as one batch; one by one where they are no codes, or one of them is damaged."""
    if len(packed) > 1:
        try:
            head = split(packed[0])[0]
            batch = _codes(head, [split(one)[1] for one in packed]) if _ordered(head) else None
        except (VtbenchError, *_DAMAGED):
            batch = None
        if batch is not None:
            yield batch
            return
    yield from map(unpack, packed)


def _ordered(head: Mapping[str, Any]) -> bool:
    return head["kind"] == "codes" and not head.get("unordered")
