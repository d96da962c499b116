"""The tool's overhead: `vtbench evaluate` against a bare read-encode-decode loop, in turn in one run.

    python benchmarks/pipeline.py --checkpoint DIR_OF_TAEF2 [--images DIR] [--rounds 3]

Same model, same images, same batch size, both warmed up; the best of several rounds each, taken in turn so that a busy
machine hits both. Wanted: at most 1.03 x with metrics off, 1.10 x with PSNR, SSIM and bits. Without --images it uses
cuts of scikit-image's photographs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does, for both sides

import numpy as np
import torch
from PIL import Image

from vtbench import registry
from vtbench.images.opening import open_suite
from vtbench.images.views import View
from vtbench.models.load import Loaded, load
from vtbench.running.evaluate import run
from vtbench.running.job import Job
from vtbench.types.task import Task

OFF = Task("overhead-off", "metrics off", 1, (), "native", ())
ON = Task("overhead-on", "PSNR, SSIM and bits", 1, (), "native", ("psnr", "ssim", "bits"))


def make_images(folder: Path, n: int, side: int) -> None:
    from skimage import data

    photos = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket()]
    for i in range(n):
        photo = photos[i % 4]
        top, left = (37 * i) % (photo.shape[0] - side), (53 * i) % (photo.shape[1] - side)
        Image.fromarray(np.ascontiguousarray(photo[top : top + side, left : left + side])).save(folder / f"{i:04d}.png")


def bare(model: Any, folder: Path, batch: int) -> Callable[[], None]:
    """What a researcher would write: read, to tensor, encode, decode, next."""
    paths = sorted(folder.glob("*.png"))

    def loop() -> None:
        with torch.inference_mode():
            for start in range(0, len(paths), batch):
                images = [np.array(Image.open(p).convert("RGB")) for p in paths[start : start + batch]]
                x = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
                model.decode(model.encode(x, [0] * len(x)), [0] * len(x)).clamp(0, 1)

    return loop


def whole(loaded: Loaded, task: Task, folder: Path, batch: int) -> Callable[[], None]:
    def loop() -> None:
        out = Path(tempfile.mkdtemp())
        try:
            run(Job(loaded, task, open_suite(str(folder)), View.parse("native"), out, batch))
        finally:
            shutil.rmtree(out)

    return loop


def best(loops: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for loop in loops.values():
        loop()
    for _ in range(rounds):
        for name, loop in loops.items():
            start = time.perf_counter()
            loop()
            seconds[name].append(time.perf_counter() - start)
    return {name: min(times) for name, times in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=4)
    args = parser.parse_args()
    registry.tasks()
    with tempfile.TemporaryDirectory() as scratch:
        cases = [("jpeg", None, 1000, 256)] + ([("taef2", args.checkpoint, 48, 256)] if args.checkpoint else [])
        print(f"{torch.get_num_threads()} threads; seconds, best of {args.rounds}")
        print("| model | images | bare loop | metrics off | ratio | PSNR, SSIM, bits | ratio |")
        print("|---|---|---|---|---|---|---|")
        for name, checkpoint, n, side in cases:
            folder = args.images or Path(scratch) / name
            if args.images is None:
                folder.mkdir()
                make_images(folder, n, side)
            loaded = load(name, checkpoint=checkpoint)
            loops = {
                "bare": bare(loaded.model, folder, args.batch_size),
                "off": whole(loaded, OFF, folder, args.batch_size),
                "on": whole(loaded, ON, folder, args.batch_size),
            }
            t = best(loops, args.rounds)
            count = len(list(folder.glob("*.png")))
            off, on = t["off"] / t["bare"], t["on"] / t["bare"]
            print(f"| {name} | {count} | {t['bare']:.2f} | {t['off']:.2f} | {off:.3f} | {t['on']:.2f} | {on:.3f} |")


if __name__ == "__main__":
    main()
