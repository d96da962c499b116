"""Peak memory does not grow with the number of images.

    python benchmarks/memory.py [--few 1000] [--many 50000] [--side 32] [--modes evaluate,score,…]

Each command on a folder of `few` and of `many` JPEG pictures, in a process of its own; the peak is what the operating
system says of that process (files that it maps among it), the largest of its readers being smaller. Commands that read
runs read those that the modes before them wrote, which are made first where they are not asked for. Wanted: within 5 %.

evaluate: `vtbench evaluate jpeg` (PSNR, MS-SSIM, rates). tokens: k-means, `--save tokens`. images: `--save images`.
features: a Fréchet distance of 192 values an image, `--save features`. resumed: `evaluate` that was stopped half-way.
merge: two shards. rescore: metrics added to the run that kept its images. score: a folder and two candidates. set:
`score --set`, the same distance. explain: one claim of a PSNR. explain-runs: one run against another. compare, page:
two runs. generation: drawn, and scored as a set.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

METRIC = """
from vtbench.metrics.frechet import frechet
from vtbench.types.metric import Extractor, MetricCard, SetMetric, SetValue


class Thumbs(Extractor):
    id, dim = "thumbs", 192

    def load(self, device="cpu"):
        pass

    def extract(self, images):
        from torch.nn.functional import adaptive_avg_pool2d

        return adaptive_avg_pool2d(images.float(), 8).flatten(1).numpy()


THUMBS = Thumbs()


class Distance(SetMetric):
    card = MetricCard("thumbs", "Distance of thumbnails", 1, "", "lower", "benchmark", kind="set", paired=False)

    def extractor(self):
        return THUMBS

    def finish(self, reference, candidate):
        return SetValue(float(frechet(reference, candidate)), n=len(candidate))


METRICS = (Distance,)
"""
TASK = """
from vtbench import Task

TASK = Task("thumbs", "Thumbnails", 1, (), "native", ({metrics}){prompts})
"""


def make(folder: Path, count: int, side: int) -> None:
    """`count` different pictures: noise that is smooth enough to be coded."""
    rng = np.random.default_rng(0)
    for k in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{k:06d}.jpg", quality=90)


def begun(arguments: Sequence[str], log: int) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "VTBENCH_OFFLINE": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "vtbench", *arguments], env=environment, stdout=log, stderr=subprocess.STDOUT
    )


def peak(arguments: Sequence[str]) -> tuple[float, float]:
    """(MiB, seconds) of one command in a process of its own."""
    start = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        process = begun(arguments, log.fileno())
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            raise SystemExit(f"{' '.join(arguments)}:\n{log.read().decode()}")
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return used.ru_maxrss / unit, time.perf_counter() - start


class Modes:
    """The command of every mode, for one folder of pictures; `scratch` holds what they write."""

    def __init__(self, folder: Path, scratch: Path, count: int, side: int) -> None:
        self.folder, self.scratch, self.count, self.side = folder, scratch, count, side
        (scratch / "thumbs.py").write_text(METRIC)
        self.metric = f"{scratch / 'thumbs.py'}@thumbs"
        drawn = ", prompts=('starter-classes',)"
        for name, metrics, prompts in (
            ("pairs", f"'psnr', {self.metric!r}", ""),
            ("drawn", f"{self.metric!r},", drawn),
        ):
            (scratch / f"{name}.py").write_text(TASK.format(metrics=metrics, prompts=prompts))

    def evaluate(self, out: str = "evaluate", *more: str, model: str = "jpeg") -> list[str]:
        wanted = ["--view", "native", "--batch-size", "16", "--out", str(self.scratch / out)]
        task = () if "--task" in more else ("--task", "compression")
        return ["evaluate", model, "--images", str(self.folder), *wanted, *task, *more]

    def tokens(self) -> list[str]:
        return self.evaluate("tokens", "--save", "tokens", model="kmeans-vq")

    def images(self) -> list[str]:
        return self.evaluate("images", "--save", "images", "--option", "quality=50")

    def features(self) -> list[str]:
        return self.evaluate("features", "--save", "features", "--task", f"{self.scratch / 'pairs.py'}@thumbs")

    def resumed(self) -> list[str]:
        command = self.evaluate("resumed")
        with tempfile.TemporaryFile() as log:
            process = begun(command, log.fileno())
            while process.poll() is None:
                rows = next((self.scratch / "resumed").glob("*/rows.jsonl"), None)
                if rows is not None and rows.read_bytes().count(b"\n") >= self.count // 2:
                    process.send_signal(signal.SIGINT)
                    process.wait()
                time.sleep(0.5)
        return command

    def merge(self) -> list[str]:
        for part in ("1/2", "2/2"):
            peak(self.evaluate("shards", "--shard", part))
        return ["merge", str(self.scratch / "shards"), "--out", str(self.scratch / "merged")]

    def rescore(self) -> list[str]:
        return ["score", self.run("images"), "--metrics", "bias-r,psnr-pooled"]

    def score(self) -> list[str]:
        candidates = [self.copy("one"), self.copy("two")]
        return ["score", str(self.folder), *candidates, "--metrics", "mse,psnr-pooled,ssim"]

    def set(self) -> list[str]:
        return ["score", str(self.folder), self.copy("one"), "--set", "--metrics", self.metric]

    def explain(self) -> list[str]:
        return ["explain", "jpeg", "--images", str(self.folder), "--claim", "psnr=30"]

    def explain_runs(self) -> list[str]:
        return ["explain", self.run("evaluate"), self.run("images")]

    def compare(self) -> list[str]:
        return ["compare", self.run("evaluate"), self.run("images")]

    def page(self) -> list[str]:
        runs = [self.run("evaluate"), self.run("images")]
        return ["leaderboard", "build", *runs, "--out", str(self.scratch / "site")]

    def generation(self) -> list[str]:
        wanted = ["--suite", "classes:2", "--n", str(self.count // 2), "--option", f"size={self.side}"]
        task = ["--task", f"{self.scratch / 'drawn.py'}@thumbs"]
        return self.evaluate("generation", *task, *wanted, model="ngram-kmeans")

    def run(self, mode: str) -> str:
        """The folder of the run that a mode writes."""
        if not (self.scratch / mode).exists():
            peak(MODES[mode](self))
        return str(next((self.scratch / mode).glob("*/run.json")).parent)

    def copy(self, name: str) -> str:
        """The pictures under the same names in another folder."""
        place = self.scratch / name
        if not place.exists():
            place.mkdir()
            for file in self.folder.iterdir():
                os.link(file, place / file.name)
        return str(place)


MODES: Mapping[str, Callable[[Modes], list[str]]] = {
    name.replace("_", "-"): getattr(Modes, name)
    for name in (
        *("evaluate", "tokens", "images", "features", "resumed", "merge", "rescore", "score", "set"),
        *("explain", "explain_runs", "compare", "page", "generation"),
    )
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--few", type=int, default=1000)
    parser.add_argument("--many", type=int, default=50000)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--modes", default=",".join(MODES))
    args = parser.parse_args()
    print("| mode | images | peak, MiB | seconds | ratio | bytes an image |\n|---|---|---|---|---|---|")
    peaks: dict[str, float] = {}
    for count in (args.few, args.many):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "originals"
            folder.mkdir()
            make(folder, count, args.side)
            os.environ["VTBENCH_CACHE"] = str(Path(place) / "cache")
            modes = Modes(folder, Path(place), count, args.side)
            for mode in args.modes.split(","):
                mib, seconds = peak(MODES[mode](modes))
                first = peaks.setdefault(mode, mib)
                grown = (mib - first) * 2**20 / max(1, args.many - args.few)
                beside = f"{mib / first:.3f} | {grown:.0f}" if count == args.many else " | "
                print(f"| {mode} | {count} | {mib:.0f} | {seconds:.0f} | {beside} |", flush=True)
    print("Wanted: a ratio of at most 1.05")


if __name__ == "__main__":
    main()
