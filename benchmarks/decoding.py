"""Quality against network evaluations of the ways to decode, on tiny models trained here: docs/decoding.md.

    python benchmarks/decoding.py [--steps 300] [--images 200]

The data are sequences whose law is known: code i + 1 is code i plus a step round a circle of 16, the step's law given
by the class. So quality needs no judge: it is the total variation distance between the steps drawn and the law's. A
large and a small LlamaGen and a MaskGIT with self-guidance learn it; near codes are alike, as LANTERN wants them.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vtbench.adapters.networks.llamagen_gpt import LlamaGenGpt
from vtbench.adapters.networks.maskgit_sg import MaskGitSg
from vtbench.models.noise import Seeded

DOCS = Path(__file__).resolve().parents[1] / "docs"
CODES, LENGTH, CLASSES, BATCH = 16, 16, 4, 64
GPT = {"dim": 48, "n_head": 3, "vocab_size": CODES, "block_size": LENGTH, "num_classes": CLASSES, "multiple_of": 16}
MASKED = {
    "vocab_size": CODES + CLASSES + 1,
    "max_position_embeddings": LENGTH + 1,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 96,
    "codebook_size": CODES,
    "num_vq_tokens": LENGTH,
    "num_classes": CLASSES,
    "use_normformer": True,
    "use_encoder_layernorm": True,
    "use_maskgit_mlp": False,
    "use_bias": True,
    "layer_norm_embeddings": True,
    "use_toast": True,
    "tg_factor": 4,
    "use_blank_second": True,
}


@dataclass(frozen=True)
class Point:
    """What one setting came to: passes an image, and the distance of its steps from the law."""

    method: str
    setting: str
    evaluations: float
    distance: float


def law() -> Tensor:
    """(classes, codes): the chance of each step, a bump of three steps round one that depends on the class."""
    rows = torch.full((CLASSES, CODES), 0.1 / CODES)
    for c in range(CLASSES):
        for apart, share in ((-1, 0.2), (0, 0.5), (1, 0.2)):
            rows[c, (3 * c + apart) % CODES] += share
    return rows


def drawn_data(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Labels (B,) and codes (B, LENGTH)."""
    labels = torch.randint(CLASSES, (count,), generator=generator)
    steps = torch.multinomial(law()[labels], LENGTH, replacement=True, generator=generator)
    steps[:, 0] = torch.randint(CODES, (count,), generator=generator)
    return labels, steps.cumsum(dim=1) % CODES


def distance(tokens: Tensor, labels: Tensor) -> float:
    """Mean over the classes of the total variation distance between the steps of tokens (B, LENGTH) and the law."""
    steps = (tokens[:, 1:] - tokens[:, :-1]) % CODES
    seen = [torch.bincount(steps[labels == c].flatten(), minlength=CODES) for c in range(CLASSES)]
    shares = torch.stack([s / s.sum() for s in seen])
    return float((shares - law()).abs().sum(dim=1).mean() / 2)


def trained(network: Any, loss: Callable[[Tensor, Tensor], Tensor], steps: int, only: tuple[str, ...] = ("",)) -> Any:
    """The network after so many steps of Adam on the parameters whose names begin so."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith(only))
    moved = [p for p in network.parameters() if p.requires_grad]
    adam = torch.optim.Adam(moved, lr=3e-3)
    for _ in range(steps):
        adam.zero_grad()
        loss(*drawn_data(BATCH, generator)).backward()
        adam.step()
    return network.eval().requires_grad_(False)


def llamagen(layers: int, steps: int) -> LlamaGenGpt:
    torch.manual_seed(layers)
    network = LlamaGenGpt({**GPT, "n_layer": layers})

    def loss(labels: Tensor, tokens: Tensor) -> Tensor:
        logits = network.teacher_forced(network.condition(labels)[0], tokens, None)
        return F.cross_entropy(logits.flatten(0, 1), tokens.flatten())

    trained(network, loss, steps)
    return network


def maskgit(steps: int) -> MaskGitSg:
    """MaskGIT, then its feedback alone: the second pass learns which of the codes were put in wrongly (UnlockMGM)."""
    torch.manual_seed(7)
    network, noise = MaskGitSg(MASKED), torch.Generator().manual_seed(1)
    # The identity, as upstream starts it.
    network.top_down_transform.data.copy_(torch.eye(MASKED["hidden_size"]))  # type: ignore[arg-type]

    def hidden(tokens: Tensor) -> tuple[Tensor, Tensor]:
        share = torch.cos(torch.rand(len(tokens), 1, generator=noise) * torch.pi / 2)
        masked = torch.rand(tokens.shape, generator=noise) < share.clamp(min=1 / LENGTH)
        return torch.where(masked, network.mask, tokens), masked

    def plain(labels: Tensor, tokens: Tensor) -> Tensor:
        ids, masked = hidden(tokens)
        logits = network.logits(network.states(torch.cat([labels[:, None] + CODES, ids], dim=1)))
        return F.cross_entropy(logits[masked], tokens[masked])

    def feedback(labels: Tensor, tokens: Tensor) -> Tensor:
        ids, masked = hidden(tokens)
        wrong = ~masked & (torch.rand(tokens.shape, generator=noise) < 0.3)
        ids = torch.where(wrong, torch.randint(CODES, tokens.shape, generator=noise), ids)
        whole = torch.cat([labels[:, None] + CODES, ids], dim=1)
        logits = network.weak(whole, labels, network.states(whole))
        return F.cross_entropy(logits[wrong], tokens[wrong])

    trained(network, plain, 4 * steps)
    trained(network, feedback, steps // 2, ("cls_anchor_gen", "top_down_transform", "decoders"))
    return network


def measured(images: int, steps: int) -> list[Point]:
    """All settings, on the same labels and seeds."""
    labels, seeds = torch.arange(images) % CLASSES, list(range(images))
    target, draft, masked, points = llamagen(3, steps), llamagen(1, steps // 4), maskgit(steps), list[Point]()

    def add(method: str, setting: str, evaluations: float, tokens: Tensor) -> None:
        points.append(Point(method, setting, evaluations, distance(tokens, labels)))

    turn = 2 * torch.pi * torch.arange(CODES) / CODES
    circle = torch.stack([turn.cos(), turn.sin()], dim=1)
    with torch.inference_mode():
        add("plain", "LlamaGen, code by code", LENGTH, target.generate(labels, Seeded(seeds)))
        for ahead in (1, 2, 4, 8):
            for method, relax in (("speculative", None), ("relaxed", target.relaxation(circle, 2, 0.2))):
                tokens, spent = target.speculate(draft, labels, Seeded(seeds), ahead=ahead, relax=relax)
                count = sum(s.target for s in spent) / images
                add(method, f"{ahead} codes ahead" + (", k = 2, delta = 0.2" if relax else ""), count, tokens)
        for number in (2, 4, 8, 12):
            for method, scale in (("masked", 0.0), ("self-guided", 0.3), ("self-guided", 1.0)):
                run = {"timesteps": number, "guidance_scale": scale, "temperature": 2.0}
                tokens = masked.generate(labels, Seeded(seeds), **run)
                name = f"MaskGIT, {number} steps" + (f", g = {scale:g}" if scale else "")
                add(method, name, number * (2 if scale else 1), tokens)
    return points


def svg(points: list[Point]) -> str:
    """The plot: evaluations across, distance upwards, both linear, a colour a method."""
    colours = {"plain": "#111", "speculative": "#06c", "relaxed": "#c60", "masked": "#080", "self-guided": "#a0a"}
    top = max(p.distance for p in points) * 1.08
    most = max(p.evaluations for p in points) * 1.05
    out = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 400" font-family="sans-serif" font-size="12">',
        '<rect width="640" height="400" fill="#fff"/><path d="M60 20V350H620" fill="none" stroke="#888"/>',
        '<text x="340" y="390" text-anchor="middle">passes of the large network an image</text>',
        '<text x="16" y="185" transform="rotate(-90 16 185)" text-anchor="middle">distance from the law</text>',
    ]
    for i in range(5):
        x, y = 60 + 560 * i / 4, 350 - 330 * i / 4
        out.append(f'<text x="{x:.0f}" y="366" text-anchor="middle">{most * i / 4:.0f}</text>')
        out.append(f'<text x="54" y="{y + 4:.0f}" text-anchor="end">{top * i / 4:.2f}</text>')
    for k, (method, colour) in enumerate(colours.items()):
        out.append(f'<circle cx="480" cy="{30 + 18 * k}" r="5" fill="{colour}"/>')
        out.append(f'<text x="492" y="{34 + 18 * k}">{method}</text>')
        for p in (p for p in points if p.method == method):
            x, y = 60 + 560 * p.evaluations / most, 350 - 330 * p.distance / top
            out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"><title>{p.setting}</title></circle>')
    return "\n".join([*out, "</svg>\n"])


def table(points: list[Point]) -> str:
    lines = ["| method | setting | passes | distance |", "|---|---|---|---|"]
    lines += [f"| {p.method} | {p.setting} | {p.evaluations:.1f} | {p.distance:.3f} |" for p in points]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300, help="training steps of the large network")
    parser.add_argument("--images", type=int, default=200, help="drawn of every setting")
    asked = parser.parse_args()
    points = measured(asked.images, asked.steps)
    (DOCS / "decoding.svg").write_text(svg(points))
    page = DOCS / "decoding.md"
    if page.exists():
        page.write_text(
            re.sub(
                r"(<!-- table -->\n).*?(<!-- end -->)",
                lambda m: m[1] + table(points) + m[2],
                page.read_text(),
                flags=re.DOTALL,
            )
        )
    print(table(points))


if __name__ == "__main__":
    main()
