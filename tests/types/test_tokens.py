"""Tokens: bits by arithmetic, packing both ways, refusals."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Bitstream, Codes, Latents, unpack


@pytest.mark.parametrize("alphabets", [(16384,), (2,) * 18, (5, 7, 1, 256), (1000, 3)])
def test_codes_pack_and_count(alphabets: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    books = [torch.randint(0, a, (3, 11), generator=generator) for a in alphabets]
    codes = Codes(torch.stack(books, dim=2), alphabets, (40, 24), grids=((11, 1),))
    for i, blob in enumerate(codes.pack()):
        again = unpack(blob)
        assert isinstance(again, Codes)
        assert torch.equal(again.indices, codes.indices[i : i + 1])
        assert (again.alphabets, again.size, again.grids) == (codes.alphabets, codes.size, codes.grids)
    assert codes.bits() == pytest.approx([11 * sum(math.log2(a) for a in alphabets)] * 3)
    # The packed body wastes less than one bit a symbol over the flat prior (and pads to a byte).
    body = len(codes.pack()[0]) - len(Codes(codes.indices[:, :0], alphabets, (40, 24), grids=((11, 1),)).pack()[0])
    assert body * 8 <= codes.bits()[0] + 11 * len(alphabets) + 16


def test_absent_positions_cost_nothing_but_the_length() -> None:
    indices = torch.tensor([[1, 2, -1, -1], [3, 0, 1, 2]])
    codes = Codes(indices, (4,), (8, 8), variable=True)
    assert codes.positions == [2, 4]
    assert codes.bits() == pytest.approx([2 * 2 + math.log2(3), 4 * 2 + math.log2(5)])
    # What pads an image to the longest of its batch is no part of its code, packed or not.
    assert torch.equal(unpack(codes.pack()[0]).indices, codes.indices[:1, :2])  # type: ignore[attr-defined]
    assert torch.equal(Codes.join([codes[0], codes[1]]).indices, codes.indices)
    assert Codes(indices[:1, :2], (4,), (8, 8), variable=True).pack() == codes.pack()[:1]
    assert codes[0].bits() == codes.bits()[0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_latents(dtype: torch.dtype) -> None:
    latents = Latents(torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(0)).to(dtype), (24, 40))
    assert list(latents.bits()) == [4 * 3 * 5 * dtype.itemsize * 8] * 2
    assert latents.positions == [15, 15]
    assert torch.equal(unpack(latents.pack()[1]).values, latents.values[1:2])  # type: ignore[attr-defined]


def test_bitstream() -> None:
    stream = Bitstream([b"abc", b""], (3, 5))
    assert list(stream.bits()) == [24, 0]
    assert unpack(stream.pack()[0]).data == [b"abc"]  # type: ignore[attr-defined]


def test_an_index_outside_its_alphabet_is_refused() -> None:
    with pytest.raises(VtbenchError, match="outside its alphabet"):
        Codes(torch.tensor([[0, 4]]), (4,), (8, 8))
    with pytest.raises(VtbenchError, match="outside its alphabet"):
        Codes(torch.tensor([[0, -2]]), (4,), (8, 8))
    with pytest.raises(VtbenchError, match="int64"):
        Codes(torch.zeros(1, 2), (4,), (8, 8))


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"VTB1",
        b"nonsense",
        b"VTB1\xff\xff\xff\xff{}",
        Codes(torch.ones(1, 9, dtype=torch.int64), (900,), (8, 8)).pack()[0][:-4],
    ],
)
def test_damaged_bytes_are_a_sentence(blob: bytes) -> None:
    with pytest.raises(VtbenchError):
        unpack(blob)


@pytest.mark.parametrize(("positions", "alphabet"), [(1, 5), (4, 3), (6, 7), (3, 2)])
def test_a_multiset_costs_the_logarithm_of_the_number_of_multisets(positions: int, alphabet: int) -> None:
    """Counted one by one; the order in which an encoder gives the tokens neither costs nor tells anything."""
    number = sum(1 for _ in itertools.combinations_with_replacement(range(alphabet), positions))
    indices = torch.randint(0, alphabet, (2, positions), generator=torch.Generator().manual_seed(1))
    codes = Codes(indices, (alphabet,), (8, 8), unordered=True)
    assert codes.bits() == pytest.approx([math.log2(number)] * 2, rel=1e-14)
    assert codes.ordered_bits() == pytest.approx([positions * math.log2(alphabet)] * 2)
    shuffled = Codes(indices.flip(1), (alphabet,), (8, 8), unordered=True)
    assert shuffled.pack() == codes.pack()
    again = unpack(codes.pack()[1])
    assert isinstance(again, Codes)
    assert again.unordered
    assert again.bits()[0] == codes.bits()[1]
    assert torch.equal(again.indices, codes[1].indices)
    assert torch.equal(Codes.join([codes[0], again]).indices, codes.indices)
    assert Codes.join([codes[0], again]).unordered


def test_what_has_an_order_is_no_multiset() -> None:
    with pytest.raises(VtbenchError, match="one book and a fixed number"):
        Codes(torch.zeros(1, 3, 2, dtype=torch.int64), (4, 4), (8, 8), unordered=True)
    for absent in (torch.tensor([[1, -1]]), torch.tensor([[1, 2]])):
        with pytest.raises(VtbenchError, match=r"one book and a fixed number|fixed length"):
            Codes(absent, (4,), (8, 8), variable=bool(absent.min() > 0), unordered=True)


def test_the_number_of_latents_is_paid_for_where_it_varies() -> None:
    values = torch.zeros(2, 7, 3, dtype=torch.float16)
    fixed, varied = Latents(values, (8, 8), 2), Latents(values, (8, 8), 2, variable=True)
    assert list(fixed.bits()) == [7 * 3 * 16] * 2
    assert list(varied.bits()) == pytest.approx([7 * 3 * 16 + 3] * 2)
    again = unpack(varied.pack()[0])
    assert isinstance(again, Latents)
    assert again.variable
    assert Latents.join([varied[0], varied[1]]).bits()[0] == varied.bits()[0]
    assert "variable" not in fixed.pack()[0].decode("latin-1"), "blobs of others stay what they were"
