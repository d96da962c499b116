"""The built-in tokenizers: published codec numbers, arithmetic of rates, scikit-learn, SciPy, and the contract."""

from __future__ import annotations

import base64
import io
import json
import math
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vtbench import api, contract, honesty, weights
from vtbench.images.serving import serve
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Bitstream, Codes, Latents, Tokens, unpack

CODECS = ("jpeg", "webp", "jpeg2000", "avif", "png")
MORE = ("product-quant", "pca-fsq", "pca-signs", "bpe-vq", "quadtree")
BUILTIN = (*CODECS, "pca", "kmeans-vq", "residual-vq", "dct", "identity", "resize", *MORE)


def load(name: str, **options: Any) -> Any:
    _, _, found, made = api.load(name, {k: str(v) for k, v in options.items()}, None, "cpu", "float32")
    assert found.status != "unverified"
    return made


def cat(height: int = 128, width: int = 192) -> torch.Tensor:
    """scikit-image's cat, cut; float32 (1, 3, H, W) in [0, 1]. On nothing of it was anything fitted."""
    from skimage import data

    cut = np.ascontiguousarray(data.chelsea()[60 : 60 + height, 100 : 100 + width])
    return torch.from_numpy(cut).permute(2, 0, 1)[None].float() / 255


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    error = float((((a * 255).round() - (b.clamp(0, 1) * 255).round()).double() ** 2).mean())
    return 99.0 if error == 0 else float(10 * np.log10(255**2 / error))


def there_and_back(made: Any, image: torch.Tensor) -> tuple[Tokens, torch.Tensor]:
    tokens = made.encode(image, [0] * len(image))
    (blob, *_) = tokens.pack()
    return tokens, made.decode(unpack(blob) if len(image) == 1 else tokens, [0] * len(image))


# -- codecs ----------------------------------------------------------------------------------------------------------


def test_jpeg_on_kodak(shared: Path) -> None:
    """CompressAI's published numbers (Pillow 7.1.2, qualities 5, 10, … 95): bpp within 0.5 %, PSNR within 0.2 dB."""
    published = json.loads((shared / "data" / "kodak" / "published_rate_distortion.json").read_text())["jpeg"]
    pictures = [
        torch.from_numpy(np.array(Image.open(p).convert("RGB"))).permute(2, 0, 1)[None].float() / 255
        for p in sorted((shared / "data" / "kodak").glob("*.png"))
    ]
    assert len(pictures) == 24
    for quality in (5, 50, 75, 95):
        made = load("jpeg", quality=quality)

        def one(image: torch.Tensor, made: Any = made) -> tuple[float, float]:
            tokens, back = there_and_back(made, image)
            return float(tokens.bits()[0]) / (image.shape[2] * image.shape[3]), psnr(image, back)

        with ThreadPoolExecutor(4) as pool:
            bpp, quality_db = np.array(list(pool.map(one, pictures))).mean(axis=0)
        at = quality // 5 - 1
        assert bpp == pytest.approx(published["bpp"][at], rel=0.005)
        assert quality_db == pytest.approx(published["psnr-rgb"][at], abs=0.2)


def test_bytes_are_pillows() -> None:
    image = cat()
    rgb = Image.fromarray((image[0] * 255).round().byte().permute(1, 2, 0).numpy())
    for name, kind, how in (("jpeg", "JPEG", {"quality": 40}), ("png", "PNG", {"compress_level": 9})):
        out = io.BytesIO()
        rgb.save(out, kind, **how)
        made = load(name, **({"quality": 40} if name == "jpeg" else {}))
        (data,) = made.encode(image, [0]).data
        assert data == out.getvalue()
        assert made.encode(image, [0]).bits().tolist() == [8.0 * len(out.getvalue())]


@pytest.mark.parametrize("name", ["png", "identity"])
def test_lossless(name: str) -> None:
    image = cat()
    assert torch.equal((there_and_back(load(name), image)[1] * 255).round(), (image * 255).round())


@pytest.mark.parametrize("name", CODECS)
def test_a_batch_is_its_images(name: str) -> None:
    """The threads of a batch keep the order."""
    many = torch.cat([cat(), cat().flip(3), 1 - cat()])
    made = load(name)
    tokens, back = there_and_back(made, many)
    assert isinstance(tokens, Bitstream)
    for k in range(3):
        alone, picture = there_and_back(made, many[k : k + 1])
        assert isinstance(alone, Bitstream)
        assert alone.data[0] == tokens.data[k]
        assert torch.equal(picture[0], back[k])


# -- rates by arithmetic ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "bpp", "positions"),
    [
        # 8 x 8 patches of 16 float16 values; log2 1024 and log2 256 bits a patch; four books of 8 bits.
        ("pca", {"dims": 16}, 16 * 16 / 64, 384),
        ("pca", {"dims": 3}, 3 * 16 / 64, 384),
        ("kmeans-vq", {"codebook": 1024}, 10 / 64, 384),
        ("kmeans-vq", {"codebook": 256}, 8 / 64, 384),
        ("residual-vq", {"depth": 4}, 4 * 8 / 64, 384),
        ("product-quant", {"books": 8}, 8 * 8 / 64, 384),
        ("pca-fsq", {"levels": 5}, 6 * math.log2(5) / 64, 384),
        ("pca-signs", {"bits": 18}, 18 / 64, 384),
        # 24 bits a pixel that is sent; one pixel in four, one in 64.
        ("identity", {}, 24.0, 128 * 192),
        ("resize", {"factor": 2}, 6.0, 64 * 96),
        ("resize", {"factor": 8}, 24 / 64, 16 * 24),
    ],
)
def test_rate(name: str, options: Mapping[str, Any], bpp: float, positions: int) -> None:
    tokens = load(name, **options).encode(cat(), [0])
    assert float(tokens.bits()[0]) == pytest.approx(bpp * 128 * 192)
    assert tokens.positions == [positions]


def test_dct_pays_for_its_length() -> None:
    """1 bpp buys 128 x 192 / 8 = 3072 symbols; their number, which the decoder must know, costs log2 3073 bits."""
    tokens = load("dct", budget=1.0).encode(cat(), [0], 1.0)
    assert tokens.positions == [3072]
    assert float(tokens.bits()[0]) == pytest.approx(8 * 3072 + np.log2(3073))


@pytest.mark.parametrize(
    ("name", "knob", "values", "least"),
    [
        ("jpeg", "quality", (5, 30, 75, 95), 20), ("webp", "quality", (5, 50, 90), 25),
        ("jpeg2000", "db", (25, 35, 45), 24.5), ("avif", "quality", (10, 45, 90), 25),
        ("pca", "dims", (2, 8, 16, 64), 18), ("kmeans-vq", "codebook", (256, 1024, 4096), 18),
        ("residual-vq", "depth", (1, 2, 4, 8), 18), ("dct", "budget", (0.375, 0.5, 1.0, 2.0, 4.0), 18),
        ("resize", "factor", (16, 8, 4, 2), 18), ("product-quant", "books", (2, 4, 8), 20),
        ("pca-fsq", "levels", (5, 6, 7, 8), 19), ("pca-signs", "bits", (4, 8, 18, 36), 18),
        ("quadtree", "budget", (0.0625, 0.125, 0.25, 0.5), 18),
    ],
)  # fmt: skip
def test_more_bits_better_picture(name: str, knob: str, values: tuple[Any, ...], least: float) -> None:
    """On a photograph that nothing was fitted on, every step of the knob costs more and is nearer."""
    image = cat()
    points = []
    for value in values:
        made = load(name, **{knob: value})
        tokens = made.encode(image, [0], value) if made.takes_budget else made.encode(image, [0])
        points.append((float(tokens.bits()[0]), psnr(image, made.decode(tokens, [0]))))
    bits, quality = zip(*points, strict=True)
    assert list(bits) == sorted(set(bits)), points
    assert list(quality) == sorted(set(quality)), points
    assert quality[0] > least, points


# -- the fits --------------------------------------------------------------------------------------------------------


def fit(name: str) -> dict[str, torch.Tensor]:
    return weights.read(next(iter(weights.find(load(name).card).files.values())))


def patch_rows(image: torch.Tensor) -> np.ndarray[Any, Any]:
    """(patches, 192) by reshape: channel-major 8 x 8 patches in raster order."""
    channels, height, width = image[0].shape
    cut = image[0].numpy().reshape(channels, height // 8, 8, width // 8, 8).transpose(1, 3, 0, 2, 4)
    return cut.reshape(-1, channels * 64)


def test_pca_is_scikit_learns() -> None:
    """The same mean, and components up to sign where neighbouring eigenvalues are apart; latents are projections."""
    from sklearn.decomposition import PCA

    from vtbench.adapters.fits import make_fits

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
    found = tokens.values[0].flatten(1).T.float().numpy()
    # Half a unit in the last place of float16 (11 bits) and float32's own error.
    assert np.abs(found - truth).max() <= np.abs(truth).max() * 2**-11 + 1e-5


def test_vq_takes_the_nearest() -> None:
    from scipy.spatial.distance import cdist

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
    from scipy.spatial.distance import cdist

    from vtbench.adapters.fits import make_fits

    rows = make_fits.patches(4)[::4]
    book = fit("kmeans-vq")["codebook_256"].float().numpy()
    nearest = cdist(rows, book).argmin(axis=1)
    spread = rows.std(axis=0).mean()
    counts = np.bincount(nearest, minlength=256)
    off = [np.abs(rows[nearest == k].mean(axis=0) - book[k]).mean() for k in range(256) if counts[k] >= 50]
    assert len(off) > 100
    assert float(np.mean(off)) < 0.1 * spread


def test_product_quantization_takes_the_nearest_of_every_book() -> None:
    from scipy.spatial.distance import cdist

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
        made = load("bpe-vq", merges=merges)
        tokens = made.encode(many, [0] * 3)
        assert isinstance(tokens, Codes)
        counts.append(tokens.positions)
        for k in range(3):
            own = [int(v) for v in tokens.indices[k, :, 0] if v >= 0]
            assert [c for v in own for c in spell(v)] == raster.indices[k, :, 0].tolist()
        assert torch.equal(made.decode(tokens, [0] * 3), plain.decode(raster, [0] * 3))
        assert float(tokens.bits()[0]) == pytest.approx(
            len([v for v in tokens.indices[0, :, 0] if v >= 0]) * math.log2(256 + merges)
            + math.log2(tokens.positions[0] + 1)
        )
    assert all(n > m for n, m in zip(*counts, strict=True))
    short = Codes(tokens.indices[:, :-1], tokens.alphabets, tokens.size, variable=True)
    with pytest.raises(VtbenchError, match="spell"):
        made.decode(short, [0] * 3)


def test_quadtree_spends_where_the_detail_is() -> None:
    """Left half flat, right half a photograph: the flat blocks stay whole, and the budget is kept."""
    image = cat(128, 192)
    image[:, :, :, :96] = image[:, :, :, :96].mean(dim=(2, 3), keepdim=True)
    made = load("quadtree", budget=0.25)
    tokens = made.encode(image, [0], 0.25)
    assert isinstance(tokens, Codes)
    roots = tokens.indices[0, :24, 0].reshape(4, 6)
    assert bool((roots[:, :3] != 1023).all())
    assert bool((roots[:, 3:] == 1023).sum() > 6)
    assert 0.22 < float(tokens.bits()[0]) / (128 * 192) <= 0.25 + 12 / (128 * 192)
    back = made.decode(tokens, [0])
    flat = back[0, :, :, :96].reshape(3, 4, 32, 3, 32)
    assert float((flat - flat[:, :1, :, :1]).abs().max()) == 0
    # Pruning is exact: with the roots alone, the error is the sum of theirs; with all leaves, the least there is.
    least = made.encode(image, [0], 0.001)
    assert least.positions == [24]
    most = made.encode(image, [0], 24.0)
    assert psnr(image, made.decode(most, [0])) > psnr(image, back) > psnr(image, made.decode(least, [0]))
    with pytest.raises(VtbenchError, match="do not spell a tree"):
        made.decode(Codes(tokens.indices[:, :-1], tokens.alphabets, tokens.size, variable=True), [0])


# -- progressive DCT -------------------------------------------------------------------------------------------------


def test_dct_is_scipys() -> None:
    """With every coefficient paid for, the symbols are SciPy's orthonormal DCT of JFIF's Y, rounded to the step."""
    from scipy.fft import dctn

    image = cat(16, 24)
    made = load("dct", budget=24.0)
    tokens = made.encode(image, [0], 24.0)
    assert isinstance(tokens, Codes)
    red, green, blue = (image[0].double() * 255).numpy()
    luma = 0.299 * red + 0.587 * green + 0.114 * blue - 128
    blocks = luma.reshape(2, 8, 3, 8).transpose(0, 2, 1, 3).reshape(6, 8, 8)
    truth = np.stack([dctn(b, norm="ortho") for b in blocks])
    # The code's runs, one symbol a block: the three DCs in steps of 8, luma first, then luma's lowest two frequencies.
    found = tokens.indices[0, :30, 0].reshape(5, 6).numpy() - 128
    assert np.array_equal(found[0], np.round(truth[:, 0, 0] / 8).clip(-128, 127))
    assert {tuple(found[3]), tuple(found[4])} == {
        tuple(np.round(truth[:, y, x] / 6).clip(-128, 127)) for y, x in ((0, 1), (1, 0))
    }
    # A step of 6 errs by 6 / sqrt 12 = 1.7 grey levels in Y, Cb and Cr: near 40 dB.
    assert psnr(image, made.decode(tokens, [0])) > 38


def test_every_prefix_is_a_picture() -> None:
    image = cat()
    made = load("dct", budget=2.0)
    whole = made.encode(image, [0], 2.0)
    short = made.encode(image, [0], 0.5)
    n = short.indices.shape[1]
    assert torch.equal(whole.indices[:, :n], short.indices)
    cut = Codes(whole.indices[:, :n].clone(), whole.alphabets, whole.size, whole.grids, variable=True)
    assert torch.equal(made.decode(cut, [0]), made.decode(short, [0]))
    # Marked as absent instead of cut off, the tail decodes alike.
    absent = whole.indices.clone()
    absent[:, n:] = -1
    padded = Codes(absent, whole.alphabets, whole.size, whole.grids, variable=True)
    assert torch.equal(made.decode(padded, [0]), made.decode(short, [0]))


# -- sizes, processes, the contract ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILTIN)
def test_any_size(name: str) -> None:
    """From one pixel to a ribbon, served as the runner serves them."""
    made = load(name)
    for height, width in ((1, 1), (3, 5), (8, 24), (2, 700), (33, 17)):
        image = cat(40, 40)[:, :, :height, :width] if width <= 40 else cat(height, 192).repeat(1, 1, 1, 4)[..., :width]
        service = serve(made.card.sizes, height, width, "resize")
        tokens, back = there_and_back(made, service.to_model(image))
        assert service.from_model(back).shape == image.shape
        assert bool(torch.isfinite(back).all())
        assert float(tokens.bits()[0]) > 0


def test_a_fresh_process_decodes_the_same() -> None:
    """One process for all: it gets names and packed bytes, and gives back the same pictures."""
    image = cat(64, 96)
    asked, here = {}, {}
    for name in BUILTIN:
        made = load(name)
        tokens, back = there_and_back(made, image)
        asked[name] = base64.b64encode(tokens.pack()[0]).decode()
        here[name] = (back.clamp(0, 1) * 255).round().byte()[0].numpy()
    code = (
        "import base64, json, sys; from vtbench.honesty import decode_here\n"
        "for name, blob in json.load(sys.stdin).items():\n"
        "    asked = dict(model=name, options={}, blobs=[blob], seeds=[0], device='cpu', dtype='float32')\n"
        "    print(name, base64.b64encode(decode_here(asked)).decode())"
    )
    done = subprocess.run([sys.executable, "-c", code], input=json.dumps(asked), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]
    there = dict(line.split() for line in done.stdout.splitlines())
    assert set(there) == set(BUILTIN)
    for name in BUILTIN:
        assert np.array_equal(np.frombuffer(base64.b64decode(there[name]), np.uint8), here[name].ravel()), name


@pytest.mark.parametrize("name", BUILTIN)
def test_contract(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every check of `vtbench check` but the fresh process, which the test above has for all of them at once."""

    def same_process(command: Any, input: bytes, **_: Any) -> Any:
        return subprocess.CompletedProcess(command, 0, honesty.decode_here(json.loads(input)), b"")

    monkeypatch.setattr(honesty.subprocess, "run", same_process)
    found = contract.check(name)
    assert [c for c in found if c.status != "passed"] == []
    assert len(found) >= 9
