"""Whether small print can still be read."""

from vtbench.types.task import Task

TASK = Task(
    name="text",
    title="Text preservation",
    version=1,
    suites=("starter-text",),
    view="native",
    metrics=(
        "cer",
        "wer",
        "word-accuracy",
        "ned",
        "cer-ceiling",
        "word-accuracy-ceiling",
        "cer-self",
        "ocr-empty",
        "ocr-overlong",
        "legibility",
        "bpp",
    ),
    order=30,
)
