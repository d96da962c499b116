"""Which modules are mutated and the one test command that each group of them gets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
EQUIVALENT = Path(__file__).with_name("equivalent.json")
"""Mutants that change nothing that anybody could see: file, the line before and after, why."""


@dataclass(frozen=True)
class Group:
    """Modules of one package (paths from the checkout) and the tests that must see what is wrong in them."""

    name: str
    modules: tuple[str, ...]
    tests: tuple[str, ...]

    @property
    def arguments(self) -> list[str]:
        """Of pytest."""
        return ["-x", "-q", "-p", "no:cacheprovider", *self.tests]


def _all_of(package: str) -> tuple[str, ...]:
    """Every module of vtbench/PACKAGE that has code."""
    paths = sorted((ROOT / "vtbench" / package).glob("*.py"))
    return tuple(str(path.relative_to(ROOT)) for path in paths if path.name not in ("__init__.py", "version.py"))


def _metrics(*names: str) -> tuple[str, ...]:
    return tuple(f"vtbench/metrics/{name}.py" for name in names)


GROUPS = {
    group.name: group
    for group in (
        Group("types", _all_of("types"), ("tests/types", "--deselect=tests/types/test_code_that_exits.py")),
        Group("statistics", _all_of("statistics"), ("tests/statistics",)),
        Group("scoring", _all_of("scoring"), ("tests/scoring",)),
        Group(
            "metrics: rates and codes",
            _metrics("rates", "_codes", "codebook", "cross_entropy", "entropy_coding"),
            (
                "tests/metrics/test_cards.py",
                "tests/metrics/test_rates.py",
                "tests/metrics/test_codebook.py",
                "tests/metrics/test_coding.py",
            ),
        ),
        Group(
            "metrics: pixels",
            _metrics("psnr", "ssim", "colour", "detail", "_pixels"),
            (
                "tests/metrics/test_cards.py",
                "tests/metrics/test_metrics_detail.py",
                "tests/metrics/test_metrics_image.py",
            ),
        ),
        Group(
            "metrics: sets",
            _metrics("frechet", "kid", "prdc", "moments", "inception_score"),
            (
                "tests/metrics/test_cards.py",
                "tests/metrics/test_metrics_set.py",
                "tests/metrics/test_neighbours.py",
                "-k=not extractor and not resize and not weights and not dinov2",
            ),
        ),
        Group(
            "metrics: words",
            _metrics("_strings", "text", "quoted", "legibility"),
            (
                "tests/metrics/test_cards.py",
                "tests/metrics/test_languages.py",
                "tests/metrics/test_metrics_text.py",
                "tests/metrics/test_quoted.py",
                "-k=not easyocr_reads and not both_engines and not a_run_of and not texts_are",
            ),
        ),
    )
}


BY_KIND = {
    ("strict=True", "strict=False"): "the sides of this zip have one length by construction: `strict` only says so",
    ("frozen=True", "frozen=False"): "`frozen` refuses an assignment that nobody makes",
}
"""(before, after) -> why such a change alone is no fault, wherever it survives."""


def equivalents(path: Path = EQUIVALENT) -> list[dict[str, str]]:
    entries: list[dict[str, str]] = json.loads(path.read_text())
    return entries


def reason(entries: Sequence[dict[str, str]], mutant: dict[str, Any]) -> str | None:
    """Why a surviving mutant is no fault, if somebody has said so of exactly this change."""
    for kind, why in BY_KIND.items():
        before, after = kind
        if mutant["to"].replace(after, before) == mutant["from"]:
            return why
    for entry in entries:
        if all(entry[key] == mutant[key] for key in ("file", "from", "to")):
            return entry["why"]
    return None
