"""The tiny autoencoders: real weights, sizes that the README states, rectangles."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from small_networks import filled, random_images

from vtbench import registry
from vtbench.models import weights
from vtbench.models.network import build_network
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Latents, unpack


def test_taef2_reconstructs_the_astronaut(shared: Path) -> None:
    """Real weights: upstream's own class (taesd.py at 5cccb12, float32) gives 31.18 dB after uint8 rounding.

    The tolerance covers our float16 latents and other convolution kernels, each a few thousandths.
    """
    from skimage import data

    entry = registry.model("taef2")
    files = weights.find(entry.card, shared / "weights" / "taef2")
    assert files.status == "official"
    tokenizer = entry.family.build(entry.card, {})
    tokenizer.load(files.files)
    picture = torch.from_numpy(data.astronaut()).permute(2, 0, 1)[None].float()
    tokens = tokenizer.encode(picture / 255, [0])
    assert isinstance(tokens, Latents)
    assert tokens.values.shape == (1, 32, 64, 64)
    assert tokens.values.dtype == torch.float16
    assert tokens.bits().tolist() == [16 * 32 * 64 * 64]
    back = (tokenizer.decode(unpack(tokens.pack()[0]), [0]).clamp(0, 1) * 255).round()
    psnr = 10 * math.log10(255**2 / float((back.double() - picture).square().mean()))
    assert psnr == pytest.approx(31.18, abs=0.02)


def test_taesd_has_the_size_its_readme_states() -> None:
    """README, comparison table: 1,222,532 parameters in the encoder, 1,222,531 in the decoder."""
    family = registry.family("taesd")
    network = build_network(family, registry.model("taesd").card.arch or {})
    sizes = [sum(p.numel() for p in part.parameters()) for part in (network.encoder, network.decoder)]
    assert sizes == [1_222_532, 1_222_531]


@pytest.mark.parametrize(("name", "channels", "factor"), [("taesd3", 16, 8), ("taef2", 32, 8), ("taesana", 32, 32)])
def test_taesd_latents_of_rectangles(name: str, channels: int, factor: int) -> None:
    entry = registry.model(name)
    tokenizer = filled(entry.family, entry.card)
    images = random_images(2, 64, 96)
    latents = tokenizer.encode(images, [0, 1])
    assert isinstance(latents, Latents)
    assert latents.values.shape == (2, channels, 64 // factor, 96 // factor)
    back = tokenizer.decode(latents, [0, 1])
    assert back.shape == images.shape
    # Another batch size may run another kernel: rounding, here of values up to some 50, before the float16 latents.
    alone = tokenizer.decode(tokenizer.encode(images[1:], [1]), [1])
    assert torch.allclose(alone, back[1:], rtol=1e-2, atol=1e-2)
    with pytest.raises(VtbenchError, match=f"multiples of {factor}"):
        tokenizer.encode(random_images(1, 64, 100), [0])


def test_taesd_squeezes_latents_into_three() -> None:
    """The decoder's first layer is 3 tanh(x / 3): latents far outside decode like the limit."""
    entry = registry.model("taesd")
    network = filled(entry.family, entry.card).network
    outside, limit = torch.full((1, 4, 2, 2), 300.0), torch.full((1, 4, 2, 2), 30.0)
    with torch.no_grad():
        assert torch.allclose(
            network.decode(outside, size=(16, 16)), network.decode(limit, size=(16, 16)), rtol=1e-5, atol=1e-4
        )


def test_a_decoder_reads_latents_in_one_layout_whoever_brings_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Saved, counted or straight from the encoder: the convolutions see channels last, in which they are quickest on a
    CPU, and pixels are the same to the bit."""
    entry = registry.model("taef2")
    tokenizer = filled(entry.family, entry.card)
    read: list[torch.Tensor] = []
    decode = tokenizer.network.decode
    monkeypatch.setattr(tokenizer.network, "decode", lambda z, **more: (read.append(z), decode(z, **more))[1])
    tokens = tokenizer.encode(random_images(2, 64, 96), [0, 1])
    assert isinstance(tokens, Latents)
    layouts = [
        tokens.values,
        tokens.values.contiguous(),
        tokens.values.contiguous(memory_format=torch.channels_last),
        tokens.values.transpose(2, 3).contiguous().transpose(2, 3),
    ]
    pixels = [tokenizer.decode(Latents(values, tokens.size), [0, 1]) for values in layouts]
    assert all(z.is_contiguous(memory_format=torch.channels_last) for z in read)
    assert all(torch.equal(one, pixels[0]) for one in pixels)
