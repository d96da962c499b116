"""What Being-VL's byte pairs save on image tokens, and what its 2-D rule loses: writes docs/byte_pairs.md.

    python -m benchmarks.byte_pairs > docs/byte_pairs.md

The tokens are those of the built-in k-means VQ (256 codes of 8 x 8 pixels) on the photographs of starter-natural at
256 x 256; the pairs were trained on two other photographs (adapters/fits/make_fits.py).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from vtbench.adapters.builtin.being_vl_bpe import CODEBOOK, MOST, SIDE
from vtbench.adapters.networks.parts import byte_pairs, patches
from vtbench.images.opening import open_suite
from vtbench.images.stream import read_original
from vtbench.images.views import View
from vtbench.models.build import build
from vtbench.types.errors import VtbenchError

SUITE, VIEW = "starter-natural", "256"
RULES = ("1-D", "2-D")
THESE, OTHERS = "these photographs", "two others"
Pairs = Sequence[Sequence[int]]
PAGE = """# Byte pairs of image tokens

`python -m benchmarks.byte_pairs > docs/byte_pairs.md` writes this page.

Being-VL (BeingBeyond/Being-VL-0.5, `beingvl/model/vbpe.py`) merges neighbouring image tokens as byte pairs. vtbench
has its two rules as `being-vl-bpe-1d` and `being-vl-bpe-2d`, trained and applied as upstream does (equal to upstream's
own class in every integer: `vtbench adapter parity`), over the tokens of the built-in k-means VQ: {size} x {size} px,
{codes} codes, {cells} tokens of 8 bits an image. Measured on the {images} photographs of `{suite}` at {view} x {view}.
The pairs were trained on these very photographs, or, as those of the models, on scikit-learn's two sample photographs.

| rule | trained on | pairs | tokens before | tokens after | bits after / before | cells decoded right | PSNR, dB |
|---|---|---|---|---|---|---|---|
{lines}

Tokens, shares and PSNR (against the photograph; of the VQ alone {psnr:.2f} dB) are means over the images; bits are
tokens times log2 of the alphabet, which grows with every pair.

**What is saved is what was remembered**: {pairs} pairs for the {all} tokens of these photographs make them shorter;
pairs of photographs of other things are seldom met, and a larger alphabet makes every token dearer. Being-VL trains on
many images. A pair is merged only if its first id is the smaller, so that runs of one id, which smooth pictures are
full of, stay as they are.

**The 1-D rule is lossless**: the ids of the VQ come back, all of them. **The 2-D rule is not**, though tables of
tokenizers call byte pairs lossless. Its first merge takes in the cell to the right of the pair's first, or else the one
below, and keeps no sign of which: of {joined:.1f} such merges an image, {below:.1f} went down (trained on these
photographs). What is left is a flat sequence, in which the later merges join as the 1-D rule does what need not be
neighbours, and decoded as if the second cell were the right one wherever it can be, every cell after a wrong guess may
stand in another place: {wrong:.1%} of the cells are wrong, which costs {lost:.2f} dB. One bit for every token of the
first merge would make it exact ({exact}); upstream keeps none. Its third, L-shaped case can never
be reached, and diagonal neighbours are counted but never joined.
"""


@dataclass(frozen=True)
class Line:
    """Means over the images, for one rule and one number of pairs."""

    rule: str
    trained_on: str
    pairs: int
    tokens: float
    bits: float
    psnr: float
    kept: float
    """Share of cells that decoding puts back right."""
    exact: float
    """Share of images of which every cell is right once the direction of every first merge is known."""
    joined: float
    """First merges, and `below`, those whose second cell lay below."""
    below: float

    def text(self, cells: int) -> str:
        share = self.bits / (cells * math.log2(CODEBOOK))
        what = f"{self.rule} | {self.trained_on} | {self.pairs}"
        return f"| {what} | {cells} | {self.tokens:.1f} | {share:.3f} | {self.kept:.1%} | {self.psnr:.2f} |"


@dataclass(frozen=True)
class Picture:
    rgb: np.ndarray[Any, Any]
    """uint8 (256, 256, 3)."""
    grid: np.ndarray[Any, Any]
    """VQ ids, int64 (32, 32)."""


def pictures(book: torch.Tensor, limit: int | None) -> list[Picture]:
    """The suite's photographs and their VQ ids."""
    view, suite = View.parse(VIEW), open_suite(SUITE)
    out = []
    for item in suite.items[:limit]:
        original = read_original(suite, view, item, hashed=False)
        if original.rgb is None:
            raise VtbenchError(f"{original.why}")
        rows = patches.cut(torch.from_numpy(original.rgb).permute(2, 0, 1)[None].float() / 255, SIDE)
        side = original.rgb.shape[0] // SIDE
        out.append(Picture(original.rgb, patches.nearest(rows[0], book).numpy().reshape(side, -1)))
    return out


def psnr(picture: Picture, grid: np.ndarray[Any, Any], book: torch.Tensor) -> float:
    height, width = picture.rgb.shape[:2]
    decoded = patches.join(book[torch.from_numpy(grid.flatten())][None], SIDE, height, width)[0]
    pixels = (decoded.clamp(0, 1) * 255).round().permute(1, 2, 0).double().numpy()
    return float(10 * np.log10(255**2 / ((pixels - picture.rgb) ** 2).mean()))


def measure(rule: str, of: str, pairs: Pairs, images: Sequence[Picture], book: torch.Tensor) -> Line:
    """pairs: those of the rule, trained on what `of` names."""
    rows = []
    for picture in images:
        grid = picture.grid
        if rule == "2-D":
            tokens = byte_pairs.encode(grid, pairs, CODEBOOK).tolist()
            below = byte_pairs.merged_in_grid(grid, *pairs[0], CODEBOOK)[1]
            back = byte_pairs.grid_of(tokens, pairs, CODEBOOK, grid.shape)
            known = byte_pairs.grid_of(tokens, pairs, CODEBOOK, grid.shape, below)
        else:
            tokens, below = byte_pairs.encode(grid.flatten(), pairs, CODEBOOK).tolist(), []
            words = byte_pairs.spelled(pairs, CODEBOOK)
            back = known = np.array([part for token in tokens for part in words[token]]).reshape(grid.shape)
        bits = len(tokens) * math.log2(CODEBOOK + len(pairs))
        right = (back == grid).mean()
        same = np.array_equal(known, grid)
        rows.append((len(tokens), bits, psnr(picture, back, book), right, same, len(below), sum(below)))
    return Line(rule, of, len(pairs), *np.array(rows, float).mean(axis=0).tolist())


def page(lines: Sequence[Line], images: Sequence[Picture], book: torch.Tensor) -> str:
    cells = images[0].grid.size
    most = max((line for line in lines if line.rule == "2-D" and line.trained_on == THESE), key=lambda line: line.pairs)
    alone = float(np.mean([psnr(picture, picture.grid, book) for picture in images]))
    return PAGE.format(
        size=SIDE,
        codes=CODEBOOK,
        cells=cells,
        images=len(images),
        suite=SUITE,
        view=VIEW,
        lines="\n".join(line.text(cells) for line in lines),
        psnr=alone,
        pairs=most.pairs,
        all=cells * len(images),
        joined=most.joined,
        below=most.below,
        wrong=1 - most.kept,
        lost=alone - most.psnr,
        exact="so on every image here" if all(line.exact == 1 for line in lines) else "NOT SO HERE: a fault",
    )


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, help="the first N photographs only")
    parser.add_argument("--pairs", type=int, nargs="+", default=[1, 64, 256, MOST])
    asked = parser.parse_args(words)
    if not all(1 <= n <= MOST for n in asked.pairs):
        raise VtbenchError(f"--pairs {asked.pairs}: give 1 to {MOST}")
    models = [build(f"being-vl-bpe-{rule[0]}d", {}).model for rule in RULES]
    book = models[0].book
    images = pictures(book, asked.limit)
    lines = []
    for rule, model in zip(RULES, models, strict=True):
        grids = [picture.grid if rule == "2-D" else picture.grid.flatten() for picture in images]
        trained = byte_pairs.train(grids, CODEBOOK, max(asked.pairs))[0].tolist()
        for of, pairs in ((THESE, trained), (OTHERS, model.pairs)):
            lines += [measure(rule, of, pairs[:n], images, book) for n in asked.pairs]
    print(page(lines, images, book), end="")


if __name__ == "__main__":
    main()
