"""GigaTok's row of tokens: batches, sizes, and where its queries begin, against plain loops."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from small_networks import arch_of, of_fixture, random_images, random_tensor

from vtbench import registry
from vtbench.adapters.networks import gigatok
from vtbench.models.identify import identify
from vtbench.models.names import names_of
from vtbench.models.network import on_meta
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Codes, unpack

FIXTURE = "gigatok__main"


def test_four_images_are_four_times_one() -> None:
    tokenizer = of_fixture(FIXTURE)
    images, seeds = random_images(4, 64, 64), [0, 1, 2, 3]
    codes = tokenizer.encode(images, seeds)
    assert isinstance(codes, Codes)
    assert codes.indices.shape == (4, 16, 1)
    assert codes.grids == ()
    together = tokenizer.decode(codes, seeds)
    for i in (0, 3):
        alone = tokenizer.encode(images[i : i + 1], [0])
        assert isinstance(alone, Codes)
        assert torch.equal(alone.indices, codes.indices[i : i + 1])
        # Another batch size may run another kernel: rounding only.
        assert torch.allclose(tokenizer.decode(unpack(alone.pack()[0]), [0]), together[i : i + 1], atol=2e-5)
    with pytest.raises(VtbenchError, match="takes 64 x 64 only"):
        tokenizer.encode(random_images(1, 64, 80), [0])
    with pytest.raises(VtbenchError, match="there are 15 tokens, but this network needs 16"):
        tokenizer.decode(Codes(codes.indices[:, 1:], codes.alphabets, (64, 64)), seeds)


def _network(**changed: Any) -> Any:
    arch = copy.deepcopy(arch_of(FIXTURE))
    for key, value in changed.items():
        arch[key] = {**arch[key], **value} if isinstance(value, dict) else value
    return gigatok.GigaTok(arch).eval()


def test_the_row_begins_with_means_of_ever_smaller_blocks() -> None:
    """1, 1, 2, 4, 8 blocks of a 4 x 4 grid: whole, whole, left and right, quarters, quarters halved across."""
    memory = random_tensor(2, 16, 64)
    cells = memory.reshape(2, 4, 4, 64)
    wanted = [cells.mean((1, 2))] * 2
    for rows, columns in ((1, 2), (2, 2), (2, 4)):
        for r in range(rows):
            for c in range(columns):
                block = cells[:, r * 4 // rows : (r + 1) * 4 // rows, c * 4 // columns : (c + 1) * 4 // columns]
                wanted.append(block.mean((1, 2)))
    queries = _network().s2to1encoder.queries(memory)
    assert torch.allclose(queries, torch.stack(wanted, dim=1), atol=1e-6)
    plain = _network(multi_level_query_init=False).s2to1encoder.queries(memory)
    assert torch.allclose(plain, cells.mean((1, 2))[:, None].expand(-1, 16, -1), atol=1e-6)


def test_the_grid_begins_with_the_first_token_or_with_levels() -> None:
    tokens = random_tensor(2, 16, 64)
    first = _network().s1to2decoder.queries(tokens)
    assert torch.equal(first, tokens[:, :1].expand(-1, 16, -1))
    last = _network(last_level_2d_query_init=True).s1to2decoder.queries(tokens).reshape(2, 4, 4, 64)
    every = _network(multi_level_2d_query_init=True).s1to2decoder.queries(tokens).reshape(2, 4, 4, 64)
    for r in range(4):
        for c in range(4):
            # The last level are tokens 8 to 15, two rows of four.
            assert torch.equal(last[:, r, c], tokens[:, 8 + (r // 2) * 4 + c])
            # Upstream's levels all begin with token 0: the pair's mean, halves, quarters, eighths.
            parts = [
                tokens[:, :2].mean(1),
                tokens[:, c // 2],
                tokens[:, r // 2 * 2 + c // 2],
                tokens[:, r // 2 * 4 + c],
            ]
            assert torch.allclose(every[:, r, c], torch.stack(parts).mean(0), atol=1e-6)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"num_latent_tokens": 12}, "must be a power of two"),
        ({"num_latent_tokens": 64}, "64 tokens need blocks of 4 x 8 in a grid of 4 x 4 cells"),
        ({"last_level_2d_query_init": True, "multi_level_2d_query_init": True}, "both true: choose one"),
        ({"image_size": 72}, "image_size 72 is no multiple of 16"),
        ({"encoder": {"heads": 5}}, "5 heads do not divide"),
        ({"cnn": {"resolution": 64}}, "arch.cnn.resolution is a key that this network does not know"),
    ],
)
def test_what_cannot_be_built_is_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(VtbenchError, match=said):
        _network(**changed)


def test_a_size_of_ones_own_is_read_off_the_shapes() -> None:
    family = registry.family("gigatok")
    arch = copy.deepcopy(arch_of(FIXTURE))
    arch["cnn"].update(attention=True, adaptive_norm=False, depth_to_space=False, decoder_ch_mult=[1, 2, 2])
    arch.update(encoder={"width": 128, "layers": 1, "heads": 2}, decoder={"width": 64, "layers": 3, "heads": 1})
    shapes = names_of(on_meta(family, arch))
    (match,) = identify(shapes)
    assert (match.name, match.how) == ("family:gigatok", "own")
    assert family.network is not None
    assert gigatok.GigaTok.infer_arch(shapes, family.cards[0].arch or {}) == arch
