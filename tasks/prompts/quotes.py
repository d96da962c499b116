"""Prompts that quote a string of known length, seeded: what the suite `starter-quotes` is made of."""

from __future__ import annotations

import random
from typing import Any

from vtbench.metrics.quoted import BUCKETS

WORDS = (
    *("open", "daily", "market", "street", "coffee", "house", "garden", "north", "river", "light", "paper", "music"),
    *("winter", "number", "school", "travel", "museum", "bread", "window", "letter", "summer", "bridge", "silver"),
    *("morning", "station", "library", "mountain", "orange", "kitchen", "harbour"),
)
SCENES = (
    "a shop sign that says",
    "a plain poster with the text",
    "a book cover titled",
    "a chalkboard that reads",
    "a white mug printed with",
)


def quotes(per_bucket: int, seed: int = 0) -> list[dict[str, Any]]:
    """Prompts that quote a string: {"id", "text", "metadata": {"quote", "bucket"}}, the same number a bucket."""
    out = []
    for low, high in BUCKETS:
        rng = random.Random(f"{seed}:{low}-{high}")
        seen: set[str] = set()
        while len(seen) < per_bucket:
            text = rng.choice(WORDS)
            while len(text) < low:
                text += f" {rng.choice(WORDS)}"
            if len(text) > high or text in seen:
                continue
            scene = SCENES[len(seen) % len(SCENES)]
            seen.add(text)
            meta = {"quote": text, "bucket": f"{low}-{high}"}
            out.append({"id": f"quote-{low:02d}-{len(seen):02d}", "text": f'{scene} "{text}"', "metadata": meta})
    return out
