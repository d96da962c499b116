"""What the picture costs, and what the tokens are worth."""

from vtbench.types.task import Task

TASK = Task(
    name="compression",
    title="Rate and the use of tokens",
    version=1,
    suites=("starter-natural",),
    view="256",
    metrics=(
        "psnr",
        "psnr-pooled",
        "ms-ssim",
        "bits",
        "bpp",
        "ratio",
        "ratio-png",
        "tokens",
        "entropy-bpp",
        "entropy1-bpp",
        "coded-bpp",
        "codebook-usage",
        "codebook-perplexity",
        "position-entropy",
    ),
    default_for=("suites", "images"),
    order=40,
)
