"""Legibility: the x-height in pixels at which half of the characters are still read right.

The share of characters right, p = max(0, chars - edits) / chars a line, is fitted over the lines' x-heights h by

    p(h) = (1 - lapse) / (1 + exp(-slope (ln h - ln middle))),   0 <= lapse <= 0.2,

by maximum likelihood (binomial in characters; lapse: what the engine misses at any size). The value is the h at which
p(h) = 1/2. The 95 % interval is a bootstrap over lines, since the characters of one line err together. There is no
value where the data do not bracket one half, nor where the curve does not describe them: it must explain at least half
of what differs between x-heights (the deviance of one share for all heights, less that of a share for each of up to six
groups of heights), which a share that falls or wavers with the height does not let it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vtbench.types.metric import MetricCard, RowMetric, SetValue

if TYPE_CHECKING:
    from vtbench.types.item import Item

LAPSE = 0.2
SLOPES = (0.5, 60.0)
RESAMPLES = 200
MIN_LINES = 6
GROUPS = 6
"""Groups of x-heights, of at least two lines each, that the curve is held to."""
EXPLAINED = 0.5
"""Least share of the difference between x-heights that the curve must explain."""


def fit(height: Any, right: Any, chars: Any, start: Any = None) -> tuple[float, float, float]:
    """(ln middle, slope, lapse) of largest likelihood: x-heights in px, characters right and in all, float64 (n,)."""
    import numpy as np
    from scipy.optimize import minimize

    x = np.log(height)

    def loss(theta: Any) -> tuple[float, Any]:
        """Negative log-likelihood a character and its gradient."""
        middle, log_slope, lapse = theta
        slope = np.exp(log_slope)
        s = 1 / (1 + np.exp(np.clip(-slope * (x - middle), -60, 60)))
        p = np.clip((1 - lapse) * s, 1e-9, 1 - 1e-9)
        dp = (right / p - (chars - right) / (1 - p)) / chars.sum()
        ds = dp * (1 - lapse) * s * (1 - s)
        gradient = np.array([-(ds * slope).sum(), (ds * slope * (x - middle)).sum(), -(dp * s).sum()])
        value = -(right * np.log(p) + (chars - right) * np.log(1 - p)).sum() / chars.sum()
        return float(value), -gradient

    bounds = [(x.min() - 1, x.max() + 1), (math.log(SLOPES[0]), math.log(SLOPES[1])), (0.0, LAPSE)]
    middles = np.quantile(x, [0.2, 0.5, 0.8])
    starts = [start] if start is not None else [[m, math.log(s), 0.02] for m in middles for s in (2.0, 8.0)]
    best = min((minimize(loss, s, jac=True, method="L-BFGS-B", bounds=bounds) for s in starts), key=lambda r: r.fun)
    return float(best.x[0]), float(np.exp(best.x[1])), float(best.x[2])


def explained(height: Any, right: Any, chars: Any, curve: tuple[float, float, float]) -> float | None:
    """Share of the deviance between groups of x-heights that the curve explains; None where the groups are alike.

    1 of a curve that fits as well as a share for every group, 0 of one as good as a single share, below of a worse one.
    """
    import numpy as np

    order = np.argsort(height, kind="stable")
    groups = np.array_split(order, max(2, min(GROUPS, len(order) // 2)))
    middle, slope, lapse = curve
    x = np.log(height)
    shares = [float(right.sum() / chars.sum())] * len(groups), [float(right[g].sum() / chars[g].sum()) for g in groups]
    fitted = (1 - lapse) / (1 + np.exp(np.clip(-slope * (x - middle), -60, 60)))
    curves = [float((fitted[g] * chars[g]).sum() / chars[g].sum()) for g in groups]

    def loss(of_groups: Sequence[float]) -> float:
        p = np.clip(np.array(of_groups), 1e-9, 1 - 1e-9)
        yes, all_ = (np.array([values[g].sum() for g in groups]) for values in (right, chars))
        return float(-(yes * np.log(p) + (all_ - yes) * np.log(1 - p)).sum())

    single, each = (loss(of_groups) for of_groups in shares)
    return (single - loss(curves)) / (single - each) if single - each > 1e-9 * chars.sum() else None


def half(middle: float, slope: float, lapse: float) -> float:
    """x-height in px where p = 1/2."""
    return math.exp(middle - math.log(2 * (1 - lapse) - 1) / slope)


def points(height: Any, right: Any, chars: Any) -> list[dict[str, float]]:
    """Per x-height: lines, characters and the share right."""
    import numpy as np

    out = []
    for h in np.unique(height):
        here = height == h
        share = float(right[here].sum() / chars[here].sum())
        out.append({"x_height": float(h), "lines": int(here.sum()), "chars": int(chars[here].sum()), "right": share})
    return out


class Legibility(RowMetric):
    """Reads row["lines"], which the metric `input` leaves there."""

    def __init__(self, name: str = "legibility", input: str = "cer", field: str = "read_right") -> None:
        self.inputs = (input,)
        self._field = field
        whose = "" if input == "cer" else ", of the original"
        self.card = MetricCard(
            name=name,
            title="Smallest readable x-height" + whose,
            version=3,
            unit="px",
            better="lower",
            kind="run",
            source="x-height at which half of the characters are right: logistic fit with lapse, lines read by EasyOCR "
            "at their true boxes",
            bounds=(0.0, None),
            needs=("easyocr-english-g2",),
            reduction="one fit over the lines of all images",
            convention_of=None if input == "cer" else "legibility",
        )

    def finish(self, rows: Sequence[Mapping[str, Any]], items: Sequence[Item]) -> SetValue:
        import numpy as np

        lines = [
            (float(line["x_height"]), float(line[self._field]), float(line["chars"]))
            for row in rows
            for line in row.get("lines") or ()
            if line.get("x_height") and line.get("chars") and line.get(self._field) is not None
        ]
        n = sum(bool(row.get("lines")) for row in rows)
        if len(lines) < MIN_LINES:
            why = f"{len(lines)} lines with a known x-height were read; a curve needs {MIN_LINES}"
            return SetValue(None, n=n, why=why)
        height, right, chars = np.array(lines).T
        details: dict[str, Any] = {"curve": points(height, right, chars), "lines": len(lines)}
        shares = [p["right"] for p in details["curve"]]
        low, high = float(height.min()), float(height.max())
        if min(shares) >= 0.5:
            why = f"more than half of the characters are right at every x-height, from {low:g} px: the limit lies below"
            return SetValue(None, n=n, why=why, details=details)
        if max(shares) < 0.5:
            why = (
                f"less than half of the characters are right at every x-height, up to {high:g} px: the limit lies above"
            )
            return SetValue(None, n=n, why=why, details=details)
        middle, slope, lapse = fit(height, right, chars)
        value = half(middle, slope, lapse)
        details |= {"middle": math.exp(middle), "slope": slope, "lapse": lapse}
        share = explained(height, right, chars, (middle, slope, lapse))
        details["explained"] = share
        if share is None or share < EXPLAINED:
            said = "nothing" if share is None or share <= 0 else f"{100 * share:.0f} %"
            why = (
                "the share of characters right does not rise with the x-height as a curve of legibility does: it "
                f"explains {said} of what differs between heights, {100 * EXPLAINED:.0f} % are needed"
            )
            return SetValue(None, n=n, why=why, details=details)
        if not low <= value <= high:
            why = f"the fitted limit of {value:.1f} px lies outside the x-heights shown, {low:g} to {high:g} px"
            return SetValue(None, n=n, why=why, details=details)
        rng = np.random.default_rng(0)
        start = [middle, math.log(slope), lapse]
        limits = []
        for _ in range(RESAMPLES):
            pick = rng.integers(0, len(lines), len(lines))
            limits.append(half(*fit(height[pick], right[pick], chars[pick], start)))
        ends = np.quantile(limits, [0.025, 0.975])
        details["interval"] = f"percentile bootstrap over lines, {RESAMPLES} resamples, seed 0"
        return SetValue(value, float(ends[0]), float(ends[1]), n=n, details=details)


def original() -> Legibility:
    """legibility-ceiling: the same curve of the untouched original, the engine's own limit."""
    return Legibility("legibility-ceiling", "cer-ceiling", "original_read_right")


METRICS = (Legibility, original)
