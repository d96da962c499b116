"""Multisets as bytes, against a list of them all."""

from __future__ import annotations

import itertools
import json
import random
import struct

import pytest
import torch

from vtbench.types import multisets
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Codes, unpack


@pytest.mark.parametrize(("positions", "alphabet"), [(0, 3), (1, 1), (3, 1), (1, 300), (4, 5), (6, 3)])
def test_every_multiset_has_a_place_of_its_own(positions: int, alphabet: int) -> None:
    every = list(itertools.combinations_with_replacement(range(alphabet), positions))
    assert multisets.count(positions, alphabet) == len(every)
    packed = [multisets.to_bytes(values, alphabet) for values in every]
    assert {len(body) for body in packed} == {multisets.size(positions, alphabet)}
    assert sorted(int.from_bytes(body, "big") for body in packed) == list(range(len(every)))
    for values, body in zip(every, packed, strict=True):
        assert multisets.from_bytes(body, positions, alphabet) == list(values)
    # Behind the last one there is none, however many the bytes could count.
    behind = len(every).to_bytes(max(1, multisets.size(positions, alphabet)), "big")
    if len(behind) == multisets.size(positions, alphabet):
        with pytest.raises(ValueError, match="behind the last"):
            multisets.from_bytes(behind, positions, alphabet)


def test_tokensets_code_takes_the_bytes_of_its_rate() -> None:
    """128 of 4096: 822.7 bits fit into 103 bytes, where the sequence would take 192."""
    values = sorted(random.Random(0).choices(range(4096), k=128))
    codes = Codes(torch.tensor([values]), (4096,), (256, 256), unordered=True)
    assert multisets.size(128, 4096) == 103
    assert 0 <= 8 * 103 - codes.bits()[0] < 8
    again = unpack(codes.pack()[0])
    assert isinstance(again, Codes)
    assert again.indices[0, :, 0].tolist() == values
    assert len(codes.pack()[0]) < len(Codes(codes.indices, (4096,), (256, 256)).pack()[0]) - 60


def _forged(body: bytes, **head: object) -> bytes:
    stated = {"kind": "codes", "size": [8, 8], "alphabets": [[40, 1]], "positions": 6, "grids": [], "variable": False}
    text = json.dumps({**stated, "absent": False, "unordered": True, **head}).encode()
    return b"VTB1" + struct.pack("<I", len(text)) + text + body


@pytest.mark.parametrize(
    ("body", "head"),
    [
        (b"", {}),
        (bytes(4), {}),
        (b"\xff" * 3, {}),
        (bytes(3), {"positions": -1}),
        (bytes(3), {"positions": 10**12}),
        (bytes(3), {"alphabets": [[10**30, 1]]}),
        (bytes(3), {"alphabets": [[0, 1]]}),
        (bytes(3), {"alphabets": []}),
        (bytes(0), {"alphabets": [[1, 1]], "positions": 10**9}),
    ],
)
def test_damaged_bytes_are_refused_at_once(body: bytes, head: dict[str, object]) -> None:
    with pytest.raises(VtbenchError, match="damaged"):
        unpack(_forged(body, **head))


def test_sound_bytes_are_read() -> None:
    assert unpack(_forged(bytes(3))).indices.flatten().tolist() == [0] * 6  # type: ignore[attr-defined]
