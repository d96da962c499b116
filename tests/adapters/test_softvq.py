"""SoftVQ-VAE and MAETok at small sizes: what options do, what is refused, and that the latents are all there is.

That the networks compute what upstream computes is the matter of the parity fixtures.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from small_networks import arch_of, of_fixture, random_images, random_tensor

from vtbench import registry
from vtbench.adapters.networks.softvq import ContinuousTokenizer, SoftVQ
from vtbench.models.made_weights import fill_
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Latents, unpack

Arch = dict[str, Any]


def _built(fixture: str, change: Callable[[Arch], object] = lambda _: None) -> ContinuousTokenizer:
    arch = copy.deepcopy(arch_of(fixture))
    change(arch)
    network = fill_(ContinuousTokenizer(arch)).eval().requires_grad_(False)
    assert isinstance(network, ContinuousTokenizer)
    return network


@pytest.mark.parametrize("fixture", ["softvq__main", "maetok__main"])
def test_four_images_are_four_times_one(fixture: str) -> None:
    """A decoder that gets the packed bytes alone; counted are 16 tokens of 16 halves."""
    tokenizer = of_fixture(fixture)
    images, seeds = random_images(4, 64, 64), [5, 6, 7, 8]
    latents = tokenizer.encode(images, seeds)
    assert isinstance(latents, Latents)
    assert latents.positions == [16] * 4
    assert latents.bits().tolist() == [16 * 16 * 16.0] * 4
    together = tokenizer.decode(latents, seeds)
    assert together.shape == images.shape
    for i in (0, 3):
        alone = tokenizer.encode(images[i : i + 1], seeds[i : i + 1])
        assert isinstance(alone, Latents)
        # Rounding in float32 may fall on the other side of a half: a unit of float16 of numbers below four.
        assert torch.allclose(alone.values, latents.values[i : i + 1], rtol=0, atol=2e-3)
        from_bytes = tokenizer.decode(unpack(latents[i].pack()[0]), seeds[i : i + 1])
        assert torch.allclose(from_bytes, together[i : i + 1], atol=2e-5)
    with pytest.raises(VtbenchError, match="65 x 64, but this network takes 64 x 64 only"):
        tokenizer.encode(random_images(1, 65, 64), [0])
    with pytest.raises(VtbenchError, match="15 latent tokens"):
        tokenizer.decode(Latents(latents.values[:, 1:], (64, 64), 2), seeds)


@pytest.mark.parametrize("l2_norm", [True, False])
def test_rows_are_mixtures_of_their_own_book(l2_norm: bool) -> None:
    """Against the formula row by row: book k serves the k-th part of the sequence."""
    quantizer = SoftVQ(2, 5, 3, tau=0.3, l2_norm=l2_norm)
    with torch.no_grad():
        quantizer.embedding.copy_(random_tensor(2, 5, 3))
    z = random_tensor(2, 6, 3, seed=1)
    out = quantizer(z)
    for image in range(2):
        for place in range(6):
            codes, row = quantizer.embedding[place // 3], z[image, place]
            if l2_norm:
                codes = torch.stack([c / c.norm() for c in codes])
                row = row / row.norm()
            shares = torch.stack([(row @ c / 0.3).exp() for c in codes])
            wanted = sum(s / shares.sum() * c for s, c in zip(shares, codes, strict=True))
            assert torch.allclose(out[image, place], wanted, atol=1e-6)


def test_places_turn_image_cells_as_complex_numbers() -> None:
    """Against upstream's form (rope_utils.py:19-28, 47-53), on the first layer's queries; the places are the stored
    ones as long as they fit, and the grid's where images are larger than base_image_size."""
    for side, base in ((64, 64), (64, 32)):
        network = _built("maetok__main", lambda a, s=side, b=base: a.update(image_size=s, base_image_size=b))
        half = network.encoder
        cells = (side // 16) ** 2
        across, down = half.freqs_t_x, half.freqs_t_y
        assert len(across) == (base // 16) ** 2
        if base != side:
            across = torch.arange(cells).float() % (side // 16)
            down = torch.arange(cells).float() // (side // 16)
        angles = across[:, None] * half.freqs[0, 0] + down[:, None] * half.freqs[1, 0]
        turn = torch.polar(torch.ones_like(angles), angles).reshape(cells, 4, -1).transpose(0, 1)
        x = random_tensor(2, 4, 1 + cells + 16, 16)
        wanted = x.clone()
        pairs = torch.view_as_complex(x[:, :, 1 : 1 + cells].reshape(2, 4, cells, 8, 2))
        wanted[:, :, 1 : 1 + cells] = torch.view_as_real(pairs * turn).flatten(3)
        assert torch.allclose(half._turn(0)(x), wanted, atol=1e-6)


def test_heads_paint_pictures() -> None:
    """Every way from rows to pixels; the sine layers' is only for as many cells as pixels a side."""
    latent = random_tensor(1, 16, 16)
    pictures = [_built("softvq__main", lambda a, h=head: a.update(to_pixel=h)) for head in ("linear", "conv")]

    def fine(a: Arch) -> None:
        a.update(to_pixel="siren", image_size=64, base_image_size=64)
        a["encoder"]["patch_size"] = a["decoder"]["patch_size"] = 8

    pictures.append(_built("softvq__main", fine))
    out = [network.decode(latent, size=(64, 64)) for network in pictures]
    assert [tuple(o.shape) for o in out] == [(1, 3, 64, 64)] * 3
    assert float(out[2].abs().max()) <= 1
    names = {n for n in pictures[1].state_dict() if "to_pixel" in n and n.endswith("weight")}
    assert names == {f"decoder.to_pixel.model.{i}.weight" for i in (1, 4, 7, 10, 13)}


def test_rotary_positions_put_the_table_out_of_use() -> None:
    one = _built("maetok__main")
    both = _built("maetok__main", lambda a: a.update(use_ape=True))
    images = random_images(1, 64, 64)
    assert torch.equal(one.encode(images).latent_mean, both.encode(images).latent_mean)
    with torch.no_grad():
        for network in (one, both):
            network.decoder.model.pos_embed.fill_(7.0)  # type: ignore[union-attr, operator]
    latent = random_tensor(1, 16, 16)
    assert torch.equal(one.decode(latent, size=(64, 64)), both.decode(latent, size=(64, 64)))


@pytest.mark.parametrize(
    ("fixture", "change", "said"),
    [
        ("maetok__main", lambda a: a.update(rope_mixed=False), "arch.rope_mixed is False, but must be True"),
        ("maetok__main", lambda a: a.update(use_rope=False, rope_mixed=False), "both false"),
        ("maetok__main", lambda a: a["encoder"].update(num_heads=32), "a head must be a multiple of 4"),
        ("softvq__main", lambda a: a.update(rope_mixed=True), "arch.rope_mixed is True, but must be null"),
        ("softvq__main", lambda a: a.update(decoder_class_token=False), "must be true without use_rope"),
        ("softvq__main", lambda a: a.update(to_pixel="siren"), "as many cells as pixels a side, not 16"),
        ("softvq__main", lambda a: a.update(to_pixel="identity"), "arch.to_pixel is 'identity'"),
        ("softvq__main", lambda a: a["decoder"].update(patch_size=24), "24 pixels do not divide an image of 64"),
        ("softvq__main", lambda a: (a["decoder"].update(patch_size=8), a.update(to_pixel="conv")), "must be 16, not 8"),
        ("softvq__main", lambda a: a["quantizer"].update(num_codebooks=3), "3 codebooks must divide 16"),
        ("softvq__main", lambda a: a["quantizer"].update(tau=0), "above 0"),
        ("softvq__main", lambda a: a["quantizer"].update(type="vq"), "arch.quantizer.type is 'vq'"),
        ("softvq__main", lambda a: a["encoder"].update(qk_norm=True), "arch.encoder.qk_norm is a key that"),
        ("softvq__main", lambda a: a.update(in_channels=4), "arch.in_channels is 4"),
    ],
)
def test_what_upstream_cannot_run_is_refused(fixture: str, change: Callable[[Arch], object], said: str) -> None:
    with pytest.raises(VtbenchError, match=said):
        _built(fixture, change)


def test_names_say_the_sizes() -> None:
    depths = {}
    for name in ("softvq-l-64", "softvq-bl-64-512", "softvq-b-32"):
        arch = registry.model(name).card.arch or {}
        halves = (arch[half]["depth"] for half in ("encoder", "decoder"))
        depths[name] = (*halves, arch["num_latent_tokens"], arch["image_size"])
    assert depths == {
        "softvq-l-64": (24, 24, 64, 256),
        "softvq-bl-64-512": (12, 24, 64, 512),
        "softvq-b-32": (12, 12, 32, 256),
    }
