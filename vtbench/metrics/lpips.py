"""LPIPS v0.1 (Zhang et al. 2018) with three backbones, and the worst 64-px tile of its map.

Network, scaling and linear weights are those of the lpips package; its forward pass is repeated here stage by stage, so
that the original's stages are computed once for all candidates and the layers' maps serve the worst tile too. Input is
[-1, 1]: u / 127.5 - 1 (fed [0, 1] without normalize=True, as torchmetrics' default accepts, LPIPS sees half the
contrast). Backbones are torchvision's ImageNet weights, verified by sha256.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from vtbench.metrics import weights
from vtbench.metrics._precision import full_float32
from vtbench.types.errors import VtbenchError
from vtbench.types.metric import Batch, ImageMetric, MetricCard, Value

Net = Literal["alex", "vgg", "squeeze"]
BACKBONES: dict[Net, str] = {"alex": "alexnet", "vgg": "vgg16", "squeeze": "squeezenet1.1"}
MIN_SIZE = 32
"""Below, a stage of AlexNet or SqueezeNet has no position left."""
TILE = 64
PIXELS_AT_ONCE = {"alex": 2**20, "vgg": 2**17, "squeeze": 2**19}
"""Pixels that pass the network together: more gain nothing on a CPU, and VGG's first stage takes 1 kB a pixel."""
KEEP_BYTES = 2**30
"""Stages of a batch's originals are kept for the other candidates up to this size."""


class Network:
    """One backbone with its linear weights; `stages` and `maps` are the two halves of lpips.LPIPS.forward."""

    def __init__(self, net: Net, path: Path | None, device: str) -> None:
        import lpips
        import torch

        with warnings.catch_warnings(), torch.device("meta"):
            # lpips asks torchvision by a name that it deprecates.
            warnings.simplefilter("ignore")
            model = lpips.LPIPS(pretrained=False, net=net, pnet_rand=True, verbose=False)
        model.scaling_layer = lpips.lpips.ScalingLayer()
        backbone = weights.load_state(BACKBONES[net], path)
        state = dict(weights.load_state(f"lpips-{net}-linear"))
        for key in model.net.state_dict():
            # slice3.8.weight is features.8.weight of torchvision.
            source = "features." + key.split(".", 1)[1]
            if source not in backbone:
                raise VtbenchError(f"the weights of {BACKBONES[net]} have no {source}: give torchvision's file")
            state[f"net.{key}"] = backbone[source]
        # The package registers each linear layer twice: as linN and in the list lins.
        state.update({f"lins.{k[3]}.{k[5:]}": v for k, v in list(state.items()) if k.startswith("lin") and k[4] == "."})
        state.update(model.scaling_layer.state_dict(prefix="scaling_layer."))
        try:
            model.load_state_dict(state, strict=True, assign=True)
        except RuntimeError as bad:
            raise VtbenchError(f"the weights of {BACKBONES[net]} do not fit: {str(bad)[:200]}") from bad
        self.model = model.requires_grad_(False).eval().to(device)
        self.model.net.to(memory_format=torch.channels_last)
        self.linear = [lin.model[-1].weight.flatten() for lin in self.model.lins]
        self.device = device

    def stages(self, images: Any) -> list[Any]:
        """uint8 (B, 3, H, W) -> per stage float32 (B, h, w, C), of length one along C."""
        import torch

        x = images.to(self.device).to(torch.float32).div_(127.5).sub_(1)
        x = self.model.scaling_layer(x).contiguous(memory_format=torch.channels_last)
        out = []
        for stage in self.model.net(x):
            f = stage.permute(0, 2, 3, 1)
            # lpips.normalize_tensor: eps outside the root.
            out.append(f / (f.square().sum(-1, keepdim=True).sqrt() + 1e-10))
        return out

    def maps(self, left: Sequence[Any], right: Sequence[Any]) -> list[Any]:
        """Stages of original and candidate -> per stage the weighted squared difference, float32 (B, h, w)."""
        return [(a - b).square_() @ w for a, b, w in zip(left, right, self.linear, strict=True)]


@functools.lru_cache(maxsize=8)
def _network(net: Net, path: Path | None, source: Path, device: str) -> Network:
    return Network(net, path, device)


def stage_maps(batch: Batch, net: Net, network: Network) -> list[list[Any]]:
    """Per image the stages' difference maps, float32 (h, w); kept for the metrics that share a backbone."""
    import torch

    def make() -> list[list[Any]]:
        images = batch.reference.images
        pixels = int(images.shape[2] * images.shape[3])
        step = max(1, PIXELS_AT_ONCE[net] // pixels)
        key = ("lpips", net)
        kept = batch.reference.kept.get(key)
        fresh: list[list[Any]] = []
        size = 0
        out: list[list[Any]] = []
        with torch.inference_mode(), full_float32():
            for index, start in enumerate(range(0, len(images), step)):
                chunk = slice(start, start + step)
                left = kept[index] if kept else network.stages(images[chunk])
                maps = network.maps(left, network.stages(batch.candidate[chunk]))
                out += [[m[k].cpu() for m in maps] for k in range(len(maps[0]))]
                size += sum(f.numel() * 4 for f in left)
                if kept is None and size <= KEEP_BYTES:
                    fresh.append(left)
        if kept is None and size <= KEEP_BYTES:
            batch.reference.kept[key] = fresh
        return out

    maps: list[list[Any]] = batch.once(("lpips-maps", net), make)
    return maps


def worst_tile(maps: Sequence[Any], height: int, width: int) -> float:
    """Largest mean over TILE x TILE px tiles of the maps, enlarged (bilinear, as lpips with spatial=True) and added.

    Tiles start at the top left; the last of a row or column is moved inward so that every tile is whole.
    """
    import numpy as np
    from torch.nn import functional

    whole: Any = 0
    for m in maps:
        whole = whole + functional.interpolate(m[None, None], (height, width), mode="bilinear", align_corners=False)
    sums = np.zeros((height + 1, width + 1))
    sums[1:, 1:] = whole[0, 0].double().numpy().cumsum(0).cumsum(1)
    y, x = (np.array([*range(0, n - TILE, TILE), n - TILE])[:, None] for n in (height, width))
    x = x.T
    tiles = sums[y + TILE, x + TILE] - sums[y, x + TILE] - sums[y + TILE, x] + sums[y, x]
    return float(tiles.max()) / TILE**2


def _card(name: str, title: str, net: Net, smallest: int = MIN_SIZE, **more: Any) -> MetricCard:
    return MetricCard(
        name=name,
        title=title,
        version=1,
        unit="",
        better="lower",
        bounds=(0.0, None),
        min_size=smallest,
        source=f"Zhang et al. 2018, v0.1, net={net}, inputs in [-1, 1]; package lpips",
        needs=(BACKBONES[net], f"lpips-{net}-linear"),
        conventions={"network": net},
        **more,
    )


class _LPIPS(ImageMetric):
    """`path`: a backbone file taken as it is; every number made with it is marked in `unverified`."""

    net: Net

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.network: Network | None = None
        self.unverified: str | None = None

    def load(self, device: str = "cpu") -> None:
        name = BACKBONES[self.net]
        self.unverified = weights.unverified(name, self.path)
        self.network = _network(self.net, self.path, weights.find(name, self.path), device)

    def maps(self, batch: Batch) -> list[list[Any]]:
        if self.network is None:
            self.load()
        assert self.network is not None
        return stage_maps(batch, self.net, self.network)

    def measure(self, batch: Batch) -> Sequence[Value]:
        return [Value(float(sum(m.double().mean() for m in maps))) for maps in self.maps(batch)]


class LPIPSAlex(_LPIPS):
    net = "alex"
    card = _card("lpips-alex", "LPIPS, AlexNet", "alex")


class LPIPSVgg(_LPIPS):
    net = "vgg"
    card = _card("lpips-vgg", "LPIPS, VGG-16", "vgg")


class LPIPSSqueeze(_LPIPS):
    net = "squeeze"
    card = _card("lpips-squeeze", "LPIPS, SqueezeNet", "squeeze")


class WorstTileLPIPS(_LPIPS):
    net = "alex"
    card = _card(
        "worst-tile-lpips",
        "LPIPS, worst tile",
        "alex",
        TILE,
        reduction="mean of each image's worst tile (64 px, spatial map of lpips-alex)",
    )

    def measure(self, batch: Batch) -> Sequence[Value]:
        height, width = int(batch.candidate.shape[2]), int(batch.candidate.shape[3])
        return [Value(worst_tile(maps, height, width)) for maps in self.maps(batch)]


METRICS = (LPIPSAlex, LPIPSVgg, LPIPSSqueeze, WorstTileLPIPS)
