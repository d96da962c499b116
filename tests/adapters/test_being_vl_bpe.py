"""Being-VL's byte pairs: what can be undone and what cannot, the check of their fixtures, the page in docs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builtin_models import cat, load, there_and_back

from benchmarks import byte_pairs as command
from vtbench.adapters.networks.parts import byte_pairs
from vtbench.proving import parity

FIXTURE = Path(__file__).parents[1] / "parity" / "bpe__2d-8x8"


def test_two_images_have_one_code_by_the_2d_rule() -> None:
    """So nothing can undo it: the first merge went right in one and down in the other."""
    right, down = np.array([[0, 1], [2, 3]]), np.array([[0, 2], [1, 3]])
    codes = [byte_pairs.encode(grid, [(0, 1)], 4).tolist() for grid in (right, down)]
    assert codes == [[4, 2, 3], [4, 2, 3]]
    assert byte_pairs.merged_in_grid(down, 0, 1, 4)[1] == [True]
    for grid, below in ((right, [False]), (down, [True])):
        assert np.array_equal(byte_pairs.grid_of(codes[0], [(0, 1)], 4, (2, 2), below), grid)


@pytest.mark.parametrize("size", [(1, 9), (9, 1), (2, 2), (7, 5), (16, 16)])
def test_sequences_come_back_and_grids_do_with_their_directions(size: tuple[int, int]) -> None:
    drawn = np.random.default_rng(size[0]).integers(0, 5, (6, *size))
    before = drawn.copy()
    pairs = byte_pairs.train([grid.flatten() for grid in drawn], 5, 40)[0].tolist()
    words = byte_pairs.spelled(pairs, 5)
    assert all(a < b for a, b in pairs)
    for grid in drawn:
        code = byte_pairs.encode(grid.flatten(), pairs, 5).tolist()
        assert [part for token in code for part in words[token]] == grid.flatten().tolist()
    pairs = byte_pairs.train(list(drawn), 5, 40)[0].tolist()
    for grid in drawn:
        code = byte_pairs.encode(grid, pairs, 5).tolist()
        below = byte_pairs.merged_in_grid(grid, *pairs[0], 5)[1]
        assert np.array_equal(byte_pairs.grid_of(code, pairs, 5, size, below), grid)
        guess = byte_pairs.grid_of(code, pairs, 5, size)
        assert sorted(guess.flatten().tolist()) == sorted(grid.flatten().tolist()), "no id is lost, only its place"
    assert np.array_equal(drawn, before), "upstream alters its input"


def test_no_pair_is_left_to_merge() -> None:
    """Equal and falling neighbours never merge."""
    pairs, images = byte_pairs.train([np.array([2, 1, 1, 0])], 3, 5)
    assert pairs.shape == (0, 2)
    assert images[0].tolist() == [2, 1, 1, 0]


def test_the_vocabulary_of_the_language_model() -> None:
    """Base ids behind `vocab_pad`, pairs behind `vocab_end`; a sequence of the 1-D rule is taken for a grid, too."""
    drawn = np.random.default_rng(0).integers(0, 4, (3, 1024))
    facts = {"alphabet": 4, "num_merges": 6, "vocab_pad": 10, "vocab_end": 30}
    made = byte_pairs.replay(facts, {"train": drawn, "test": drawn})
    pairs = made["merges"][:, :2].tolist()
    grid = byte_pairs.encode(drawn[0].reshape(32, 32), pairs, 4)
    wanted = [10 + k if k < 4 else 30 + k - 4 for k in grid.tolist()]
    assert made["shifted"][0, : len(wanted)].tolist() == wanted
    assert set(made["shifted"][0, len(wanted) :].tolist()) <= {-1}
    assert len(wanted) != int(made["encoded_length"][0])


def test_the_1d_rule_decodes_the_picture_of_the_vq() -> None:
    image = cat(64, 96)
    wanted = there_and_back(load("bpe-vq", merges=0), image)[1]
    assert torch.equal(there_and_back(load("being-vl-bpe-1d"), image)[1], wanted)
    tokens, two = there_and_back(load("being-vl-bpe-2d"), image)
    assert two.shape == wanted.shape
    assert float(tokens.bits()[0]) < 96 * np.log2(256 + 1024) + np.log2(97)


def _changed(folder: Path, **arrays: Any) -> Path:
    facts = json.loads(FIXTURE.with_suffix(".json").read_text())
    facts.update(arrays.pop("facts", {}))
    path = folder / "bpe__changed.json"
    path.write_text(json.dumps(facts))
    with np.load(FIXTURE.with_suffix(".npz")) as archive:
        np.savez(path.with_suffix(".npz"), **{**archive, **arrays})
    return path


def test_a_wrong_code_fails_and_what_is_no_fixture_says_why(tmp_path: Path) -> None:
    with np.load(FIXTURE.with_suffix(".npz")) as archive:
        encoded, merges = archive["encoded"], archive["merges"]
    assert parity.check_fixture(_changed(tmp_path)).line().startswith("pass  bpe__changed  tokens 100.00% equal")
    encoded[0, 0] += 1
    (reason,) = parity.check_fixture(_changed(tmp_path, encoded=encoded)).reasons
    assert reason == f"1 of {encoded.size} encoded differ"
    report = parity.check_fixture(_changed(tmp_path, merges=merges[:-1]))
    assert "the array merges of the NPZ is [23, 3], the fixture says [24, 3]" in report.reasons[0]
    report = parity.check_fixture(_changed(tmp_path, facts={"num_merges": 23}))
    assert "merges has shape [23, 3], upstream's [24, 3]" in report.reasons
    report = parity.check_fixture(_changed(tmp_path, decoded=encoded))
    assert report.reasons == ["the rule neither reads nor makes decoded"]
    report = parity.check_fixture(_changed(tmp_path, facts={"schema": "bpe-2"}))
    assert report.reasons == ["the fixture has schema 'bpe-2', this vtbench checks schema 1"]


def test_the_page_of_docs_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["--limit", "2", "--pairs", "1", "16"])
    text = capsys.readouterr().out
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith(("| 1-D", "| 2-D"))]
    assert [row[2] for row in rows] == ["1", "16"] * 4
    assert {row[6] for row in rows if row[0] == "| 1-D"} == {"100.0%"}
    assert all(float(row[4]) <= float(row[3]) for row in rows)
    assert "so on every image here" in text
