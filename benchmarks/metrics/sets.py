"""Metrics of sets: features of Inception and what is made of them, against torch-fidelity, SciPy and definitions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.metrics.comparison import FLOATS, Comparison, relative, version
from benchmarks.metrics.pictures import SET_QUALITY, crops, jpeg, stacked
from vtbench.metrics import clip_set, frechet, inception, inception_score, kid, moments, prdc
from vtbench.metrics.weights import find
from vtbench.types.errors import VtbenchError

FEW = 40
"""Images of the comparisons of batch sizes and of resizes."""
ONE_POINT = "one point may change sides of a ball"


@dataclass(frozen=True)
class Measured:
    """pool3 of 120 crops and of their JPEGs, the latter's logits, which weights made them, and how exact that was."""

    reference: Any
    candidate: Any
    logits: Any
    weights: str
    comparisons: list[Comparison]
    batch_gap: float
    """Largest difference of a feature between batches of 1 and of 20, relative to the largest feature."""
    fid_gap: float
    """The same of rfid, relative."""
    path: Path
    """The file of the weights."""


def features(folder: Path) -> Measured:
    """Extracts everything that the comparisons of sets need."""
    import torch

    try:
        path, what, released = find(inception.WEIGHTS), "the released weights, verified", True
    except VtbenchError:
        path, released = folder / "random.pth", False
        what = "seeded random weights (the released ones are not on this machine)"
        torch.save(inception.random_state(0), path)
    before = stacked(crops(120, 96))
    after = stacked([jpeg(c, SET_QUALITY) for c in crops(120, 96)])
    pool3, logits = inception.InceptionFeatures("pool3", path=path), inception.InceptionFeatures("logits", path=path)
    batches = [slice(i, i + 20) for i in range(0, 120, 20)]
    reference = np.concatenate([pool3.extract(before[b]) for b in batches])
    candidate, scores = [], []
    for b in batches:
        part = after[b]
        candidate.append(pool3.extract(part))
        scores.append(logits.extract(part))
    whole = np.concatenate(candidate)
    # The tensors were read safely above; torch-fidelity would unpickle a released file that it is given.
    comparisons = [] if released else [_pool3(path, before[:20], reference[:20])]
    gaps = _gaps(pool3, before[:FEW], reference[:FEW], whole)
    return Measured(reference, whole, np.concatenate(scores), what, comparisons, *gaps, path)


def _pool3(path: Path, images: Any, ours: Any) -> Comparison:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    wanted = FeatureExtractorInceptionV3("x", ["2048"], str(path))(images)[0].numpy()
    gap = float(np.abs(wanted - ours).max() / np.abs(wanted).max())
    why = "same float32 network, channels-last memory: sums in another order"
    return Comparison("Inception pool3", version("torch-fidelity"), "20 crops of 96 px", gap, 1e-5, why, True)


def _gaps(pool3: Any, images: Any, reference: Any, whole: Any) -> tuple[float, float]:
    """(batch_gap, fid_gap) of Measured: `reference` are the images' features in batches of 20."""
    import torch

    few = len(images)
    one = np.concatenate([pool3.extract(images[i : i + 1]) for i in range(few)])
    batch_gap = float(np.abs(one - reference).max() / np.abs(one).max())
    wanted = frechet.frechet(reference, whole)
    others = [one]
    for some, size in ((images, 4), (images, 16), (torch.flip(images, [0]), 20)):
        others.append(np.concatenate([pool3.extract(some[i : i + size]) for i in range(0, few, size)]))
    return batch_gap, max(relative(frechet.frechet(other, whole), wanted) for other in others)


def prdc_by_definition(real: Any, fake: Any, k: int) -> tuple[float, float, float, float]:
    """Naeem et al. 2020 written out with SciPy's distances."""
    from scipy.spatial.distance import cdist

    rr, ff, rf = cdist(real, real), cdist(fake, fake), cdist(real, fake)
    real_radius, fake_radius = np.sort(rr, axis=1)[:, k], np.sort(ff, axis=1)[:, k]
    inside = rf < real_radius[:, None]
    return (
        float(inside.any(axis=0).mean()),
        float((rf < fake_radius[None]).any(axis=1).mean()),
        float(inside.sum(axis=0).mean() / k),
        float((rf.min(axis=1) < real_radius).mean()),
    )


def set_comparisons(reference: Any, candidate: Any, logits: Any) -> list[Comparison]:
    """Metrics of sets against torch-fidelity, SciPy and formulas written out, on the same features."""
    on = f"{len(reference)} crops against their JPEGs (quality {SET_QUALITY})"
    return [
        *_frechet(reference, candidate, on),
        *_moments(reference, candidate, on),
        *_others(reference, candidate, logits, on),
    ]


def _frechet(reference: Any, candidate: Any, on: str) -> list[Comparison]:
    import torch
    from scipy.linalg import sqrtm
    from torch_fidelity import metric_fid

    fidelity = version("torch-fidelity")
    a, b = (torch.from_numpy(np.asarray(x, dtype=np.float64)) for x in (reference, candidate))

    def theirs(x: Any, y: Any) -> float:
        stats = [metric_fid.fid_features_to_statistics(s) for s in (x, y)]
        return float(metric_fid.fid_statistics_to_metric(*stats, False)["frechet_inception_distance"])

    ours = frechet.frechet(reference, candidate)
    why = "its noise: roots of rounding errors where images are fewer than features; the next line but one is exact"
    out = [Comparison("rfid", fidelity, on, relative(ours, theirs(a, b)), 1e-3, why, relative=True)]
    half = len(reference) // 2
    apart = f"{half} crops against JPEGs of {half} others (quality {SET_QUALITY})"
    gap = relative(frechet.frechet(reference[:half], candidate[half:]), theirs(a[:half], b[half:]))
    out.append(Comparison("fid", fidelity, apart, gap, 5e-5, "the same noise, small beside a larger distance", True))
    # Exact coordinates in the span of all features, where SciPy's root is well conditioned.
    span = np.linalg.qr(np.concatenate([a, b]).T)[0]
    x, y = a.numpy() @ span, b.numpy() @ span
    s1, s2 = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = np.trace(sqrtm(s1 @ s2)).real
    exact = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s1) + np.trace(s2) - 2 * root
    why = "float64 both; SciPy's root loses digits on a rank-deficient product"
    out.append(Comparison("rfid", version("scipy") + " sqrtm, float64", on, relative(ours, exact), 1e-6, why, True))
    return out


def _moments(reference: Any, candidate: Any, on: str) -> list[Comparison]:
    low = frechet.distance(moments.of(reference[:, :64]), moments.of(candidate[:, :64]))
    other = frechet.distance_low_rank(reference[:, :64], candidate[:, :64])
    why = "two forms of the same number, 64 features"
    out = [Comparison("rfid, full against low rank", "itself", on, relative(low, other), 1e-6, why, True)]
    parts = [moments.Moments(64).add(reference[s, :64]) for s in (slice(0, 40), slice(40, 41), slice(41, None))]
    merged = parts[0].merge(parts[1]).merge(parts[2]).statistics()
    whole = moments.of(reference[:, :64])
    gap = float(np.abs(merged.covariance - whole.covariance).max() / np.abs(whole.covariance).max())
    why = "float64 sums in another order"
    return [*out, Comparison("moments, three shards merged", "one pass", on, gap, 1e-10, why, True)]


def _others(reference: Any, candidate: Any, logits: Any, on: str) -> list[Comparison]:
    """KID of subsets, the Inception Score, neighbours."""
    import torch
    from torch_fidelity import metric_isc, metric_kid, metric_prc

    fidelity = version("torch-fidelity")
    a, b = (torch.from_numpy(np.asarray(x, dtype=np.float64)) for x in (reference, candidate))
    wanted = metric_kid.kid_features_to_metric(b, a, kid_subsets=20, kid_subset_size=60, verbose=False)
    gap = relative(kid.kid_subsets(reference, candidate, 20, 60)[0], wanted["kernel_inception_distance_mean"])
    how, why = f"{fidelity}, subsets of 60", "float64 both, same draws"
    out = [Comparison("kid-tf", how, on, gap, 1e-6, why, True)]
    wanted = metric_isc.isc_features_to_metric(torch.from_numpy(logits))["inception_score_mean"]
    gap = relative(float(np.mean(inception_score.shuffled(logits))), wanted)
    out.append(Comparison("is", fidelity, on, gap, 1e-6, FLOATS, True))
    wanted = metric_prc.prc_features_to_metric(b, a, prc_neighborhood=3, verbose=False)
    ours = prdc.manifold(reference, candidate, 3, strict=False)
    gap = max(abs(ours.precision - wanted["precision"]), abs(ours.recall - wanted["recall"]))
    out.append(Comparison("precision-k3, recall-k3", fidelity, on, gap, 1e-4, ONE_POINT))
    ours = prdc.manifold(reference, candidate, 5, strict=True)
    names = ("precision", "recall", "density", "coverage")
    by_definition = prdc_by_definition(a.numpy(), b.numpy(), 5)
    gap = max(abs(getattr(ours, n) - v) for n, v in zip(names, by_definition, strict=True))
    how = "Naeem et al. 2020 written out, " + version("scipy")
    out.append(Comparison(", ".join(f"{n}-k5" for n in names), how, on, gap, 1e-4, ONE_POINT))
    return out


class _Inception:
    """torch-fidelity's network, which can be handed a picture that was resized apart."""

    def __init__(self, path: Path) -> None:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        self._network = FeatureExtractorInceptionV3("x", ["2048"], str(path))
        self._resized: Any = None
        self._branch: Any = None
        # The extractor resizes what is not of its size; the hook replaces its picture by ours.
        self._network.Conv2d_1a_3x3.register_forward_pre_hook(self._replace)
        self._network.Mixed_6d.branch1x1.register_forward_hook(self._keep)

    def _replace(self, _module: Any, inputs: Any) -> Any:
        return (inputs[0] if self._resized is None else self._resized,)

    def _keep(self, _module: Any, _inputs: Any, output: Any) -> None:
        self._branch = output

    def features(self, images: Any, prepare: Callable[[Any], Any] | None = None, spatial: bool = False) -> Any:
        """uint8 (B, 3, H, W) -> float64 (B, dim) of pool3, or of the first channels of the branch."""
        import torch

        self._resized = None if prepare is None else prepare(images.float())
        with torch.inference_mode():
            pooled = self._network(images)[0]
        chosen = self._branch[:, :7].permute(0, 2, 3, 1).flatten(1) if spatial else pooled
        return chosen.double().numpy()


def _bilinear(images: Any) -> Any:
    import torch

    return torch.nn.functional.interpolate(images / 255, (299, 299), mode="bilinear", align_corners=False) * 2 - 1


def _clean(images: Any) -> Any:
    import torch
    from PIL import Image

    resized = [
        np.stack([np.asarray(Image.fromarray(p, "F").resize((299, 299), Image.Resampling.BICUBIC)) for p in image])
        for image in images.numpy()
    ]
    return (torch.from_numpy(np.stack(resized)).clamp(0, 255) - 128) / 128


def exact_distance(a: Any, b: Any) -> float:
    """The Fréchet distance of two feature sets (n, d), float64, by SciPy's singular values."""
    from scipy.linalg import svdvals

    step = a.mean(0) - b.mean(0)
    x, y = ((s - s.mean(0)) / math.sqrt(len(s) - 1) for s in (a, b))
    roots = svdvals(x @ y.T).sum()
    return float(step @ step + (x * x).sum() + (y * y).sum() - 2 * roots)


def own_comparisons(path: Path) -> list[Comparison]:
    """The other resizes, sFID, KID, IS in file order, CMMD: on the network of torch-fidelity, moments by NumPy.

    `path`: the file of Inception's weights, which both sides get.
    """
    before = stacked(crops(FEW, 96))
    after = stacked([jpeg(c, SET_QUALITY) for c in crops(FEW, 96)])
    on = f"{FEW} crops of 96 px against their JPEGs (quality {SET_QUALITY})"
    return [*_resizes(path, before, after, on), *_kernels_and_scores(path, before, after, on)]


def _resizes(path: Path, before: Any, after: Any, on: str) -> list[Comparison]:
    """rfid and fid, which are one distance, after other resizes, and sfid."""
    theirs = _Inception(path)
    fidelity = version("torch-fidelity")
    why = "float32 network: rounding of features, in another order of sums"
    pillow = f"Pillow {version('pillow').split()[1]} bicubic on floats"
    cases: list[tuple[str, inception.Resize, Callable[[Any], Any], str]] = [
        ("rfid-bilinear, fid-bilinear", "bilinear", _bilinear, "F.interpolate"),
        ("rfid-clean, fid-clean", "clean", _clean, pillow),
    ]
    out = []
    for name, resize, prepare, how in cases:
        ours = [inception.InceptionFeatures("pool3", resize, path).extract(s) for s in (before, after)]
        wanted = exact_distance(theirs.features(before, prepare), theirs.features(after, prepare))
        gap = relative(frechet.frechet(*ours), wanted)
        how = f"{fidelity}'s network after {how}, float64 moments"
        out.append(Comparison(name, how, on, gap, 1e-5, why, True))
    ours = [inception.InceptionFeatures("spatial", "tf1", path).extract(s) for s in (before, after)]
    wanted = exact_distance(theirs.features(before, spatial=True), theirs.features(after, spatial=True))
    gap = relative(frechet.frechet(*ours), wanted)
    how = f"{fidelity}'s network, Mixed_6d.branch1x1, float64 moments"
    return [*out, Comparison("sfid", how, on, gap, 1e-5, why, True)]


def _kernels_and_scores(path: Path, before: Any, after: Any, on: str) -> list[Comparison]:
    """kid, is-adm, cmmd and fd-dinov2 on features of Inception."""
    from scipy.special import rel_entr, softmax
    from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel

    pool3 = inception.InceptionFeatures("pool3", "tf1", path)
    a, b = (pool3.extract(s).astype(np.float64) for s in (before, after))
    n = len(a)
    kernels = [polynomial_kernel(*p, degree=3, gamma=1 / 2048, coef0=1) for p in ((a, a), (b, b), (a, b))]
    within = [(k.sum() - np.trace(k)) / (n * (n - 1)) for k in kernels[:2]]
    gap = relative(kid.kid(a, b), within[0] + within[1] - 2 * kernels[2].mean())
    learn, scipy = version("scikit-learn"), version("scipy")
    out = [Comparison("kid", f"{learn} polynomial_kernel", on, gap, 1e-9, FLOATS, True)]
    logits = inception.InceptionFeatures("logits", "tf1", path).extract(after)
    p = softmax(logits.astype(np.float64), axis=1)
    parts = [p[i : i + 15] for i in range(0, len(p), 15)]
    wanted = float(np.mean([np.exp(rel_entr(q, q.mean(0)[None]).sum(1).mean()) for q in parts]))
    gap = relative(float(np.mean(inception_score.in_order(logits, 15))), wanted)
    out.append(Comparison("is-adm", f"{scipy} softmax and rel_entr, splits of 15", on, gap, 1e-9, FLOATS, True))
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b)]
    means = [rbf_kernel(*q, gamma=1 / 200).mean() for q in ((unit[0],) * 2, (unit[1],) * 2, (unit[0], unit[1]))]
    gap = abs(clip_set.mmd(unit[0], unit[1]) - 1000 * (means[0] + means[1] - 2 * means[2]))
    what = f"normalised pool3 (in place of CLIP's features) of {on}"
    out.append(Comparison("cmmd", f"{learn} rbf_kernel", what, gap, 1e-9, FLOATS))
    a, b = (x[:, :60] + 0.0 for x in (a, b))
    gap = relative(frechet.frechet(a, b), exact_distance(a, b))
    what = f"60 features of {on}"
    return [*out, Comparison("fd-dinov2", f"moments and nuclear norm, {scipy}", what, gap, 1e-6, FLOATS, True)]
