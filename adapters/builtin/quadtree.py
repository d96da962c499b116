"""A quadtree that spends its tokens where the detail is.

Blocks of 32 x 32 pixels are one leaf or four quarters, down to 4 x 4; a leaf is one of 1023 codes, 4 x 4 pixels that
are enlarged to its side, and the last symbol says "four quarters". Which blocks are cut is decided by least squared
error at the price of a token that just spends the budget (Lagrangian pruning: Shusterman and Feder 1994,
https://doi.org/10.1109/83.277901). The code runs level by level, so that positions are all there is to know.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vtbench.adapters.networks.parts import patches
from vtbench.models.checkpoint import read
from vtbench.types.adapter import Tokenizer
from vtbench.types.cards import OURS, Card, Family, Multiple, Weights
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Codes, Tokens

if TYPE_CHECKING:
    import torch

LEAF, SIDES, SPLIT = 4, (32, 16, 8, 4), 1023
BISECTIONS = 40
CARD = Card(
    name="quadtree",
    family="quadtree",
    sources=OURS,
    kind="discrete",
    title="Quadtree of 4 x 4 codes",
    sizes=Multiple(of=SIDES[0]),
    licence="Apache-2.0",
    weights=(
        Weights(
            file="quadtree.safetensors",
            package="vtbench.adapters.fits:quadtree.safetensors",
            sha256="57146bd91c1dcb1fc5a9cef0335c00e16baca2e360c1ccb897ed61ee9e0addcb",
        ),
    ),
    alphabets=(SPLIT + 1,),
    trained_on=("scikit-learn sample photographs",),
    options={"budget": 0.25},
    knob="budget",
    knob_values=(0.0625, 0.125, 0.25, 0.5),
    note="budget in bits per pixel of the coded image, 10 bits a token; fitted by adapters/fits/make_fits.py",
)


class Quadtree(Tokenizer):
    takes_budget = True

    def load(self, files: Mapping[str, Path], device: str = "cpu", dtype: str = "float32") -> None:
        self.book = read(files["model"])["codebook"].float().to(device)
        self.device = device

    def encode(self, images: torch.Tensor, seeds: Sequence[int], budget: float | None = None) -> Tokens:
        import torch

        budget = self.options["budget"] if budget is None else budget
        if not 0 < budget <= 24:
            raise VtbenchError(f"quadtree: budget is {budget} bits per pixel; give more than 0 and at most 24")
        height, width = int(images.shape[2]), int(images.shape[3])
        most = int(budget * height * width / math.log2(SPLIT + 1))
        texts = [self._one(image[None].to(self.device), most) for image in images]
        indices = torch.full((len(images), max(map(len, texts))), -1)
        for k, text in enumerate(texts):
            indices[k, : len(text)] = text
        return Codes(indices, (SPLIT + 1,), (height, width), variable=True)

    def _one(self, image: torch.Tensor, most: int) -> torch.Tensor:
        """int64 (tokens,) of one image (1, 3, H, W); no more than `most`, but at least one a block of 32 x 32."""
        import torch

        codes, errors = [], []
        for side in SIDES:
            small = torch.nn.functional.avg_pool2d(image, side // LEAF)
            index = patches.nearest(patches.cut(small, LEAF)[0], self.book)
            rows, columns = image.shape[2] // side, image.shape[3] // side
            codes.append(index.reshape(rows, columns))
            leaves = self._leaves(index, side).double().unflatten(1, (3, side, side))
            blocks = patches.cut(image, side)[0].double().unflatten(1, (3, side, side))
            errors.append(((blocks - leaves) ** 2).sum(dim=(1, 2, 3)).reshape(rows, columns))
        roots = codes[0].numel()
        # Bisection over the price of a token, in squared error; at the highest price no root is cut.
        low, high = 0.0, float(errors[0].sum()) + 1.0
        best = self._cuts(errors, high)
        for _ in range(BISECTIONS):
            price = (low + high) / 2
            cuts = self._cuts(errors, price)
            if roots + 4 * sum(int(c.sum()) for c in cuts) <= most:
                best, high = cuts, price
            else:
                low = price
        out, present = [], torch.ones_like(codes[0], dtype=torch.bool)
        for level, code in enumerate(codes):
            cut = best[level] if level < len(best) else torch.zeros_like(present)
            out.append(torch.where(cut, SPLIT, code)[present])
            present = _quarters(cut & present)
        return torch.cat(out).cpu()

    def _cuts(self, errors: Sequence[torch.Tensor], price: float) -> list[torch.Tensor]:
        """bool of every level but the last: whether a block is cut; False where no block is present."""
        import torch

        cost = errors[-1] + price
        cuts: list[torch.Tensor] = []
        for error in reversed(errors[:-1]):
            four = torch.nn.functional.avg_pool2d(cost[None, None], 2)[0, 0] * 4 + price
            cuts.insert(0, four < error + price)
            cost = torch.minimum(four, error + price)
        present = torch.ones_like(cuts[0])
        for level, cut in enumerate(cuts):
            cuts[level] = cut & present
            present = _quarters(cuts[level])
        return cuts

    def _leaves(self, index: torch.Tensor, side: int) -> torch.Tensor:
        """float32 (n, 3 * side * side): the codes enlarged."""
        import torch

        small = self.book[index].unflatten(1, (3, LEAF, LEAF))
        return torch.nn.functional.interpolate(small, size=(side, side), mode="nearest").flatten(1)

    def decode(self, tokens: Tokens, seeds: Sequence[int]) -> torch.Tensor:
        import torch

        assert isinstance(tokens, Codes)
        height, width = tokens.size
        out = []
        for row in tokens.indices[..., 0]:
            text = row[row >= 0].to(self.device)
            image = torch.zeros(1, 3, height, width, device=self.device)
            present = torch.ones(height // SIDES[0], width // SIDES[0], dtype=torch.bool, device=self.device)
            for level, side in enumerate(SIDES):
                count = int(present.sum())
                here, text = text[:count], text[count:]
                if len(here) != count or (level == len(SIDES) - 1 and bool((here == SPLIT).any())):
                    raise VtbenchError("quadtree: the tokens do not spell a tree: they were cut off or altered")
                cut = torch.zeros_like(present)
                cut[present] = here == SPLIT
                rows = torch.zeros(present.numel(), 3 * side * side, device=self.device)
                rows[(present & ~cut).flatten()] = self._leaves(here[here != SPLIT], side)
                image = image + patches.join(rows[None], side, height, width)
                present = _quarters(cut)
            out.append(image)
        return torch.cat(out)


def _quarters(cut: torch.Tensor) -> torch.Tensor:
    """bool (2 h, 2 w): the quarters of the blocks (h, w) that are cut."""
    return cut.repeat_interleave(2, dim=0).repeat_interleave(2, dim=1)


FAMILY = Family("quadtree", "Quadtree of patch codes", (CARD,), Quadtree)
