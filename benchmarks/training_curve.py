"""A tokenizer watched while it is trained: docs/training.svg, the curve of PSNR over steps.

    python -m benchmarks.training_curve [--seconds 300] [--every 50]

Trains the network of benchmarks/tiny_llamagen.py with vtbench.Monitor on, which measures it on the built-in
photographs. The figure names the machine and the day; what it took is printed.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path

import torch

import vtbench
from benchmarks.tiny_llamagen import Tokenizer, network, train
from vtbench.running.monitor import Measured

FIGURE = Path(__file__).resolve().parents[1] / "docs" / "training.svg"
SUITE, VIEW, TASK = "starter-natural", "128", "compression"
PSNR, USAGE = f"vtbench/{TASK}/psnr", f"vtbench/{TASK}/codebook-usage"
LEFT, RIGHT, TOP, BOTTOM = 60, 620, 20, 310
"""Of the plot, in the units of the figure."""


def measured(seconds: float, every: int) -> tuple[Sequence[Measured], float]:
    """The monitor's history, the weights before the first step included; and the seconds of the whole."""
    torch.manual_seed(0)
    net = network()
    monitor = vtbench.Monitor(Tokenizer(net), suite=SUITE, view=VIEW, tasks=[TASK], every=every)
    begin = time.perf_counter()
    monitor.evaluate(0)
    train(net, seconds, monitor)
    return monitor.history, time.perf_counter() - begin


def svg(history: Sequence[Measured], note: str) -> str:
    """The plot: steps across, PSNR upwards; a point is titled with its numbers."""
    points = [(one.step, one.numbers[PSNR], one.numbers[USAGE]) for one in history if one.failure is None]
    last = max(points[-1][0], 1)
    low = int(min(psnr for _, psnr, _ in points))
    high = int(max(psnr for _, psnr, _ in points)) + 1

    def place(step: float, psnr: float) -> tuple[float, float]:
        return LEFT + (RIGHT - LEFT) * step / last, BOTTOM - (BOTTOM - TOP) * (psnr - low) / (high - low)

    out = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 380" font-family="sans-serif" font-size="12">',
        "<title>PSNR of a tiny LlamaGen tokenizer while it is trained</title>",
        '<rect width="640" height="380" fill="#fff"/>',
        f'<path d="M{LEFT} {TOP}V{BOTTOM}H{RIGHT}" fill="none" stroke="#888"/>',
        '<text x="340" y="345" text-anchor="middle">step</text>',
        '<text x="16" y="165" transform="rotate(-90 16 165)" text-anchor="middle">PSNR, dB</text>',
        f'<text x="340" y="370" text-anchor="middle" fill="#555">{note}</text>',
    ]
    for i in range(5):
        x, _ = place(last * i / 4, low)
        out.append(f'<text x="{x:.0f}" y="326" text-anchor="middle">{last * i / 4:.0f}</text>')
    for psnr in range(low, high + 1):
        _, y = place(0, psnr)
        out.append(f'<text x="54" y="{y + 4:.0f}" text-anchor="end">{psnr}</text>')
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(step, psnr) for step, psnr, _ in points))
    out.append(f'<polyline points="{line}" fill="none" stroke="#06c" stroke-width="2"/>')
    for step, psnr, usage in points:
        x, y = place(step, psnr)
        words = f"step {step}: {psnr:.2f} dB, {usage:.1f} % of the codes in use"
        out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="#06c"><title>{words}</title></circle>')
    return "\n".join([*out, "</svg>\n"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300, help="of training, the monitor's included")
    parser.add_argument("--every", type=int, default=50, help="steps between two evaluations")
    args = parser.parse_args()
    history, seconds = measured(args.seconds, args.every)
    machine = f"{os.cpu_count()} cores, no GPU, torch {torch.__version__.partition('+')[0]}, {platform.system()}"
    date = time.strftime("%-d %B %Y")
    FIGURE.write_text(svg(history, f"{SUITE} at {VIEW} px; {machine}; {date}"), encoding="utf-8")
    spent = sum(one.seconds for one in history)
    print(f"{len(history)} evaluations up to step {history[-1].step}: {seconds:.0f} s, {spent:.0f} of them evaluations")
    print(machine)


if __name__ == "__main__":
    main()
