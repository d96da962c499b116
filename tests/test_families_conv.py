"""The convolutional families: quantizers against plain arithmetic, and tokenizers from images to codes and back."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from vtbench import parity, registry
from vtbench.adapters.networks.parts import multiscale
from vtbench.adapters.networks.parts import quantizers as qz
from vtbench.adapters.networks.parts.conv import Attention, Down, Norm, nominal_levels
from vtbench.models.native import NetworkTokenizer
from vtbench.models.network import build_network
from vtbench.types.cards import Card, Weights
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Codes, unpack

FIXTURES = Path(__file__).parent / "parity"


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# Quantizers


def test_nearest_is_the_nearest_also_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    z, codes = _random(50, 6), _random(40, 6, seed=1)
    truth = torch.cdist(z.double(), codes.double()).argmin(dim=1)
    assert torch.equal(qz.nearest(z, codes), truth)
    monkeypatch.setattr(qz, "TABLE", 40 * 7)
    assert torch.equal(qz.nearest(z, codes), truth)
    assert torch.equal(qz.most_similar(z, codes), (z.double() @ codes.double().t()).argmax(dim=1))


def test_of_equal_codes_the_first_is_taken() -> None:
    codes = _random(4, 3)
    codes[3] = codes[1]
    assert qz.nearest(codes[3:], codes).tolist() == [1]
    assert qz.most_similar(10 * codes[3:], torch.cat([codes[1:2], codes[3:]])).tolist() == [0]


def test_three_ways_to_choose_a_code_differ() -> None:
    """One latent whose nearest, most aligned and greatest-product codes are three different rows."""
    rows = torch.tensor([[0.9, 0.5], [3.0, 0.5], [9.0, 6.0]])
    z = torch.tensor([[1.0, 0.15]]).reshape(1, 2, 1, 1)
    plain, aligned, product = qz.VQ(3, 2), qz.VQ(3, 2, l2_norm=True), qz.DotVQ(3, 2)
    for quantizer in (plain, aligned, product):
        quantizer.embedding.weight.data = rows
    assert [int(q(z)[0]) for q in (plain, aligned, product)] == [0, 1, 2]
    # l2-norm decodes the unit row, the others the row itself.
    assert torch.allclose(aligned(z)[1].norm(), torch.tensor(1.0))
    assert torch.equal(plain(z)[1].flatten(), rows[0])


def test_raster_order_of_a_rectangle() -> None:
    quantizer = qz.VQ(6, 1)
    quantizer.embedding.weight.data = torch.arange(6.0)[:, None]
    z = torch.arange(6.0).reshape(1, 1, 2, 3)
    tokens, back = quantizer(z)
    assert tokens.tolist() == [[0, 1, 2, 3, 4, 5]]
    assert torch.equal(back, z)


def test_gumbel_takes_the_most_likely_code() -> None:
    quantizer = qz.GumbelVQ(5, 3)
    z = _random(2, 3, 2, 4)
    with torch.no_grad():
        logits = (
            torch.einsum("kc,bchw->bkhw", quantizer.proj.weight[:, :, 0, 0], z) + quantizer.proj.bias[:, None, None]
        )
        tokens, back = quantizer(z)
    assert torch.equal(tokens, logits.argmax(dim=1).flatten(1))
    assert torch.equal(back[1, :, 1, 3], quantizer.embed.weight[tokens[1, 7]])


def test_bits_are_channels_and_zero_is_no_one() -> None:
    z = torch.tensor([0.5, -0.5, 0.0]).reshape(1, 3, 1, 1)
    tokens, back = qz.SignBits(3, scale=0.25)(z)
    assert tokens.tolist() == [[[1, 0, 0]]]
    assert back.flatten().tolist() == [0.25, -0.25, -0.25]


@pytest.mark.parametrize("fold", [(1, 1), (2, 2), (2, 1)])
def test_residual_codes_add_up_and_come_nearer(fold: tuple[int, int]) -> None:
    quantizer = qz.ResidualVQ([32] * 5, 3, fold=fold, padding=1)
    for i, book in enumerate(quantizer.codebooks):
        # The padding row would fit perfectly and must never be chosen.
        book.weight.data = torch.cat(
            [_random(32, book.weight.shape[1], seed=i) / 2**i, torch.zeros(1, book.weight.shape[1])]
        )
    z = _random(2, 3, 4, 6, seed=9)
    with torch.no_grad():
        tokens, back = quantizer(z)
        assert tokens.shape == (2, 24 // (fold[0] * fold[1]), 5)
        assert int(tokens.max()) < 32
        assert torch.equal(quantizer.lookup(tokens, (4, 6)), back)
        # By hand, at one position: the patch in the order rows, columns, channels.
        r, s = fold
        rest = z[1, :, r : 2 * r, s : 2 * s].permute(1, 2, 0).flatten()
        position = 6 // s + 1
        for depth, book in enumerate(quantizer.codebooks):
            wanted = int((book.weight[:32] - rest).square().sum(dim=1).argmin())
            assert int(tokens[1, position, depth]) == wanted
            rest = rest - book.weight[wanted]


def test_one_depth_is_plain_vq_and_one_bit_a_sign() -> None:
    """A single book has no axis of its own; the bits of a binary code always have."""
    residual, plain = qz.ResidualVQ([16], 3, padding=1), qz.VQ(16, 3)
    plain.embedding.weight.data = residual.codebooks[0].get_parameter("weight").data[:16]
    z = _random(2, 3, 2, 4)
    with torch.no_grad():
        assert torch.equal(residual(z)[0], plain(z)[0])
        assert torch.equal(residual.lookup(plain(z)[0], (2, 4)), plain(z)[1])
    bits = qz.SignBits(1)
    tokens, back = bits(z[:, :1])
    assert tokens.shape == (2, 8, 1)
    assert torch.equal(bits.lookup(tokens[..., 0], (2, 4)), back)


def test_a_shared_codebook_is_one_tensor_under_every_depth() -> None:
    quantizer = qz.ResidualVQ([8] * 3, 2, shared=True)
    assert len(set(map(id, quantizer.codebooks))) == 1
    assert list(quantizer.state_dict()) == [f"codebooks.{i}.weight" for i in range(3)]
    with pytest.raises(VtbenchError, match="one size"):
        qz.ResidualVQ([8, 9], 2, shared=True)


PHI = {
    4: "0123", 5: "01223", 6: "001233", 7: "0012233", 8: "00112233", 9: "001122233", 10: "0011122333",
    11: "00011222333", 12: "000111222333", 13: "0001112222333", 14: "00011112222333",
}  # fmt: skip
"""Which of four Phi each scale gets: the table of parity_notes_conv.md, computed with upstream's own expressions."""


@pytest.mark.parametrize("scales", PHI)
def test_phi_is_dealt_out_as_upstream_deals_it(scales: int) -> None:
    assert "".join(map(str, multiscale.phi_index(scales, 4))) == PHI[scales]


@pytest.mark.parametrize(
    ("share", "keys"),
    [(0, ["quant_resi.0", "quant_resi.1", "quant_resi.2"]), (1, ["quant_resi.qresi"]),
     (2, ["quant_resi.qresi_ls.0", "quant_resi.qresi_ls.1"])],
)  # fmt: skip
def test_multi_scale_sum_and_keys(share: int, keys: list[str]) -> None:
    quantizer = multiscale.MultiScaleVQ(16, 3, [(1, 1), (2, 3), (4, 6)], share=share)
    parity.fill_(quantizer)
    assert [
        n.removesuffix(".weight") for n in quantizer.state_dict() if n.startswith("quant_resi") and "weight" in n
    ] == keys
    z = _random(2, 3, 4, 6)
    with torch.no_grad():
        tokens, total = quantizer(z)
        assert tokens.shape == (2, 1 + 6 + 24)
        assert torch.allclose(quantizer.lookup(tokens, (4, 6)), total, atol=1e-6)
        # The first scale by hand: the mean over the grid, its nearest code, spread flat, refined.
        mean = z.mean(dim=(2, 3))
        first = torch.cdist(mean, quantizer.embedding.weight).argmin(dim=1)
        assert torch.equal(tokens[:, 0], first)
    with pytest.raises(VtbenchError, match="last scale"):
        quantizer(_random(1, 3, 4, 4))


def test_without_refinement_a_single_fine_scale_is_plain_vq() -> None:
    """ratio 0 leaves Phi out; where the coarse scale's code is zero, the last scale is ordinary VQ."""
    fine = multiscale.MultiScaleVQ(5, 2, [(1, 1), (3, 3)], ratio=0.0)
    assert not any("quant_resi" in n for n in fine.state_dict())
    fine.embedding.weight.data = torch.cat([torch.zeros(1, 2), 4 * _random(4, 2)])
    z = _random(1, 2, 3, 3, seed=3)
    z = z - z.mean(dim=(2, 3), keepdim=True)
    plain = qz.VQ(5, 2)
    plain.embedding.weight.data = fine.embedding.weight.data
    with torch.no_grad():
        tokens, total = fine(z)
        assert int(tokens[0, 0]) == 0
        assert torch.equal(tokens[:, 1:], plain(z)[0])
        assert torch.allclose(total, plain(z)[1])


# Layers


def test_attention_is_the_formula() -> None:
    for fused in (False, True):
        layer = Attention(32, groups=32, eps=1e-6, fused=fused).double()
        x = _random(2, 32, 3, 5).double()
        with torch.no_grad():
            h = F.group_norm(x, 32, layer.norm.weight, layer.norm.bias, 1e-6)
            if fused:
                q, k, v = layer.qkv(h).flatten(2).chunk(3, dim=1)
            else:
                q, k, v = (conv(h).flatten(2) for conv in (layer.q, layer.k, layer.v))
            weights = torch.softmax(torch.einsum("bci,bcj->bij", q, k) / 32**0.5, dim=2)
            wanted = x + layer.proj_out(torch.einsum("bij,bcj->bci", weights, v).reshape(x.shape))
            assert torch.allclose(layer(x), wanted, atol=1e-12)


def test_halving_pads_below_and_right() -> None:
    """TensorFlow's SAME: max((ceil(n / s) - 1) s + k - n, 0) = 1 in all for k 3, s 2, even n; less of it first."""
    layer = Down(1)
    layer.weight.data = torch.tensor([[[[0.0, 0, 0], [0, 0, 0], [0, 0, 1.0]]]])
    layer.bias.data.zero_()
    with torch.no_grad():
        out = layer(torch.arange(16.0).reshape(1, 1, 4, 4))[0, 0]
    assert out.tolist() == [[10.0, 0.0], [0.0, 0.0]]


def test_the_memory_layout_does_not_decide_how_exact_a_norm_is() -> None:
    """torch's channels-last kernel errs by some 4e-5 on this; over NCHW it is below 2e-6."""
    x = _random(1, 32, 256, 256) * 3 + 1
    exact = F.group_norm(x.double(), 32)
    layer = Norm(32, 32, eps=1e-5)
    with torch.no_grad():
        error = (layer(x.contiguous(memory_format=torch.channels_last)) - exact).abs().max()
    assert float(error) < 2e-6


def test_nominal_levels_round_as_upstream_rounds() -> None:
    assert nominal_levels(256, 5, (16,), down=True) == (4,)
    assert nominal_levels(60, 3, (15, 60), down=True) == (0, 2)
    # 30 -> 15 -> 7 downwards; 7 -> 14 -> 28 upwards.
    assert nominal_levels(30, 3, (15,), down=True) == (1,)
    assert nominal_levels(30, 3, (15, 14), down=False) == (1,)


# Tokenizers


def _tokenizer(fixture: str) -> NetworkTokenizer:
    facts: dict[str, Any] = json.loads((FIXTURES / f"{fixture}.json").read_text())
    family = registry.family(facts["family"])
    card = Card(name=fixture, family=family.name, kind="discrete", title="a small one", arch=facts["arch"])
    made: NetworkTokenizer = family.build(card, {})
    made.network = parity.fill_(build_network(family, facts["arch"]))
    made.network.requires_grad_(False)
    return made


SMALL = [
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


@pytest.mark.parametrize(("fixture", "factor", "alphabets"), SMALL)
def test_images_to_codes_and_back(fixture: str, factor: int, alphabets: tuple[int, ...]) -> None:
    """Rectangles, several images at once, and a decoder that gets only the packed bytes."""
    made = _tokenizer(fixture)
    images = torch.rand(3, 3, 24, 40, generator=torch.Generator().manual_seed(1))
    codes = made.encode(images, [0, 1, 2])
    assert isinstance(codes, Codes)
    assert codes.alphabets == alphabets
    assert codes.grids == ((24 // factor, 40 // factor),)
    assert codes.indices.shape == (3, 24 * 40 // factor**2, len(alphabets))
    together = made.decode(codes, [0, 1, 2])
    assert together.shape == images.shape
    for i in range(3):
        alone = made.encode(images[i : i + 1], [i])
        assert isinstance(alone, Codes)
        assert torch.equal(alone.indices, codes.indices[i : i + 1])
        # Convolutions of another batch size may run another kernel: rounding only.
        bytes_only = made.decode(unpack(alone.pack()[0]), [i])
        assert torch.allclose(bytes_only, together[i : i + 1], atol=2e-5)
    with pytest.raises(VtbenchError, match=f"26 x 40, but both sides must be multiples of {factor}"):
        made.encode(images.new_zeros(1, 3, 26, 40), [0])
    with pytest.raises(VtbenchError, match="must be multiples"):
        made.decode(Codes(codes.indices, codes.alphabets, (24, 42)), [0, 1, 2])
    with pytest.raises(VtbenchError, match="tokens for an image of 24 x 44"):
        made.decode(Codes(codes.indices, codes.alphabets, (24, 44)), [0, 1, 2])


def test_var_lays_its_scales_out_and_takes_one_size() -> None:
    made = _tokenizer("var__ms4-v128")
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    codes = made.encode(images, [0, 1])
    assert isinstance(codes, Codes)
    assert codes.grids == ((1, 1), (2, 2), (3, 3), (4, 4))
    assert codes.positions == [30, 30]
    assert made.decode(codes, [0, 1]).shape == images.shape
    assert made.network.fixed_size == 64
    with pytest.raises(VtbenchError, match="the last scale is"):
        made.encode(torch.zeros(1, 3, 32, 32), [0])


def _saved(fixture: str) -> tuple[Any, dict[str, torch.Tensor]]:
    made = _tokenizer(fixture)
    return made, {name: t.clone() for name, t in made.network.state_dict().items()}


def _loads(fixture: str, content: Any, weights: Weights, folder: Path) -> None:
    """The family's tokenizer loads `content` from disk and then encodes as the one in memory does."""
    made = _tokenizer(fixture)
    torch.save(content, folder / "file.pt")
    card = replace(made.card, weights=(weights,))
    loaded = registry.family(card.family).build(card, {})
    loaded.load({"model": folder / "file.pt"})
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    wanted, found = made.encode(images, [0]), loaded.encode(images, [0])
    assert torch.equal(found.indices, wanted.indices)
    assert torch.equal(loaded.decode(found, [0]), made.decode(wanted, [0]))


def test_official_containers_load(tmp_path: Path) -> None:
    """Each family's own: averaged copies, a prefix in a larger model, usage statistics, losses, integer buffers."""
    names = ("ibq-16384", "janus-pro-1b-vq16", "llamagen-vq-ds16-c2i", "maskbit-10bit", "rqvae-imagenet-8x8x4")
    cards = {name: registry.model(name).card.weights[0] for name in names}

    _, state = _saved("ibq__f4-v128")
    averaged = {f"model_ema.{n.replace('.', '')}": t for n, t in state.items()}
    raw = {n: t + 1 for n, t in state.items()}
    extra = {"model_ema.decay": torch.tensor(0.999), "model_ema.num_updates": torch.tensor(7)}
    content: dict[str, Any] = {"state_dict": {**raw, **averaged, **extra, "loss.logvar": torch.ones(1)}, "epoch": 3}
    _loads("ibq__f4-v128", content, cards["ibq-16384"], tmp_path)

    _, state = _saved("janus__vq-ds4-tiny")
    inner = {f"gen_vision_model.{n}": t for n, t in state.items()}
    used = {"gen_vision_model.quantize.codebook_used": torch.zeros(65536)}
    _loads("janus__vq-ds4-tiny", {**inner, **used, "lm.w": torch.ones(2)}, cards["janus-pro-1b-vq16"], tmp_path)

    _, state = _saved("llamagen__vq-ds4-tiny")
    used = {"quantize.codebook_used": torch.zeros(65536)}
    raw = {n: t + 1 for n, t in state.items()}
    content = {"model": raw, "ema": {**state, **used}, "discriminator": {"x": torch.ones(1)}}
    _loads("llamagen__vq-ds4-tiny", content, cards["llamagen-vq-ds16-c2i"], tmp_path)

    _, state = _saved("maskbit__lfq-f4-10bit")
    table = {"quantize.codebook": torch.ones(1024, 10), "quantize.bits_to_indices": 2 ** torch.arange(10).int()}
    _loads("maskbit__lfq-f4-10bit", {**state, **table}, cards["maskbit-10bit"], tmp_path)

    _, state = _saved("rq-vae__f4-d4-v128-shared")
    statistics = {f"quantizer.codebooks.{i}.cluster_size_ema": torch.zeros(128) for i in range(4)}
    content = {"state_dict": {**state, **statistics}}
    _loads("rq-vae__f4-d4-v128-shared", content, cards["rqvae-imagenet-8x8x4"], tmp_path)


def test_sizes_of_the_released_ones() -> None:
    """Positions and bits that the papers state, from the cards alone."""
    stated = {
        "llamagen-vq-ds16-c2i": (256, 14 * 256),
        "llamagen-vq-ds8-c2i": (1024, 14 * 1024),
        "var-vae-256": (680, 12 * 680),
        "var-vae-512": (2240, 12 * 2240),
        "rqvae-imagenet-8x8x4": (64, 4 * 14 * 64),
        "maskbit-18bit": (256, 18 * 256),
        "ibq-262144": (256, 18 * 256),
        "vqgan-gumbel-f8": (1024, 13 * 1024),
    }
    for name, (tokens, bits) in stated.items():
        card = registry.model(name).card
        assert card.tokens_at_256 == tokens, name
        assert tokens * sum(math.log2(a) for a in card.alphabets) == bits, name


@pytest.mark.parametrize(
    ("family", "change", "said"),
    [
        ("var", {"quantizer": {"v_patch_nums": [16]}}, "two scales or more"),
        ("var", {"quantizer": {"v_patch_nums": [1, 2, 16]}}, "phi_index"),
        ("var", {"quantizer": {"embed_dim": 8}}, "must equal z_channels"),
        ("var", {"attention": "everywhere"}, "last level and middle"),
        ("llamagen", {"decoder_ch_mult": [1, 2]}, "another size"),
        ("llamagen", {"quantizer": {"type": "fsq"}}, "must be 'vq'"),
        ("rqvae", {"quantizer": {"code_shape": [3, 3, 4]}}, "does not divide"),
        ("rqvae", {"quantizer": {"depth": 3}}, "positions of depth 3"),
        ("rqvae", {"quantizer": {"embed_dim": 100}}, "latent_shape"),
        ("maskbit", {"quantizer": {"codebook_size": 4096}}, "14 sign bits make 16384 codes"),
        ("maskgit-vqgan", {"quantizer": {"embed_dim": 64}}, "must equal z_channels"),
        ("vqgan", {"quantizer": {"type": "gumbel", "embed_dim": 8}}, "embed_dim = z_channels"),
    ],
)
def test_archs_that_no_network_has_are_refused(family: str, change: dict[str, Any], said: str) -> None:
    one = registry.family(family)
    base = one.cards[0].arch
    assert base is not None
    with pytest.raises(VtbenchError, match=said), torch.device("meta"):
        build_network(one, parity.merge(base, change))
