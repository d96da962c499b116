"""The fits of the built-in tokenizers: scikit-learn, SciPy, and what their rules say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from builtin_models import cat, fit, load, patch_rows, psnr
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA

from vtbench.adapters.fits import make_fits
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Codes, Latents


def test_pca_is_scikit_learns() -> None:
    """The same mean, and components up to sign where neighbouring eigenvalues are apart; latents are projections."""
    rows = make_fits.patches(4)
    theirs = PCA(16, svd_solver="covariance_eigh").fit(rows.astype(np.float64))
    ours = fit("pca")
    assert np.abs(ours["mean"].numpy() - theirs.mean_).max() < 1e-5
    components = ours["components"].numpy()
    assert np.abs(components @ components.T - np.eye(64)).max() < 1e-5
    gap = theirs.explained_variance_[:-1] / theirs.explained_variance_[1:]
    first = int(np.argmax(gap < 1.02)) if (gap < 1.02).any() else 15
    assert first >= 4
    cosine = np.abs((components[:first] * theirs.components_[:first]).sum(axis=1))
    assert cosine.min() > 1 - 1e-4
    tokens = load("pca", dims=16).encode(cat(), [0])
    assert isinstance(tokens, Latents)
    truth = (patch_rows(cat()) - ours["mean"].numpy()) @ components[:16].T
    values = tokens.values[0].flatten(1).T.float().numpy()
    # Half a unit in the last place of float16 (11 bits) and float32's own error.
    assert np.abs(values - truth).max() <= np.abs(truth).max() * 2**-11 + 1e-5


def test_vq_takes_the_nearest() -> None:
    image = cat(64, 64)
    rows = patch_rows(image).astype(np.float64)
    book = fit("kmeans-vq")["codebook_1024"].double().numpy()
    tokens = load("kmeans-vq").encode(image, [0])
    assert isinstance(tokens, Codes)
    assert np.array_equal(tokens.indices[0, :, 0].numpy(), cdist(rows, book).argmin(axis=1))
    residual = fit("residual-vq")
    rest = (patch_rows(image) - residual["mean"].numpy()).astype(np.float64)
    deep = load("residual-vq", depth=3).encode(image, [0])
    assert isinstance(deep, Codes)
    assert deep.alphabets == (256, 256, 256)
    for level, codes in enumerate(residual["codebooks"][:3].double().numpy()):
        index = cdist(rest, codes).argmin(axis=1)
        assert np.array_equal(deep.indices[0, :, level].numpy(), index)
        rest = rest - codes[index]
    # The picture is the sum of what was chosen: what is left is its error.
    back = load("residual-vq", depth=3).decode(deep, [0])
    assert np.abs(patch_rows(image) - patch_rows(back) - rest).max() < 1e-5


def test_centroids_are_centroids() -> None:
    """Lloyd's condition on the fitted photographs: no row of 256 is far from the mean of the patches that chose it."""
    rows = make_fits.patches(4)[::4]
    book = fit("kmeans-vq")["codebook_256"].float().numpy()
    nearest = cdist(rows, book).argmin(axis=1)
    spread = rows.std(axis=0).mean()
    counts = np.bincount(nearest, minlength=256)
    off = [np.abs(rows[nearest == k].mean(axis=0) - book[k]).mean() for k in range(256) if counts[k] >= 50]
    assert len(off) > 100
    assert float(np.mean(off)) < 0.1 * spread


def test_product_quantization_takes_the_nearest_of_every_book() -> None:
    image, tensors = cat(64, 64), fit("product-quant")
    latents = (patch_rows(image).astype(np.float64) - tensors["mean"].numpy()) @ tensors[
        "components"
    ].double().numpy().T
    tokens = load("product-quant", books=4).encode(image, [0])
    assert isinstance(tokens, Codes)
    dims, books = tensors["dims_4"].numpy(), tensors["codebooks_4"].double().numpy()
    # Every dimension stands in one book.
    assert sorted(dims.ravel()) == list(range(64))
    for k in range(4):
        assert np.array_equal(tokens.indices[0, :, k].numpy(), cdist(latents[:, dims[k]], books[k]).argmin(axis=1))


def test_scalar_codes_by_hand() -> None:
    image, tensors = cat(64, 64), fit("pca-fsq")
    latents = (patch_rows(image).astype(np.float64) - tensors["mean"].numpy()) @ tensors[
        "components"
    ].double().numpy().T
    signs = load("pca-signs", bits=18).encode(image, [0])
    # The first bit of a component is its sign; the next one is the sign of what the first left.
    dims, worth = tensors["sign_dims"].tolist(), tensors["sign_worth"].tolist()
    assert dims[0] == 0
    again = dims.index(0, 1)
    first, second = signs.indices[0, :, 0].numpy(), signs.indices[0, :, again].numpy()
    assert np.array_equal(first, latents[:, 0] > 0)
    assert np.array_equal(second, latents[:, 0] - np.where(first, worth[0], -worth[0]) > 0)
    edges = np.arctanh(np.linspace(-1, 1, 6)[1:-1])[None] * tensors["bound"].numpy()[:6, None]
    levels = load("pca-fsq", levels=5).encode(image, [0])
    for dim in range(6):
        assert np.array_equal(levels.indices[0, :, dim].numpy(), np.digitize(latents[:, dim], edges[dim]))
        # Values of levels rise, and each lies within its own level.
        assert np.array_equal(np.digitize(tensors["values_5"][dim].numpy(), edges[dim]), np.arange(5))


def test_byte_pairs_are_lossless_and_fewer() -> None:
    """The picture is the VQ's, pixel for pixel; without merges so are the tokens; the spelling is that of the pairs."""
    many = torch.cat([cat(), cat().flip(3), torch.full_like(cat(), 0.5)])
    plain = load("kmeans-vq", codebook=256)
    raster = plain.encode(many, [0] * 3)
    assert torch.equal(load("bpe-vq", merges=0).encode(many, [0] * 3).indices, raster.indices)
    pairs = fit("bpe-vq")["merges"].tolist()

    def spell(token: int) -> list[int]:
        return [token] if token < 256 else [c for half in pairs[token - 256] for c in spell(half)]

    counts = []
    for merges in (64, 1024):
        model = load("bpe-vq", merges=merges)
        tokens = model.encode(many, [0] * 3)
        assert isinstance(tokens, Codes)
        counts.append(tokens.positions)
        for k in range(3):
            own = [int(v) for v in tokens.indices[k, :, 0] if v >= 0]
            assert [c for v in own for c in spell(v)] == raster.indices[k, :, 0].tolist()
        assert torch.equal(model.decode(tokens, [0] * 3), plain.decode(raster, [0] * 3))
        assert float(tokens.bits()[0]) == pytest.approx(
            len([v for v in tokens.indices[0, :, 0] if v >= 0]) * math.log2(256 + merges)
            + math.log2(tokens.positions[0] + 1)
        )
    assert all(n > m for n, m in zip(*counts, strict=True))
    short = Codes(tokens.indices[:, :-1], tokens.alphabets, tokens.size, variable=True)
    with pytest.raises(VtbenchError, match="spell"):
        model.decode(short, [0] * 3)


def test_quadtree_spends_where_the_detail_is() -> None:
    """Left half flat, right half a photograph: the flat blocks stay whole, and the budget is kept."""
    image = cat(128, 192)
    image[:, :, :, :96] = image[:, :, :, :96].mean(dim=(2, 3), keepdim=True)
    model = load("quadtree", budget=0.25)
    tokens = model.encode(image, [0], 0.25)
    assert isinstance(tokens, Codes)
    roots = tokens.indices[0, :24, 0].reshape(4, 6)
    assert bool((roots[:, :3] != 1023).all())
    assert bool((roots[:, 3:] == 1023).sum() > 6)
    assert 0.22 < float(tokens.bits()[0]) / (128 * 192) <= 0.25 + 12 / (128 * 192)
    back = model.decode(tokens, [0])
    flat = back[0, :, :, :96].reshape(3, 4, 32, 3, 32)
    assert float((flat - flat[:, :1, :, :1]).abs().max()) == 0
    # Pruning is exact: with the roots alone, the error is the sum of theirs; with all leaves, the least there is.
    least = model.encode(image, [0], 0.001)
    assert least.positions == [24]
    most = model.encode(image, [0], 24.0)
    assert psnr(image, model.decode(most, [0])) > psnr(image, back) > psnr(image, model.decode(least, [0]))
    with pytest.raises(VtbenchError, match="do not spell a tree"):
        model.decode(Codes(tokens.indices[:, :-1], tokens.alphabets, tokens.size, variable=True), [0])
