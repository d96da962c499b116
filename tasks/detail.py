"""What becomes of fine texture and of patterns whose truth is known exactly."""

from vtbench.types.task import Task

TASK = Task(
    name="detail",
    title="Fine texture and test patterns",
    version=1,
    suites=("starter-detail",),
    view="256",
    metrics=(
        "gmsd",
        "psnr",
        "haarpsi",
        "edge-f1",
        "coherent-gain",
        "excess-power",
        "mtf50",
        "worst-tile-psnr",
        "worst-tile-lpips",
        "bpp",
    ),
    order=20,
)
