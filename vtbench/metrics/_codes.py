"""The codes of a run as whole numbers: what every metric that counts them needs."""

from __future__ import annotations

import hashlib
import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from vtbench.results.stores import ScoredRows
from vtbench.statistics.intervals import mean_interval
from vtbench.types.metric import MetricCard, SetValue, TokenMetric
from vtbench.types.tokens import Codes, Latents, Tokens

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Floats = NDArray[np.float64]


ENOUGH = 10
"""Tokens per symbol (per cell of a table) of a fold below which an entropy is null."""
JOINT = 2**18
"""Up to this product the books of a position are one codebook (the bits of an LFQ code, the levels of FSQ)."""
CHUNK = 2_000_000
"""Cells that wait to be counted."""
NO_CODES = "this system sends no discrete codes"


def why_not(tokens: Sequence[Tokens]) -> str | None:
    """The reason why codes cannot be counted, or None."""
    if not len(tokens):
        return "no image was scored"
    first = tokens[0]
    if isinstance(first, Latents):
        dtype = str(first.values.dtype).removeprefix("torch.")
        return f"continuous latents ({dtype}): counts of symbols have no meaning; their rate is that of the raw dtype"
    if not isinstance(first, Codes):
        return NO_CODES
    return None


class CodesMetric(TokenMetric):
    """A number from counts of codes; it is null, with the reason, for systems that send something else."""

    def finish(self, tokens: Sequence[Tokens], sizes: Sequence[tuple[int, int]]) -> SetValue:
        why = why_not(tokens)
        return SetValue(None, n=len(tokens), why=why) if why else self.count(tokens, sizes)

    @abstractmethod
    def count(self, tokens: Sequence[Tokens], sizes: Sequence[tuple[int, int]]) -> SetValue:
        """As `finish`, of at least one image, whose tokens are codes."""


def codes_card(
    name: str, title: str, unit: str, better: Literal["higher", "lower"], source: str, reduction: str | None = None
) -> MetricCard:
    """The card of a metric that counts codes and needs no pixels of the original."""
    return MetricCard(
        name=name,
        title=title,
        version=1,
        unit=unit,
        better=better,
        source=source,
        bounds=(0.0, None),
        kind="tokens",
        reduction=reduction or MetricCard.reduction,
        paired=False,
    )


def batches(tokens: Sequence[Tokens]) -> Iterator[Codes]:
    """The images' codes in order; those that lie in a file, of one layout, many at a time."""
    for some in tokens.batches() if isinstance(tokens, ScoredRows) else tokens:
        assert isinstance(some, Codes)
        yield some


def stacks(tokens: Sequence[Tokens]) -> Iterator[Ints]:
    """The indices of one image or of several, int64 (images, positions, books), -1 = absent; all images in order."""
    return (some.indices.cpu().numpy() for some in batches(tokens))


def indices(tokens: Sequence[Tokens]) -> Iterator[Ints]:
    """Every image's indices, int64 (positions, books), -1 = absent."""
    for stack in stacks(tokens):
        yield from stack


def alphabets(tokens: Sequence[Tokens]) -> tuple[int, ...]:
    """The number of symbols of every book."""
    first = tokens[0]
    assert isinstance(first, Codes)
    return first.alphabets


def folds(tokens: Sequence[Tokens]) -> bytes:
    """Fold (0 or 1) of every image, a byte each.

    The distinct images in the order of the sha256 of their tokens, alternating; so folds do not depend on the order of
    images, and two images with equal tokens are in one fold.
    """
    import numpy as np

    digests = bytearray()
    for x in indices(tokens):
        digests += hashlib.sha256(np.ascontiguousarray(x).tobytes()).digest()
    # As strings of one length they are sorted by their bytes, first to last.
    places = np.unique(np.frombuffer(digests, "S32"), return_inverse=True)[1]
    return bytes((places.ravel() % 2).astype(np.uint8))


class Table:
    """Counts of cells, gathered in chunks so that large tables are touched seldom."""

    def __init__(self, cells: int) -> None:
        import numpy as np

        self.counts: Ints = np.zeros(cells, dtype=np.int64)
        self._waiting: list[Ints] = []
        self._number_waiting = 0

    def add(self, cells: Ints) -> None:
        self._waiting.append(cells)
        self._number_waiting += len(cells)
        if self._number_waiting > CHUNK:
            self.flush()

    def flush(self) -> Ints:
        import numpy as np

        if self._waiting:
            self.counts += np.bincount(np.concatenate(self._waiting), minlength=len(self.counts))
            self._waiting, self._number_waiting = [], 0
        return self.counts


def codebook(sets: Sequence[int]) -> tuple[list[int], str]:
    """Sizes of the codebooks that are counted and how: the books of a position as one, or each alone."""
    whole = math.prod(sets)
    if len(sets) > 1 and whole <= JOINT:
        return [whole], f"{len(sets)} books as one codebook of {whole}"
    return list(sets), "one codebook" if len(sets) == 1 else f"mean over {len(sets)} books"


def symbols(x: Ints, sets: Sequence[int]) -> Iterator[tuple[Ints, Ints]]:
    """For every counted codebook: the present symbols of images (images, positions, books), and their positions."""
    import numpy as np

    x, positions = x.reshape(-1, x.shape[2]), x.shape[1]
    if len(sets) > 1 and math.prod(sets) <= JOINT:
        present = np.flatnonzero((x >= 0).all(axis=1))
        joint = np.zeros(len(present), dtype=np.int64)
        for book, size in enumerate(sets):
            joint = joint * size + x[present, book]
        yield joint, present % positions
        return
    for book in range(len(sets)):
        present = np.flatnonzero(x[:, book] >= 0)
        yield x[present, book], present % positions


def mean_bits_per_pixel(bits: Floats, sizes: Sequence[tuple[int, int]], details: Mapping[str, Any]) -> SetValue:
    """Bits of every image over its pixels: the mean with its interval, and each image's value.

    bits float64 (images,); sizes: (height, width) scored, one an image.
    """
    import numpy as np

    values = bits / np.array([h * w for h, w in sizes], dtype=np.float64)
    mean = mean_interval(list(values), bounds=(0.0, None))
    assert mean is not None
    return SetValue(mean.value, mean.low, mean.high, mean.n, details=details, per_image=[float(v) for v in values])
