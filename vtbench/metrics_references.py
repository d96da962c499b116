"""Rows of docs/metrics.md for the metrics that no single library function is the reference of.

Each is computed a second time here in another way: by loops and definitions, by NumPy, SciPy, scikit-learn, Pillow, or
by the network's own library on pixels prepared apart. Networks have seeded random weights, the same on both sides: what
is compared is the arithmetic around them. Called by vtbench.metrics_report.
"""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vtbench.metrics import reference
from vtbench.metrics.reference import Comparison, jpeg, originals, stack, values, version

NUMPY = f"written out, numpy {np.__version__}"
FLOATS = "float64 both"


def largest(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return max(abs(a - b) for a, b in zip(ours, theirs, strict=True))


@contextlib.contextmanager
def given(**files: Path) -> Iterator[None]:
    """Names these files in VTBENCH_METRIC_WEIGHTS for a while."""
    from vtbench.metrics.weights import VARIABLE

    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = os.pathsep.join(f"{n.replace('_', '-')}={p}" for n, p in files.items())
    try:
        yield
    finally:
        os.environ.pop(VARIABLE, None)
        if before is not None:
            os.environ[VARIABLE] = before


# -- per image -------------------------------------------------------------------------------------------------------


def gains(x: Any, y: Any) -> tuple[list[float], list[float]]:
    """(coherent gain, excess power) of four octaves from the whole plane of the Fourier transform, by masks."""
    weights = np.array([0.299, 0.587, 0.114])
    a, b = (np.asarray(i, dtype=np.float64) @ weights for i in (x, y))
    window = np.outer(*(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n) for n in a.shape))
    fa, fb = (np.fft.fft2((i - i.mean()) * window) for i in (a, b))
    radius = np.hypot(np.fft.fftfreq(a.shape[0])[:, None], np.fft.fftfreq(a.shape[1])[None])
    gain, excess = [], []
    for k in range(1, 5):
        inside = (radius > 2.0 ** -(k + 1)) & (radius <= 2.0**-k)
        power = float((abs(fa[inside]) ** 2).sum())
        cross = complex((fb[inside] * fa[inside].conj()).sum())
        gain.append(cross.real / power)
        excess.append((float((abs(fb[inside]) ** 2).sum()) - abs(cross) ** 2 / power) / power)
    return gain, excess


def edge_f1(x: Any, y: Any) -> float:
    """F1 of Canny edges, partners within 2 px, by dilation with a disc."""
    from scipy.ndimage import binary_dilation
    from skimage.feature import canny

    weights = np.array([0.299, 0.587, 0.114])
    disc = np.hypot(*np.mgrid[-2:3, -2:3]) <= 2
    a, b = (canny(i @ weights / 255, sigma=1.0) for i in (x, y))  # type: ignore[no-untyped-call]
    precision = binary_dilation(a, disc)[b].mean()
    recall = binary_dilation(b, disc)[a].mean()
    return float(2 * precision * recall / (precision + recall))


def pictures() -> list[Comparison]:
    """Metrics of pixels by their definitions."""
    import functools

    from skimage import metrics

    from vtbench.metrics import colour, detail
    from vtbench.metrics.psnr import MSE

    library: Any = metrics
    xs = originals()
    ys = [jpeg(x) for x in xs]
    on = f"{len(xs)} photographs of {reference.SIZE} px against their JPEGs (quality {reference.QUALITY})"
    scikit = version("scikit-image")
    out = []
    mse = [float(library.mean_squared_error(x, y)) for x, y in zip(xs, ys, strict=True)]
    out.append(Comparison("mse", scikit, on, largest(values(MSE(), xs, ys), mse), 1e-9, FLOATS))
    gap = max(
        largest(values(colour.Bias(c), xs, ys), [float(np.mean(y[..., c] - x[..., c].astype(float))) for x, y in
                                                 zip(xs, ys, strict=True)])
        for c in range(3)
    )  # fmt: skip
    out.append(Comparison("bias-r, bias-g, bias-b", NUMPY, on, gap, 1e-9, FLOATS))
    tiles = [(slice(i, i + 32), slice(j, j + 32)) for i in range(0, 128, 32) for j in range(0, 128, 32)]
    worst = [
        min(float(library.peak_signal_noise_ratio(x[t], y[t], data_range=255)) for t in tiles)
        for x, y in zip(xs, ys, strict=True)
    ]
    found = values(detail.WorstTilePSNR(), xs, ys)
    out.append(Comparison("worst-tile-psnr", f"{scikit}, tile by tile", on, largest(found, worst), 1e-9, FLOATS))
    f1 = [edge_f1(x, y) for x, y in zip(xs, ys, strict=True)]
    how = f"{scikit} canny, dilation by a disc of 2 px"
    out.append(Comparison("edge-f1", how, on, largest(values(detail.EdgeF1(), xs, ys), f1), 1e-12, "counts of pixels"))
    spectra = [gains(x, y) for x, y in zip(xs, ys, strict=True)]
    gap = max(largest(values(detail.CoherentGain(k + 1), xs, ys), [s[0][k] for s in spectra]) for k in range(4))
    gap = max(gap, largest(values(detail.CoherentGain(), xs, ys), [float(np.mean(s[0])) for s in spectra]))
    whole = f"the whole Fourier plane, {NUMPY}"
    out.append(
        Comparison(
            ", ".join(["coherent-gain", *(f"coherent-gain-o{k}" for k in range(1, 5))]), whole, on, gap, 1e-9, FLOATS
        )
    )
    gap = largest(values(detail.ExcessPower(), xs, ys), [float(np.mean(s[1])) for s in spectra])
    out.append(Comparison("excess-power", whole, on, gap, 1e-9, FLOATS))
    with tempfile.TemporaryDirectory(prefix="vtbench-") as folder:
        path = Path(folder) / "random.pth"
        reference.random_backbone("alex", path)
        out.append(_worst_lpips(xs, ys, path, on))
        make = functools.partial(_dists, xs, ys, on)
        out += [make(Path(folder)), _cosine(xs, ys, Path(folder), on), *_clip(xs, ys, Path(folder), on)]
    return out


def _worst_lpips(xs: Sequence[Any], ys: Sequence[Any], path: Path, on: str) -> Comparison:
    import warnings

    import lpips
    import torch

    from vtbench.metrics.lpips import WorstTileLPIPS

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = lpips.LPIPS(net="alex", pnet_rand=True, spatial=True, verbose=False)
    state = torch.load(path, weights_only=True)
    model.net.load_state_dict({k: state["features." + k.split(".", 1)[1]] for k in model.net.state_dict()})
    with torch.inference_mode():
        maps = model(stack(xs).float() / 127.5 - 1, stack(ys).float() / 127.5 - 1)[:, 0].double().numpy()
    wanted = [max(float(m[i : i + 64, j : j + 64].mean()) for i in (0, 64) for j in (0, 64)) for m in maps]
    gap = largest(values(WorstTileLPIPS(path), xs, ys), wanted)
    how = f"{version('lpips')}, spatial map, tile by tile"
    return Comparison("worst-tile-lpips", how, f"{on}; random backbone", gap, 1e-6, "float32 both")


def _dists(xs: Sequence[Any], ys: Sequence[Any], on: str, folder: Path) -> Comparison:
    """DISTS written out in float64 from its paper's formula, on torchvision's layers."""
    import torch
    import torchvision
    from torch.nn import functional

    from vtbench.metrics.perceptual import DISTS

    reference.random_backbone("vgg", folder / "vgg.pth")
    shares = torch.rand(2, 1475, generator=torch.Generator().manual_seed(0))
    shares /= shares.sum()
    torch.save({"alpha": shares[0].view(1, -1, 1, 1), "beta": shares[1].view(1, -1, 1, 1)}, folder / "dists.pth")
    with given(vgg16=folder / "vgg.pth", dists=folder / "dists.pth"):
        ours = values(DISTS(), xs, ys)
    with torch.device("meta"):
        features = torchvision.models.vgg16().features
    state = torch.load(folder / "vgg.pth", weights_only=True)
    features.load_state_dict({k.removeprefix("features."): v.double() for k, v in state.items()}, assign=True)
    hann = torch.hann_window(5, periodic=False, dtype=torch.float64)[1:-1]
    kernel = torch.outer(hann, hann) / hann.sum() ** 2

    def stages(images: Any) -> list[Any]:
        x = images.double() / 255
        out = [x]
        mean, std = (torch.tensor(v, dtype=torch.float64).view(1, 3, 1, 1) for v in
                     ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))  # fmt: skip
        x = (x - mean) / std
        for index, layer in enumerate(features):
            if isinstance(layer, torch.nn.MaxPool2d):
                # L2 pooling: root of the Hann-weighted mean of squares.
                channels = x.shape[1]
                x = functional.conv2d(x**2, kernel.expand(channels, 1, 3, 3), stride=2, padding=1, groups=channels)
                x = (x + 1e-12).sqrt()
            else:
                x = layer(x)
            if index in (3, 8, 15, 22, 29):
                out.append(x)
        return out

    with torch.inference_mode():
        total: Any = 0
        start = 0
        for a, b in zip(stages(stack(xs)), stages(stack(ys)), strict=True):
            alpha, beta = (w[start : start + a.shape[1]].double() for w in shares)
            start += a.shape[1]
            ma, mb = a.mean((2, 3)), b.mean((2, 3))
            va, vb = a.var((2, 3), unbiased=False), b.var((2, 3), unbiased=False)
            both = (a * b).mean((2, 3)) - ma * mb
            texture = (2 * ma * mb + 1e-6) / (ma**2 + mb**2 + 1e-6)
            structure = (2 * both + 1e-6) / (va + vb + 1e-6)
            total = total + (alpha * texture + beta * structure).sum(1)
    gap = largest(ours, (1 - total).tolist())
    how = f"Ding et al. 2020 written out, {version('torchvision')}'s layers, float64"
    return Comparison("dists", how, f"{on}; random backbone", gap, 1e-4, "float32 through VGG-16 against float64")


def _cosine(xs: Sequence[Any], ys: Sequence[Any], folder: Path, on: str) -> Comparison:
    import timm
    import torch
    from PIL import Image

    from vtbench.metrics.perceptual import DINO_MODEL, DinoSimilarity

    torch.manual_seed(0)
    model = timm.create_model(DINO_MODEL, pretrained=False, num_classes=0, img_size=224).eval()
    for name, parameter in model.named_parameters():
        # Layer scale starts at 1e-5: an untrained class token would see nothing of the image.
        if name.endswith("gamma"):
            torch.nn.init.ones_(parameter)
        elif parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.08)
    torch.save(model.state_dict(), folder / "dino.pth")
    with given(dinov2_vit_s14=folder / "dino.pth"):
        ours = values(DinoSimilarity(), xs, ys)

    def features(image: Any) -> Any:
        made = np.asarray(Image.fromarray(image).resize((224, 224), Image.Resampling.BICUBIC)) / 255
        x = (made - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        with torch.inference_mode():
            return model(torch.from_numpy(x).float().permute(2, 0, 1)[None])[0]

    theirs = [float(torch.cosine_similarity(features(x), features(y), dim=0)) for x, y in zip(xs, ys, strict=True)]
    why = "the reference rounds the enlarged picture to bytes, ours stays in floats"
    how = f"{version('timm')}, ViT-S/14 of random weights"
    return Comparison("dino-sim, features of fd-dinov2", how, on, largest(ours, theirs), 2e-3, why)


def _clip(xs: Sequence[Any], ys: Sequence[Any], folder: Path, on: str) -> list[Comparison]:
    import open_clip
    import torch
    from PIL import Image

    from vtbench.metrics.clip_set import ClipScore
    from vtbench.metrics.perceptual import CLIP_MEAN, CLIP_STD, ClipSimilarity
    from vtbench.types.metric import Batch, Reference

    torch.manual_seed(0)
    model: Any = open_clip.create_model("ViT-B-32", pretrained=None, force_quick_gelu=True).eval()
    torch.save(model.state_dict(), folder / "clip.pt")
    with given(clip_vit_b32_openai=folder / "clip.pt"):
        ours = values(ClipSimilarity(), xs, ys)
    transform: Any = open_clip.image_transform(224, is_train=False, mean=CLIP_MEAN, std=CLIP_STD)
    with torch.inference_mode():
        x, y = (model.encode_image(torch.stack([transform(Image.fromarray(i)) for i in s])) for s in (xs, ys))
    why = "the reference rounds the enlarged picture to bytes, ours stays in floats"
    how = f"{version('open_clip_torch')}, ViT-B/32 of random weights"
    first = Comparison("clip-sim", how, on, largest(ours, torch.cosine_similarity(x, y).tolist()), 2e-3, why)
    prompts = ["an astronaut in an orange suit", "a cat", "a cup of coffee"]
    scorer = ClipScore(folder / "clip.pt")
    items: Any = [types.SimpleNamespace(meta={"prompt": p}) for p in prompts]
    found = scorer.measure(Batch(Reference(stack(xs), items, prompts), stack(xs)))
    plain: Any = open_clip.create_model("ViT-B-32", pretrained=str(folder / "clip.pt")).eval()
    with torch.inference_mode():
        pictures = plain.encode_image(torch.stack([transform(Image.fromarray(i)) for i in xs]))
        texts = plain.encode_text(open_clip.get_tokenizer("ViT-B-32")(prompts))
    wanted = [100 * max(0.0, float(c)) for c in torch.cosine_similarity(pictures, texts)]
    gap = largest([v.value or 0.0 for v in found], wanted)
    why = "enlarged by torch's antialiased bicubic here, by Pillow there, both rounded to bytes"
    return [first, Comparison("clip-score", how, "3 photographs and their names", gap, 0.1, why)]


# -- sets ------------------------------------------------------------------------------------------------------------


def sets(path: Path) -> list[Comparison]:
    """The other resizes, sFID, KID, IS in file order, CMMD: on the network of torch-fidelity, moments by NumPy."""
    import torch
    from PIL import Image
    from scipy.linalg import svdvals
    from scipy.special import rel_entr, softmax
    from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    from vtbench.metrics import clip_set, frechet, inception, inception_score, kid
    from vtbench.metrics_report import QUALITY, crops, stacked
    from vtbench.metrics_report import jpeg as compressed

    before = stacked(crops(40, 96))
    after = stacked([compressed(c, QUALITY) for c in crops(40, 96)])
    on = f"40 crops of 96 px against their JPEGs (quality {QUALITY})"
    theirs = FeatureExtractorInceptionV3("x", ["2048"], str(path))
    kept: dict[str, Any] = {}
    theirs.Mixed_6d.branch1x1.register_forward_hook(lambda _m, _i, o: kept.update(spatial=o))
    # The extractor resizes what is not of its size; these hooks hand it a picture that is made apart.
    resized: dict[str, Any] = {}
    theirs.Conv2d_1a_3x3.register_forward_pre_hook(lambda _m, i: (resized.get("x", i[0]),))

    def bilinear(images: Any) -> Any:
        return torch.nn.functional.interpolate(images / 255, (299, 299), mode="bilinear", align_corners=False) * 2 - 1

    def clean(images: Any) -> Any:
        made = [
            np.stack([np.asarray(Image.fromarray(p, "F").resize((299, 299), Image.Resampling.BICUBIC)) for p in image])
            for image in images.numpy()
        ]
        return (torch.from_numpy(np.stack(made)).clamp(0, 255) - 128) / 128

    def features(images: Any, prepare: Any = None, spatial: bool = False) -> Any:
        resized.clear()
        if prepare is not None:
            resized["x"] = prepare(images.float())
        with torch.inference_mode():
            pooled = theirs(images)[0]
        found = kept["spatial"][:, :7].permute(0, 2, 3, 1).flatten(1) if spatial else pooled
        return found.double().numpy()

    def exact(a: Any, b: Any) -> float:
        step = a.mean(0) - b.mean(0)
        x, y = ((s - s.mean(0)) / math.sqrt(len(s) - 1) for s in (a, b))
        roots = svdvals(x @ y.T).sum()
        return float(step @ step + (x * x).sum() + (y * y).sum() - 2 * roots)

    out = []
    cases: list[tuple[str, Any, Any, str]] = [
        ("rfid-bilinear", "bilinear", bilinear, "F.interpolate"),
        ("rfid-clean", "clean", clean, f"Pillow {version('pillow').split()[1]} bicubic on floats"),
    ]
    fidelity = version("torch-fidelity")
    why = "float32 network: rounding of features, in another order of sums"
    for name, resize, prepare, how in cases:
        ours = [inception.InceptionFeatures("pool3", resize, path).extract(s) for s in (before, after)]
        wanted = exact(features(before, prepare), features(after, prepare))
        gap = abs(frechet.frechet(*ours) / wanted - 1)
        out.append(Comparison(name, f"{fidelity}'s network after {how}, float64 moments", on, gap, 1e-5, why, True))
    ours = [inception.InceptionFeatures("spatial", "tf1", path).extract(s) for s in (before, after)]
    wanted = exact(features(before, None, True), features(after, None, True))
    gap = abs(frechet.frechet(*ours) / wanted - 1)
    out.append(
        Comparison("sfid", f"{fidelity}'s network, Mixed_6d.branch1x1, float64 moments", on, gap, 1e-5, why, True)
    )
    pool3 = inception.InceptionFeatures("pool3", "tf1", path)
    a, b = (pool3.extract(s).astype(np.float64) for s in (before, after))
    n = len(a)
    kernels = [polynomial_kernel(*p, degree=3, gamma=1 / 2048, coef0=1) for p in ((a, a), (b, b), (a, b))]
    within = [(k.sum() - np.trace(k)) / (n * (n - 1)) for k in kernels[:2]]
    gap = abs(kid.kid(a, b) / (within[0] + within[1] - 2 * kernels[2].mean()) - 1)
    learn = version("scikit-learn")
    out.append(Comparison("kid", f"{learn} polynomial_kernel", on, gap, 1e-9, FLOATS, True))
    logits = inception.InceptionFeatures("logits", "tf1", path).extract(after)
    p = softmax(logits.astype(np.float64), axis=1)
    parts = [p[i : i + 15] for i in range(0, len(p), 15)]
    wanted = float(np.mean([np.exp(rel_entr(q, q.mean(0)[None]).sum(1).mean()) for q in parts]))
    gap = abs(float(np.mean(inception_score.in_order(logits, 15))) / wanted - 1)
    out.append(
        Comparison("is-adm", f"{version('scipy')} softmax and rel_entr, splits of 15", on, gap, 1e-9, FLOATS, True)
    )
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b)]
    means = [rbf_kernel(*q, gamma=1 / 200).mean() for q in ((unit[0],) * 2, (unit[1],) * 2, (unit[0], unit[1]))]
    wanted = 1000 * (means[0] + means[1] - 2 * means[2])
    gap = abs(clip_set.mmd(unit[0], unit[1]) - wanted)
    what = f"normalised pool3 (in place of CLIP's features) of {on}"
    out.append(Comparison("cmmd", f"{learn} rbf_kernel", what, gap, 1e-9, FLOATS))
    a, b = (x[:, :60] + 0.0 for x in (a, b))
    gap = abs(frechet.frechet(a, b) / exact(a, b) - 1)
    what = f"60 features of {on}"
    out.append(Comparison("fd-dinov2", f"moments and nuclear norm, {version('scipy')}", what, gap, 1e-6, FLOATS, True))
    return out


def comparisons(inception: Path) -> list[Comparison]:
    """Every row; `inception`: the file of Inception's weights that both sides get."""
    from vtbench.metrics_references_codes import models, text, tokens

    return [*pictures(), *sets(inception), *text(), *tokens(), *models()]
