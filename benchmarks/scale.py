"""What bounds a run past one process: the rows that the single writer of a run's folder sustains.

    python benchmarks/scale.py [--images 20000] [--batch-size 64] [--out DIR]

Batches as workers send them (rows with a few values, 2,048 floats of features on both sides, 256 codes of 14 bits) are
written by what a run writes with: rows.jsonl, the feature files with their sums, the token file. The rate over 500 says
how many workers of 500 images a second one driver can serve, if the network between them is no slower. A limit of this
machine's disk is one of the number, so --out says which disk is meant.
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

from vtbench.results.folder import RunFolder
from vtbench.results.stores import FeatureFile, TokenFile

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--out", type=Path, help="a folder on the disk that is meant")
    args = parser.parse_args()
    print_writer(args.images, args.batch_size, args.out)


if __name__ == "__main__":
    main()
