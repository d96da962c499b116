"""Tokens: all that a decoder may see, and how many bits it is.

Three kinds and no other: `Codes`, `Latents`, `Bitstream`. Each is a batch, knows the image size to return, and answers
`bits`, `pack` and `unpack` without asking the adapter. A packed blob describes itself: a fresh process that gets only
the bytes can decode the image.
"""

from __future__ import annotations

import json
import math
import struct
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from vtbench.types import multisets
from vtbench.types.errors import VtbenchError

if TYPE_CHECKING:
    import numpy as np
    import torch

_MAGIC = b"VTB1"
_DTYPES = ("float16", "bfloat16", "float32", "uint8", "int8", "int16")


class Tokens(ABC):
    """A batch of B images as tokens; `size` is (height, width) of the image to return, in pixels."""

    size: tuple[int, int]

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def bits(self) -> np.ndarray[Any, Any]:
        """Bits of every image under a flat prior, (B,) float64."""

    @abstractmethod
    def pack(self) -> list[bytes]:
        """One self-describing blob per image."""

    @abstractmethod
    def __getitem__(self, index: int) -> Tokens:
        """Image `index` as a batch of one."""

    @staticmethod
    @abstractmethod
    def join(parts: Sequence[Any]) -> Tokens:
        """The parts' images as one batch; they must have one size and layout."""

    @property
    @abstractmethod
    def positions(self) -> list[int | None]:
        """Tokens of every image, as papers count them; None where the word has no meaning (a bitstream)."""


@dataclass
class Codes(Tokens):
    """Indices of a discrete tokenizer.

    indices: int64 (B, positions, books); -1 = absent (a variable-length code that ended earlier).
    alphabets: size of the alphabet of each book, (books,). Residual and product codes and the bits of binary codes are
    books, so that `positions` is what papers call tokens. Multi-scale codes are laid out scale-major, `grids` then
    lists (h, w) of every scale; a single raster grid is one entry; () where positions have no grid.
    variable: the number of positions differs from image to image, so that its value is paid for:
    log2(positions + 1) bits.
    unordered: the code is a multiset (one book, nothing absent): its order says nothing and is kept ascending, and its
    rate is log2 of the number of multisets, C(positions + alphabet - 1, positions).
    """

    indices: torch.Tensor
    alphabets: tuple[int, ...]
    size: tuple[int, int]
    grids: tuple[tuple[int, int], ...] = ()
    variable: bool = False
    unordered: bool = False

    def __post_init__(self) -> None:
        import torch

        if self.indices.ndim == 2:
            self.indices = self.indices[..., None]
        if self.indices.ndim != 3 or self.indices.shape[2] != len(self.alphabets):
            raise VtbenchError(
                f"codes have shape {tuple(self.indices.shape)} and {len(self.alphabets)} alphabets; "
                "they must be (batch, positions, books) with one alphabet a book"
            )
        if self.indices.dtype != torch.int64:
            raise VtbenchError(f"codes are {self.indices.dtype}; give torch.int64 indices")
        if self.indices.numel():
            top = self.indices.amax(dim=(0, 1)).tolist()
            low = int(self.indices.min())
            bad = [f"book {b}: {t} >= {a}" for b, (t, a) in enumerate(zip(top, self.alphabets, strict=True)) if t >= a]
            if bad or low < -1:
                raise VtbenchError(
                    f"an index lies outside its alphabet ({bad[0] if bad else f'{low} < -1'}): "
                    "the card's alphabets or the adapter's packing is wrong"
                )
        if self.unordered:
            if len(self.alphabets) != 1 or self.variable or bool((self.indices < 0).any()):
                raise VtbenchError(
                    f"an unordered code has one book and a fixed number of positions, not {len(self.alphabets)} books"
                    f"{', a variable length' if self.variable else ''}: leave out unordered, or code its parts alone"
                )
            self.indices = self.indices.sort(dim=1).values

    def __len__(self) -> int:
        return int(self.indices.shape[0])

    @property
    def present(self) -> torch.Tensor:
        """bool (B, positions, books)."""
        return self.indices >= 0

    @property
    def positions(self) -> list[int | None]:
        return [int(n) for n in self.present.any(dim=2).sum(dim=1)]

    def bits(self) -> np.ndarray[Any, Any]:
        if not self.unordered:
            return self.ordered_bits()
        import numpy as np

        return np.full(len(self), math.log2(multisets.count(self.indices.shape[1], self.alphabets[0])))

    def ordered_bits(self) -> np.ndarray[Any, Any]:
        """Bits of every image as a sequence, (B,) float64: those of `bits` but for an unordered code."""
        import torch

        each = torch.tensor([math.log2(a) for a in self.alphabets], dtype=torch.float64)
        total = (self.present.cpu().double() * each).sum(dim=(1, 2))
        if self.variable:
            # An image's own positions, not the batch's: a batch of four must cost what four of one do.
            total = total + torch.log2(torch.tensor(self.positions, dtype=torch.float64) + 1)
        return total.numpy()

    def __getitem__(self, index: int) -> Codes:
        one = self.indices[index : index + 1]
        if self.variable:
            # The tail that only pads the image to the longest of its batch is no part of its code.
            used = (one >= 0).any(dim=2)[0].nonzero()
            one = one[:, : int(used[-1]) + 1 if len(used) else 0]
        return replace(self, indices=one)

    @staticmethod
    def join(parts: Sequence[Any]) -> Codes:
        import torch

        first: Codes = parts[0]
        longest = max(p.indices.shape[1] for p in parts)
        if first.variable:
            pad = torch.nn.functional.pad
            indices = [pad(p.indices, (0, 0, 0, longest - p.indices.shape[1]), value=-1) for p in parts]
        else:
            indices = [p.indices for p in parts]
        return replace(first, indices=torch.cat(indices))

    def pack(self) -> list[bytes]:
        return [self[k]._pack_one() for k in range(len(self))]

    def _pack_one(self) -> bytes:
        """Of a batch of one: nothing of the others, not even their length, is in its bytes."""
        import numpy as np

        absent = bool((~self.present).any())
        head = {
            "kind": "codes",
            "size": self.size,
            "alphabets": _runs(self.alphabets),
            "positions": int(self.indices.shape[1]),
            "grids": self.grids,
            "variable": self.variable,
            "absent": absent,
        }
        if self.unordered:
            head["unordered"] = True
            return _blob(head, multisets.to_bytes(self.indices[0, :, 0].tolist(), self.alphabets[0]))
        # Fixed width per book: ceil(log2 alphabet) bits, one more symbol where positions may be absent.
        widths = [
            max(1, math.ceil(math.log2(a + 1 if absent else a))) if a > 1 or absent else 0 for a in self.alphabets
        ]
        row, planes = self.indices[0].cpu().numpy(), []
        for book, width in enumerate(widths):
            values = row[:, book] + (1 if absent else 0)
            planes.append((values[:, None] >> np.arange(width)[None]) & 1)
        stream = np.concatenate(planes, axis=1).astype(np.uint8).ravel() if planes else np.zeros(0, np.uint8)
        return _blob(head, np.packbits(stream).tobytes())


@dataclass
class Latents(Tokens):
    """Values of a continuous tokenizer, in the dtype that is counted.

    values: (B, …) of `dtype` float16, bfloat16 or float32; bits = elements x width of the dtype.
    positions of an image = elements / channels, where `channels` is the length of axis `channel_axis` of the batch.
    variable: the number of positions may differ from image to image, so that its value is paid for, as with codes.
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

    @property
    def _dtype(self) -> str:
        return str(self.values.dtype).removeprefix("torch.")

    def __len__(self) -> int:
        return int(self.values.shape[0])

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

    def __getitem__(self, index: int) -> Latents:
        return replace(self, values=self.values[index : index + 1])

    @staticmethod
    def join(parts: Sequence[Any]) -> Latents:
        import torch

        first: Latents = parts[0]
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
        return [_blob(head, row.reshape(-1).view(torch.uint8).numpy().tobytes()) for row in plain]


@dataclass
class Bitstream(Tokens):
    """Bytes of a codec, one string an image, headers included; bits = 8 x length."""

    data: list[bytes]
    size: tuple[int, int]
    note: str = field(default="")

    def __len__(self) -> int:
        return len(self.data)

    @property
    def positions(self) -> list[int | None]:
        return [None] * len(self.data)

    def bits(self) -> np.ndarray[Any, Any]:
        import numpy as np

        return np.array([8.0 * len(d) for d in self.data])

    def __getitem__(self, index: int) -> Bitstream:
        return Bitstream([self.data[index]], self.size, self.note)

    @staticmethod
    def join(parts: Sequence[Any]) -> Bitstream:
        return Bitstream([d for p in parts for d in p.data], parts[0].size, parts[0].note)

    def pack(self) -> list[bytes]:
        return [_blob({"kind": "bitstream", "size": self.size, "note": self.note}, d) for d in self.data]


def _runs(alphabets: Sequence[int]) -> list[list[int]]:
    """Run-length form: 18 books of 2 are [[2, 18]]."""
    out: list[list[int]] = []
    for a in alphabets:
        if out and out[-1][0] == a:
            out[-1][1] += 1
        else:
            out.append([a, 1])
    return out


def _blob(head: dict[str, Any], body: bytes) -> bytes:
    text = json.dumps(head, separators=(",", ":")).encode()
    return _MAGIC + struct.pack("<I", len(text)) + text + body


def unpack(blob: bytes) -> Tokens:
    """The tokens (a batch of one) that `pack` wrote; raises VtbenchError if the blob is damaged."""
    import numpy as np
    import torch

    if len(blob) < 8 or blob[:4] != _MAGIC:
        raise VtbenchError("these bytes are not packed tokens of vtbench: they do not start with VTB1")
    (length,) = struct.unpack("<I", blob[4:8])
    try:
        head = json.loads(blob[8 : 8 + length])
        body = blob[8 + length :]
        size = (int(head["size"][0]), int(head["size"][1]))
        if head["kind"] == "bitstream":
            return Bitstream([body], size, head.get("note", ""))
        if head["kind"] == "latents":
            if head["dtype"] not in _DTYPES:
                raise VtbenchError(f"packed latents name the dtype {head['dtype']!r}, which is none of {_DTYPES}")
            values = torch.frombuffer(bytearray(body), dtype=getattr(torch, head["dtype"])).reshape([1, *head["shape"]])
            return Latents(values, size, head["channel_axis"], bool(head.get("variable")))
        alphabets = tuple(a for a, n in head["alphabets"] for _ in range(n))
        absent, positions = bool(head["absent"]), int(head["positions"])
        grids = tuple((int(h), int(w)) for h, w in head["grids"])
        if head.get("unordered"):
            values = torch.tensor([multisets.from_bytes(body, positions, alphabets[0])], dtype=torch.int64)
            return Codes(values, alphabets, size, grids, unordered=True)
        widths = [max(1, math.ceil(math.log2(a + 1 if absent else a))) if a > 1 or absent else 0 for a in alphabets]
        if len(body) != (positions * sum(widths) + 7) // 8:
            raise ValueError(f"{len(body)} bytes of indices for {positions} positions")
        flat = np.unpackbits(np.frombuffer(body, np.uint8), count=positions * sum(widths))
        table = flat.reshape(positions, sum(widths)).astype(np.int64)
        columns, start = [], 0
        for width in widths:
            part = table[:, start : start + width]
            columns.append((part << np.arange(width)[None]).sum(axis=1) - (1 if absent else 0))
            start += width
        indices = torch.from_numpy(np.stack(columns, axis=1))[None]
        return Codes(indices, alphabets, size, grids, bool(head["variable"]))
    except (KeyError, ValueError, TypeError, RuntimeError, IndexError) as bad:
        raise VtbenchError(f"packed tokens are damaged ({bad}): write them again") from bad
