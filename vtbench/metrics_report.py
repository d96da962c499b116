"""Writes docs/metrics.md: `python -m vtbench.metrics_report > docs/metrics.md`.

Every metric against its reference on real images, every statistic's coverage by simulation, and one peer's evaluator
against ours on one folder pair. Everything is measured while the page is written; nothing is copied from memory. Takes
some minutes on two cores, no network: Inception has seeded random weights where the released ones are not verified on
this machine, which is stated, and changes none of the comparisons (both sides get the same network).
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import io
import math
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtbench import intervals, metrics_references, registry
from vtbench.images.protocols import PROTOCOLS
from vtbench.images.rounding import truncate_through_range
from vtbench.metrics import reference
from vtbench.statistics import paired as pairing

Pixels = NDArray[np.uint8]
QUALITY = 5
"""JPEG quality of the candidates in comparisons of sets: far enough from the originals that FID is not rounding."""


@dataclass(frozen=True)
class Comparison:
    """One metric against its reference; `difference` is the largest that was seen, in the metric's own unit."""

    metric: str
    reference: str
    on: str
    difference: float
    tolerance: float
    reason: str
    relative: bool = False

    @property
    def ok(self) -> bool:
        return self.difference <= self.tolerance


def version(package: str) -> str:
    return f"{package} {importlib.metadata.version(package)}"


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """A Markdown table."""

    def line(cells: Sequence[Any]) -> str:
        return "| " + " | ".join(str(c).replace("|", "\\|") for c in cells) + " |"

    return [line(head), "|" + "---|" * len(head), *(line(r) for r in rows), ""]


# -- pictures --------------------------------------------------------------------------------------------------------


def photographs(size: int) -> list[Pixels]:
    """Photographs that ship inside scikit-image, ADM crop at `size`."""
    from skimage import data

    from vtbench.images.views import View

    view = View.parse(str(size))
    names = ("astronaut", "chelsea", "coffee", "rocket", "retina", "hubble_deep_field", "immunohistochemistry")
    return [view.apply(np.asarray(getattr(data, name)())[..., :3])[0] for name in names]


def pages(size: int) -> list[Pixels]:
    """Photographed and scanned text that ships inside scikit-image, ADM crop: pictures of low contrast."""
    from skimage import data

    from vtbench.images.views import View

    view = View.parse(str(size))
    grey = [np.asarray(getattr(data, name)()) for name in ("page", "text")]
    return [view.apply(np.repeat(image[..., None], 3, axis=2))[0] for image in grey]


def crops(count: int, size: int, seed: int = 0) -> list[Pixels]:
    """Random crops of the photographs: many distinct real images."""
    rng = np.random.default_rng(seed)
    whole = photographs(512)
    out = []
    for i in range(count):
        image = whole[i % len(whole)]
        y, x = rng.integers(0, 512 - size, 2)
        out.append(image[y : y + size, x : x + size])
    return out


def jpeg(image: Pixels, quality: int) -> Pixels:
    from PIL import Image

    held = io.BytesIO()
    Image.fromarray(image).save(held, "JPEG", quality=quality)
    return np.asarray(Image.open(held))


def stacked(images: Sequence[Pixels]) -> Any:
    import torch

    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


# -- metrics of sets -------------------------------------------------------------------------------------------------


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
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    from vtbench.metrics import frechet, inception
    from vtbench.types.errors import VtbenchError

    try:
        from vtbench.metrics.weights import find

        path, what = Path(find(inception.WEIGHTS)), "the released weights, verified"
    except (ImportError, VtbenchError):
        path, what = folder / "random.pth", "seeded random weights (the released ones are not on this machine)"
        torch.save(inception.random_state(0), path)
    before = stacked(crops(120, 96))
    after = stacked([jpeg(c, QUALITY) for c in crops(120, 96)])
    pool3, logits = inception.InceptionFeatures("pool3", path=path), inception.InceptionFeatures("logits", path=path)
    batches = [slice(i, i + 20) for i in range(0, 120, 20)]
    reference = np.concatenate([pool3.extract(before[b]) for b in batches])
    candidate, scores = [], []
    for b in batches:
        part = after[b]
        candidate.append(pool3.extract(part))
        scores.append(logits.extract(part))
    # The tensors were read safely above; torch-fidelity would unpickle a released file that it is given.
    if what.startswith("seeded"):
        theirs = FeatureExtractorInceptionV3("x", ["2048"], str(path))
        wanted = theirs(before[:20])[0].numpy()
        gap = float(np.abs(wanted - reference[:20]).max() / np.abs(wanted).max())
        made = [
            Comparison(
                "Inception pool3", version("torch-fidelity"), "20 crops of 96 px", gap, 1e-5,
                "same float32 network, channels-last memory: sums in another order", relative=True,
            )
        ]  # fmt: skip
    else:
        made = []
    few = 40
    one = np.concatenate([pool3.extract(before[i : i + 1]) for i in range(few)])
    batch_gap = float(np.abs(one - reference[:few]).max() / np.abs(one).max())
    whole = np.concatenate(candidate)
    wanted = frechet.frechet(reference[:few], whole)
    backwards = torch.flip(before[:few], [0])
    others = [one]
    for images, size in ((before[:few], 4), (before[:few], 16), (backwards, 20)):
        others.append(np.concatenate([pool3.extract(images[i : i + size]) for i in range(0, few, size)]))
    fid_gap = max(abs(frechet.frechet(other, whole) / wanted - 1) for other in others)
    return Measured(reference, whole, np.concatenate(scores), what, made, batch_gap, fid_gap, path)


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
    import torch
    from scipy.linalg import sqrtm
    from torch_fidelity import metric_fid, metric_isc, metric_kid, metric_prc

    from vtbench.metrics import frechet, inception_score, kid, prdc, statistics

    on, out = f"{len(reference)} crops against their JPEGs (quality {QUALITY})", []
    fidelity = version("torch-fidelity")
    a, b = (torch.from_numpy(np.asarray(x, dtype=np.float64)) for x in (reference, candidate))
    ours = frechet.frechet(reference, candidate)
    stats = [metric_fid.fid_features_to_statistics(x) for x in (a, b)]
    theirs = metric_fid.fid_statistics_to_metric(stats[0], stats[1], False)["frechet_inception_distance"]
    why = "its noise: roots of rounding errors where images are fewer than features; the next line but one is exact"
    out.append(Comparison("rfid", fidelity, on, abs(ours / theirs - 1), 1e-3, why, relative=True))
    half = len(reference) // 2
    stats = [metric_fid.fid_features_to_statistics(x) for x in (a[:half], b[half:])]
    theirs = metric_fid.fid_statistics_to_metric(stats[0], stats[1], False)["frechet_inception_distance"]
    apart = f"{half} crops against JPEGs of {half} others (quality {QUALITY})"
    gap = abs(frechet.frechet(reference[:half], candidate[half:]) / theirs - 1)
    out.append(Comparison("fid", fidelity, apart, gap, 5e-5, "the same noise, small beside a larger distance", True))
    # Exact coordinates in the span of all features, where SciPy's root is well conditioned.
    span = np.linalg.qr(np.concatenate([a, b]).T)[0]
    x, y = a.numpy() @ span, b.numpy() @ span
    s1, s2 = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = np.trace(sqrtm(s1 @ s2)).real
    exact = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s1) + np.trace(s2) - 2 * root
    why = "float64 both; SciPy's root loses digits on a rank-deficient product"
    out.append(Comparison("rfid", version("scipy") + " sqrtm, float64", on, abs(ours / exact - 1), 1e-6, why, True))
    low = frechet.distance(statistics.of(reference[:, :64]), statistics.of(candidate[:, :64]))
    other = frechet.distance_low_rank(reference[:, :64], candidate[:, :64])
    why = "two forms of the same number, 64 features"
    out.append(Comparison("rfid, full against low rank", "itself", on, abs(low / other - 1), 1e-6, why, True))
    parts = [statistics.Moments(64).add(reference[s, :64]) for s in (slice(0, 40), slice(40, 41), slice(41, None))]
    merged = parts[0].merge(parts[1]).merge(parts[2]).statistics()
    whole = statistics.of(reference[:, :64])
    gap = float(np.abs(merged.covariance - whole.covariance).max() / np.abs(whole.covariance).max())
    why = "float64 sums in another order"
    out.append(Comparison("moments, three shards merged", "one pass", on, gap, 1e-10, why, True))
    wanted = metric_kid.kid_features_to_metric(b, a, kid_subsets=20, kid_subset_size=60, verbose=False)
    gap = abs(kid.kid_subsets(reference, candidate, 20, 60)[0] / wanted["kernel_inception_distance_mean"] - 1)
    why = "float64 both, same draws"
    out.append(Comparison("kid-tf", f"{fidelity}, subsets of 60", on, gap, 1e-6, why, True))
    wanted = metric_isc.isc_features_to_metric(torch.from_numpy(logits))["inception_score_mean"]
    gap = abs(float(np.mean(inception_score.shuffled(logits))) / wanted - 1)
    out.append(Comparison("is", fidelity, on, gap, 1e-6, "float64 both", True))
    wanted = metric_prc.prc_features_to_metric(b, a, prc_neighborhood=3, verbose=False)
    found = prdc.manifold(reference, candidate, 3, strict=False)
    gap = max(abs(found.precision - wanted["precision"]), abs(found.recall - wanted["recall"]))
    out.append(Comparison("precision-k3, recall-k3", fidelity, on, gap, 1e-4, "one point may change sides of a ball"))
    found = prdc.manifold(reference, candidate, 5, strict=True)
    values = prdc_by_definition(a.numpy(), b.numpy(), 5)
    names = ("precision", "recall", "density", "coverage")
    gap = max(abs(getattr(found, n) - v) for n, v in zip(names, values, strict=True))
    where = "Naeem et al. 2020 written out, " + version("scipy")
    out.append(
        Comparison(
            "precision-k5, recall-k5, density-k5, coverage-k5",
            where,
            on,
            gap,
            1e-4,
            "one point may change sides of a ball",
        )
    )
    return out


def token_comparisons() -> list[Comparison]:
    """Rates against closed forms: sources whose entropy is known, and a coder's own words."""
    import torch

    from vtbench.metrics import codebook
    from vtbench.types.tokens import Codes

    rng = np.random.default_rng(0)
    p = np.array([0.5, 0.25, 0.125, 0.125])
    draws = rng.choice(4, (400, 256), p=p)
    tokens = [Codes(torch.from_numpy(row)[None], (4,), (64, 64)) for row in draws]
    sizes = [(64, 64)] * len(tokens)
    order0, coded = codebook.Entropy().finish(tokens, sizes), codebook.Coded().finish(tokens, sizes)
    known = 1.75 * 256 / 4096
    on = "400 draws of 256 tokens from a source of 1.75 bits"
    return [
        Comparison("entropy-bpp", "the source's entropy", on, abs((order0.value or 0) / known - 1), 0.01,
                   "sampling: 102,400 tokens", True),
        Comparison("coded-bpp", "entropy-bpp", on, abs((coded.value or 0) - (order0.value or 0)), 64 / 4096,
                   "a range coder ends within two 32-bit words of its model"),
    ]  # fmt: skip


def image_comparisons() -> list[Comparison]:
    """Per-image metrics against their libraries on photographs and their JPEGs, through the same calls as a run."""
    import piq
    import torch
    from skimage import metrics as skimage

    from vtbench.types.metric import Batch, Reference, measured

    originals = [*photographs(256), *pages(256)]
    made = [jpeg(image, 30) for image in originals]
    on = f"{len(originals)} pictures of 256 px against their JPEGs (quality 30)"
    library: Any = skimage

    def ours(name: str) -> list[float]:
        batch = Batch(Reference(stacked(originals), [], [str(i) for i in range(len(made))]), stacked(made))
        return [float(v.value) for v in measured(name, registry.metric(name), batch) if v.value is not None]

    def ssim(a: Any, b: Any, **more: Any) -> float:
        return float(library.structural_similarity(a, b, channel_axis=2, **more))

    def piqs(call: Any) -> Callable[[Any, Any], float]:
        return lambda a, b: float(
            call(*(torch.from_numpy(x.astype(np.float64) / 255).permute(2, 0, 1)[None] for x in (a, b)), data_range=1.0)
        )

    gaussian: dict[str, Any] = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    by: dict[str, tuple[str, Callable[[Any, Any], float], float, str]] = {
        "psnr": (
            "scikit-image",
            lambda a, b: float(library.peak_signal_noise_ratio(a, b, data_range=255)),
            1e-9,
            "float64 both",
        ),
        "ssim": ("scikit-image", lambda a, b: ssim(a, b, data_range=255, **gaussian), 1e-6, "float64 both"),
        "ssim-uniform7": ("scikit-image", lambda a, b: ssim(a, b, data_range=255), 1e-6, "float64 both"),
        "ssim-range2": ("scikit-image", lambda a, b: ssim(a / 255, b / 255, data_range=2.0), 1e-6, "float64 both"),
        "ms-ssim": ("piq", piqs(piq.multi_scale_ssim), 1e-6, "float64 both"),
    }
    out = []
    for name, (package, call, tolerance, reason) in by.items():
        wanted = [call(a, b) for a, b in zip(originals, made, strict=True)]
        gap = max(abs(x - y) for x, y in zip(ours(name), wanted, strict=True))
        out.append(Comparison(name, version(package), on, gap, tolerance, reason))
    return [*out, *own_comparisons()]


def own_comparisons() -> list[Comparison]:
    """What `vtbench.metrics.reference` adds for the other per-image metrics."""
    return own(reference.comparisons())


def own(found: Iterable[reference.Comparison]) -> list[Comparison]:
    return [Comparison(**dataclasses.asdict(c)) for c in found]


def uncovered(found: Iterable[Comparison]) -> list[str]:
    """Registered metrics that no row names."""
    named = {name.strip() for c in found for name in c.metric.split(",")}
    return [name for name in registry.metrics() if name not in named]


# -- statistics ------------------------------------------------------------------------------------------------------

Draw = Callable[[np.random.Generator, int], tuple[Any, Any]]


def sources() -> dict[str, tuple[Draw, float]]:
    """Distributions like those of real metrics, and their true scores."""

    def psnr(rng: np.random.Generator, n: int) -> tuple[Any, Any]:
        return rng.normal(28, 4, n), None

    def lpips(rng: np.random.Generator, n: int) -> tuple[Any, Any]:
        return rng.gamma(4, 0.05, n), None

    def cer(rng: np.random.Generator, n: int) -> tuple[Any, Any]:
        length = rng.integers(5, 60, n).astype(float)
        return rng.binomial(length.astype(int), 0.2) / length, length

    return {
        "normal, like PSNR (28 ± 4 dB)": (psnr, 28.0),
        "skewed, like LPIPS (gamma)": (lpips, 0.2),
        "ratio of sums, like CER (weights 5 to 59)": (cer, 0.2),
    }


def coverage(trials: int = 1000) -> list[str]:
    """Coverage of the intervals and level of the tests."""
    rows = []
    for name, (draw, truth) in sources().items():
        cells: list[Any] = [name]
        for n in (5, 10, 29, 30, 100, 1000):
            auto = intervals.simulate_coverage(draw, truth, n, trials=trials, resamples=1000)
            if n < intervals.SMALL:
                plain = intervals.simulate_coverage(draw, truth, n, trials=trials, resamples=1000, method="bootstrap")
                cells.append(f"{100 * auto:.1f} % ({100 * plain:.1f} %)")
            else:
                cells.append(f"{100 * auto:.1f} %")
        rows.append(cells)
    error = 100 * 1.96 * math.sqrt(0.95 * 0.05 / trials)
    out = [
        f"Share of {trials} simulated sets whose 95 % interval holds the true score (± {error:.1f} points by chance). "
        "Below 30 images Student's t is used; in brackets what the percentile bootstrap would have given.",
        "",
        *table(["values", "n = 5", "10", "29", "30", "100", "1000"], rows),
    ]

    def alike(rng: np.random.Generator, n: int) -> tuple[Any, Any]:
        common = rng.normal(28, 4, n)
        return common + rng.normal(0, 0.5, n), common + rng.normal(0, 0.5, n)

    def skewed(rng: np.random.Generator, n: int) -> tuple[Any, Any]:
        common = rng.gamma(4, 0.05, n)
        return common * rng.lognormal(0, 0.1, n), common * rng.lognormal(0, 0.1, n)

    rows = []
    for name, pair in (("PSNR of two equal systems", alike), ("LPIPS of two equal systems", skewed)):
        for n in (10, 30, 100, 1000):
            found = intervals.simulate_level(pair, n, trials=trials, resamples=1000)
            rows.append([name, n, f"{100 * found['paired']:.1f} %", f"{100 * found['sign']:.1f} %"])
    out += [
        "Level of the tests: share of simulated comparisons of two equal systems with p below 0.05 (5 % is right; the "
        "exact sign test may stay below it).",
        "",
        *table(["systems", "n", "paired bootstrap (t below 30)", "sign test"], rows),
    ]
    return [*out, *holm_level(trials), *jackknife_coverage()]


def holm_level(trials: int) -> list[str]:
    """Family-wise error of ten comparisons of equal systems, with and without Holm."""
    rng = np.random.default_rng(1)
    plain = held = 0
    for trial in range(trials):
        p = []
        for _ in range(10):
            d = rng.normal(0, 1, 20)
            p.append(pairing.paired(list(d), [0.0] * 20, seed=trial).p)
        plain += min(x for x in p if x is not None) < 0.05
        held += min(x for x in pairing.holm(p) if x is not None) < 0.05
    return [
        f"Ten comparisons at once of equal systems: at least one p below 0.05 in {100 * plain / trials:.1f} % of "
        f"{trials} simulations without correction, in {100 * held / trials:.1f} % with Holm's.",
        "",
    ]


def jackknife_coverage(trials: int = 300) -> list[str]:
    """Coverage of FID's interval for the expected value at its n, and of the bootstrap that is not used."""
    from vtbench.metrics import frechet, statistics

    rng = np.random.default_rng(2)
    reference = statistics.of(rng.normal(0, 1, (5000, 12)))
    drawn = [rng.normal(0.15, 1.1, (300, 12)) for _ in range(trials)]
    values = [frechet.distance(reference, statistics.of(x)) for x in drawn]
    expected = float(np.mean(values))
    inside = 0
    for x in drawn:
        found = frechet.interval(reference, x, paired=False)
        inside += found is not None and found.low is not None and found.low <= expected <= (found.high or 0)
    boot = []
    for x in drawn[:50]:
        again = [frechet.distance(reference, statistics.of(x[rng.integers(0, 300, 300)])) for _ in range(20)]
        boot.append(float(np.mean(again)))
    shift = 100 * (float(np.mean(boot)) / float(np.mean(values[:50])) - 1)
    return [
        f"Fréchet distance, 300 images of 12 features, {frechet.GROUPS} groups: the jackknife's 95 % interval holds "
        f"the expected distance at this n in {100 * inside / trials:.1f} % of {trials} simulations. A bootstrap would "
        f"centre {shift:+.0f} % away: its duplicates look like a smaller set, which is why none is used.",
        "",
    ]


# -- a peer ----------------------------------------------------------------------------------------------------------


def ssim_with_borders(x: Any, y: Any, span: float) -> float:
    """torchmetrics' SSIM of two float (H, W, 3) images: 11 Gaussian taps, mirrored borders, mean over all positions."""
    from scipy.ndimage import correlate1d

    taps = np.exp(-(((np.arange(11) - 5) / 1.5) ** 2) / 2)
    taps /= taps.sum()

    def blur(z: Any) -> Any:
        return correlate1d(correlate1d(z, taps, axis=0, mode="mirror"), taps, axis=1, mode="mirror")

    mx, my = blur(x), blur(y)
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    spread = blur(x * x) - mx**2 + blur(y * y) - my**2
    found = (2 * mx * my + c1) * (2 * (blur(x * y) - mx * my) + c2) / ((mx**2 + my**2 + c1) * (spread + c2))
    return float(found.mean())


def peer() -> list[str]:
    """SEED-Voken's and VTBench's conventions written out, against vtbench on one folder pair."""
    from PIL import Image
    from skimage import metrics

    from vtbench import folders

    originals = [*photographs(256), *pages(256)]
    made = [jpeg(p, 30) for p in originals]
    with tempfile.TemporaryDirectory() as name:
        for kind, images in (("ref", originals), ("cand", made)):
            (Path(name) / kind).mkdir()
            for i, image in enumerate(images):
                Image.fromarray(image).save(Path(name) / kind / f"{i}.png")
        scored = folders.score(Path(name) / "ref", [Path(name) / "cand"], ["psnr", "ssim"])
    found = {s.metric: s.value for s in scored.candidates[0].scores}
    cut = [[np.asarray(truncate_through_range(stacked([x]))[0].permute(1, 2, 0)) for x in s] for s in (originals, made)]
    pairs, cut_pairs = list(zip(originals, made, strict=True)), list(zip(*cut, strict=True))

    library: Any = metrics
    peak_signal_noise_ratio, structural_similarity = library.peak_signal_noise_ratio, library.structural_similarity

    def psnr(some: Sequence[tuple[Any, Any]]) -> list[float]:
        return [float(peak_signal_noise_ratio(a, b, data_range=255)) for a, b in some]

    def uniform(some: Sequence[tuple[Any, Any]]) -> list[float]:
        return [float(structural_similarity(a / 255, b / 255, data_range=1.0, channel_axis=2)) for a, b in some]

    def gaussian(some: Sequence[tuple[Any, Any]], spans: Sequence[float]) -> list[float]:
        keys: dict[str, Any] = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
        return [
            float(structural_similarity(a / 255, b / 255, data_range=s, channel_axis=2, **keys))
            for (a, b), s in zip(some, spans, strict=True)
        ]

    def bordered(spans: Sequence[float]) -> list[float]:
        return [ssim_with_borders(a / 255, b / 255, s) for (a, b), s in zip(pairs, spans, strict=True)]

    def by_batch(values: Sequence[float], size: int = 4) -> float:
        return float(np.mean([np.mean(values[i : i + size]) for i in range(0, len(values), size)]))

    def pooled(some: Sequence[tuple[Any, Any]], span: float) -> float:
        error = np.mean([((a / 255 - b / 255) ** 2).mean() for a, b in some])
        return float(10 * np.log10(span**2 / error))

    low, high = min(a.min() for a, _ in pairs) / 255, max(a.max() for a, _ in pairs) / 255
    spans = []
    for i in range(0, len(pairs), 8):
        part = pairs[i : i + 8]
        spans += [max(float(max(x.max() for x in s)) - float(min(x.min() for x in s)) for s in zip(*part, strict=True))
                  / 255] * len(part)  # fmt: skip
    ones = [1.0] * len(pairs)
    stories = {
        "SEED-Voken, SSIM": [
            ("vtbench `ssim`", float(np.mean(gaussian(pairs, ones)))),
            ("7 x 7 uniform window, sample covariance (skimage's default)", float(np.mean(uniform(pairs)))),
            ("originals and outputs cut to uint8 by way of [-1, 1]", float(np.mean(uniform(cut_pairs)))),
            ("mean of batch means, batches of 4", by_batch(uniform(cut_pairs))),
        ],
        "SEED-Voken, PSNR": [
            ("vtbench `psnr`", float(np.mean(psnr(pairs)))),
            ("originals and outputs cut to uint8 by way of [-1, 1]", float(np.mean(psnr(cut_pairs)))),
            ("mean of batch means, batches of 4", by_batch(psnr(cut_pairs))),
        ],
        "VTBench (torchmetrics), PSNR": [
            ("vtbench `psnr`", float(np.mean(psnr(pairs)))),
            ("squared error pooled over the set before the logarithm", pooled(pairs, 1.0)),
            (f"range taken from the originals' extremes, {high - min(low, 0):.3f}", pooled(pairs, high - min(low, 0))),
        ],
        "VTBench (torchmetrics), SSIM": [
            ("vtbench `ssim`", float(np.mean(gaussian(pairs, ones)))),
            ("borders reflected and counted (torchmetrics crops nothing)", float(np.mean(bordered(ones)))),
            ("range = max - min of each batch of 8 (the last holds one page of text)", float(np.mean(bordered(spans)))),
        ],
    }
    out = [
        f"{len(pairs)} pictures of scikit-image (the last two are text) at 256 px (ADM crop) against their JPEGs at "
        "quality 30. The peers' arithmetic is written out here from `evaluation_image.py` of SEED-Voken b9a17ea (lines "
        "230-267) and "
        "`evaluations/evaluate_images.py` of VTBench 793d275 (lines 44-92); each line changes one thing more, so that "
        "the last is the peer's number and the steps add up to the whole difference. (VTBench's two were held against "
        "torchmetrics 1.9.0 itself when this was written: equal to 1e-6.)",
        "",
    ]
    for title, steps in stories.items():
        metric = "psnr" if "PSNR" in title else "ssim"
        gap = abs(steps[0][1] - (found[metric] or 0))
        if gap > 1e-6:
            raise AssertionError(f"{metric}: the page's own arithmetic differs from vtbench by {gap}")
        rows = [
            [what, f"{value:.4f}", "" if i == 0 else f"{value - steps[i - 1][1]:+.4f}"]
            for i, (what, value) in enumerate(steps)
        ]
        rows.append(["**the whole difference**", "", f"**{steps[-1][1] - steps[0][1]:+.4f}**"])
        out += table([title, "value", "step"], rows)
    return out


# -- the page --------------------------------------------------------------------------------------------------------


def cards() -> list[str]:
    """Every metric of the registry with its card."""
    rows = []
    for name, factory in sorted(registry.metrics().items()):
        card = registry.card_of(factory)
        of = f" (a convention of `{card.convention_of}`)" if card.convention_of else ""
        small = f"{card.min_size} px" if card.min_size > 1 else ""
        rows.append(
            [f"`{name}`", f"{card.title}{of}", card.unit, card.better or "", small, card.reduction, card.source]
        )
    return table(["name", "what", "unit", "better", "from", "reduction", "source"], rows)


def comparison_rows(found: Sequence[Comparison]) -> list[str]:
    rows = []
    for c in found:
        mark = "" if c.ok else " **exceeds**"
        kind = " (relative)" if c.relative else ""
        rows.append([c.metric, c.reference, c.on, f"{c.difference:.1e}{kind}{mark}", f"{c.tolerance:.0e}", c.reason])
    return table(["metric", "reference", "on", "largest difference", "tolerance", "reason"], rows)


def page(trials: int = 1000) -> tuple[str, bool]:
    """(the page, whether every comparison is within its tolerance)."""
    import torch

    with tempfile.TemporaryDirectory() as name:
        made = features(Path(name))
        sets = [*made.comparisons, *set_comparisons(made.reference, made.candidate, made.logits)]
        rest = own(metrics_references.comparisons(made.path))
    found = [*image_comparisons(), *sets, *token_comparisons(), *rest]
    lacking = uncovered(found)
    if lacking:
        raise AssertionError(f"no reference for {', '.join(lacking)}")
    protocols = [
        [f"`{p.name}`", p.title, p.source, p.rounding, ", ".join(f"{k} = `{v}`" for k, v in p.metrics.items()), p.note]
        for p in PROTOCOLS.values()
    ]
    lines = [
        "# Metrics: definitions, references, statistics",
        "",
        "Written by `python -m vtbench.metrics_report > docs/metrics.md`; every number below was measured while it was "
        f"written (torch {torch.__version__}, numpy {np.__version__}, CPU).",
        "",
        "All metrics read the same uint8 pixels. A per-image value is a (value, weight) pair and a score is "
        "Σwv / Σw. Missing is null with a reason.",
        "",
        "## Every metric",
        "",
        *cards(),
        "## Against the reference, on real images",
        "",
        f"Inception has {made.weights}; both sides of a comparison get the same network.",
        "",
        *comparison_rows(found),
        "Batch size: a feature of pool3 of one image alone differs from the same in a batch of 20 by at most "
        f"{made.batch_gap:.1e} of the largest feature (float32 kernels choose another order of sums). In batches of 1, "
        f"4 and 16, and backwards, rfid of 40 images moves by at most {made.fid_gap:.1e} relative. Metrics without a "
        "network are sums over images in float64: neither moves them beyond the last digits. Three depend on the order "
        "of the images by their definition, since they are means over parts of the set drawn by place: `is`, `is-adm`, "
        "`kid-tf` (the deviation over parts stands in their details); so do, within chance, the ends of intervals.",
        "",
        "## Statistics",
        "",
        *coverage(trials),
        "## A peer's evaluator on the same folders",
        "",
        *peer(),
        "## Protocols",
        "",
        *table(["name", "who", "source", "rounding", "plain names mean", "note"], protocols),
    ]
    return "\n".join(lines).rstrip() + "\n", all(c.ok for c in found)


def main() -> int:
    text, ok = page()
    sys.stdout.write(text)
    return 0 if ok else 1


if __name__ == "__main__":
    raise SystemExit(main())
