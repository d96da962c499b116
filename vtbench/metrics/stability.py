"""Stability of a tokenizer: drift over encode-decode cycles, tokens under mild changes. See vtbench/stability.py.

These read the model itself, not only its pictures, so they need a run of `evaluate`; the task is off by default, since
it costs eight more passes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from vtbench.types.metric import Batch, ImageMetric, MetricCard, Value

SOURCE = "re-encoding of the decoded picture and of changed originals by the same model and seeds"
FOLDER = "pictures made elsewhere cannot be encoded again"


class Stable(ImageMetric):
    """One of the numbers that vtbench.stability.measure gives for a batch, all of them computed once."""

    def __init__(self, card: MetricCard) -> None:
        self.card = card

    def measure(self, batch: Batch) -> Sequence[Value]:
        from vtbench import stability

        if batch.subject is None:
            return [Value(None, why=FOLDER)] * len(batch)
        made = batch.once(
            "stability",
            lambda: stability.measure(batch.subject, batch.reference.images, batch.seeds, batch.reference.items),
        )
        values: Sequence[Value] = made.values[self.card.name]
        return values


def _make(name: str, title: str, unit: str, better: str, bounds: tuple[float | None, float | None]) -> Stable:
    return Stable(MetricCard(name=name, title=title, version=1, unit=unit, better=better, source=SOURCE, bounds=bounds))  # type: ignore[arg-type]


def _share(name: str, title: str) -> Callable[[], Stable]:
    return functools.partial(_make, name, title, "share", "lower", (0.0, None))


METRICS = (
    *(
        functools.partial(
            _make, f"drift-psnr-{n}", f"PSNR after {n} encode-decode cycles", "dB", "higher", (None, None)
        )
        for n in (1, 2, 5)
    ),
    *(_share(f"drift-tokens-{n}", f"Tokens changed after {n} encode-decode cycles") for n in (2, 5)),
    _share("shift-tokens", "Tokens changed by a shift of one pixel"),
    _share("jpeg90-tokens", "Tokens changed by JPEG at quality 90"),
    _share("noise2-tokens", "Tokens changed by noise of 2 grey levels"),
)
