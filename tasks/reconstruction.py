"""How near the picture comes: pixels, structure, features."""

from vtbench.types.task import Task

TASK = Task(
    name="reconstruction",
    title="Reconstruction of photographs",
    version=1,
    suites=("starter-natural",),
    view="256",
    metrics=(
        "psnr",
        "psnr-pooled",
        "ssim",
        "ms-ssim",
        "lpips-alex",
        "lpips-vgg",
        "dists",
        "delta-e",
        "delta-e-p95",
        "bias-r",
        "bias-g",
        "bias-b",
        "bpp",
        "rfid",
        "kid",
    ),
    default_for=("suites", "images"),
    order=10,
)
