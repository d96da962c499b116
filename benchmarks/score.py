"""`vtbench score` against a torchmetrics loop, as VTBench's evaluator runs it: psnr, ssim, lpips-alex, rfid.

    python benchmarks/score.py [--pairs 250] [--size 256] [--candidates 1,8] [--threads 2] [--device cpu|cuda]

Both sides get the same folders and the same seeded random weights for Inception and AlexNet (speed does not depend on
their values), run in processes of their own, in turn, on the same machine; the clock starts after the imports and holds
loading the networks, reading, measuring and the final distance. The field's side is a fresh evaluator for every
candidate, with the arguments of huawei-lin/VTBench evaluations/evaluate_images.py: batches of 8, four workers,
resize to the same size, ToTensor. torchmetrics is no dependency of vtbench: pip install torchmetrics, or --field-path.

Of eight candidates, Inception's own passes over them are 9 of the field's 16: no sharing goes below. So the script says
how near those passes come to what the device can do at all: multiplications and additions a second of Inception's
batches over those of the fastest float32 matrix product found here, on as many threads.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BATCH, WORKERS = 8, 4
ROOT = Path(__file__).resolve().parents[1]
METRICS = ["psnr", "ssim", "lpips-alex", "rfid"]
TARGET = {1: 0.6, 8: 0.25}
ALEXNET = "alexnet-owt-7be5be79.pth"


def make(folder: Path, pairs: int, size: int, candidates: int) -> None:
    """Crops of scikit-image's photographs, their JPEGs at falling quality as candidates, and random weights."""
    import torch
    import torchvision
    from PIL import Image

    # Run as a script, Python looks for modules beside this file.
    sys.path.insert(0, str(ROOT))
    from benchmarks.metrics.pictures import crops, jpeg
    from vtbench.metrics import inception

    originals = crops(pairs, size)
    for name in ["ref", *(f"cand{k}" for k in range(candidates))]:
        (folder / name).mkdir()
    for i, image in enumerate(originals):
        Image.fromarray(image).save(folder / "ref" / f"{i:04}.png")
        for k in range(candidates):
            Image.fromarray(jpeg(image, 90 - 10 * k)).save(folder / f"cand{k}" / f"{i:04}.png")
    torch.manual_seed(0)
    hub = folder / "hub" / "checkpoints"
    hub.mkdir(parents=True)
    torch.save(torchvision.models.alexnet(weights=None).state_dict(), hub / ALEXNET)
    torch.save(inception.random_state(0), folder / "inception.pth")


def field(folder: Path, candidates: int, size: int, device: str) -> dict[str, Any]:
    """The loop of VTBench's evaluator, once for every candidate."""
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchmetrics.image import (
        FrechetInceptionDistance,
        LearnedPerceptualImagePatchSimilarity,
        PeakSignalNoiseRatio,
        StructuralSimilarityIndexMeasure,
    )
    from torchvision import transforms

    transform = transforms.Compose([transforms.Resize((size, size)), transforms.ToTensor()])

    class Pairs(Dataset[Any]):
        def __init__(self, one: Path, two: Path) -> None:
            self.one, self.two, self.names = one, two, sorted(os.listdir(one))

        def __len__(self) -> int:
            return len(self.names)

        def __getitem__(self, index: int) -> Any:
            name = self.names[index]
            return tuple(transform(Image.open(d / name).convert("RGB")) for d in (self.one, self.two))

    start = time.perf_counter()
    scores = []
    for k in range(candidates):
        loader = DataLoader(Pairs(folder / "ref", folder / f"cand{k}"), batch_size=BATCH, num_workers=WORKERS)
        # data_range is stated, without which torchmetrics 1.8 and later refuse to begin.
        psnr = PeakSignalNoiseRatio(data_range=1.0).to(device)
        ssim = StructuralSimilarityIndexMeasure(data_range=1.0).to(device)
        lpips = LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True).to(device)
        fid = FrechetInceptionDistance(feature_extractor_weights_path=str(folder / "inception.pth")).to(device)
        with torch.no_grad():
            for pair in loader:
                one, two = (side.to(device) for side in pair)
                psnr.update(two, one)
                ssim.update(two, one)
                lpips.update(two, one)
                fid.update((one * 255).clamp(0, 255).to(torch.uint8), real=True)
                fid.update((two * 255).clamp(0, 255).to(torch.uint8), real=False)
        metrics = {"psnr": psnr, "ssim": ssim, "lpips-alex": lpips, "rfid": fid}
        scores.append({name: float(metric.compute()) for name, metric in metrics.items()})
    return {"seconds": time.perf_counter() - start, "scores": scores}


def ours(folder: Path, candidates: int, device: str) -> dict[str, Any]:
    """One call for all candidates, as `vtbench score REF CAND…` makes it."""
    import torch  # noqa: F401  the field's side has imported it before its clock starts, too

    from vtbench.running import folders

    start = time.perf_counter()
    paths = [folder / f"cand{k}" for k in range(candidates)]
    scored = folders.score(folder / "ref", paths, METRICS, device=device)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "scores": [{s.metric: s.value for s in c.scores} for c in scored.candidates]}


def rate(work: Any, device: str, seconds: float = 2.0) -> float:
    """Calls a second of `work`, the fastest of those that fit into the time."""
    from vtbench.models.devices import synchronize

    best, end = 0.0, time.perf_counter() + seconds
    while best == 0.0 or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        synchronize(device)
        best = max(best, 1 / (time.perf_counter() - start))
    return best


def peak(folder: Path, size: int, device: str) -> dict[str, Any]:
    """Operations a second (a multiplication and an addition are two) of the fastest matrix product, and of Inception on
    a batch as `score` sends it."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from vtbench.metrics.inception import InceptionFeatures
    from vtbench.models.isolation import isolated
    from vtbench.running.folders import BATCH as OURS

    with isolated(), torch.no_grad():
        products = []
        for side in (512, 1024, 2048):
            a, b = (torch.randn(side, side, device=device) for _ in range(2))
            products.append(2 * side**3 * rate(lambda a=a, b=b: a @ b, device))
        network = InceptionFeatures(path=folder / "inception.pth")
        network.load(device)
        images = torch.randint(0, 256, (OURS, 3, size, size), dtype=torch.uint8, device=device)
        counter = FlopCounterMode(display=False)
        with counter:
            network.extract(images)
        passes = rate(lambda: network.extract(images.clone()), device, 6.0)
    return {"product": max(products), "inception": counter.get_total_flops() * passes, "images": OURS * passes}


def run(side: str, folder: Path, args: argparse.Namespace, candidates: int) -> dict[str, Any]:
    """One side in a process of its own."""
    env = {
        **os.environ,
        "TORCH_HOME": str(folder),
        "OMP_NUM_THREADS": str(args.threads),
        "MKL_NUM_THREADS": str(args.threads),
        "OMP_WAIT_POLICY": "PASSIVE",  # as the command line does, for both sides
        "VTBENCH_METRIC_WEIGHTS": os.pathsep.join(
            [f"inception-2015-12-05={folder / 'inception.pth'}", f"alexnet={folder / 'hub' / 'checkpoints' / ALEXNET}"]
        ),
    }
    if args.field_path:
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(args.field_path), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, __file__, "--side", side, "--folder", str(folder), "--candidates", str(candidates)]
    command += ["--size", str(args.size), "--device", args.device]
    process = subprocess.run(command, env=env, stdout=subprocess.PIPE, check=True, text=True)
    answer: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return answer


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=250)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--candidates", default="1,8")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeat", type=int, default=1, help="runs of each side, in turn; the fastest counts")
    parser.add_argument("--field-path", type=Path, help="folder that holds torchmetrics, if it is not installed")
    parser.add_argument("--device", default="cpu", help="cpu or cuda, for both sides")
    parser.add_argument("--side", choices=("field", "ours", "peak"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        count = int(args.candidates)
        if args.side == "peak":
            print(json.dumps(peak(args.folder, args.size, args.device)))
        elif args.side == "field":
            print(json.dumps(field(args.folder, count, args.size, args.device)))
        else:
            print(json.dumps(ours(args.folder, count, args.device)))
        return 0
    counts = [int(c) for c in args.candidates.split(",")]
    good = True
    machine = args.device if args.device != "cpu" else platform.processor() or platform.machine()
    print(f"{args.pairs} pairs of {args.size} px, {args.threads} threads, {machine}\n")
    print("| candidates | torchmetrics loop, s | vtbench score, s | ratio | target |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, args.pairs, args.size, max(counts))
        top = run("peak", folder, args, 1)
        for count in counts:
            theirs, mine = [], []
            for _ in range(args.repeat):
                theirs.append(run("field", folder, args, count))
                mine.append(run("ours", folder, args, count))
            slow, fast = (min(r["seconds"] for r in side) for side in (theirs, mine))
            target = TARGET.get(count)
            good = good and (target is None or fast <= target * slow)
            print(f"| {count} | {slow:.1f} | {fast:.1f} | {fast / slow:.2f} | {target or ''} |", flush=True)
            last = (theirs[-1]["scores"], mine[-1]["scores"])
        print(
            f"\nInception: {top['images']:.1f} images a second, {top['inception'] / 1e9:.0f} G operations a second, "
            f"{top['inception'] / top['product']:.0%} of the fastest matrix product's {top['product'] / 1e9:.0f}"
        )
        print("\nScores of the first candidate (psnr is pooled there; FID of torchmetrics ≥ 1.8 resizes otherwise):\n")
        for name_, value in last[0][0].items():
            print(f"- {name_}: torchmetrics {value:.6g}, vtbench {last[1][0][name_]:.6g}")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
