"""A metric outside vtbench's tree: the largest error of any sample."""

from __future__ import annotations

from collections.abc import Sequence

from vtbench.types.metric import Batch, ImageMetric, MetricCard, Value


class LargestError(ImageMetric):
    card = MetricCard(
        name="example-largest-error",
        title="Largest error",
        version=1,
        unit="grey levels",
        better="lower",
        source="largest absolute difference of the uint8 samples",
        bounds=(0.0, 255.0),
    )

    def measure(self, batch: Batch) -> Sequence[Value]:
        error = (batch.reference.images.int() - batch.candidate.int()).abs().flatten(1).amax(dim=1)
        return [Value(float(v)) for v in error]


METRICS = (LargestError,)
