"""What a model still understands when visual tokens are dropped: features and classes, against the full model."""

from vtbench.types.task import Task

TASK = Task(
    name="understanding",
    title="Understanding with fewer visual tokens",
    version=1,
    suites=("starter-natural",),
    view="native",
    metrics=(
        "visual-tokens",
        "visual-tokens-p5",
        "visual-tokens-p95",
        "visual-tokens-mean-layer",
        "duplicates",
        "centred-cosine",
        "linear-cka",
        "coverage",
        "dense-correlation",
        "dense-nearest",
        "agreement",
        "agreement-at-5",
        "kl",
        "accuracy",
        "accuracy-full",
        "retained",
        "flips-lost",
        "flips-gained",
        "knn-transfer",
        "knn-refit",
    ),
    off_by_default=True,
    order=60,
)
