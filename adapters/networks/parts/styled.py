"""Decoder parts of MAGVIT-v2 (arXiv:2310.05737) in its followers: depth to space, and a norm that the code steers.

Open-MAGVIT2 and WeTok (networks.magvit2), GigaTok, GaussianToken.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class DepthToSpace(nn.Module):
    """3x3 convolution to 4 C, then depth to space: channels are (row in block, column in block, C).

    Not PixelShuffle, whose channels are (C, row, column). SEED-Voken @ b9a17ea improved_model.py:198-228.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, 4 * width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        batch, width, h, w = x.shape
        blocks = self.conv1(x).reshape(batch, 2, 2, width, h, w)
        out: Tensor = blocks.permute(0, 3, 4, 1, 5, 2).reshape(batch, width, 2 * h, 2 * w)
        return out


class StyleNorm(nn.Module):
    """GroupNorm whose scale and shift are linear in the code's deviation and mean over its cells.

    scale = gamma(sqrt(unbiased variance + eps)), shift = beta(mean). improved_model.py:251-281.
    """

    def __init__(self, style: int, width: int, *, groups: int, eps: float) -> None:
        super().__init__()
        self.groups, self.eps = groups, eps
        self.gamma = nn.Linear(style, width)
        self.beta = nn.Linear(style, width)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        cells = code.flatten(2)
        scale = self.gamma((cells.var(dim=2) + self.eps).sqrt())
        shift = self.beta(cells.mean(dim=2))
        out: Tensor = F.group_norm(x, self.groups, eps=self.eps) * scale[..., None, None] + shift[..., None, None]
        return out
