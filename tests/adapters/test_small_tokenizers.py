"""Native tokenizers at small sizes, from images to tokens and back.

That the networks compute what upstream computes is the matter of the parity fixtures, which hold upstream's outputs.
"""

from __future__ import annotations

import pytest
import torch
from small_networks import four_times_one, of_fixture, random_images

from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Codes, unpack

CONVOLUTIONAL = [
    ("llamagen__vq-ds4-tiny", 4, (128,)),
    ("janus__vq-ds4-tiny", 4, (192,)),
    ("vqgan__gumbel-f4-v128", 4, (128,)),
    ("vqgan__ldm-f4-noattn", 4, (128,)),
    ("chameleon__f4-v128", 4, (128,)),
    ("ibq__f4-v128", 4, (128,)),
    ("rq-vae__f4-d4-v128-shared", 4, (128,) * 4),
    ("maskgit-vqgan__f4-v128", 4, (128,)),
    ("maskbit__lfq-f4-10bit", 4, (2,) * 10),
]


@pytest.mark.parametrize(("fixture", "factor", "alphabets"), CONVOLUTIONAL)
def test_images_to_codes_and_back(fixture: str, factor: int, alphabets: tuple[int, ...]) -> None:
    """Rectangles, several images at once, and a decoder that gets only the packed bytes."""
    tokenizer = of_fixture(fixture)
    images = random_images(3, 24, 40)
    codes = tokenizer.encode(images, [0, 1, 2])
    assert isinstance(codes, Codes)
    assert codes.alphabets == alphabets
    assert codes.grids == ((24 // factor, 40 // factor),)
    assert codes.indices.shape == (3, 24 * 40 // factor**2, len(alphabets))
    together = tokenizer.decode(codes, [0, 1, 2])
    assert together.shape == images.shape
    for i in range(3):
        alone = tokenizer.encode(images[i : i + 1], [i])
        assert isinstance(alone, Codes)
        assert torch.equal(alone.indices, codes.indices[i : i + 1])
        # Convolutions of another batch size may run another kernel: rounding only.
        bytes_only = tokenizer.decode(unpack(alone.pack()[0]), [i])
        assert torch.allclose(bytes_only, together[i : i + 1], atol=2e-5)
    with pytest.raises(VtbenchError, match=f"26 x 40, but both sides must be multiples of {factor}"):
        tokenizer.encode(images.new_zeros(1, 3, 26, 40), [0])
    with pytest.raises(VtbenchError, match="must be multiples"):
        tokenizer.decode(Codes(codes.indices, codes.alphabets, (24, 42)), [0, 1, 2])
    with pytest.raises(VtbenchError, match="tokens for an image of 24 x 44"):
        tokenizer.decode(Codes(codes.indices, codes.alphabets, (24, 44)), [0, 1, 2])


def test_var_lays_its_scales_out_and_takes_one_size() -> None:
    tokenizer = of_fixture("var__ms4-v128")
    images = random_images(2, 64, 64)
    codes = tokenizer.encode(images, [0, 1])
    assert isinstance(codes, Codes)
    assert codes.grids == ((1, 1), (2, 2), (3, 3), (4, 4))
    assert codes.positions == [30, 30]
    assert tokenizer.decode(codes, [0, 1]).shape == images.shape
    assert tokenizer.network.fixed_size == 64
    with pytest.raises(VtbenchError, match="the last scale is"):
        tokenizer.encode(torch.zeros(1, 3, 32, 32), [0])


FOUR = [
    ("magvit2__lfq-f4-10bit", (24, 40), (2,) * 10),
    ("wetok__gq-f4-g4x4", (24, 40), (2,) * 16),
    ("wetok__gq-f8-g2x6-gandecoder", (24, 40), (2,) * 12),
    ("dalle-dvae__f8-v512", (24, 40), (512,)),
    ("infinity__bsq-d10-ps8", (40, 24), (2,) * 10),
    ("unitok__linear-c5", (32, 48), (64,) * 5),
    ("unitok__attn-pooled-heads", (32, 48), (64,) * 2),
    ("imagefolder__msbr4p2", (64, 64), (2,) * 12),
    ("imagefolder__vp3-raw-latentpos", (64, 64), (64,) * 3),
    ("imagefolder__msvr3p1-shared", (64, 64), (48,)),
]


@pytest.mark.parametrize(("fixture", "size", "alphabets"), FOUR, ids=[name for name, *_ in FOUR])
def test_four_images_are_four_times_one(fixture: str, size: tuple[int, int], alphabets: tuple[int, ...]) -> None:
    """Rectangles where the network takes them; a decoder that gets only the packed bytes and the image's seed."""
    tokenizer = of_fixture(fixture)
    images, seeds = random_images(4, *size), [5, 6, 7, 8]
    codes = four_times_one(tokenizer, images, seeds)
    assert codes.alphabets == alphabets
    assert codes.indices.shape == (4, sum(h * w for h, w in codes.grids), len(alphabets))
    assert torch.equal(tokenizer.decode(codes, seeds), tokenizer.decode(codes, seeds))
    with pytest.raises(VtbenchError, match=r"must be multiples|takes \d+ x \d+ only"):
        tokenizer.encode(random_images(1, size[0] + 1, size[1]), [0])
    with pytest.raises(VtbenchError, match="tokens"):
        tokenizer.decode(Codes(codes.indices[:, 1:], codes.alphabets, size), seeds)


def test_the_noise_of_a_generative_decoder_is_the_seeds() -> None:
    tokenizer = of_fixture("wetok__gq-f8-g2x6-gandecoder")
    codes = tokenizer.encode(random_images(1, 32, 32).repeat(2, 1, 1, 1), [1, 2])
    assert tokenizer.network.noise_shape((32, 32)) == (12, 4, 4)
    one, other = tokenizer.decode(codes, [1, 2])
    assert float((one - other).abs().max()) > 1e-3, "two seeds, two pictures"
    swapped = tokenizer.decode(codes, [2, 1])
    assert torch.equal(swapped, torch.stack([other, one]))
    plain = of_fixture("wetok__gq-f4-g4x4")
    assert plain.network.noise_shape((32, 32)) is None
    with pytest.raises(VtbenchError, match="takes no noise"):
        plain.network.decode(torch.zeros(1, 64, 16), size=(32, 32), noise=torch.zeros(1, 16, 8, 8))
    with pytest.raises(VtbenchError, match="needs noise"):
        tokenizer.network.decode(codes.indices, size=(32, 32))


def test_a_single_cell_has_no_deviation() -> None:
    with pytest.raises(VtbenchError, match="single latent cell"):
        of_fixture("magvit2__lfq-f4-10bit").encode(random_images(1, 4, 4), [0])
