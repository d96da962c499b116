"""VQ-KD and SEED at small sizes: codes of meaning, features where pixels would be, variants, refusals."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from small_networks import arch_of, filled, of_fixture, random_images, random_tensor

import vtbench
from vtbench import registry
from vtbench.adapters.networks.parts import archs
from vtbench.adapters.networks.parts.statistics import Statistics
from vtbench.adapters.networks.seed import Seed, _Attention
from vtbench.adapters.networks.vqkd import VqKd
from vtbench.models.arch import changes, option_text, own_card
from vtbench.models.names import names_of
from vtbench.models.native import NetworkTokenizer
from vtbench.models.network import build_network
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Codes, unpack

Arch = dict[str, Any]
SEED, VQKD = "seed__causal32-reverse", "vqkd__features"


def _of(fixture: str, change: Callable[[Arch], object] = lambda _: None) -> NetworkTokenizer:
    plain = of_fixture(fixture)
    arch = copy.deepcopy(arch_of(fixture))
    change(arch)
    return filled(plain.family, replace(plain.card, arch=arch))


def _pixels(arch: Arch) -> None:
    arch["decoder"].update(output="pixels", out_channels=3, out_patch=16)


def _conv(arch: Arch) -> None:
    arch.update(post_encode="conv", pre_decode="conv")
    arch["quantizer"]["embed_dim"], arch["decoder"]["in_channels"] = 12, 20


@pytest.mark.parametrize(
    ("fixture", "side", "shape", "bits"),
    [(SEED, 56, (40,), 32 * 7), (VQKD, 64, (24, 4, 4), 16 * 7), (VQKD, 96, (24, 6, 6), 36 * 7)],
)
def test_four_images_are_four_times_one(fixture: str, side: int, shape: tuple[int, ...], bits: int) -> None:
    """Codes and features, also of another square than the table of positions is made for."""
    tokenizer, images, seeds = of_fixture(fixture), random_images(4, side, side), [1, 2, 3, 4]
    codes = tokenizer.encode(images, seeds)
    assert isinstance(codes, Codes)
    assert codes.bits().tolist() == [float(bits)] * 4
    together = tokenizer.decode(codes, seeds)
    assert together.shape == (4, *shape)
    alone = tokenizer.encode(images[2:3], [3])
    assert isinstance(alone, Codes)
    assert torch.equal(alone.indices, codes.indices[2:3])
    assert torch.allclose(tokenizer.decode(unpack(alone.pack()[0]), [3]), together[2:3], atol=1e-5)


def test_cards_say_why_there_are_no_pixels() -> None:
    for name, why in (("seed-tokenizer-2", archs.TO_AN_EMBEDDING), ("vqkd-clip-8192", archs.TO_FEATURES)):
        assert registry.model(name).card.no_pixels == why
    card, family = registry.model("vqkd-clip-8192").card, registry.family("vqkd")
    arch = arch_of(VQKD)
    assert own_card(card, family, arch).no_pixels == archs.TO_FEATURES
    _pixels(arch)
    assert own_card(card, family, arch).no_pixels is None


def test_a_run_of_an_own_size_has_rates_and_no_pixels(tmp_path: Path) -> None:
    """By the command that `identify` prints, from a checkpoint; the same family with pixels has them."""
    first = registry.model("vqkd-clip-8192").card.arch or {}
    for change, why in ((lambda _: None, archs.TO_FEATURES), (_pixels, None)):
        tokenizer = _of(VQKD, change)
        path = tmp_path / "own.pt"
        torch.save(tokenizer.network.state_dict(), path)
        options = {k: option_text(v) for k, v in changes(first, tokenizer.card.arch or {}).items()}
        made = vtbench.evaluate(
            "family:vqkd",
            options=options,
            checkpoint=path,
            tasks=["compression"],
            images="starter-natural",
            limit=1,
            out=tmp_path / "out",
        )
        scores = {s.metric: s for s in made.runs[0].scores}
        assert scores["bits"].value == 16 * 7
        assert (scores["psnr"].why == why) if why else scores["psnr"].value is not None


@pytest.mark.parametrize("change", [_conv, _pixels, lambda a: (_conv(a), _pixels(a))])
def test_variants_of_vqkd_are_read_off_their_shapes(change: Callable[[Arch], object]) -> None:
    tokenizer = _of(VQKD, change)
    shapes = names_of(tokenizer.network)
    # A head of 64 channels is one of the 64 that there are.
    wanted = copy.deepcopy(dict(tokenizer.card.arch or {}))
    for half in ("encoder", "decoder"):
        wanted[half]["heads"] = 1
    assert VqKd.infer_arch(shapes, arch_of(VQKD)) == wanted


def test_pixels_with_statistics_come_back_in_their_range() -> None:
    mean, deviation = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    plain = _of(VQKD, _pixels)
    own = _of(VQKD, lambda a: (_pixels(a), a.update(pixel_mean=mean, pixel_std=deviation)))
    assert (plain.network.value_range, own.network.value_range) == ((-1.0, 1.0), (0.0, 1.0))
    x, statistics = random_images(1, 64, 64), Statistics(mean, deviation)
    theirs, ours = plain.network.encode(statistics.into(x)), own.network.encode(x)
    assert torch.equal(theirs.tokens, ours.tokens)
    picture = plain.network.decode(theirs.tokens, size=(64, 64))
    assert torch.equal(own.network.decode(ours.tokens, size=(64, 64)), statistics.back(picture))


def test_codes_of_vqkd_are_chosen_and_decoded_normalised() -> None:
    """The length of a book's row, and of a latent, decides nothing."""
    network = of_fixture(VQKD).network
    x = random_images(2, 64, 64) * 2 - 1
    before = network.encode(x)
    with torch.no_grad():
        network._quantizer["_embedding"].weight.mul_(torch.arange(1.0, 129.0)[:, None])
    after = network.encode(x)
    assert torch.equal(before.tokens, after.tokens)
    assert torch.allclose(before.quantized, after.quantized, atol=1e-6)
    assert torch.allclose(before.quantized.norm(dim=1), torch.ones(2, 4, 4), atol=1e-6)


def test_queries_of_seed_are_causal_at_thirty_two_only() -> None:
    layer = _Attention(12, 3, 1e-12).eval()
    x = random_tensor(1, 5, 12)
    moved = x.clone()
    moved[:, 3:] += 1
    causal = [layer(rows, causal=True) for rows in (x, moved)]
    assert torch.allclose(causal[0][:, :3], causal[1][:, :3], atol=1e-6)
    assert not torch.allclose(layer(x)[:, :3], layer(moved)[:, :3], atol=1e-3)
    assert of_fixture(SEED).network.causal
    other = _of(SEED, lambda a: a.update(queries=7, causal_queries=False)).network
    assert not other.causal
    assert other.encode(random_images(1, 56, 56)).tokens.shape == (1, 7)


def _linears(arch: Arch) -> None:
    arch["decoder"].update(image_head="three linears")


def test_three_linears_read_every_query() -> None:
    """Against the three products written out."""
    network = _of(SEED, _linears).network
    tokens = torch.arange(32)[None]
    queries = network.decode_task_layer(network.quantize["embedding"](tokens)) + network.pos_embed_image
    for block in network.blocks_image:
        queries = block(queries)
    first, second, last = (network.image_down[i].weight for i in (0, 2, 4))
    inner = F.relu(F.relu(queries @ first.T) @ second.T) @ last.T
    wanted = network.distill_image_proj(inner.flatten(1))
    assert torch.allclose(network.decode(tokens, size=(56, 56)), wanted, atol=1e-5)


@pytest.mark.parametrize("change", [lambda _: None, _linears, lambda a: a["qformer"].update(cross_attention_every=1)])
def test_variants_of_seed_are_read_off_their_shapes(change: Callable[[Arch], object]) -> None:
    tokenizer = _of(SEED, change)
    shapes, like = names_of(tokenizer.network), arch_of(SEED)
    assert Seed.infer_arch(shapes, like) == tokenizer.card.arch


REFUSED: Mapping[str, list[tuple[Callable[[Arch], object], str]]] = {
    VQKD: [
        (lambda a: a.update(image_size=60), "no multiple of patch_size 16"),
        (lambda a: a["encoder"].update(head="linear"), "must be 'linear-tanh-linear'"),
        (lambda a: a.update(post_encode="mlp"), "'identity' or 'conv'"),
        (lambda a: a["quantizer"].update(embed_dim=12), "stands between 16 and 12 channels: give 'conv'"),
        (lambda a: a["quantizer"].update(distance="l2"), "distance is 'l2', but must be 'cosine'"),
        (lambda a: a["decoder"].update(output="pixels"), "gives 24 channels in patches of 1, but pixels are 3"),
        (lambda a: a.update(pixel_mean=[0.5] * 3), "pixel_std is None"),
        (lambda a: a["encoder"].update(heads=5), "5 heads do not divide"),
    ],
    SEED: [
        (lambda a: a.update(causal_queries=False), "causal_queries is False, but must be True"),
        (lambda a: a.update(queries=16), "causal_queries is True, but must be False"),
        (lambda a: a["vit"].update(type="clip vit"), "arch.vit.type is 'clip vit'"),
        (lambda a: a["quantizer"].update(l2_norm=True), "l2_norm is True, but must be False"),
        (lambda a: a["decoder"].update(image_head="mlp"), "'three linears' or 'reverse q-former'"),
        (lambda a: a["decoder"].update(heads=5), "5 heads do not divide a width of 48"),
        (lambda a: a.update(pixel_mean=None, pixel_std=None), "cannot do without them"),
        (lambda a: a.update(image_size=60), "no multiple of vit.patch_size 14"),
    ],
}


@pytest.mark.parametrize(
    ("fixture", "change", "said"), [(name, change, said) for name, rows in REFUSED.items() for change, said in rows]
)
def test_what_has_no_meaning_is_refused(fixture: str, change: Callable[[Arch], object], said: str) -> None:
    arch = copy.deepcopy(arch_of(fixture))
    change(arch)
    with pytest.raises(VtbenchError, match=said), torch.device("meta"):
        build_network(registry.family(fixture.split("__")[0]), arch)


def test_images_and_codes_of_another_form_are_refused() -> None:
    seed, vqkd = of_fixture(SEED), of_fixture(VQKD)
    with pytest.raises(VtbenchError, match="takes 56 x 56 only"):
        seed.encode(random_images(1, 64, 64), [0])
    with pytest.raises(VtbenchError, match="there are 31 tokens, but an image has 32"):
        seed.decode(Codes(torch.zeros(1, 31, dtype=torch.int64), (128,), (56, 56)), [0])
    with pytest.raises(VtbenchError, match="takes squares, multiples of 16"):
        vqkd.encode(random_images(1, 64, 80), [0])
    with pytest.raises(VtbenchError, match="15 tokens for an image of 64 x 64, which needs 16"):
        vqkd.decode(Codes(torch.zeros(1, 15, dtype=torch.int64), (128,), (64, 64)), [0])
    with pytest.raises(VtbenchError, match="stage is 'recon'"):
        seed.network.decode(torch.zeros(1, 32, dtype=torch.int64), size=(56, 56), stage="recon")
