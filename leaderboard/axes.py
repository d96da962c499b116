"""From values to pixels: ticks, a logarithmic x axis, a linear y axis, and where direct labels have room."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from markupsafe import escape

LEFT, RIGHT, TOP, BOTTOM = 66.0, 14.0, 32.0, 46.0
"""Margins of the plotted area in pixels. The title of the y axis lies above it, where no tick's label is."""
TICK_GAP = 34
"""Least distance in pixels between two labelled ticks of the x axis."""
LABEL_HEIGHT, LETTER = 13.0, 6.2
"""Pixels of a direct label: its height, and the width of a letter."""


def linear_ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Round numbers (1, 2, 2.5 or 5 times a power of ten) from at or below `low` to at or above `high`."""
    if high <= low:
        pad = abs(low) * 0.05 or 1.0
        low, high = low - pad, high + pad
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1–2–5 ticks within [low, high]; over more than three decades, powers of ten only."""
    steps = (1, 2, 5) if high / low < 1000 else (1,)
    ticks = [
        m * 10.0**e
        for e in range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
        for m in steps
        if low * (1 - 1e-9) <= m * 10.0**e <= high * (1 + 1e-9)
    ]
    return ticks or [low]


def plain(value: float) -> str:
    """A tick's label: no digit more than it needs, and powers of ten where zeros would not fit beside the axis."""
    if 0 < abs(value) < 1e-3:
        digits, power = f"{value:.5e}".split("e")
        return f"{float(digits):g}e{int(power)}".replace("-", "−")
    return f"{value:.6g}".replace("-", "−")


@dataclass(frozen=True)
class Frame:
    """What stands around the points. `ident`: prefix of the plot's ids on its page. Sizes in pixels.

    `better`: which end of y is good, None for neither. The y axis does not run past `bounds`, which are what the metric
    can be.
    """

    ident: str
    title: str
    y_title: str
    better: Literal["higher", "lower", None] = None
    x_title: str = "bits per pixel"
    x_unit: str = "bit/px"
    width: int = 900
    height: int = 430
    bounds: tuple[float | None, float | None] = (None, None)


class Axes:
    """A logarithmic x axis around the data, a linear y axis that ends at round numbers."""

    def __init__(self, points: Sequence[tuple[float, float]], frame: Frame) -> None:
        self.frame = frame
        self.x_low, self.x_high = min(x for x, _ in points) / 1.25, max(x for x, _ in points) * 1.25
        ys = [y for _, y in points]
        spread = (max(ys) - min(ys)) * 0.04
        low, high = min(ys) - spread, max(ys) + spread
        # A value beyond its bound is a damaged record: it is drawn all the same.
        if frame.bounds[0] is not None:
            low = max(low, min(frame.bounds[0], *ys))
        if frame.bounds[1] is not None:
            high = min(high, max(frame.bounds[1], *ys))
        self.ticks = linear_ticks(low, high, 5 if frame.height < 380 else 6)
        self.y_low, self.y_high = self.ticks[0], self.ticks[-1]
        self.right, self.bottom = frame.width - RIGHT, frame.height - BOTTOM

    def x(self, value: float) -> float:
        share = (math.log(value) - math.log(self.x_low)) / (math.log(self.x_high) - math.log(self.x_low))
        return LEFT + share * (self.frame.width - LEFT - RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return self.frame.height - BOTTOM - share * (self.frame.height - TOP - BOTTOM)

    def path(self, points: Sequence[tuple[float, float]]) -> str:
        return "L".join(f"{self.x(x):.1f} {self.y(y):.1f}" for x, y in points)

    def stairs(self, front: Sequence[tuple[float, float]]) -> str:
        """What can be had for a rate: a point's quality until the next begins, for nothing between was measured."""
        steps = "".join(f"H{self.x(x):.1f}V{self.y(y):.1f}" for x, y in front[1:])
        return f"M{self.x(front[0][0]):.1f} {self.y(front[0][1]):.1f}{steps}H{self.right:.1f}"

    def svg(self) -> Iterator[str]:
        """Grid, ticks and titles."""
        right, bottom = self.right, self.bottom
        for tick in self.ticks:
            y = self.y(tick)
            yield f'<path class="grid" d="M{LEFT:.0f} {y:.1f}H{right:.0f}"/>'
            yield f'<text class="tick" x="{LEFT - 8:.0f}" y="{y + 4:.1f}" text-anchor="end">{plain(tick)}</text>'
        labelled = -math.inf
        for tick in log_ticks(self.x_low, self.x_high):
            x = self.x(tick)
            yield f'<path class="grid" d="M{x:.1f} {TOP:.0f}V{bottom:.0f}"/>'
            if x - labelled >= TICK_GAP:
                yield f'<text class="tick" x="{x:.1f}" y="{bottom + 17:.0f}" text-anchor="middle">{plain(tick)}</text>'
                labelled = x
        yield f'<path class="axis" d="M{LEFT:.0f} {TOP:.0f}V{bottom:.0f}H{right:.0f}"/>'
        yield (
            f'<text class="label" x="{(LEFT + right) / 2:.0f}" y="{self.frame.height - 8}" text-anchor="middle">'
            f"{escape(self.frame.x_title)} (log scale)</text>"
            f'<text class="label" x="4" y="{TOP - 13:.0f}">{escape(self.frame.y_title)}</text>'
        )

    def level(self, value: float, title: str) -> str:
        """A horizontal line with its name, within the plotted area; empty where it lies outside."""
        if not self.y_low <= value <= self.y_high:
            return ""
        y = self.y(value)
        return (
            f'<path class="level" d="M{LEFT:.0f} {y:.1f}H{self.right:.0f}"/>'
            f'<text class="level" x="{LEFT + 6:.0f}" y="{y - 4 if y > TOP + 16 else y + 13:.1f}">{escape(title)}</text>'
        )


@dataclass
class Room:
    """Where direct labels have been put: none may cover another, a point of the front, or the frame."""

    axes: Axes
    taken: list[tuple[float, float, float, float]] = field(default_factory=list)
    """(left, top, right, bottom)."""

    def point(self, x: float, y: float) -> None:
        self.taken.append((x - 5, y - 5, x + 5, y + 5))

    def place(self, text: str, x: float, y: float) -> tuple[float, float, str] | None:
        """(x, y, text-anchor) of a label beside a point, or None where there is no room."""
        wide = LETTER * len(text)
        for left, anchor in ((x + 8, "start"), (x - 8 - wide, "end")):
            for middle in (y - 10, y + 11, y, y - 21, y + 22):
                box = (left, middle - LABEL_HEIGHT / 2, left + wide, middle + LABEL_HEIGHT / 2)
                if self._free(box):
                    self.taken.append(box)
                    return (x + 8 if anchor == "start" else x - 8), middle + 4, anchor
        return None

    def _free(self, box: tuple[float, float, float, float]) -> bool:
        left, top, right, bottom = box
        if left < LEFT or right > self.axes.right or top < TOP - 6 or bottom > self.axes.bottom:
            return False
        return not any(left < x1 and right > x0 and top < y1 and bottom > y0 for x0, y0, x1, y1 in self.taken)
