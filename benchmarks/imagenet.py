"""A folder as large as ImageNet's validation set: what opening, hashing, reading and measuring it take.

    python benchmarks/imagenet.py [--images 50000] [--side 64] [--layout synsets|flat|shards] [--model jpeg]

Makes so many small JPEG files in a temporary folder (about 200 MB on disk) and takes each step in a process of its own:
`open` lists the files, `hash` reads every byte, `again` finds what `hash` remembered, `read` decodes every picture, and
`evaluate` is the whole command with PSNR, MS-SSIM and rates. Wanted: the peak of `open` within 64 MiB of that on ten
images, and `again` quicker than `hash`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

STEPS = ("open", "hash", "again", "read", "evaluate")
CLASSES = 1000


def make(folder: Path, count: int, side: int, layout: str) -> str:
    """`count` different JPEG files in a layout; returns what opens them."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for k in range(count):
        name = f"ILSVRC2012_val_{k + 1:08d}.JPEG"
        place = folder / f"n{k % CLASSES:08d}" / name if layout == "synsets" else folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(place, "JPEG", quality=90)
    if layout != "shards":
        return str(folder)
    files = sorted(folder.iterdir())
    for number in range(0, len(files), CLASSES):
        with tarfile.open(folder / f"val-{number // CLASSES:04d}.tar", "w") as archive:
            for path in files[number : number + CLASSES]:
                archive.add(path, path.name)
                path.unlink()
    return f"{folder}/val-*.tar"


def step(name: str, spec: str, model: str) -> dict[str, Any]:
    """Seconds, the process's peak in MiB, and images."""
    import vtbench
    from vtbench.images.opening import open_suite
    from vtbench.images.stream import originals
    from vtbench.images.views import View
    from vtbench.results import provenance

    start = time.perf_counter()
    if name == "evaluate":
        with tempfile.TemporaryDirectory() as out:
            evaluation = vtbench.evaluate(
                model, images=spec, view="native", tasks=["compression"], out=out, batch_size=32
            )
            count = evaluation.runs[0].info.n or 0
    else:
        suite = open_suite(spec)
        count = len(suite.items)
        if name in ("hash", "again"):
            assert suite.hash
        if name == "read":
            for batch in originals(suite, View.parse("native", "native"), suite.items, 32):
                assert all(o.why is None for o in batch)
    peak = provenance.peak_memory() or 0
    return {"seconds": time.perf_counter() - start, "mib": peak / 2**20, "images": count}


def in_own_process(name: str, spec: str, model: str, cache: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--step", name, "--spec", spec, "--model", model]
    environment = {**os.environ, "VTBENCH_OFFLINE": "1", "VTBENCH_CACHE": str(cache)}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    if ran.returncode:
        raise SystemExit(ran.stdout + ran.stderr)
    return dict(json.loads(ran.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--layout", choices=("synsets", "flat", "shards"), default="synsets")
    parser.add_argument("--model", default="jpeg")
    parser.add_argument("--steps", default=",".join(STEPS))
    parser.add_argument("--step")
    parser.add_argument("--spec")
    args = parser.parse_args()
    if args.step:
        print(json.dumps(step(args.step, args.spec, args.model)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        few, many = Path(scratch) / "few", Path(scratch) / "many"
        base = in_own_process("open", make(few, 10, args.side, args.layout), args.model, Path(scratch) / "cache")
        begin = time.perf_counter()
        spec = make(many, args.images, args.side, args.layout)
        print(f"{args.images} files made in {time.perf_counter() - begin:.0f} s; {args.layout}")
        print("| step | images | seconds | images/s | peak, MiB |\n|---|---|---|---|---|")
        taken = {"open, ten images": base}
        for name in args.steps.split(","):
            # Files younger than two seconds are not remembered.
            time.sleep(2.1)
            taken[name] = in_own_process(name, spec, args.model, Path(scratch) / "cache")
        for name, one in taken.items():
            rate = one["images"] / one["seconds"]
            print(f"| {name} | {one['images']} | {one['seconds']:.1f} | {rate:.0f} | {one['mib']:.0f} |", flush=True)


if __name__ == "__main__":
    main()
