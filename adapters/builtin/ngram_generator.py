"""The honest floor of generators: class-conditional n-grams over the built-in k-means tokens.

A token follows the one to its left and the one above it: counts of (left, above) where that pair was seen, else of
left, else of the one above, else of the class alone. Fitted while loading, in seconds, on scikit-learn's two sample
photographs (class 0 the pavilion, class 1 the flower), which are never scored. It knows textures and no objects; a
real generator must beat it by far.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench.types.adapter import Generator, Prompt, Tokenizer
from vtbench.types.cards import OURS, Card, Family, Multiple
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Codes

if TYPE_CHECKING:
    import numpy as np
    import torch

CLASSES = ("pavilion", "flower")
SHIFTS = (0, 2, 4, 6)
"""Offsets of the 8-pixel grid, both ways, at which the photographs are read: sixteen grids a photograph, each also
mirrored."""
CARD = Card(
    name="ngram-kmeans",
    family="ngram-generator",
    sources=OURS,
    kind="generator",
    title="n-grams of k-means tokens",
    sizes=Multiple(of=8, at_least=8),
    licence="Apache-2.0",
    trained_on=("scikit-learn sample photographs",),
    options={"size": 256, "temperature": 1.0, "backoff": 0.05},
    tokenizer="kmeans-vq",
    conditioning="class",
    stochastic=True,
    note="fitted while loading; classes: 0 pavilion, 1 flower; backoff: how often the chain forgets what is above",
)


class Ngram(Generator):
    """Options: size in pixels, temperature of the counts, backoff in [0, 1]."""

    def __init__(self, card: Card, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(card, options)
        size, temperature, backoff = self.options["size"], self.options["temperature"], self.options["backoff"]
        if size < 8 or size % 8:
            raise VtbenchError(f"{card.name}: size is {size}; give a multiple of 8 pixels")
        if not temperature > 0:
            raise VtbenchError(f"{card.name}: temperature is {temperature}; give a number above 0")
        if not 0 <= backoff <= 1:
            raise VtbenchError(f"{card.name}: backoff is {backoff}; give 0 to 1")
        self.tokenizer: Tokenizer | None = None
        self.tables: list[_Table] = []

    def attach(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    def load(self, files: Mapping[str, Path], device: str = "cpu", dtype: str = "float32") -> None:
        import torch
        from sklearn.datasets import load_sample_images

        if self.tokenizer is None:
            raise VtbenchError(f"{self.card.name} draws tokens of {self.card.tokenizer}: attach that tokenizer first")
        self.tables = []
        for image in load_sample_images().images:
            whole = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
            grids = []
            for turned in (whole, whole.flip(3)):
                for top in SHIFTS:
                    for left in SHIFTS:
                        part = turned[:, :, top:, left:]
                        part = part[:, :, : part.shape[2] // 8 * 8, : part.shape[3] // 8 * 8]
                        codes = self.tokenizer.encode(part, [0])
                        assert isinstance(codes, Codes)
                        rows, columns = codes.grids[0]
                        grids.append(codes.indices[0, :, 0].reshape(rows, columns).numpy())
            self.tables.append(_Table(grids, self.options["temperature"]))
        self.classes = len(self.tables)
        self.device, self.dtype = device, dtype

    def generate(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> torch.Tensor:
        import numpy as np
        import torch

        if self.tokenizer is None or not self.tables:
            raise VtbenchError(f"{self.card.name} is not loaded: call attach and load first")
        side = self.options["size"] // 8
        grids = []
        for prompt, seed in zip(prompts, seeds, strict=True):
            if prompt.label is None or not 0 <= prompt.label < len(self.tables):
                raise VtbenchError(
                    f"{self.card.name} has the classes 0 ({CLASSES[0]}) and 1 ({CLASSES[1]}); the prompt {prompt.id} "
                    f"has {prompt.label}: give --suite starter-classes or classes:2"
                )
            rng = np.random.Generator(np.random.PCG64(seed))
            grids.append(self.tables[prompt.label].draw(side, side, rng, self.options["backoff"]))
        indices = torch.from_numpy(np.stack(grids)).reshape(len(grids), -1, 1)
        book = int(self.tokenizer.options["codebook"])
        size = self.options["size"]
        return self.tokenizer.decode(Codes(indices, (book,), (size, size), ((side, side),)), [0] * len(grids))

    def cost(self) -> Mapping[str, float]:
        """A table look-up is no network evaluation."""
        return {"nfe": 0.0}


class _Table:
    """Successors by context of one class: arrays of the distinct tokens and their cumulative probabilities."""

    def __init__(self, grids: Sequence[np.ndarray[Any, Any]], temperature: float) -> None:
        import numpy as np

        tokens = np.concatenate([g.reshape(-1) for g in grids])
        inner = [g[1:, 1:].reshape(-1) for g in grids]
        left = np.concatenate([g[1:, :-1].reshape(-1) for g in grids])
        above = np.concatenate([g[:-1, 1:].reshape(-1) for g in grids])
        self.base = int(tokens.max()) + 1
        here = np.concatenate(inner)
        everywhere_left = np.concatenate([g[:, :-1].reshape(-1) for g in grids])
        everywhere_next = np.concatenate([g[:, 1:].reshape(-1) for g in grids])
        self.alone = _group(np.zeros_like(tokens), tokens, temperature)[0]
        self.after = _group(everywhere_left, everywhere_next, temperature)
        self.under = _group(
            np.concatenate([g[:-1].reshape(-1) for g in grids]),
            np.concatenate([g[1:].reshape(-1) for g in grids]),
            temperature,
        )
        self.both = _group(left * self.base + above, here, temperature)

    def draw(self, rows: int, columns: int, rng: np.random.Generator, backoff: float) -> np.ndarray[Any, Any]:
        """One grid of tokens (rows, columns) int64, in raster order."""
        import numpy as np

        out = np.zeros((rows, columns), np.int64)
        # Two numbers a token, drawn at once: the grid depends on the seed and on nothing else.
        uniform = rng.random((rows, columns, 2))
        for i in range(rows):
            for j in range(columns):
                left = int(out[i, j - 1]) if j else None
                above = int(out[i - 1, j]) if i else None
                successors = None
                if left is not None and above is not None and uniform[i, j, 0] >= backoff:
                    successors = self.both.get(left * self.base + above)
                if successors is None and left is not None:
                    successors = self.after.get(left)
                if successors is None and above is not None:
                    successors = self.under.get(above)
                tokens, cumulative = self.alone if successors is None else successors
                place = int(np.searchsorted(cumulative, uniform[i, j, 1], side="right"))
                out[i, j] = tokens[min(place, len(tokens) - 1)]
        return out


def _group(contexts: Any, tokens: Any, temperature: float) -> dict[int, tuple[Any, Any]]:
    """{context: (distinct successors, cumulative probabilities of counts ** (1 / temperature))}."""
    import numpy as np

    # A pair as one number, in the same order: numpy sorts numbers many times faster than columns.
    base = int(tokens.max()) + 1
    pairs, counts = np.unique(contexts * base + tokens, return_counts=True)
    before, after = np.divmod(pairs, base)
    starts = np.flatnonzero(np.r_[True, before[1:] != before[:-1]])
    ends = np.r_[starts[1:], len(pairs)]
    weight = counts.astype(np.float64) ** (1 / temperature)
    out = {}
    for start, end in zip(starts, ends, strict=True):
        cumulative = np.cumsum(weight[start:end])
        out[int(before[start])] = (after[start:end], cumulative / cumulative[-1])
    return out


FAMILY = Family("ngram-generator", "n-grams of k-means tokens", (CARD,), Ngram)
