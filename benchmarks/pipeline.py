"""The tool's overhead: `vtbench evaluate` against a bare read-encode-decode loop, in turn in one run.

    python benchmarks/pipeline.py --checkpoint DIR_OF_TAEF2 [--images DIR] [--rounds 3]

Same model, same images, same batch size, both warmed up; the best of several rounds each, taken in turn so that a busy
machine hits both. Wanted of a network: at most 1.03 x with metrics off and with PSNR, SSIM and bits. Wanted of JPEG,
which hides nothing: at most 1.5 x with metrics, or 85 % of the ceiling of two processes, each of which evaluates half
of the images with one reader, begun together in the same run. Without --images it uses cuts of scikit-image's
photographs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
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
from vtbench.images import ahead
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


class Halves:
    """Two processes of this script, each with half of the images; warmed up, they wait to be begun."""

    def __init__(self, folder: Path, batch: int) -> None:
        files, folders = sorted(folder.glob("*.png")), []
        for part in (0, 1):
            folders.append(folder.with_name(f"{folder.name}-half-{part}"))
            folders[-1].mkdir()
            for file in files[part::2]:
                os.link(file, folders[-1] / file.name)
        command = [sys.executable, __file__, "--batch-size", str(batch), "--half"]
        env = {**os.environ, ahead.VARIABLE: "1"}
        self.processes = [
            subprocess.Popen([*command, str(p)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
            for p in folders
        ]
        self._done()

    def __call__(self) -> None:
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        self._done()

    def _done(self) -> None:
        for process in self.processes:
            assert process.stdout is not None
            if not process.stdout.readline():
                raise SystemExit("one of the two processes ended")

    def close(self) -> None:
        for process in self.processes:
            process.communicate()


def half(folder: Path, batch: int) -> None:
    """One of the two: a run whenever it is begun, and one line when it is done."""
    loop = whole(load("jpeg"), ON, folder, batch)
    loop()
    print("ready", flush=True)
    for _ in sys.stdin:
        loop()
        print("done", flush=True)


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
    parser.add_argument("--count", type=int, default=1000, help="images of JPEG")
    parser.add_argument("--half", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    registry.tasks()
    if args.half:
        half(args.half, args.batch_size)
        return
    with tempfile.TemporaryDirectory() as scratch:
        cases = [("jpeg", None, args.count, 256)] + ([("taef2", args.checkpoint, 48, 256)] if args.checkpoint else [])
        print(f"{torch.get_num_threads()} threads; seconds, best of {args.rounds}")
        print(f"{ahead.cores()} cores, {ahead.readers()} readers\n")
        print("| model | images | bare loop | metrics off | ratio | PSNR, SSIM, bits | ratio | two processes | share |")
        print(f"|{'---|' * 9}")
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
            halves = Halves(folder, args.batch_size) if name == "jpeg" else None
            if halves is not None:
                loops["halves"] = halves
            t = best(loops, args.rounds)
            count = len(list(folder.glob("*.png")))
            off, on = t["off"] / t["bare"], t["on"] / t["bare"]
            line = f"| {name} | {count} | {t['bare']:.2f} | {t['off']:.2f} | {off:.3f} | {t['on']:.2f} | {on:.3f} |"
            print(line + (f" {t['halves']:.2f} | {t['halves'] / t['on']:.0%} |" if halves else " | |"), flush=True)
            if halves is not None:
                halves.close()


if __name__ == "__main__":
    main()
