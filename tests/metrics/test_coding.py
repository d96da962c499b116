"""Written bytes: whatever is coded comes back, at about what its model says it costs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vtbench.metrics import entropy_coding
from vtbench.types.tokens import Codes

QUICK = settings(derandomize=True, max_examples=25, deadline=None, database=None)


@given(st.integers(0, 2**40))
@QUICK
def test_a_length_is_written_in_groups_of_seven_bits(value: int) -> None:
    head = entropy_coding.varint(value)
    assert len(head) == max(1, math.ceil(value.bit_length() / 7))
    assert all(byte >= 128 for byte in head[:-1])
    assert head[-1] < 128
    assert sum((byte & 127) << 7 * i for i, byte in enumerate(head)) == value


@given(
    st.lists(st.sampled_from([1, 2, 3, 17, 400]), min_size=1, max_size=3),
    st.integers(0, 200),
    st.booleans(),
    st.integers(0, 2**31),
)
@QUICK
def test_what_is_written_is_read_back_from_the_bytes_alone(sets: list[int], length: int, cut: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    positions = length + 5 if cut else length
    x = np.stack([rng.integers(0, size, positions) for size in sets], axis=1)
    x[length:] = -1
    counts = [rng.integers(0, 50, size) for size in sets]
    models = [entropy_coding._model(c) if len(c) > 1 else None for c in counts]
    words, head = entropy_coding.write(x, models, cut)
    assert np.array_equal(entropy_coding.read(words, head, x.shape, models), x)
    assert head == (b"\x01" + entropy_coding.varint(length) if cut else b"")
    ideal = 0.0
    for book, seen in enumerate(counts):
        shares = (seen + 0.5) / (seen + 0.5).sum()
        ideal -= float(np.log2(shares[x[:length, book]]).sum())
    # A word of 32 bits of the coder's state, and one in which it ends; models are rounded to 24 bits.
    assert 32 * len(words) <= ideal + 64 + 0.01 * ideal
    assert 32 * len(words) >= ideal - 1 - 0.01 * ideal


@pytest.mark.parametrize("variable", [True, False])
def test_the_rate_is_that_of_the_words_and_the_header(variable: bool) -> None:
    """Words are whole, so what is left over of an image's bytes is its header: a mark and one byte of the length."""
    rng = np.random.default_rng(3)
    tokens = [
        Codes(torch.from_numpy(rng.integers(0, 4, (1, 40 + i * variable))), (4,), (8, 8), (), variable)
        for i in range(12)
    ]
    score = entropy_coding.Coded().finish(tokens, [(8, 8)] * 12)
    assert score.per_image is not None
    header = 2 if variable else 0
    for value in score.per_image:
        assert (value or 0) * 64 / 8 % 4 == header
    assert score.details["header_bytes_per_image"] == header
    assert score.details["bytes_per_image"] == pytest.approx(float(np.mean(score.per_image)) * 64 / 8)  # type: ignore[arg-type]
