"""Peak memory does not grow with the number of images.

    python benchmarks/memory.py [--few 1000] [--many 20000] [--side 64]

`vtbench evaluate jpeg` (PSNR, MS-SSIM, rates) on a folder of `few` and of `many`
images, each in a process of its own; the peak is what the operating system says of that process. Wanted: within 5 %.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image


def make(folder: Path, count: int, side: int) -> None:
    """`count` different pictures: noise that is smooth enough to be coded."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, 8, 8, 3), np.uint8)
    for k in range(count):
        Image.fromarray(coarse[k]).resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{k:06d}.png")


def peak(folder: Path, out: Path) -> tuple[float, float]:
    """(MiB, seconds) of one evaluation in its own process."""
    command = [sys.executable, "-m", "vtbench", "evaluate", "jpeg", "--task", "compression", "--view", "native"]
    command += ["--images", str(folder), "--out", str(out)]
    start = time.perf_counter()
    ran = subprocess.run(command, env={**os.environ, "VTBENCH_OFFLINE": "1"}, capture_output=True, text=True)
    if ran.returncode:
        raise SystemExit(ran.stdout + ran.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    # The highest of all children so far: the run of many comes second, so that a lower peak would not be seen.
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return after / unit, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--few", type=int, default=1000)
    parser.add_argument("--many", type=int, default=20000)
    parser.add_argument("--side", type=int, default=64)
    args = parser.parse_args()
    print("| images | peak, MiB | seconds |\n|---|---|---|")
    peaks = []
    for count in (args.few, args.many):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "images"
            folder.mkdir()
            make(folder, count, args.side)
            mib, seconds = peak(folder, Path(scratch) / "out")
            peaks.append(mib)
            print(f"| {count} | {mib:.0f} | {seconds:.0f} |", flush=True)
    print(f"ratio {peaks[1] / peaks[0]:.3f}; wanted at most 1.05")


if __name__ == "__main__":
    main()
