"""Metrics of reduced vision models, each computed a second time: by scikit-learn, by SciPy, by counting."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.metrics.comparison import FLOATS, NUMPY, Comparison, largest, relative, version
from vtbench import registry
from vtbench.models.tower_files import model_files
from vtbench.models.tower_reading import TowerSubject
from vtbench.models.towers import Tower
from vtbench.types.item import Item
from vtbench.types.metric import Batch, Reference
from vtbench.types.reading import Point, Rate, Reading
from vtbench.types.reduction import Reducer, ReducerCard, Reduction, TowerView

IMAGES, CLASSES = 400, 12
SIDE, PATCH, WIDTH, INNER, HEADS, DEPTH = 32, 4, 16, 24, 2, 3
"""Of the tower: pixels, pixels of a patch, channels, channels of the MLP, heads, blocks."""
TOKENS = (SIDE // PATCH) ** 2
KEEP, BLOCK = 9, 1


def understanding_comparisons() -> list[Comparison]:
    return [*of_classes(), *of_features(), percentiles(), *of_towers()]


def values(name: str, reading: Reading, items: Sequence[Item] | None = None) -> list[float]:
    """A metric's value of every image of a reading; each must have one."""
    import torch

    pixels = torch.zeros((len(reading), 3, 1, 1), dtype=torch.uint8)
    items = items or [Item(f"{k}", None) for k in range(len(reading))]
    batch = Batch(Reference(pixels, items, [""] * len(reading)), pixels, reading=reading)
    return [float(one.value) for one in registry.metric(name).measure(batch)]


# -- classes -----------------------------------------------------------------------------------------------------------


def of_classes() -> list[Comparison]:
    """Of logits that were drawn, the reduced model's near the full one's and both near the truth."""
    import torch
    from scipy.special import rel_entr, softmax
    from sklearn import metrics

    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, IMAGES)
    full = rng.normal(size=(IMAGES, CLASSES)) + 2.5 * np.eye(CLASSES)[labels]
    reduced = full + rng.normal(size=full.shape)
    logits = [torch.from_numpy(x) for x in (full, reduced)]
    reading = Reading([Rate(1, 1)] * IMAGES, logits=logits[0], reduced_logits=logits[1], labels=labels.tolist())
    said, before = reduced.argmax(axis=1), full.argmax(axis=1)
    table = metrics.confusion_matrix(before == labels, said == labels) / IMAGES
    wanted = {
        "accuracy": metrics.accuracy_score(labels, said),
        "accuracy-full": metrics.accuracy_score(labels, before),
        "agreement": metrics.accuracy_score(before, said),
        "agreement-at-5": metrics.top_k_accuracy_score(said, full, k=5, labels=range(CLASSES)),
        # Rows: wrong and right before; columns: now.
        "flips-gained": table[0, 1],
        "flips-lost": table[1, 0],
    }
    ours = {name: values(name, reading) for name in (*wanted, "kl")}
    on = f"logits of {IMAGES} images and {CLASSES} classes, full and with noise"
    gap = max(abs(float(np.mean(ours[name])) - float(v)) for name, v in wanted.items())
    how = version("scikit-learn") + " accuracy_score, top_k_accuracy_score, confusion_matrix"
    out = [Comparison(", ".join(wanted), how, on, gap, 1e-12, "counts")]
    divergences = rel_entr(softmax(full, axis=1), softmax(reduced, axis=1)).sum(axis=1).tolist()
    how = version("scipy") + " rel_entr of softmax"
    out.append(Comparison("kl", how, on, largest(ours["kl"], divergences), 1e-12, FLOATS))
    rows = [{"values": {n: ours[n][k] for n in ("accuracy", "accuracy-full")}} for k in range(IMAGES)]
    pair = [np.asarray(ours[name]) for name in ("accuracy", "accuracy-full")]
    return [*out, *shares("retained", registry.metric("retained").finish(rows, []), *pair, on)]


def shares(name: str, ours: Any, part: Any, whole: Any, on: str) -> list[Comparison]:
    """A ratio of two sums in per cent, and its interval by SciPy's own bootstrap."""
    from scipy.stats import bootstrap

    def ratio(a: Any, b: Any, axis: int = -1) -> Any:
        return 100 * a.sum(axis=axis) / b.sum(axis=axis)

    gap = relative(ours.value, float(ratio(part, whole)))
    out = [Comparison(name, NUMPY, on, gap, 1e-12, FLOATS, True)]
    drawn = bootstrap(
        (part, whole),
        ratio,
        n_resamples=10_000,
        batch=1_000,
        paired=True,
        method="percentile",
        rng=np.random.default_rng(1),
    )
    ends = drawn.confidence_interval
    gap = largest((ours.low, ours.high), (float(ends.low), float(ends.high)))
    # An end of 10,000 draws moves by 0.027 standard errors: of the difference of two of them, five times as much.
    tolerance = 5 * 2**0.5 * 0.027 * float(drawn.standard_error)
    how, why = version("scipy") + " bootstrap, paired, percentile", "sampling: 10,000 draws on both sides; in points"
    return [*out, Comparison(f"{name}, its interval", how, on, gap, tolerance, why)]


def percentiles() -> Comparison:
    rng = np.random.default_rng(2)
    gap = 0.0
    for count in (1, 7, 20, 100, 101):
        tokens = rng.integers(1, 577, count)
        rows = [{"values": {"visual-tokens": float(n)}} for n in tokens]
        for share in (5, 95):
            ours = registry.metric(f"visual-tokens-p{share}").finish(rows, []).value
            gap = max(gap, abs(ours - float(np.percentile(tokens, share, method="inverted_cdf"))))
    how = f"numpy {np.__version__} percentile, inverted_cdf"
    return Comparison("visual-tokens-p5, visual-tokens-p95", how, "1 to 101 counts", gap, 0, "counts")


# -- features ----------------------------------------------------------------------------------------------------------


def of_features() -> list[Comparison]:
    """Of features of three classes far from the origin, as those of a tower are, and the same with noise."""
    from scipy.spatial.distance import cosine

    rng = np.random.default_rng(3)
    count = 90
    classes = np.arange(count) % 3
    full = (rng.normal(size=(count, 8)) + 2 + 2 * rng.normal(size=(3, 8))[classes]).astype(np.float32)
    reduced = (full + rng.normal(size=full.shape)).astype(np.float32)
    names = [f"class {k}" for k in classes]
    on = f"features of {count} images, 8 channels, full and with noise"
    x, y = full.astype(float), reduced.astype(float)
    mean = x.mean(axis=0)
    cosines = [1 - float(cosine(a - mean, b - mean)) for a, b in zip(x, y, strict=True)]
    ours = registry.metric("centred-cosine").finish_read(full, reduced, names)
    gap = largest(ours.per_image, cosines)
    out = [Comparison("centred-cosine", version("scipy") + " distance.cosine", on, gap, 1e-12, FLOATS)]
    gap = 0.0
    # More images than channels, and fewer: the metric goes two ways.
    for n in (count, 6):
        linear = registry.metric("linear-cka").finish_read(full[:n], reduced[:n], names[:n]).value
        gap = max(gap, relative(linear, _cka(x[:n], y[:n])))
    how = NUMPY + ": HSIC by traces with the centring matrix"
    out.append(Comparison("linear-cka", how, on, gap, 1e-12, FLOATS, True))
    gap = 0.0
    for name, gallery in (("knn-transfer", x), ("knn-refit", y)):
        right = registry.metric(name).finish_read(full, reduced, names).per_image
        gap = max(gap, largest(right, _nearest(y, gallery, classes)))
    how = version("scikit-learn") + " NearestNeighbors of all other images, votes counted"
    return [*out, Comparison("knn-transfer, knn-refit", how, on, gap, 0, "counts")]


def _cka(x: Any, y: Any) -> float:
    centre = np.eye(len(x)) - 1 / len(x)

    def hsic(a: Any, b: Any) -> float:
        return float(np.trace(a @ a.T @ centre @ b @ b.T @ centre))

    return hsic(x, y) / (hsic(x, x) * hsic(y, y)) ** 0.5


def _nearest(queries: Any, gallery: Any, classes: Any) -> list[float]:
    """1 for every image whose class most of its five nearest others have; of equals, the nearest's class."""
    from sklearn.neighbors import NearestNeighbors

    right = []
    for k in range(len(queries)):
        others = np.delete(np.arange(len(queries)), k)
        near = NearestNeighbors(n_neighbors=5, metric="cosine", algorithm="brute").fit(gallery[others])
        voted = classes[others[near.kneighbors(queries[k : k + 1], return_distance=False)[0]]]
        votes = np.bincount(voted, minlength=3)
        first = next(c for c in voted if votes[c] == votes.max())
        right.append(float(first == classes[k]))
    return right


# -- towers ------------------------------------------------------------------------------------------------------------


class Drawn(Reducer):
    """Keeps tokens that were drawn with their image's seed, some of them twice."""

    def __init__(self) -> None:
        super().__init__(ReducerCard("drawn", "tokens that were drawn", ("vit", "tower"), "select"))

    def reduce(self, view: TowerView, budget: int, seed: int) -> Reduction:
        import torch

        return Reduction(kept=torch.from_numpy(drawn(seed, len(view), budget)))


def drawn(seed: int, count: int, budget: int) -> Any:
    return np.random.default_rng(seed).integers(0, count, budget)


@contextmanager
def tower() -> Iterator[TowerSubject]:
    """A CLIP tower of transformers with random weights."""
    import torch
    from transformers import CLIPVisionConfig, CLIPVisionModel

    sizes = {"hidden_size": WIDTH, "num_attention_heads": HEADS, "num_hidden_layers": DEPTH, "intermediate_size": INNER}
    with tempfile.TemporaryDirectory(prefix="vtbench-") as name, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=SIDE, patch_size=PATCH))
        with torch.no_grad():
            for weight in model.parameters():
                # As they are drawn they are near 0, so that all tokens would be alike.
                weight.mul_(8 if weight.dim() > 1 else 1)
        model.save_pretrained(Path(name))
        yield TowerSubject(Tower(model_files(name), "cpu", "float32", {"attention": "eager"}))


def of_towers() -> list[Comparison]:
    """What goes on, and the maps, of tokens cut before a block: the same blocks of transformers run by hand."""
    import torch

    images = torch.rand(6, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(4))
    seeds, items = list(range(len(images))), [Item(f"{k}", None) for k in range(len(images))]
    with tower() as subject, torch.inference_mode():
        reading = subject.read(images, Point(Drawn(), KEEP, "vit", BLOCK), seeds, items)
        network: Any = subject.tower.network
        pixels = subject.tower.pixels(subject.tower.pictures(images))
        full = network(pixel_values=pixels).last_hidden_state[:, 1:].double().numpy()
        vision = getattr(network, "vision_model", network)
        x = vision.pre_layrnorm(vision.embeddings(pixels))
        kept = [drawn(seed, TOKENS, KEEP) for seed in seeds]
        entering = []
        for number, layer in enumerate(vision.encoder.layers):
            if number == BLOCK:
                x = torch.stack([one[[0, *(1 + k)]] for one, k in zip(x, kept, strict=True)])
            entering.append(x)
            out = layer(x, None)
            x = out if isinstance(out, torch.Tensor) else out[0]
    counts = [float(one.shape[1] - 1) for one in entering]
    doubled = [float(KEEP - len(np.unique(one[1:].numpy(), axis=0))) for one in entering[BLOCK]]
    wanted = {
        "visual-tokens": [counts[-1]] * len(seeds),
        "visual-tokens-mean-layer": [float(np.mean(counts))] * len(seeds),
        "duplicates": doubled,
    }
    on = f"{len(seeds)} images in a CLIP tower of {DEPTH} blocks, {KEEP} of {TOKENS} tokens drawn before block {BLOCK}"
    gap = max(largest(values(name, reading), v) for name, v in wanted.items())
    how = version("transformers") + "'s blocks run by hand, rows counted"
    out = [Comparison(", ".join(wanted), how, on, gap, 1e-12, "counts")]
    return [*out, *_maps(reading, full, x[:, 1:].double().numpy(), kept, on)]


def _maps(reading: Reading, full: Any, reduced: Any, kept: Sequence[Any], on: str) -> list[Comparison]:
    """full: float64 (B, N, C); reduced: (B, M, C), the rows of `kept`, which are places."""
    from scipy.spatial.distance import cosine
    from sklearn.metrics.pairwise import cosine_similarity
    from sklearn.neighbors import NearestNeighbors

    wanted: Mapping[str, list[float]] = {"coverage": [], "dense-correlation": [], "dense-nearest": []}
    pearson = []
    for whole, rows, places in zip(full, reduced, kept, strict=True):
        likeness = cosine_similarity(whole, whole[places])
        wanted["coverage"].append(float(likeness.max(axis=1).mean()))
        # A kept place has its own row; of duplicates the first.
        own = {int(p): places.tolist().index(p) for p in places}
        row = np.array([own.get(k, own[int(places[likeness[k].argmax()])]) for k in range(len(whole))])
        mean = whole.mean(axis=0)
        centred, filled = whole - mean, rows[row] - mean
        wanted["dense-correlation"].append(1 - float(cosine(centred.ravel(), filled.ravel())))
        pearson.append(float(np.corrcoef(centred.ravel(), filled.ravel())[0, 1]))
        near = NearestNeighbors(n_neighbors=1, metric="cosine", algorithm="brute").fit(centred)
        nearest = near.kneighbors(filled, return_distance=False)[:, 0]
        wanted["dense-nearest"].append(float(np.mean(row[nearest] == row)))
    gaps = {name: largest(values(name, reading), v) for name, v in wanted.items()}
    learn, why = version("scikit-learn"), "float64 of float32 towers"
    how = version("scipy") + " distance.cosine of both maps less the full one's means"
    away = largest(wanted["dense-correlation"], pearson)
    other = f"{why}; numpy's corrcoef, which takes off the filled map's mean too, is {away:.0e} away"
    return [
        Comparison("coverage", learn + " cosine_similarity", on, gaps["coverage"], 1e-6, why),
        Comparison("dense-correlation", how, on, gaps["dense-correlation"], 1e-6, other),
        Comparison("dense-nearest", learn + " NearestNeighbors", on, gaps["dense-nearest"], 1e-12, "counts"),
    ]
