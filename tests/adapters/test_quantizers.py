"""Quantizers on one grid, against plain arithmetic."""

from __future__ import annotations

import pytest
import torch
from small_networks import random_tensor

from vtbench.adapters.networks.parts import quantizers as qz
from vtbench.models.made_weights import fill_
from vtbench.types.errors import VtbenchError


def test_nearest_is_the_nearest_also_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    z, codes = random_tensor(50, 6), random_tensor(40, 6, seed=1)
    truth = torch.cdist(z.double(), codes.double()).argmin(dim=1)
    assert torch.equal(qz.nearest(z, codes), truth)
    monkeypatch.setattr(qz, "TABLE", 40 * 7)
    assert torch.equal(qz.nearest(z, codes), truth)
    assert torch.equal(qz.most_similar(z, codes), (z.double() @ codes.double().t()).argmax(dim=1))


def test_of_equal_codes_the_first_is_taken() -> None:
    codes = random_tensor(4, 3)
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
    z = random_tensor(2, 3, 2, 4)
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
            [random_tensor(32, book.weight.shape[1], seed=i) / 2**i, torch.zeros(1, book.weight.shape[1])]
        )
    z = random_tensor(2, 3, 4, 6, seed=9)
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
    z = random_tensor(2, 3, 2, 4)
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


def test_each_codebook_sees_its_own_channels() -> None:
    quantizer = qz.MultiCodebookVQ(3, 16, 6)
    fill_(quantizer)
    z = random_tensor(2, 6, 2, 3)
    with torch.no_grad():
        tokens, back = quantizer(z)
    assert tokens.shape == (2, 6, 3)
    for book in range(3):
        rows = quantizer.codebooks[book].codebook.weight.double()
        chunk = z[1, 2 * book : 2 * book + 2, 1, 2].double()
        cosine = (rows @ chunk) / (rows.norm(dim=1) * chunk.norm())
        assert int(tokens[1, 5, book]) == int(cosine.argmax())
        unit = rows[cosine.argmax()] / rows[cosine.argmax()].norm()
        assert torch.allclose(back[1, 2 * book : 2 * book + 2, 1, 2].double(), unit, atol=1e-6)
    with pytest.raises(VtbenchError, match="do not divide"):
        qz.MultiCodebookVQ(4, 16, 6)
