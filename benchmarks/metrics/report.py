"""Writes docs/metrics.md: `python -m benchmarks.metrics.report > docs/metrics.md`, from the checkout.

Every metric against its reference on real images, every statistic's coverage by simulation, and one peer's evaluator
against ours on one folder pair. Everything is measured while the page is written; nothing is copied from memory. Takes
some minutes on two cores, no network: Inception has seeded random weights where the released ones are not verified on
this machine, which is stated, and changes none of the comparisons (both sides get the same network).
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.metrics import answers, costs, coverage, images, libraries, networks, sets, text, tokens, understanding
from benchmarks.metrics.comparison import Comparison, table
from benchmarks.metrics.peer import peer
from vtbench import registry
from vtbench.images.protocols import PROTOCOLS


def uncovered(comparisons: Iterable[Comparison]) -> list[str]:
    """Registered metrics that no row names."""
    named = {name.strip() for c in comparisons for name in c.metric.split(",")}
    return [name for name in registry.metrics() if name not in named]


def cards() -> list[str]:
    """Every metric of the registry with its card."""
    rows = []
    for name, factory in sorted(registry.metrics().items()):
        card = registry.card_of(factory)
        of = f" (a convention of `{card.convention_of}`)" if card.convention_of else ""
        small = f"{card.min_size} px" if card.min_size > 1 else ""
        rows.append(
            [f"`{name}`", f"{card.title}{of}", card.unit, card.better or "", small, card.reduction, card.source]
        )
    return table(["name", "what", "unit", "better", "from", "reduction", "source"], rows)


def comparison_rows(comparisons: Sequence[Comparison]) -> list[str]:
    rows = []
    for c in comparisons:
        mark = "" if c.ok else " **exceeds**"
        kind = " (relative)" if c.relative else ""
        rows.append([c.metric, c.reference, c.on, f"{c.difference:.1e}{kind}{mark}", f"{c.tolerance:.0e}", c.reason])
    return table(["metric", "reference", "on", "largest difference", "tolerance", "reason"], rows)


def protocols() -> list[str]:
    rows = []
    for p in PROTOCOLS.values():
        means = ", ".join(f"{k} = `{v}`" for k, v in p.metrics.items())
        rows.append([f"`{p.name}`", p.title, p.source, p.rounding, means, p.note])
    return table(["name", "who", "source", "rounding", "plain names mean", "note"], rows)


def measure() -> tuple[sets.Measured, list[Comparison]]:
    """Every comparison, and what the features of sets were made with. Raises if a metric has none."""
    with tempfile.TemporaryDirectory() as name:
        measured = sets.features(Path(name))
        of_sets = [
            *measured.comparisons,
            *sets.set_comparisons(measured.reference, measured.candidate, measured.logits),
        ]
        rest = [
            *images.definition_comparisons(),
            *networks.network_comparisons(),
            *sets.own_comparisons(measured.path),
            *text.text_comparisons(),
            *tokens.code_comparisons(),
            *tokens.system_comparisons(),
            *understanding.understanding_comparisons(),
            *answers.answer_comparisons(),
            *costs.cost_comparisons(),
        ]
    of_images = [*images.image_comparisons(), *libraries.library_comparisons()]
    comparisons = [*of_images, *of_sets, *tokens.closed_forms(), *rest]
    lacking = uncovered(comparisons)
    if lacking:
        raise AssertionError(f"no reference for {', '.join(lacking)}")
    return measured, comparisons


def page(trials: int = coverage.TRIALS) -> tuple[str, bool]:
    """(the page, whether every comparison is within its tolerance)."""
    import torch

    measured, comparisons = measure()
    lines = [
        "# Metrics: definitions, references, statistics",
        "",
        "Written by `python -m benchmarks.metrics.report > docs/metrics.md`; every number below was measured while it "
        f"was written (torch {torch.__version__}, numpy {np.__version__}, CPU).",
        "",
        "All metrics read the same uint8 pixels. A per-image value is a (value, weight) pair and a score is "
        "Σwv / Σw. Missing is null with a reason.",
        "",
        "## Every metric",
        "",
        *cards(),
        "## Against the reference, on real images",
        "",
        f"Inception has {measured.weights}; both sides of a comparison get the same network.",
        "",
        *comparison_rows(comparisons),
        "Batch size: a feature of pool3 of one image alone differs from the same in a batch of 20 by at most "
        f"{measured.batch_gap:.1e} of the largest feature (float32 kernels choose another order of sums). In batches "
        f"of 1, 4 and 16, and backwards, rfid of 40 images moves by at most {measured.fid_gap:.1e} relative. Metrics "
        "without a network are sums over images in float64: neither moves them beyond the last digits. Three depend on "
        "the order of the images by their definition, since they are means over parts of the set drawn by place: `is`, "
        "`is-adm`, `kid-tf` (the deviation over parts stands in their details); so do, within chance, the ends of "
        "intervals.",
        "",
        "## Statistics",
        "",
        *coverage.statistics(trials),
        "## A peer's evaluator on the same folders",
        "",
        *peer(),
        "## Protocols",
        "",
        *protocols(),
    ]
    return "\n".join(lines).rstrip() + "\n", all(c.ok for c in comparisons)


def main() -> int:
    text_of_page, ok = page()
    sys.stdout.write(text_of_page)
    return 0 if ok else 1


if __name__ == "__main__":
    raise SystemExit(main())
