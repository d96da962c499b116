"""Peak memory does not grow with the number of images.

    python benchmarks/memory.py [--few 1000] [--many 20000] [--side 64] [--modes evaluate,score,rescore,explain]

Each command on a folder of `few` and of `many` images, in a process of its own; the peak is what the operating system
says of that process, without the readers beside it. evaluate: `vtbench evaluate jpeg` (PSNR, MS-SSIM, rates). score: a
folder and two candidates (the same pictures). rescore: metrics added to a run that kept its images. explain: one claim.
Wanted: within 5 %.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image


def make(folder: Path, count: int, side: int) -> None:
    """`count` different pictures: noise that is smooth enough to be coded."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, 8, 8, 3), np.uint8)
    for k in range(count):
        Image.fromarray(coarse[k]).resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{k:06d}.png")


def peak(arguments: Sequence[str]) -> tuple[float, float]:
    """(MiB, seconds) of one command in a process of its own."""
    start = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        environment = {**os.environ, "VTBENCH_OFFLINE": "1"}
        command = [sys.executable, "-m", "vtbench", *arguments]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            raise SystemExit(f"{' '.join(command)}:\n{log.read().decode()}")
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return used.ru_maxrss / unit, time.perf_counter() - start


def evaluate(folder: Path, out: Path, *more: str) -> list[str]:
    wanted = ["--task", "compression", "--view", "native", "--out", str(out)]
    return ["evaluate", "jpeg", "--images", str(folder), *wanted, *more]


def score(folder: Path, out: Path) -> list[str]:
    candidates = []
    for name in ("one", "two"):
        place = out / name
        place.mkdir(parents=True)
        for file in folder.iterdir():
            os.link(file, place / file.name)
        candidates.append(str(place))
    return ["score", str(folder), *candidates, "--metrics", "mse,psnr-pooled,ssim"]


def rescore(folder: Path, out: Path) -> list[str]:
    peak(evaluate(folder, out, "--save", "images"))
    return ["score", str(next(out.glob("*/run.json")).parent), "--metrics", "bias-r,psnr-pooled"]


def explain(folder: Path, out: Path) -> list[str]:
    return ["explain", "jpeg", "--images", str(folder), "--claim", "psnr=30"]


MODES: Mapping[str, Callable[[Path, Path], list[str]]] = {
    "evaluate": evaluate,
    "score": score,
    "rescore": rescore,
    "explain": explain,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--few", type=int, default=1000)
    parser.add_argument("--many", type=int, default=20000)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--modes", default=",".join(MODES))
    args = parser.parse_args()
    print("| mode | images | peak, MiB | seconds | ratio |\n|---|---|---|---|---|")
    peaks: dict[str, float] = {}
    for count in (args.few, args.many):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "images"
            folder.mkdir()
            make(folder, count, args.side)
            for mode in args.modes.split(","):
                mib, seconds = peak(MODES[mode](folder, Path(scratch) / mode))
                ratio = f"{mib / peaks[mode]:.3f}" if mode in peaks else ""
                peaks.setdefault(mode, mib)
                print(f"| {mode} | {count} | {mib:.0f} | {seconds:.0f} | {ratio} |", flush=True)
    print("Wanted: a ratio of at most 1.05")


if __name__ == "__main__":
    main()
