"""Metrics of network features, each computed a second time by the network's own library on pixels prepared apart.

Networks have seeded random weights, the same on both sides: what is compared is the arithmetic around them.
"""

from __future__ import annotations

import tempfile
import types
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.metrics.comparison import Comparison, largest, version
from benchmarks.metrics.pictures import (
    Pixels,
    own_weights,
    pairs_of_pictures,
    random_backbone,
    stacked,
    values,
)
from vtbench.metrics.clip_set import ClipScore
from vtbench.metrics.lpips import LPIPSAlex, LPIPSSqueeze, LPIPSVgg, WorstTileLPIPS
from vtbench.metrics.perceptual import CLIP_MEAN, CLIP_STD, DINO_MODEL, DISTS, ClipSimilarity, DinoSimilarity
from vtbench.types.metric import Batch, Reference

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation."""
STAGES = (3, 8, 15, 22, 29)
"""Layers of VGG-16 after which DISTS compares."""
ROUNDED_THERE = "the reference rounds the enlarged picture to bytes, ours stays in floats"


def lpips_networks() -> list[Comparison]:
    """LPIPS of three backbones."""
    xs, ys, on = pairs_of_pictures()
    why = "float32 both, other memory layout and order of sums"
    out = []
    for kind in (LPIPSAlex, LPIPSVgg, LPIPSSqueeze):
        with tempfile.TemporaryDirectory(prefix="vtbench-") as folder:
            path = Path(folder) / "random.pth"
            random_backbone(kind.net, path)
            ours = values(kind(path), xs, ys)
            theirs = _lpips_package(kind.net, path, xs, ys).flatten().tolist()
        gap = largest(ours, theirs)
        out.append(Comparison(kind.card.name, version("lpips"), f"{on}; random backbone", gap, 1e-6, why))
    return out


def _lpips_package(net: str, path: Path, xs: Sequence[Pixels], ys: Sequence[Pixels], spatial: bool = False) -> Any:
    """What the package lpips says of pairs, with the backbone of a file."""
    import lpips
    import torch

    with warnings.catch_warnings():
        # The package asks torchvision by a name that it deprecates.
        warnings.simplefilter("ignore")
        model = lpips.LPIPS(net=net, pnet_rand=True, spatial=spatial, verbose=False)
    state = torch.load(path, weights_only=True)
    model.net.load_state_dict({k: state["features." + k.split(".", 1)[1]] for k in model.net.state_dict()})
    with torch.inference_mode():
        return model(stacked(xs).float() / 127.5 - 1, stacked(ys).float() / 127.5 - 1)


def network_comparisons() -> list[Comparison]:
    """The worst tile of LPIPS, DISTS, similarities of DINOv2 and CLIP, the CLIP score."""
    xs, ys, on = pairs_of_pictures()
    with tempfile.TemporaryDirectory(prefix="vtbench-") as name:
        folder = Path(name)
        random_backbone("alex", folder / "random.pth")
        return [
            _worst_lpips(xs, ys, folder / "random.pth", on),
            _dists(xs, ys, folder, on),
            _dino(xs, ys, folder, on),
            *_clip(xs, ys, folder, on),
        ]


def _worst_lpips(xs: Sequence[Pixels], ys: Sequence[Pixels], path: Path, on: str) -> Comparison:
    maps = _lpips_package("alex", path, xs, ys, spatial=True)[:, 0].double().numpy()
    wanted = [max(float(m[i : i + 64, j : j + 64].mean()) for i in (0, 64) for j in (0, 64)) for m in maps]
    gap = largest(values(WorstTileLPIPS(path), xs, ys), wanted)
    how = f"{version('lpips')}, spatial map, tile by tile"
    return Comparison("worst-tile-lpips", how, f"{on}; random backbone", gap, 1e-6, "float32 both")


def _dists(xs: Sequence[Pixels], ys: Sequence[Pixels], folder: Path, on: str) -> Comparison:
    """DISTS written out in float64 from its paper's formula, on torchvision's layers."""
    import torch
    import torchvision

    random_backbone("vgg", folder / "vgg.pth")
    shares = torch.rand(2, 1475, generator=torch.Generator().manual_seed(0))
    shares /= shares.sum()
    torch.save({"alpha": shares[0].view(1, -1, 1, 1), "beta": shares[1].view(1, -1, 1, 1)}, folder / "dists.pth")
    with own_weights(vgg16=folder / "vgg.pth", dists=folder / "dists.pth"):
        ours = values(DISTS(), xs, ys)
    with torch.device("meta"):
        features = torchvision.models.vgg16().features
    state = torch.load(folder / "vgg.pth", weights_only=True)
    features.load_state_dict({k.removeprefix("features."): v.double() for k, v in state.items()}, assign=True)
    with torch.inference_mode():
        stages = zip(_vgg_stages(features, stacked(xs)), _vgg_stages(features, stacked(ys)), strict=True)
        theirs = (1 - _similarity(list(stages), shares)).tolist()
    how = f"Ding et al. 2020 written out, {version('torchvision')}'s layers, float64"
    why = "float32 through VGG-16 against float64"
    return Comparison("dists", how, f"{on}; random backbone", largest(ours, theirs), 1e-4, why)


def _vgg_stages(features: Any, images: Any) -> list[Any]:
    """The pictures and the outputs of five stages, float64, with L2 pooling in the place of max pooling."""
    import torch
    from torch.nn import functional

    hann = torch.hann_window(5, periodic=False, dtype=torch.float64)[1:-1]
    kernel = torch.outer(hann, hann) / hann.sum() ** 2
    mean, std = (torch.tensor(v, dtype=torch.float64).view(1, 3, 1, 1) for v in IMAGENET)
    x = images.double() / 255
    out = [x]
    x = (x - mean) / std
    for index, layer in enumerate(features):
        if isinstance(layer, torch.nn.MaxPool2d):
            # The root of the Hann-weighted mean of squares.
            channels = x.shape[1]
            x = functional.conv2d(x**2, kernel.expand(channels, 1, 3, 3), stride=2, padding=1, groups=channels)
            x = (x + 1e-12).sqrt()
        else:
            x = layer(x)
        if index in STAGES:
            out.append(x)
    return out


def _similarity(stages: Sequence[tuple[Any, Any]], shares: Any) -> Any:
    """The weighted sum over stages and channels of similarities of texture and of structure; shares (2, channels)."""
    total: Any = 0
    start = 0
    for a, b in stages:
        alpha, beta = (w[start : start + a.shape[1]].double() for w in shares)
        start += a.shape[1]
        ma, mb = a.mean((2, 3)), b.mean((2, 3))
        va, vb = a.var((2, 3), unbiased=False), b.var((2, 3), unbiased=False)
        both = (a * b).mean((2, 3)) - ma * mb
        texture = (2 * ma * mb + 1e-6) / (ma**2 + mb**2 + 1e-6)
        structure = (2 * both + 1e-6) / (va + vb + 1e-6)
        total = total + (alpha * texture + beta * structure).sum(1)
    return total


def _dino(xs: Sequence[Pixels], ys: Sequence[Pixels], folder: Path, on: str) -> Comparison:
    import timm
    import torch
    from PIL import Image

    torch.manual_seed(0)
    model = timm.create_model(DINO_MODEL, pretrained=False, num_classes=0, img_size=224).eval()
    for name, parameter in model.named_parameters():
        # Layer scale starts at 1e-5: an untrained class token would see nothing of the image.
        if name.endswith("gamma"):
            torch.nn.init.ones_(parameter)
        elif parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.08)
    torch.save(model.state_dict(), folder / "dino.pth")
    with own_weights(dinov2_vit_s14=folder / "dino.pth"):
        ours = values(DinoSimilarity(), xs, ys)
    mean, std = (list(v) for v in IMAGENET)

    def features(image: Pixels) -> Any:
        enlarged = np.asarray(Image.fromarray(image).resize((224, 224), Image.Resampling.BICUBIC)) / 255
        x = (enlarged - mean) / std
        with torch.inference_mode():
            return model(torch.from_numpy(x).float().permute(2, 0, 1)[None])[0]

    theirs = [float(torch.cosine_similarity(features(x), features(y), dim=0)) for x, y in zip(xs, ys, strict=True)]
    how = f"{version('timm')}, ViT-S/14 of random weights"
    return Comparison("dino-sim, features of fd-dinov2", how, on, largest(ours, theirs), 2e-3, ROUNDED_THERE)


def _clip(xs: Sequence[Pixels], ys: Sequence[Pixels], folder: Path, on: str) -> list[Comparison]:
    import open_clip
    import torch
    from PIL import Image

    torch.manual_seed(0)
    model: Any = open_clip.create_model("ViT-B-32", pretrained=None, force_quick_gelu=True).eval()
    torch.save(model.state_dict(), folder / "clip.pt")
    with own_weights(clip_vit_b32_openai=folder / "clip.pt"):
        ours = values(ClipSimilarity(), xs, ys)
    transform: Any = open_clip.image_transform(224, is_train=False, mean=CLIP_MEAN, std=CLIP_STD)
    with torch.inference_mode():
        x, y = (model.encode_image(torch.stack([transform(Image.fromarray(i)) for i in s])) for s in (xs, ys))
    how = f"{version('open_clip_torch')}, ViT-B/32 of random weights"
    gap = largest(ours, torch.cosine_similarity(x, y).tolist())
    why = "the same input to the bit; float32 both, in another order"
    similarity = Comparison("clip-sim", how, on, gap, 1e-4, why)
    prompts = ["an astronaut in an orange suit", "a cat", "a cup of coffee"]
    items: Any = [types.SimpleNamespace(meta={"prompt": p}) for p in prompts]
    scores = ClipScore(folder / "clip.pt").measure(Batch(Reference(stacked(xs), items, prompts), stacked(xs)))
    plain: Any = open_clip.create_model("ViT-B-32", pretrained=str(folder / "clip.pt")).eval()
    with torch.inference_mode():
        pictures = plain.encode_image(torch.stack([transform(Image.fromarray(i)) for i in xs]))
        texts = plain.encode_text(open_clip.get_tokenizer("ViT-B-32")(prompts))
    wanted = [100 * max(0.0, float(c)) for c in torch.cosine_similarity(pictures, texts)]
    gap = largest([v.value or 0.0 for v in scores], wanted)
    return [similarity, Comparison("clip-score", how, "3 photographs and their names", gap, 1e-2, why)]
