"""Images from nothing but a class or a text: how near their set comes to photographs, and what drawing costs."""

from vtbench.types.task import Task

TASK = Task(
    name="generation",
    title="Generation",
    version=1,
    suites=("starter-natural",),
    view="256",
    metrics=(
        "fid",
        "sfid",
        "kid",
        "is",
        "precision-k3",
        "recall-k3",
        "density-k5",
        "coverage-k5",
        "cmmd",
        "clip-score",
    ),
    default_for=("suites", "images"),
    prompts=("starter-classes", "starter-objects"),
    per_prompt=16,
)
