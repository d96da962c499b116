"""Whether the tokens hold still: drift over cycles, and under changes that nobody sees. Off by default."""

from vtbench.types.task import Task

TASK = Task(
    name="stability",
    title="Stability of tokens",
    version=1,
    suites=("starter-natural",),
    view="256",
    metrics=(
        "drift-psnr-1",
        "drift-psnr-2",
        "drift-psnr-5",
        "drift-tokens-2",
        "drift-tokens-5",
        "shift-tokens",
        "jpeg90-tokens",
        "noise2-tokens",
    ),
    off_by_default=True,
)
