"""A task outside vtbench's tree."""

from vtbench.types.task import Task

TASK = Task(
    name="example-blocks",
    title="What blocks lose at most",
    version=1,
    suites=("starter-detail",),
    view="256",
    metrics=("psnr", "example-largest-error"),
)
