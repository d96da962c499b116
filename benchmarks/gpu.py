"""A GPU's run, as a lab makes it: reading, a bare loop, and `vtbench evaluate` with more and more metrics.

    python benchmarks/gpu.py [--device cuda] [--models A,B] [--dtypes float32,bfloat16] [--seconds 6]

Under eight minutes from a bare machine: it makes its pictures (JPEG, 256 px) and its weights (from parameters' names,
in the official container), so that nothing is downloaded. For every model and dtype, images a second of

reading     this pipeline's readers alone
bare        what a researcher would write: torch's DataLoader with as many workers, to the device, encode, decode
(a)         vtbench evaluate without metrics
(b)         with psnr, ssim and ms-ssim
(c)         with lpips-alex and rfid beside
networks    the passes of (c) alone, on a batch that lies on the device: model, AlexNet and Inception on both sides

Wanted: (a) within 1.05 x of bare, (b) within 1.10 x, (c) within 1.10 x of the networks. Idle: the share of samples
(nvidia-smi, ten a second) in which the GPU did nothing. On a CPU it runs as well, and says nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Run as a script, Python looks for modules beside this file.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("VTBENCH_OFFLINE", "1")

import numpy as np
import torch
from PIL import Image

from benchmarks.official import write
from vtbench import registry
from vtbench.images.ahead import readers
from vtbench.images.opening import open_suite
from vtbench.images.rounding import to_float
from vtbench.images.stream import batches, source_of
from vtbench.images.views import View
from vtbench.metrics import weights
from vtbench.models.devices import synchronize
from vtbench.models.load import Loaded, load
from vtbench.models.names import manifest_of
from vtbench.running.evaluate import run
from vtbench.running.job import Job
from vtbench.types.metric import Batch, ImageMetric, Reference, SetMetric
from vtbench.types.task import Task

MODELS = "llamagen-vq-ds16-c2i,taef2,var-vae-256"
PIXELS = ("psnr", "ssim", "ms-ssim")
NETWORKS = ("lpips-alex", "rfid")
PARTS: dict[str, tuple[str, ...]] = {"a": (), "b": PIXELS, "c": (*PIXELS, *NETWORKS)}
DISTINCT, LINKS = 2048, 8
"""Pictures that are made, and names that each has: enough images for a fast model, without minutes of making them."""
NATIVE = View.parse("native")


def make_images(folder: Path, count: int, side: int) -> None:
    """`count` JPEG files of photograph-like noise; beyond DISTINCT they are other names of the first."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    files = []
    for k in range(min(count, DISTINCT)):
        picture: Any = np.zeros((side, side, 3))
        for cells in (4, 16, 64):
            coarse = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), np.uint8))
            picture = picture + np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), float) * (4 / cells)
        files.append(folder / f"{k:06d}.jpg")
        Image.fromarray((picture * 255 / picture.max()).astype(np.uint8)).save(files[-1], quality=90)
    for k in range(len(files), count):
        os.link(files[k % len(files)], folder / f"{k:06d}.jpg")


def make_metric_weights(folder: Path) -> None:
    """AlexNet and Inception of seeded numbers: what they cost does not depend on them."""
    import torchvision

    from vtbench.metrics import inception

    folder.mkdir()
    torch.manual_seed(0)
    torch.save(torchvision.models.alexnet(weights=None).state_dict(), folder / "alexnet.pth")
    torch.save(inception.random_state(0), folder / "inception.pth")
    files = [f"alexnet={folder / 'alexnet.pth'}", f"inception-2015-12-05={folder / 'inception.pth'}"]
    os.environ[weights.VARIABLE] = os.pathsep.join(files)


def loaded_model(name: str, folder: Path, device: str, dtype: str) -> Loaded:
    """The model, with weights made from its parameters' names where it has any."""
    card = registry.model(name).card
    if not card.weights:
        return load(name, device=device, dtype=dtype)
    if not folder.exists():
        write(card, manifest_of(name), folder)
    checkpoint = folder if len(card.weights) > 1 else folder / card.weights[0].file
    return load(name, checkpoint=checkpoint, device=device, dtype=dtype)


class Pictures(torch.utils.data.Dataset[Any]):
    """Files as a researcher reads them."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(np.array(Image.open(self.files[index]).convert("RGB"))).permute(2, 0, 1)


def bare(model: Any, files: Sequence[Path], batch: int, device: str) -> None:
    on_gpu = device.startswith("cuda")
    workers = readers() if on_gpu else 0
    loader = torch.utils.data.DataLoader(Pictures(files), batch, num_workers=workers, pin_memory=on_gpu)
    with torch.inference_mode():
        for pixels in loader:
            images = pixels.to(device, non_blocking=True).float() / 255
            seeds = [0] * len(images)
            model.decode(model.encode(images, seeds), seeds).clamp(0, 1)
    synchronize(device)


def reading(folder: Path, count: int, batch: int) -> None:
    suite = open_suite(str(folder))
    for _ in batches([source_of(suite, NATIVE)], suite.items[:count], batch):
        pass


def evaluated(loaded: Loaded, folder: Path, count: int, batch: int, metrics: Sequence[str]) -> None:
    task = Task("gpu-benchmark", "speed", 1, (), "native", tuple(metrics))
    out = Path(tempfile.mkdtemp())
    try:
        suite = open_suite(str(folder))
        run(Job(loaded, task, suite, NATIVE, out, batch, count, device=loaded.device, dtype=loaded.dtype))
    finally:
        shutil.rmtree(out)


def passes(loaded: Loaded, files: Sequence[Path], batch: int, names: Sequence[str], most: float = 2.0) -> float:
    """Seconds an image of the networks alone: the model, then each metric's, on both sides."""
    device, model = loaded.device, loaded.model
    pixels = torch.stack([Pictures(files)[k % len(files)] for k in range(batch)]).to(device)
    metrics = [registry.metric(name) for name in names]
    for metric in metrics:
        metric.load(device)
    seeds = [0] * batch

    def once() -> None:
        with torch.inference_mode():
            model.decode(model.encode(to_float(pixels), seeds), seeds)
        # Copies, since a network that has seen a tensor gives what it gave.
        one, other = pixels.clone(), pixels.clone()
        for metric in metrics:
            if isinstance(metric, ImageMetric):
                metric.measure(Batch(Reference(one, [None] * batch, [""] * batch), other))  # type: ignore[list-item]
            elif isinstance(metric, SetMetric):
                extractor = metric.extractor()
                extractor.load(device)
                extractor.extract(one)
                extractor.extract(other)
        synchronize(device)

    once()
    begin, rounds = time.perf_counter(), 0
    while rounds < 3 or (time.perf_counter() - begin < most and rounds < 50):
        once()
        rounds += 1
    return (time.perf_counter() - begin) / rounds / batch


@contextlib.contextmanager
def sampled(idle: list[float]) -> Iterator[None]:
    """Appends the share of samples in which the GPU was idle; nothing where nvidia-smi is not there."""
    command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "100", "-i", "0"]
    if shutil.which(command[0]) is None:
        yield
        return
    watch = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield
    finally:
        watch.terminate()
        samples = [float(line) / 100 for line in (watch.communicate()[0] or "").split() if line.isdigit()]
        if samples:
            idle.append(1 - sum(samples) / len(samples))


@dataclass(frozen=True)
class Timed:
    """Images a second; GPU idle share and peak of device memory in GiB, None where there is none."""

    rate: float
    idle: float | None
    memory: float | None


def timed(work: Callable[[], None], count: int, device: str) -> Timed:
    on_gpu, idle = device.startswith("cuda"), []  # type: tuple[bool, list[float]]
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    with sampled(idle) if on_gpu else contextlib.nullcontext():
        begin = time.perf_counter()
        work()
        synchronize(device)
        seconds = time.perf_counter() - begin
    memory = torch.cuda.max_memory_allocated() / 2**30 if on_gpu else None
    return Timed(count / seconds, idle[0] if idle else None, memory)


def row(model: str, dtype: str, what: str, result: Timed, against: float | None, wanted: float | None) -> str:
    cells = [model, dtype, what, f"{result.rate:.4g}", "" if against is None else f"{against / result.rate:.3f}"]
    cells += ["" if wanted is None else f"{wanted:.2f}"]
    cells += ["" if result.idle is None else f"{result.idle:.0%}"]
    cells += ["" if result.memory is None else f"{result.memory:.1f}"]
    return f"| {' | '.join(cells)} |"


def measured(name: str, dtype: str, args: argparse.Namespace, scratch: Path) -> Iterator[str]:
    """The rows of one model in one dtype."""
    folder, device, batch = scratch / "images", args.device, args.batch_size
    loaded = loaded_model(name, scratch / name, device, dtype)
    files = sorted(folder.iterdir())
    # The first batches warm up; then a run takes about as long as was asked for.
    bare(loaded.model, files[: 2 * batch], batch, device)
    begin = time.perf_counter()
    bare(loaded.model, files[: 4 * batch], batch, device)
    rate = 4 * batch / (time.perf_counter() - begin)
    count = min(len(files), max(2, round(rate * args.seconds / batch)) * batch)
    loop = timed(lambda: bare(loaded.model, files[:count], batch, device), count, device)
    yield row(name, dtype, f"bare, {count} images", loop, None, None)
    for part in args.parts.split(","):
        metrics = PARTS[part]
        result = timed(lambda m=metrics: evaluated(loaded, folder, count, batch, m), count, device)
        against, wanted = loop.rate, {"a": 1.05, "b": 1.10}.get(part)
        if part == "c":
            alone = 1 / passes(loaded, files, batch, NETWORKS)
            yield row(name, dtype, "networks alone", Timed(alone, None, None), None, None)
            against, wanted = alone, 1.10
        yield row(name, dtype, f"({part})", result, against, wanted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--models", default=MODELS)
    parser.add_argument("--dtypes", default="float32,bfloat16")
    parser.add_argument("--parts", default="a,b,c", help="of a, b and c")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--images", type=int, default=DISTINCT * LINKS, help="at most")
    parser.add_argument("--seconds", type=float, default=6.0, help="about so long a run")
    args = parser.parse_args()
    registry.tasks()
    begin = time.perf_counter()
    name = torch.cuda.get_device_name() if args.device.startswith("cuda") else platform.processor() or "CPU"
    print(f"{name}, {os.cpu_count()} cores, {readers()} readers, torch {torch.__version__}, batch {args.batch_size}\n")
    with tempfile.TemporaryDirectory() as made_here:
        scratch = Path(made_here)
        make_images(scratch / "images", args.images, args.side)
        if "c" in args.parts:
            make_metric_weights(scratch / "metrics")
        count = args.images
        alone = timed(lambda: reading(scratch / "images", count, args.batch_size), count, "cpu")
        print(f"Reading alone: {alone.rate:.0f} images a second\n")
        print("| model | dtype | what | images a second | times its measure | wanted | idle | memory, GiB |")
        print("|---|---|---|---|---|---|---|---|")
        for model in args.models.split(","):
            for dtype in args.dtypes.split(","):
                for line in measured(model, dtype, args, scratch):
                    print(line, flush=True)
            shutil.rmtree(scratch / model, ignore_errors=True)
    print(f"\n{time.perf_counter() - begin:.0f} s in all")


if __name__ == "__main__":
    main()
