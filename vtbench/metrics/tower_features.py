"""How far what a model pools of a picture moves: centred cosine, linear CKA, nearest neighbours with both galleries.

Plain cosine says little: on digits two different images have .918, so that "0.96 retained" is nothing. centred-cosine
takes the full model's mean over the suite off both sides first; plain cosine stands beside it in the details.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vtbench.metrics.moments import Statistics
from vtbench.statistics.intervals import mean_interval
from vtbench.types.metric import MetricCard, ReadingMetric, SetValue

K = 5
BLOCK = 1024
"""Rows at a time."""
ONE_CLASS = "pictures lie in no folders that name their classes: k-NN needs them"
MOMENTS = "it needs the features of every image; a file of moments does not hold them"


def _unit(x: Any) -> Any:
    """float64 rows of length 1; rows of zeros stay."""
    import numpy as np

    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(norm > 0, norm, 1.0)


def _cosines(a: Any, b: Any) -> Any:
    return (_unit(a) * _unit(b)).sum(axis=1).clip(-1.0, 1.0)


class CentredCosine(ReadingMetric):
    card = MetricCard(
        name="centred-cosine",
        title="Centred cosine",
        version=1,
        unit="",
        better="higher",
        source="cosine of pooled features, the full model's mean over the suite taken off both",
        bounds=(-1.0, 1.0),
        kind="set",
        reduction="mean of per-image values",
        paired=False,
    )

    def finish_read(self, reference: Any, candidate: Any, classes: Sequence[str | None]) -> SetValue:
        import numpy as np

        if isinstance(reference, Statistics):
            return SetValue(None, why=MOMENTS)
        full, reduced = (np.asarray(x, dtype=np.float64) for x in (reference, candidate))
        mean = full.mean(axis=0)
        values = _cosines(full - mean, reduced - mean)
        moved = np.linalg.norm(full - mean, axis=1)
        if not moved.any():
            return SetValue(None, n=len(full), why="all images have the same features")
        interval = mean_interval(values.tolist(), bounds=self.card.bounds)
        low, high = (None, None) if interval is None else (interval.low, interval.high)
        details = {"plain_cosine": float(_cosines(full, reduced).mean())}
        return SetValue(float(values.mean()), low, high, len(full), details=details, per_image=values.tolist())


class LinearCKA(ReadingMetric):
    card = MetricCard(
        name="linear-cka",
        title="Linear CKA",
        version=1,
        unit="",
        better="higher",
        source="Kornblith et al. 2019, arXiv:1905.00414: |Y'X|² / (|X'X| |Y'Y|) of centred features (biased)",
        bounds=(0.0, 1.0),
        kind="set",
        reduction="one value over the set",
        paired=False,
    )

    def finish_read(self, reference: Any, candidate: Any, classes: Sequence[str | None]) -> SetValue:
        import numpy as np

        if isinstance(reference, Statistics):
            return SetValue(None, why=MOMENTS)
        sides = (np.asarray(side, dtype=np.float64) for side in (reference, candidate))
        x, y = (side - side.mean(axis=0) for side in sides)
        # By whichever side is smaller, images or features: both are the same number.
        if len(x) <= x.shape[1]:
            gram_x, gram_y = x @ x.T, y @ y.T
            top, scale = float((gram_x * gram_y).sum()), float(np.linalg.norm(gram_x) * np.linalg.norm(gram_y))
        else:
            top = float(np.linalg.norm(y.T @ x) ** 2)
            scale = float(np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))
        if scale <= 0:
            return SetValue(None, n=len(x), why="all images have the same features")
        return SetValue(min(1.0, top / scale), n=len(x))


def neighbours(queries: Any, gallery: Any, classes: Sequence[str]) -> list[str]:
    """The class of every query by its 5 nearest others of the gallery (cosine, itself left out; equals by number); of
    classes with as many votes the one whose nearest comes first."""
    import numpy as np

    q, g = _unit(np.asarray(queries, dtype=np.float64)), _unit(np.asarray(gallery, dtype=np.float64))
    out = []
    for start in range(0, len(q), BLOCK):
        likeness = q[start : start + BLOCK] @ g.T
        rows = np.arange(len(likeness))
        likeness[rows, rows + start] = -np.inf
        order = np.argsort(-likeness, axis=1, kind="stable")[:, : min(K, len(g) - 1)]
        for nearest in order:
            names = [classes[k] for k in nearest]
            out.append(max(dict.fromkeys(names), key=names.count))
    return out


class _Neighbours(ReadingMetric):
    needs_classes = True
    refit: bool

    def finish_read(self, reference: Any, candidate: Any, classes: Sequence[str | None]) -> SetValue:
        names = [name for name in classes if name is not None]
        if len(names) < len(classes) or len(set(names)) < 2:
            return SetValue(None, why=ONE_CLASS)
        if isinstance(reference, Statistics):
            return SetValue(None, why=MOMENTS)
        said = neighbours(candidate, candidate if self.refit else reference, names)
        right = [float(a == b) for a, b in zip(said, names, strict=True)]
        whole = [float(a == b) for a, b in zip(neighbours(reference, reference, names), names, strict=True)]
        interval = mean_interval(right, bounds=(0.0, 1.0))
        low, high = (None, None) if interval is None else (interval.low, interval.high)
        full = sum(whole) / len(whole)
        details = {"k": K, "full": full, "gallery": "reduced" if self.refit else "full"}
        return SetValue(sum(right) / len(right), low, high, len(right), details=details, per_image=right)


def _neighbour_card(name: str, title: str, gallery: str) -> MetricCard:
    source = f"5-NN by cosine, each image among all others; gallery of the {gallery} model (details: the full one's)"
    return MetricCard(name, title, 1, "", "higher", source, bounds=(0.0, 1.0), kind="set", paired=False)


class KnnTransfer(_Neighbours):
    """Are the features still the same?"""

    card = _neighbour_card("knn-transfer", "5-NN in the full model's gallery", "full")
    refit = False


class KnnRefit(_Neighbours):
    """Is the information still there?"""

    card = _neighbour_card("knn-refit", "5-NN in a gallery of its own", "reduced")
    refit = True


METRICS = (CentredCosine, LinearCKA, KnnTransfer, KnnRefit)
