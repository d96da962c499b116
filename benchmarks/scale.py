"""What bounds a run past one process: the rows that the single writer of a run's folder sustains, and what workers of
a cluster of Ray cost and give.

    python benchmarks/scale.py [--images 20000] [--batch-size 64] [--out DIR] [--ray 2000]

Batches as workers send them (rows with a few values, 2,048 floats of features on both sides, 256 codes of 14 bits) are
written by what a run writes with: rows.jsonl, the feature files with their sums, the token file. The rate over 500 says
how many workers of 500 images a second one driver can serve, if the network between them is no slower. A limit of this
machine's disk is one of the number, so --out says which disk is meant.

--ray N: N images of 256 px through a small convolutional tokenizer by no worker (this process), one and two of `--ray
local`, each with one thread of torch and one reader; images a second between the first batch and the last, and the
seconds until the first one is there. Wanted: one worker at most 1.05 x of none, two at least 1.8 x of one.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# Run as a script, Python looks for modules beside this file.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.pipeline import make_images
from vtbench.images import ahead
from vtbench.results.folder import RunFolder
from vtbench.results.stores import FeatureFile, TokenFile
from vtbench.running.launch import evaluate
from vtbench.running.request import Request

DIM, CODES, BITS = 2048, 256, 14
A_WORKER = 500
"""Images a second of one worker: a fast tokenizer on one GPU."""
METRICS = ("psnr", "ssim", "ms-ssim", "lpips-alex", "bpp", "bits")


def row(number: int) -> dict[str, Any]:
    """One image's, as the pipeline writes it."""
    values = {name: 20 + math.sin(number + k) for k, name in enumerate(METRICS)}
    seconds = {"encode": 0.001 + number * 1e-9, "decode": 0.002 + number * 1e-9}
    return {
        "item": f"n01440764/ILSVRC2012_val_{number:08d}.JPEG",
        "bits": float(CODES * BITS),
        "values": values,
        "why": {},
        "seconds": seconds,
        "size": [256, 256],
        "sha256": f"{number:064x}",
    }


def written(folder: Path, images: int, batch: int) -> dict[str, float]:
    """Images a second of each part of the writing, and of all together."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((batch, DIM)).astype(np.float32)
    blobs = [rng.bytes(CODES * BITS // 8 + 60) for _ in range(batch)]
    seconds = dict.fromkeys(("rows", "features", "tokens"), 0.0)
    with RunFolder(folder) as run:
        sides = [FeatureFile(folder / "features" / f"{side}.f32", DIM) for side in ("candidate", "reference")]
        for side in sides:
            side.keep(0)
        tokens = TokenFile(folder)
        for start in range(0, images, batch):
            rows = [row(start + k) for k in range(batch)]
            begin = time.perf_counter()
            for side in sides:
                side.append(features)
            done = time.perf_counter()
            tokens.append(blobs)
            kept = time.perf_counter()
            run.append_rows(rows)
            end = time.perf_counter()
            for part, spent in (("features", done - begin), ("tokens", kept - done), ("rows", end - kept)):
                seconds[part] += spent
    count = -(-images // batch) * batch
    return {**{part: count / spent for part, spent in seconds.items()}, "all": count / sum(seconds.values())}


def print_writer(images: int, batch: int, out: Path | None) -> None:
    print(f"One writer, {images} images in batches of {batch}, {os.cpu_count()} cores\n")
    print("| part | images a second | workers of 500 images a second |\n|---|---|---|")
    with tempfile.TemporaryDirectory(dir=out) as scratch:
        for part, rate in written(Path(scratch) / "run", images, batch).items():
            print(f"| {part} | {rate:.0f} | {rate / A_WORKER:.1f} |")


TOKENIZER = """
import torch
from vtbench import Card, Codes, Family, Multiple, Tokenizer


class Small(Tokenizer):
    def load(self, files, device, dtype):
        make = torch.Generator().manual_seed(0)
        shapes = ((32, 3, 4, 4), (64, 32, 4, 4), (16, 64, 3, 3))
        self.kernels = [torch.randn(s, generator=make).div(s[1] ** 0.5 * s[2]).to(device) for s in shapes]

    def encode(self, images, seeds, budget=None):
        x = images
        for kernel in self.kernels:
            x = torch.relu(torch.nn.functional.conv2d(x, kernel, stride=2, padding=1))
        codes = x.argmax(1)
        return Codes(codes.flatten(1), (16,), tuple(images.shape[2:]), grids=(tuple(codes.shape[1:]),))

    def decode(self, tokens, seeds):
        grid = tokens.indices.reshape(len(tokens), 1, *tokens.grids[0]).float() / 15
        x = torch.nn.functional.interpolate(grid, size=tokens.size)
        x = x.expand(-1, 32, -1, -1)
        weight = self.kernels[0].transpose(0, 1)[:, :, :3, :3]
        return torch.sigmoid(torch.nn.functional.conv2d(x, weight, padding=1))


CARD = Card("small", "small", "discrete", "Small", sizes=Multiple(8), tokens_at_256=1024, alphabets=(16,), downsample=8)
FAMILY = Family("small", "Small", (CARD,), Small)
"""
TASK = 'from vtbench import Task\n\nTASK = Task("small-task", "PSNR", 1, (), "native", ("psnr", "bits"))\n'


def spread(images: Path, out: Path, workers: int, batch: int) -> tuple[float, float]:
    """(seconds until the first batch is there, images a second from then on) of a run by so many workers; 0: by this
    process."""
    marks: list[tuple[float, int]] = []

    def mark(model: str, job: str, done: int, total: int) -> None:
        if job == "small-task":
            marks.append((time.perf_counter(), done))

    code = images.parent
    cluster = {"ray": "local", "workers": workers} if workers else {}
    request = Request(
        f"{code / 'small.py'}@small",
        tasks=[f"{code / 'small_task.py'}@small-task"],
        images=images,
        view="native",
        batch_size=batch,
        out=out / str(workers),
        **cluster,
    )
    begin = time.perf_counter()
    failures = evaluate(request, mark).failures
    if failures:
        raise SystemExit(f"{failures}")
    (first, before), (last, after) = marks[0], marks[-1]
    return first - begin, (after - before) / (last - first)


def print_workers(images: int, batch: int, out: Path | None) -> None:
    import torch

    torch.set_num_threads(1)
    os.environ |= {"OMP_NUM_THREADS": "1", ahead.VARIABLE: "1"}
    with tempfile.TemporaryDirectory(dir=out) as scratch:
        folder = Path(scratch)
        (folder / "images").mkdir()
        make_images(folder / "images", images, 256)
        (folder / "small.py").write_text(TOKENIZER)
        (folder / "small_task.py").write_text(TASK)
        # This process loads what it needs, and remembers the contents of the files, before anything is timed.
        spread(folder / "images", folder / "warm", 0, batch)
        rates = {}
        print(f"\nWorkers, {images} images of 256 px in batches of {batch}, {os.cpu_count()} cores\n")
        print("| workers | first batch after, s | images a second | of none | of one |\n|---|---|---|---|---|")
        for workers in (0, 1, 2):
            start, rates[workers] = spread(folder / "images", folder / "out", workers, batch)
            one = f"{rates[workers] / rates[1]:.2f}" if workers else "-"
            print(f"| {workers} | {start:.1f} | {rates[workers]:.1f} | {rates[workers] / rates[0]:.2f} | {one} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--out", type=Path, help="a folder on the disk that is meant")
    parser.add_argument("--ray", type=int, default=0, metavar="N", help="images for no worker, one and two")
    parser.add_argument("--ray-batch", type=int, default=8)
    args = parser.parse_args()
    print_writer(args.images, args.batch_size, args.out)
    if args.ray:
        print_workers(args.ray, args.ray_batch, args.out)


if __name__ == "__main__":
    main()
