"""A run's tokens are read in portions: the same tokens as one by one, each file opened once a pass."""

from __future__ import annotations

import os
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vtbench.metrics import _codes, codebook, cross_entropy, entropy_coding
from vtbench.results import stores
from vtbench.results.stores import ScoredRows, TokenFile
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Bitstream, Codes, Latents, Tokens, unpack

METRICS = (*codebook.METRICS, *cross_entropy.METRICS, *entropy_coding.METRICS)


def codes(n: int, positions: int, *alphabets: int, variable: bool = False, seed: int = 0) -> Codes:
    rng = np.random.default_rng(seed)
    books = [torch.from_numpy(rng.integers(0, a, (n, positions))) for a in alphabets]
    return Codes(torch.stack(books, 2), alphabets, (8, 8), ((1, positions),) if positions else (), variable)


def tokens_of_every_kind() -> list[bytes]:
    """Layouts that change, lengths that differ, images without tokens, an unordered code, latents, bytes."""
    out = [*codes(5, 7, 300, 1, 2).pack(), b"", *codes(3, 7, 300, 1, 2, seed=1).pack(), *codes(2, 6, 17).pack()]
    out += [codes(1, n, 5, variable=True).pack()[0] for n in (3, 3, 2, 0, 0, 3)]
    out += Codes(torch.tensor([[3, 1, 2], [0, 0, 1]]), (4,), (8, 8), unordered=True).pack()
    return [*out, b"", *Latents(torch.ones(2, 1, 2, 2), (8, 8)).pack(), *Bitstream([b"a", b"a"], (8, 8)).pack()]


def written(folder: Path, blobs: list[bytes]) -> TokenFile:
    file = TokenFile(folder)
    file.append(blobs)
    return file


def alike(one: Tokens | None, two: Tokens | None) -> bool:
    return (None if one is None else one.pack()) == (None if two is None else two.pack())


@pytest.mark.parametrize("at_once", [1, 3, 4096])
def test_portions_hold_the_very_blobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(stores, "AT_ONCE", at_once)
    blobs = tokens_of_every_kind()
    file = written(tmp_path, blobs)
    assert [file.blob(k) for k in range(len(file))] == blobs
    assert list(file.blobs()) == blobs
    some = [7, 2, 3, 11, 0, len(blobs) - 1, 4]
    assert list(file.blobs(some)) == [blobs[k] for k in some]
    assert list(TokenFile(tmp_path / "nowhere").blobs()) == []


def test_batches_are_the_tokens_one_by_one(tmp_path: Path) -> None:
    blobs = tokens_of_every_kind()
    file = written(tmp_path, blobs)
    singly = [unpack(blob) if blob else None for blob in blobs]
    batches = list(file.batches())
    assert all(map(alike, file, singly))
    together = [one for some in batches for one in ([None] if some is None else [some[k] for k in range(len(some))])]
    assert len(together) == len(singly)
    assert all(map(alike, together, singly))
    sizes = [len(some) for some in batches if some is not None]
    assert sizes[:3] == [5, 3, 2]
    rows = array("q", [0, 1, 4, 6, 7])
    scored = ScoredRows(file, rows)
    assert all(map(alike, scored, [singly[k] for k in rows]))
    assert [len(some) for some in scored.batches()] == [5]


def test_of_a_damaged_blob_it_is_said_what_is_said_of_it_alone(tmp_path: Path) -> None:
    good = codes(4, 6, 5).pack()
    # All bits set: an index of 7 in an alphabet of 5.
    bad = [*good[:2], good[2][:-3] + b"\xff" * 3, good[3]]
    with pytest.raises(VtbenchError) as alone:
        unpack(bad[2])
    file = written(tmp_path, bad)
    seen = []
    with pytest.raises(VtbenchError) as together:
        seen.extend(file.batches())
    assert str(together.value) == str(alone.value)
    assert len(seen) == 2


@pytest.mark.parametrize("variable", [False, True])
def test_metrics_say_of_a_file_what_they_say_of_a_list(tmp_path: Path, variable: bool) -> None:
    parts = [codes(1, 9 - variable * (k % 3), 3, 2, variable=variable, seed=k % 50) for k in range(120)]
    file = written(tmp_path, [part.pack()[0] for part in parts])
    sizes = [(8, 8)] * len(parts)
    for metric in METRICS:
        one, two = metric().finish(parts, sizes), metric().finish(ScoredRows(file, range(len(parts))), sizes)
        assert one == two, metric.card.name
        assert (one.value is None) == (variable and metric is codebook.PositionEntropy), metric.card.name


def test_folds_are_the_places_of_the_sorted_digests() -> None:
    parts = [codes(1, 9, 3, seed=k % 5) for k in range(11)]
    first = _codes.folds(parts)
    assert sorted(set(first)) == [0, 1]
    assert all(first[k] == first[k % 5] for k in range(11))
    assert _codes.folds(parts[::-1]) == first[::-1]


def test_a_pass_opens_each_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path, codes(50, 9, 3).pack())
    opened: list[str] = []
    usual = Path.open

    def noted(self: Path, *more: Any, **named: Any) -> Any:
        opened.append(os.path.basename(self))
        return usual(self, *more, **named)

    monkeypatch.setattr(Path, "open", noted)
    assert len(codebook.histograms(ScoredRows(file, range(50)))) == 1
    # Once more for the alphabets, which the first image states.
    assert opened.count("tokens.bin") == 2
    assert len(opened) <= 5
