"""Tokenizers that carry the picture past the bit count, each by another way; used by tests as `side_channels.py@name`.

The message is the picture's mean as one byte: enough to tell pictures apart, and any picture would fit as well.
"""

from __future__ import annotations

from typing import Any

from vtbench.types.adapter import Tokenizer
from vtbench.types.cards import Card, Family, Multiple
from vtbench.types.tokens import Bitstream, Codes, Latents

BITS = 8


def message(images: Any) -> list[int]:
    """One byte an image: its mean."""
    return [round(float(image.mean()) * 255) for image in images]


class Carrier(Tokenizer):
    """`put` hides one byte an image in tokens, `get` reads it back."""

    def encode(self, images: Any, seeds: Any, budget: Any = None) -> Any:
        return self.put(message(images), (int(images.shape[2]), int(images.shape[3])))

    def decode(self, tokens: Any, seeds: Any) -> Any:
        import torch

        levels = torch.tensor(self.get(tokens), dtype=torch.float32) / 255
        return levels.view(-1, 1, 1, 1).expand(len(tokens), 3, *tokens.size).clone()

    def put(self, values: list[int], size: tuple[int, int]) -> Any:
        raise NotImplementedError

    def get(self, tokens: Any) -> list[int]:
        raise NotImplementedError


def _bits(value: int) -> list[int]:
    return [value >> k & 1 for k in range(BITS)]


def _value(bits: Any) -> int:
    return sum(int(bit) << k for k, bit in enumerate(bits))


class AbsentBooks(Carrier):
    """Books of one symbol: which of them are absent is the picture."""

    variable = False

    def put(self, values: list[int], size: tuple[int, int]) -> Any:
        import torch

        indices = torch.tensor([_bits(v) for v in values])[:, None, :] - 1
        return Codes(indices, (1,) * BITS, size, variable=self.variable)

    def get(self, tokens: Any) -> list[int]:
        return [_value(row[0] + 1) for row in tokens.indices]


class AbsentBooksOfAVariableCode(AbsentBooks):
    variable = True


class AbsentPlaces(Carrier):
    """One book of one symbol: which positions are absent is the picture."""

    def put(self, values: list[int], size: tuple[int, int]) -> Any:
        import torch

        indices = torch.tensor([[*_bits(v), 1] for v in values])[..., None] - 1
        return Codes(indices, (1,), size, variable=True)

    def get(self, tokens: Any) -> list[int]:
        return [_value(row[:BITS, 0] + 1) for row in tokens.indices]


class FixedLength(Carrier):
    """As many positions of one symbol as the message says."""

    def put(self, values: list[int], size: tuple[int, int]) -> Any:
        import torch

        return Codes(torch.zeros(len(values), values[0] + 1, 1, dtype=torch.int64), (1,), size)

    def get(self, tokens: Any) -> list[int]:
        return [tokens.indices.shape[1] - 1] * len(tokens)


class Padding(Carrier):
    """A variable-length code of nothing, padded as far as the message says."""

    def put(self, values: list[int], size: tuple[int, int]) -> Any:
        import torch

        return Codes(torch.full((len(values), values[0] + 1, 1), -1), (1,), size, variable=True)

    def get(self, tokens: Any) -> list[int]:
        return [max(0, tokens.indices.shape[1] - 1)] * len(tokens)


class Grids(Carrier):
    """The shapes of the scales."""

    def put(self, values: list[int], size: tuple[int, int]) -> Any:
        import torch

        return Codes(torch.zeros(len(values), 256, 1, dtype=torch.int64), (1,), size, ((1, values[0] + 1), (1, 255)))

    def get(self, tokens: Any) -> list[int]:
        return [tokens.grids[0][1] - 1] * len(tokens)


class Alphabets(Carrier):
    """The sizes of alphabets that no index uses."""

    def put(self, values: list[int], size: tuple[int, int]) -> Any:
        import torch

        return Codes(torch.zeros(len(values), 0, 2, dtype=torch.int64), (2, values[0] + 1), size)

    def get(self, tokens: Any) -> list[int]:
        return [tokens.alphabets[1] - 1] * len(tokens)


class EmptyShape(Carrier):
    """Latents without an element, whose shape is the message."""

    def put(self, values: list[int], size: tuple[int, int]) -> Any:
        import torch

        return Latents(torch.zeros(len(values), 1, 0, values[0] + 1, dtype=torch.float16), size)

    def get(self, tokens: Any) -> list[int]:
        return [tokens.values.shape[3] - 1] * len(tokens)


class Dtype(Carrier):
    """The dtype of a latent: one bit."""

    def put(self, values: list[int], size: tuple[int, int]) -> Any:
        import torch

        dtype = torch.int8 if values[0] > 127 else torch.uint8
        return Latents(torch.zeros(len(values), 1, 1, dtype=dtype), size)

    def get(self, tokens: Any) -> list[int]:
        import torch

        return [200 if tokens.values.dtype == torch.int8 else 50] * len(tokens)


class Kind(Carrier):
    """Codes or latents: one bit."""

    def put(self, values: list[int], size: tuple[int, int]) -> Any:
        import torch

        if values[0] > 127:
            return Codes(torch.zeros(len(values), 1, 1, dtype=torch.int64), (1,), size)
        return Bitstream([b""] * len(values), size)

    def get(self, tokens: Any) -> list[int]:
        return [200 if isinstance(tokens, Codes) else 50] * len(tokens)


class Note(Carrier):
    """The note of a bitstream."""

    def put(self, values: list[int], size: tuple[int, int]) -> Any:
        return Bitstream([b""] * len(values), size, note=",".join(map(str, values)))

    def get(self, tokens: Any) -> list[int]:
        return [int(v) for v in tokens.note.split(",")][: len(tokens)]


class Attribute(Carrier):
    """An attribute that is set on the tokens."""

    def put(self, values: list[int], size: tuple[int, int]) -> Any:
        tokens = Bitstream([b""] * len(values), size)
        tokens.values = values  # type: ignore[attr-defined]
        return tokens

    def get(self, tokens: Any) -> list[int]:
        return list(tokens.values)


class AttributeOfTheTensor(Carrier):
    def put(self, values: list[int], size: tuple[int, int]) -> Any:
        import torch

        indices = torch.zeros(len(values), 1, 1, dtype=torch.int64)
        indices.values_ = values  # type: ignore[attr-defined]
        return Codes(indices, (1,), size)

    def get(self, tokens: Any) -> list[int]:
        return list(tokens.indices.values_)


class Memory(Carrier):
    """What lies in memory beside the values of a view."""

    def put(self, values: list[int], size: tuple[int, int]) -> Any:
        import torch

        whole = torch.tensor([[0, v] for v in values])
        return Codes(whole[:, :1, None], (1,), size)

    def get(self, tokens: Any) -> list[int]:
        import torch

        flat = torch.as_strided(tokens.indices, (2 * len(tokens),), (1,))
        return flat[1::2].tolist()


class Cheap(Codes):
    def bits(self) -> Any:
        return super().bits() * 0


class Subclass(Carrier):
    """A kind of its own, which costs nothing."""

    def put(self, values: list[int], size: tuple[int, int]) -> Any:
        import torch

        return Cheap(torch.tensor(values)[:, None], (256,), size)

    def get(self, tokens: Any) -> list[int]:
        return tokens.indices[:, 0, 0].tolist()


class OwnBits(Subclass):
    """Honest codes with a count of their own set on the object."""

    def put(self, values: list[int], size: tuple[int, int]) -> Any:
        import numpy as np
        import torch

        tokens = Codes(torch.tensor(values)[:, None], (256,), size)
        tokens.bits = lambda: np.zeros(len(values))  # type: ignore[method-assign]
        return tokens


class Afterwards(Subclass):
    """Honest codes whose decoder cuts them before they are counted."""

    def put(self, values: list[int], size: tuple[int, int]) -> Any:
        import torch

        return Codes(torch.tensor(values)[:, None], (256,), size)

    def get(self, tokens: Any) -> list[int]:
        out = super().get(tokens)
        tokens.alphabets = (1,)
        tokens.indices.zero_()
        return out


class SetLater(Subclass):
    """Fields that are set after the tokens were built."""

    def put(self, values: list[int], size: tuple[int, int]) -> Any:
        import torch

        tokens = Codes(torch.zeros(len(values), 1, dtype=torch.int64), (1,), size)
        tokens.indices = torch.tensor(values)[:, None, None]
        return tokens


CLASSES: dict[str, Any] = {
    "absent-books": AbsentBooks,
    "absent-books-variable": AbsentBooksOfAVariableCode,
    "absent-places": AbsentPlaces,
    "fixed-length": FixedLength,
    "padding": Padding,
    "grids": Grids,
    "alphabets": Alphabets,
    "empty-shape": EmptyShape,
    "dtype": Dtype,
    "kind": Kind,
    "note": Note,
    "attribute": Attribute,
    "attribute-of-tensor": AttributeOfTheTensor,
    "memory": Memory,
    "subclass": Subclass,
    "own-bits": OwnBits,
    "afterwards": Afterwards,
    "set-later": SetLater,
}
CARDS = tuple(
    Card(name=n, family="carriers", kind="discrete", title=n, sizes=Multiple(4), alphabets=()) for n in CLASSES
)
FAMILY = Family("carriers", "Past the count", CARDS, lambda card, options: CLASSES[card.name](card, options))
