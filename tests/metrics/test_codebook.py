"""Entropies, written bytes and usage against arithmetic, closed forms and a second count."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vtbench.metrics import _codes, codebook, cross_entropy, entropy_coding, rates
from vtbench.types.tokens import Bitstream, Codes, Latents

METRICS = (*codebook.METRICS, *cross_entropy.METRICS, *entropy_coding.METRICS)


def codes(table: np.ndarray, *sets: int, grid: tuple[int, int] | None = None, variable: bool = False) -> list[Codes]:
    """(images, positions[, books]) -> one Codes an image of 64 x 64 pixels."""
    whole = torch.from_numpy(np.asarray(table, dtype=np.int64))
    return [
        Codes(whole[i : i + 1], tuple(sets), (64, 64), (grid,) if grid else (), variable) for i in range(len(whole))
    ]


def finish(metric: type, tokens: list) -> object:
    return metric().finish(tokens, [(64, 64)] * len(tokens))


def test_a_uniform_source_never_reads_as_fewer_bits_than_it_has() -> None:
    """2^14 symbols: null while tokens are few, and above 14 bits a token once there are ten for each symbol."""
    rng = np.random.default_rng(0)
    for images in (2, 20, 330):
        tokens = codes(rng.integers(0, 2**14, (images, 1024)), 2**14)
        score = finish(cross_entropy.Entropy, tokens)
        coded = finish(entropy_coding.Coded, tokens)
        assert coded.value * 4096 >= 14 * 1024
        if images < 320:
            assert score.value is None
            assert "under ten each" in score.why
            assert "16384 symbols" in score.why
        else:
            assert 14.0 <= score.details["bits_per_position"] < 14.2
            assert score.value == pytest.approx(score.details["bits_per_position"] * 1024 / 4096)


def test_order_0_equals_the_cross_entropy_counted_again_and_nears_the_source() -> None:
    rng = np.random.default_rng(1)
    p = np.array([0.5, 0.25, 0.125, 0.125])
    tokens = codes(rng.choice(4, (60, 500), p=p), 4)
    score = finish(cross_entropy.Entropy, tokens)
    fold = _codes.folds(tokens)
    assert sorted(fold) == [0] * 30 + [1] * 30
    for i in (0, 17, 59):
        others = np.concatenate([t.indices.numpy().ravel() for f, t in zip(fold, tokens, strict=True) if f != fold[i]])
        q = [(float((others == s).sum()) + 0.5) / (len(others) + 2) for s in range(4)]
        bits = -sum(math.log2(q[s]) for s in tokens[i].indices.numpy().ravel())
        assert score.per_image[i] == pytest.approx(bits / 4096, rel=1e-12)
    assert score.details["bits_per_position"] == pytest.approx(1.75, rel=0.01)
    assert score.low < score.value < score.high


def test_order_of_images_does_not_matter_and_twins_share_a_fold() -> None:
    rng = np.random.default_rng(2)
    table = rng.integers(0, 4, (40, 100))
    table[7] = table[3]
    tokens = codes(table, 4)
    assert _codes.folds(tokens)[7] == _codes.folds(tokens)[3]
    shuffled = rng.permutation(40)
    one, two = finish(cross_entropy.Entropy, tokens), finish(cross_entropy.Entropy, [tokens[i] for i in shuffled])
    assert one.value == pytest.approx(two.value, rel=1e-12)
    alike = finish(cross_entropy.Entropy, [tokens[0]] * 5)
    assert alike.value is None
    assert "same tokens" in alike.why


def test_neighbours_tell_what_is_a_function_of_them() -> None:
    """Each token is the parity of its left and upper neighbour and a coin of 1/8: H(1/8) = 0.5436 bits."""
    rng = np.random.default_rng(3)
    table = np.zeros((80, 16, 16), dtype=np.int64)
    flips = rng.random(table.shape) < 1 / 8
    table[:, 0], table[:, :, 0] = rng.integers(0, 2, (80, 16)), rng.integers(0, 2, (80, 16))
    for y in range(1, 16):
        for x in range(1, 16):
            table[:, y, x] = (table[:, y - 1, x] ^ table[:, y, x - 1]) ^ flips[:, y, x]
    tokens = codes(table.reshape(80, 256), 2, grid=(16, 16))
    plain, with_neighbours = finish(cross_entropy.Entropy, tokens), finish(cross_entropy.EntropyNeighbours, tokens)
    inner, border = 225 / 256, 31 / 256
    assert plain.details["bits_per_position"] == pytest.approx(1.0, abs=0.01)
    assert with_neighbours.details["bits_per_position"] == pytest.approx(inner * 0.5436 + border, abs=0.01)
    few = finish(cross_entropy.EntropyNeighbours, codes(rng.integers(0, 64, (20, 256)), 64, grid=(16, 16)))
    assert few.value is None
    assert "cells" in few.why


def test_neighbours_of_scales_and_of_rows() -> None:
    left, up = cross_entropy.neighbours(((1, 1), (2, 2)), 5)
    assert left.tolist() == [-1, -1, 1, -1, 3]
    assert up.tolist() == [-1, -1, -1, 1, 2]
    left, up = cross_entropy.neighbours((), 3)
    assert left.tolist() == [-1, 0, 1]
    assert up.tolist() == [-1, -1, -1]


def test_written_bytes_are_within_a_word_of_the_cross_entropy() -> None:
    """A range coder of 32-bit words ends within two words of the model's information content."""
    rng = np.random.default_rng(4)
    tokens = codes(rng.choice(8, (50, 300), p=[0.4, 0.2, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05]), 8)
    ideal, coded = finish(cross_entropy.Entropy, tokens), finish(entropy_coding.Coded, tokens)
    for a, b in zip(ideal.per_image, coded.per_image, strict=True):
        assert -32 <= (b - a) * 4096 <= 64
    assert coded.details["decoded_and_compared"] == 50
    assert coded.details["header_bytes_per_image"] == 0
    assert coded.details["model_bytes"] > 0


def test_variable_lengths_are_written_counted_and_read_back() -> None:
    """The length costs a mark and a variable-length number, beside the words of the range coder."""
    rng = np.random.default_rng(5)
    table = rng.integers(0, 16, (30, 40, 2))
    for i in range(30):
        table[i, rng.integers(1, 300) % 41 :] = -1
    tokens = codes(table, 16, 16, variable=True)
    score = finish(entropy_coding.Coded, tokens)
    assert score.value is not None
    assert score.details["header_bytes_per_image"] == 2
    # A position of 8 bits: the words' bytes are whole words, so what is left over is the header.
    assert all((value * 4096 / 8) % 4 == pytest.approx(2) for value in score.per_image)
    assert entropy_coding.varint(300) == bytes([0xAC, 0x02])


def test_the_length_of_a_variable_code_is_part_of_its_entropy() -> None:
    """Equal symbols in codes of a fixed and of a variable length differ by log2(positions + 1) bits, by definition."""
    table = np.random.default_rng(9).integers(0, 4, (30, 40))
    fixed, varied = (finish(cross_entropy.Entropy, codes(table, 4, variable=v)) for v in (False, True))
    for a, b in zip(fixed.per_image, varied.per_image, strict=True):
        assert (b - a) * 4096 == pytest.approx(math.log2(41), rel=1e-9)


def test_large_alphabets_can_be_written() -> None:
    rng = np.random.default_rng(6)
    score = finish(entropy_coding.Coded, codes(rng.integers(0, 2**18, (6, 64)), 2**18))
    assert score.value is not None
    assert score.value * 4096 / 64 > 17


def test_rarefaction_equals_the_closed_form_and_a_simulation() -> None:
    counts = np.array([3, 1, 2, 0, 4])
    one, ten = codebook.rarefaction(counts, [1, 10])
    assert one == pytest.approx(1)
    assert ten == pytest.approx(4)
    rng = np.random.default_rng(7)
    pool = np.repeat(np.arange(5), counts)
    drawn = [len(set(rng.choice(pool, 5, replace=False))) for _ in range(4000)]
    assert codebook.rarefaction(counts, [5])[0] == pytest.approx(np.mean(drawn), abs=0.05)


def test_usage_and_perplexity_of_known_codes() -> None:
    tokens = codes(np.arange(64).reshape(4, 16) % 8, 16)
    usage, perplexity = finish(codebook.Usage, tokens), finish(codebook.Perplexity, tokens)
    assert usage.value == 50.0
    assert perplexity.value == pytest.approx(8.0)
    assert usage.details["rarefaction_symbols"][-1] == pytest.approx(8)
    assert "grows with n" in usage.warning


def test_one_image_alone_has_usage_and_no_other_to_be_coded_by() -> None:
    """Two of four tokens alike: 1.5 bits each."""
    alone = codes(np.array([[0, 1, 1, 3]]), 4)
    assert finish(codebook.Usage, alone).value == 75.0
    assert finish(codebook.Perplexity, alone).value == pytest.approx(2**1.5)
    assert finish(cross_entropy.Entropy, alone).value is None
    assert finish(entropy_coding.Coded, alone).value is None


def test_bits_of_a_binary_code_are_one_codebook_and_residual_books_are_not() -> None:
    bits = np.stack([np.arange(64).reshape(4, 16) % 4 >> b & 1 for b in (3, 2, 1, 0)], axis=2)
    assert finish(codebook.Usage, codes(bits, 2, 2, 2, 2)).value == 25.0
    deep = np.stack([np.zeros((4, 16)), np.arange(64).reshape(4, 16)], axis=2)
    score = finish(codebook.Usage, codes(deep, 4096, 4096))
    assert score.value == pytest.approx(100 * (1 / 4096 + 64 / 4096) / 2)
    assert "mean over 2 books" in score.details["counted"]


def test_position_entropy_sees_positions_apart() -> None:
    rng = np.random.default_rng(8)
    table = np.stack([np.zeros(4000), rng.integers(0, 4, 4000)], axis=1)
    score = finish(codebook.PositionEntropy, codes(table, 4))
    assert score.details["by_position"] == pytest.approx([0.0, 2.0], abs=0.01)
    assert score.value == pytest.approx(1.0, abs=0.01)
    few = finish(codebook.PositionEntropy, codes(table[:39], 4))
    assert few.value is None


def test_what_has_no_codes_is_null_with_its_reason() -> None:
    latents = [Latents(torch.zeros(1, 4, 8, 8, dtype=torch.float16), (64, 64))]
    for metric in METRICS:
        assert "float16" in finish(metric, latents).why
        assert finish(metric, [Bitstream([b"x"], (64, 64))]).why == _codes.NO_CODES
        assert metric().finish([], []).value is None


def test_names_are_distinct() -> None:
    names = [f().card.name for f in (*METRICS, *rates.METRICS)]
    assert len(names) == len(set(names))
