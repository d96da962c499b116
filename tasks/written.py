"""Text in generated images: prompts that quote a string, and whether it stands in the picture."""

from vtbench.metrics.quoted import NAMES
from vtbench.types.task import Task

TASK = Task(
    name="written",
    title="Text in generated images",
    version=1,
    suites=("starter-natural",),
    view="256",
    metrics=NAMES,
    off_by_default=True,
    note="the reference images take no part: a picture is read and held against its own prompt's quote",
    prompts=("starter-quotes",),
    per_prompt=4,
)
