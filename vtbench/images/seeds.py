"""Seeds: one an image, from the run's seed and what the image is, so that any image can be drawn or decoded again."""

from __future__ import annotations

import hashlib


def image_seed(seed: int, sha256: str) -> int:
    """One seed an image, from the run's seed and the sha256 of its pixels: 63 bits."""
    digest = hashlib.sha256(f"{seed}:{sha256}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def sample_seed(seed: int, prompt: str, sample: int) -> int:
    """One seed a drawn image, from the run's seed, the prompt's id and the sample's number: 63 bits."""
    digest = hashlib.sha256(f"{seed}\0{prompt}\0{sample}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
