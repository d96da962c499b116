"""How the run folders beside this file were written, once, by the code of commit 8f55388 (schema 1).

    git worktree add ../old 8f55388
    mkdir /tmp/record && cd /tmp/record          # an empty folder: every path in the records is relative to it
    PYTHONPATH=<repository>/../old VTBENCH_OFFLINE=1 OMP_NUM_THREADS=1 python record.py

Newer code is not to write them again: they hold what users have on their disks. Pictures are crops of the built-in
suites, 64 pixels wide; Inception's weights are made up, so that a set metric has features to keep.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

CROPS = ((40, 40), (150, 60), (90, 120), (20, 170))
SIDE = 64


def vtbench(*words: str, code: int = 0) -> None:
    ran = subprocess.run([sys.executable, "-m", "vtbench", *words], check=False)
    if ran.returncode != code:
        raise SystemExit(f"{' '.join(words)}: exit code {ran.returncode}, wanted {code}")


def pictures() -> None:
    """originals/: four crops; damaged/: three of them, one cut short; candidates/: the first two, darkened."""
    from PIL import Image

    from vtbench.images import View
    from vtbench.suite import open_suite

    suite = open_suite("starter-natural")
    view = View.parse("256", "vtbench")
    for folder in ("originals", "damaged", "candidates"):
        Path(folder).mkdir()
    for number, (item, (x, y)) in enumerate(zip(suite.items[1:5], CROPS, strict=True)):
        rgb, _ = view.apply(suite.load(item))
        crop = Image.fromarray(rgb).crop((x, y, x + SIDE, y + SIDE))
        crop.save(f"originals/{number}.png")
        crop.point(lambda level: level * 9 // 10).save(f"candidates/{number}.png")
        if number < 3:
            crop.save(f"damaged/{number}.png")
    whole = Path("damaged/1.png").read_bytes()
    Path("damaged/1.png").write_bytes(whole[: len(whole) // 2])
    # A folder's hash covers the files' times in this schema.
    for path in sorted(Path().glob("*/*.png")):
        os.utime(path, (1_750_000_000, 1_750_000_000))


def made_up_inception() -> None:
    import torch

    from vtbench.metrics import inception

    torch.save(inception.random_state(0), "inception.pth")


def main() -> None:
    pictures()
    made_up_inception()
    common = ("--images", "originals", "--view", "native")

    def evaluate(kind: str, *words: str, code: int = 0) -> None:
        vtbench("evaluate", *words, "--out", f"runs/{kind}", code=code)

    evaluate("saved_images", "kmeans-vq", "--task", "compression", *common, "--save", "images")
    evaluate("saved_tokens", "kmeans-vq", "--task", "reconstruction", *common, "--save", "tokens")
    evaluate("curve", "jpeg", "-o", "quality=5,50", "--task", "reconstruction", *common)
    evaluate("pictures", "folder:candidates", "--task", "reconstruction", *common)
    for part in ("1/2", "2/2"):
        evaluate(
            "shards", "residual-vq", "--task", "reconstruction", *common, "--batch-size", "2", "--shard", part,
            "--metric-weights", "inception-2015-12-05=inception.pth",
        )  # fmt: skip
    vtbench("merge", "runs/shards", "--out", "runs/merged")
    Path("prompts.jsonl").write_text(
        '{"prompts": "two", "version": "1", "title": "Two classes", "licence": "CC0-1.0"}\n'
        '{"id": "pavilion", "label": 0}\n{"id": "flower", "label": 1}\n'
    )
    evaluate(
        "generation", "ngram-kmeans", "-o", "size=64", "--task", "generation", "--images", "originals", "--view", "64",
        "--suite", "prompts.jsonl", "--n", "2", "--batch-size", "2",
    )  # fmt: skip
    evaluate("rescored", "kmeans-vq", "--task", "detail", *common, "--save", "images")
    (rescored,) = Path("runs/rescored").iterdir()
    vtbench("score", str(rescored), "--metrics", "ssim,mse")
    evaluate("incomplete", "jpeg", "--task", "reconstruction", "--images", "damaged", "--view", "native", code=1)
    evaluate("limited", "dct", "--task", "reconstruction", *common, "--limit", "2")
    Path("inception.pth").unlink()
    for lock in Path("runs").glob("**/lock"):
        lock.unlink()


if __name__ == "__main__":
    if any(Path().iterdir()):
        raise SystemExit("this writes into the current folder, which must be empty")
    main()
    shutil.rmtree("__pycache__", ignore_errors=True)
