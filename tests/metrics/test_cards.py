"""What the card of every metric of numbers says of them: what they can be, and of which definition they are."""

from __future__ import annotations

import pytest

from vtbench import registry
from vtbench.metrics import detail

SHARES = ("edge-f1", "haarpsi", "ms-ssim", "coverage-k5", "word-accuracy", "quote-exact", "quote-word-accuracy")
SHARES = (*SHARES, "precision-", "recall-", "ned", "quote-ned", "ocr-empty", "ocr-overlong")
SHARES = (*SHARES, "agreement", "accuracy", "flips-", "knn-", "linear-cka", "dense-nearest")
SHARES = (*SHARES, "answer-agreement", "answer-score", "answer-unparsed", "answer-f1")
BOUNDS = {
    **dict.fromkeys(SHARES, (0, 1)),
    # A correlation, or a cosine: also of what is turned round.
    **dict.fromkeys(("ssim", "clip-sim", "dino-sim", "coherent-gain"), (-1, 1)),
    **dict.fromkeys(("centred-cosine", "coverage", "dense-correlation"), (-1, 1)),
    # One band may come back stronger than it was.
    "coherent-gain": (None, None),
    # As bytes are from 0 to 255.
    "bias-": (-255, 255),
    "mse": (0, 255**2),
    # The exponential of a mean divergence between 1,008 classes.
    "is": (1, 1008),
    "clip-score": (0, 100),
    # Unbiased estimates fall under 0; a picture that is lossless after a cycle has no number.
    "kid": (None, None),
    "drift-psnr": (None, None),
}
"""By the beginning of the name, the longest that fits; every other number is an error, a distance or a count."""
VERSIONS = {"legibility": 3, "cmmd": 2, "clip-score": 2, "tokens": 2, "quote-": 3, "ocr-": 2}
VERSIONS |= dict.fromkeys(("cer", "wer", "ned", "word-accuracy"), 2)
"""By the beginning of the name; a definition that changes raises its own, here and on its card."""


def by_beginning(table: dict, name: str, otherwise: object) -> object:
    fitting = [start for start in table if name.startswith(start)]
    return table[max(fitting, key=len)] if fitting else otherwise


@pytest.mark.parametrize("name", list(registry.metrics()))
def test_bounds_and_version(name: str) -> None:
    card = registry.card_of(registry.metrics().get(name))
    assert card.bounds == by_beginning(BOUNDS, name, (0, None))
    assert card.version == by_beginning(VERSIONS, name, 1)


def test_octaves_are_named_by_their_frequencies() -> None:
    titles = [detail.CoherentGain(octave).card.title for octave in (1, 2, 3, 4)]
    ends = ["(1/4, 1/2]", "(1/8, 1/4]", "(1/16, 1/8]", "(1/32, 1/16]"]
    assert titles == [f"Coherent gain, octave {end} cycles per pixel" for end in ends]
