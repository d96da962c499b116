"""Tokens of every shape: what is packed comes back, and the bits are those of arithmetic, whatever the batch."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vtbench.types import multisets
from vtbench.types.packing import read_indices, runs, write_indices
from vtbench.types.tokens import Bitstream, Codes, Latents, counted, unpack

QUICK = settings(derandomize=True, max_examples=40, deadline=None, database=None)
SIZES = st.tuples(st.integers(1, 4096), st.integers(1, 4096))
ALPHABETS = st.lists(st.one_of(st.integers(1, 5), st.integers(1, 2**40)), min_size=1, max_size=4)


@st.composite
def codes(draw: Any) -> Codes:
    """Up to three images of up to nine positions; those of a variable length end where they like."""
    alphabets, variable = tuple(draw(ALPHABETS)), draw(st.booleans())
    images, positions = draw(st.integers(1, 3)), draw(st.integers(0, 9))
    table = torch.full((images, positions, len(alphabets)), -1, dtype=torch.int64)
    for row in table:
        length = draw(st.integers(0, positions)) if variable else positions
        for book, alphabet in enumerate(alphabets):
            # The ends of an alphabet are where a width in bits is wrong by one.
            index = st.one_of(st.integers(0, alphabet - 1), st.sampled_from([0, alphabet - 1]))
            row[:length, book] = torch.tensor(draw(st.lists(index, min_size=length, max_size=length)))
    grids = ((positions, 1),) if positions and draw(st.booleans()) else ()
    return Codes(table, alphabets, draw(SIZES), grids, variable)


@given(codes())
@QUICK
def test_codes_come_back_from_their_bytes_and_cost_their_logarithms(tokens: Codes) -> None:
    for image, (blob, bits) in enumerate(zip(tokens.pack(), tokens.bits(), strict=True)):
        row = tokens.indices[image]
        length = int((row[:, 0] >= 0).sum())
        flat = length * sum(math.log2(a) for a in tokens.alphabets)
        assert bits == pytest.approx(flat + (math.log2(length + 1) if tokens.variable else 0.0), rel=1e-12)
        again = unpack(blob)
        assert isinstance(again, Codes)
        assert torch.equal(again.indices[0], row[:length])
        assert again.layout() == tokens.layout()
        assert again.bits()[0] == tokens[image].bits()[0] == bits
        assert again.pack() == [blob]
    assert tokens.positions == [p for i in range(len(tokens)) for p in tokens[i].positions]


@given(codes())
@QUICK
def test_a_batch_is_its_images_one_by_one(tokens: Codes) -> None:
    joined = Codes.join([tokens[i] for i in range(len(tokens))])
    assert torch.equal(joined.indices, tokens.indices)
    assert list(joined.bits()) == list(tokens.bits())
    assert joined.pack() == tokens.pack()
    assert torch.equal(counted(tokens).indices, tokens.indices)  # type: ignore[attr-defined]


@given(codes())
@QUICK
def test_indices_are_whole_bits_of_each_book_and_pad_to_a_byte(tokens: Codes) -> None:
    for row in (tokens[i].indices[0].numpy() for i in range(len(tokens))):
        body = write_indices(row, tokens.alphabets)
        widths = [math.ceil(math.log2(a)) for a in tokens.alphabets]
        assert len(body) == math.ceil(len(row) * sum(widths) / 8)
        assert (read_indices(body, tokens.alphabets, len(row)) == row).all()
        with pytest.raises(ValueError, match="bytes of indices"):
            read_indices(body + b"\0", tokens.alphabets, len(row))
    assert [a for a, n in runs(tokens.alphabets) for _ in range(n)] == list(tokens.alphabets)


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=4), SIZES, st.text(max_size=8))
@QUICK
def test_a_bitstream_is_its_bytes_and_its_note(data: list[bytes], size: tuple[int, int], note: str) -> None:
    """What every decoder reads is counted with each image: UTF-8 of the note, as it would be sent."""
    stream = Bitstream(data, size, note)
    written = len(note.encode("utf-8", "surrogatepass"))
    assert list(stream.bits()) == [8 * (len(d) + written) for d in data]
    for image, blob in enumerate(stream.pack()):
        again = unpack(blob)
        assert isinstance(again, Bitstream)
        assert (again.data, again.size, again.note) == ([data[image]], size, note)
    assert Bitstream.join([stream[i] for i in range(len(data))]) == stream
    assert counted(stream) == stream


@given(
    st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.uint8, torch.int16]),
    st.lists(st.integers(1, 4), min_size=2, max_size=3),
    st.booleans(),
    st.integers(0, 2**31),
)
@QUICK
def test_latents_cost_their_dtype_and_come_back(
    dtype: torch.dtype, shape: list[int], variable: bool, seed: int
) -> None:
    variable = variable and len(shape) == 2
    noise = torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed))
    latents = Latents((noise * 40).to(dtype), (8, 8), 1, variable)
    length = math.prod(shape[1:])
    wanted = math.prod(shape) * dtype.itemsize * 8 + (math.log2(length + 1) if variable else 0)
    assert list(latents.bits()) == pytest.approx([wanted] * 2, rel=1e-14)
    assert latents.positions == [length] * 2
    for image, blob in enumerate(latents.pack()):
        again = unpack(blob)
        assert isinstance(again, Latents)
        assert torch.equal(again.values, latents.values[image : image + 1])
        assert again.layout() == latents.layout()
    assert torch.equal(Latents.join([latents[0], latents[1]]).values, latents.values)
    assert torch.equal(counted(latents).values, latents.values)  # type: ignore[attr-defined]


@given(st.lists(st.integers(0, 6), max_size=7), st.integers(0, 3))
@QUICK
def test_a_multiset_is_one_number_below_their_number(values: list[int], spare: int) -> None:
    ordered, alphabet = sorted(values), 7 + spare
    body = multisets.to_bytes(ordered, alphabet)
    assert multisets.from_bytes(body, len(ordered), alphabet) == ordered
    assert int.from_bytes(body, "big") < multisets.count(len(ordered), alphabet)
    assert len(body) == multisets.size(len(ordered), alphabet)
