"""Somebody's own training script: a LlamaGen tokenizer, small enough for a minute of a CPU, on built-in photographs.

    python benchmarks/tiny_llamagen.py mine.pt [--seconds 60]

What it leaves is what LlamaGen's trainer leaves: its parameters' names, under "model". The network is vtbench's own, so
that nothing else has to be installed; a script of yours has LlamaGen's. The loss is the plain one of VQ-VAE (van den
Oord et al. 2017) with L1 pixels and without a discriminator, so that its pictures are blurred: this shows the way of a
checkpoint, not a tokenizer that anybody should use.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from skimage import data
from torch import Tensor
from torch.nn import functional as F

from vtbench.adapters.networks.llamagen import LlamaGen
from vtbench.adapters.networks.parts import archs
from vtbench.types.tokens import Codes

SIDE = 64
BATCH = 4
CODES = 512
COMMITMENT = 0.25
REVIVED = 20
"""Steps between two looks for codes that nothing falls on."""


def network() -> LlamaGen:
    """LlamaGen's VQ-16 with a quarter of the channels and 512 codes."""
    arch = archs.llamagen()
    return LlamaGen({**arch, "ch": 32, "num_res_blocks": 1, "quantizer": {**arch["quantizer"], "codebook_size": CODES}})


class Tokenizer:
    """The network as an object that vtbench measures while it is trained: images float32 (B, 3, H, W) in [0, 1]."""

    def __init__(self, net: LlamaGen) -> None:
        self.net = net

    def encode(self, images: Tensor) -> Codes:
        size = (int(images.shape[2]), int(images.shape[3]))
        return Codes(self.net.encode(images * 2 - 1).tokens, (CODES,), size, self.net.grids(size))

    def decode(self, tokens: Codes) -> Tensor:
        return (self.net.decode(tokens.indices[..., 0], size=tokens.size) + 1) / 2


def crops(generator: torch.Generator) -> Iterator[Tensor]:
    """Batches of random cuts, float32 (BATCH, 3, SIDE, SIDE) in [-1, 1]."""
    photographs = [data.astronaut(), data.coffee(), data.chelsea(), data.rocket()]
    images = [torch.from_numpy(p.copy()).permute(2, 0, 1).float() / 127.5 - 1 for p in photographs]

    def at(most: int) -> int:
        return int(torch.randint(most + 1, (), generator=generator))

    while True:
        cuts = []
        for _ in range(BATCH):
            image = images[at(len(images) - 1)]
            top, left = at(image.shape[1] - SIDE), at(image.shape[2] - SIDE)
            cut = image[:, top : top + SIDE, left : left + SIDE]
            cuts.append(cut.flip(2) if at(1) else cut)
        yield torch.stack(cuts)


def step(net: LlamaGen, pixels: Tensor, used: Tensor) -> Tensor:
    """The loss of a batch; `used` counts how often each code was chosen."""
    latent = net.quant_conv(net.encoder(pixels))
    unit = F.normalize(latent, dim=1)
    tokens, quantized = net.quantize(latent)
    used += torch.bincount(tokens.flatten(), minlength=len(used))
    codes = F.mse_loss(quantized, unit.detach()) + COMMITMENT * F.mse_loss(unit, quantized.detach())
    straight = unit + (quantized - unit).detach()
    return F.l1_loss(net.decoder(net.post_quant_conv(straight)), pixels) + codes


def revive(net: LlamaGen, pixels: Tensor, used: Tensor, generator: torch.Generator) -> None:
    """Puts codes that nothing falls on where latents are."""
    with torch.no_grad():
        rows = net.quant_conv(net.encoder(pixels)).permute(0, 2, 3, 1).flatten(0, 2)
        dead = (used == 0).nonzero().flatten()
        pick = torch.randint(len(rows), (len(dead),), generator=generator)
        net.quantize.embedding.weight[dead] = F.normalize(rows[pick], dim=-1)
        used.zero_()


def train(net: LlamaGen, seconds: float, after: Callable[[int], Any] = lambda step: None) -> tuple[int, float]:
    """Trains so long by the clock; `after` is called with every step, counted from 1. (steps, the last loss)"""
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(net.train().parameters(), 1e-3, betas=(0.5, 0.9))
    used = torch.zeros(CODES, dtype=torch.long)
    begin = time.perf_counter()
    for steps, pixels in enumerate(crops(generator), 1):
        if steps % REVIVED == 1:
            revive(net, pixels, used, generator)
        loss = step(net, pixels, used)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        after(steps)
        if time.perf_counter() - begin > seconds:
            break
    return steps, loss.item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out")
    parser.add_argument("--seconds", type=float, default=60)
    args = parser.parse_args()
    torch.manual_seed(0)
    net = network()
    begin = time.perf_counter()
    steps, loss = train(net, args.seconds)
    torch.save({"model": net.state_dict(), "steps": steps}, args.out)
    print(f"{steps} steps in {time.perf_counter() - begin:.0f} s, loss {loss:.3f}: {args.out}")


if __name__ == "__main__":
    main()
