"""The progressive DCT: SciPy's transform, and every prefix of its code is a picture."""

from __future__ import annotations

import numpy as np
import torch
from builtin_models import cat, load, psnr

from vtbench.types.tokens import Codes


def test_dct_is_scipys() -> None:
    """With every coefficient paid for, the symbols are SciPy's orthonormal DCT of JFIF's Y, rounded to the step."""
    from scipy.fft import dctn

    image = cat(16, 24)
    model = load("dct", budget=24.0)
    tokens = model.encode(image, [0], 24.0)
    assert isinstance(tokens, Codes)
    red, green, blue = (image[0].double() * 255).numpy()
    luma = 0.299 * red + 0.587 * green + 0.114 * blue - 128
    blocks = luma.reshape(2, 8, 3, 8).transpose(0, 2, 1, 3).reshape(6, 8, 8)
    truth = np.stack([dctn(b, norm="ortho") for b in blocks])
    # The code's runs, one symbol a block: the three DCs in steps of 8, luma first, then luma's lowest two frequencies.
    symbols = tokens.indices[0, :30, 0].reshape(5, 6).numpy() - 128
    assert np.array_equal(symbols[0], np.round(truth[:, 0, 0] / 8).clip(-128, 127))
    assert {tuple(symbols[3]), tuple(symbols[4])} == {
        tuple(np.round(truth[:, y, x] / 6).clip(-128, 127)) for y, x in ((0, 1), (1, 0))
    }
    # A step of 6 errs by 6 / sqrt 12 = 1.7 grey levels in Y, Cb and Cr: near 40 dB.
    assert psnr(image, model.decode(tokens, [0])) > 38


def test_every_prefix_is_a_picture() -> None:
    image = cat()
    model = load("dct", budget=2.0)
    whole = model.encode(image, [0], 2.0)
    short = model.encode(image, [0], 0.5)
    n = short.indices.shape[1]
    assert torch.equal(whole.indices[:, :n], short.indices)
    cut = Codes(whole.indices[:, :n].clone(), whole.alphabets, whole.size, whole.grids, variable=True)
    assert torch.equal(model.decode(cut, [0]), model.decode(short, [0]))
    # Marked as absent instead of cut off, the tail decodes alike.
    absent = whole.indices.clone()
    absent[:, n:] = -1
    padded = Codes(absent, whole.alphabets, whole.size, whole.grids, variable=True)
    assert torch.equal(model.decode(padded, [0]), model.decode(short, [0]))
