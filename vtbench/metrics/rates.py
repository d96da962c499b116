"""Rates of one image: bits under a flat prior, bits per pixel, compression ratios, tokens.

The bits are those that `Tokens.bits` states: for codes the sum of log2 of the alphabets (plus the length of a
variable-length code), for latents the width of the counted dtype, for a codec the bytes of its bitstream, headers
included. Pixels are those of the scored image, padding not counted (CompressAI counts the same way,
compressai/utils/bench/codecs.py). What an entropy coder would make of the tokens stands in `cross_entropy.py` (an
estimate) and `entropy_coding.py` (written bytes) under names of their own: the three are never mixed.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

from vtbench.metrics._pixels import OfPair, originals, values
from vtbench.types.metric import Batch, ImageMetric, MetricCard, Value

SOURCE = "flat prior: log2 of the alphabets, or the bytes of the bitstream"
NO_BITS = "this system sends no tokens, so its rate is unknown"
FREE = "the image costs no bits, so a ratio has no value"

# Every 8-bit RGB image costs this many bits a pixel without any compression.
RAW_BPP = 24.0


def pixels(batch: Batch) -> int:
    """Pixels of one scored image of the batch (all images of a batch have one size)."""
    return int(batch.candidate.shape[-2]) * int(batch.candidate.shape[-1])


def png_bits(image: Any, _: Any = None) -> int:
    """Bits of a PNG of an original, uint8 (H, W, 3): Pillow, 8-bit RGB, zlib level 9, headers included."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(image).save(out, format="PNG", compress_level=9)
    return 8 * out.tell()


_PNG = OfPair(
    "png-bits",
    png_bits,
    lambda batch: [(image, None) for image in originals(batch)],
    of_reference=True,
    asked=lambda batch: batch.bits is not None,
)


class Rate(ImageMetric):
    """A number from the bits of an image: `value(bits, pixels, png bits)`; weights make the mean what `reduction` says.

    Bits and pixels are of one image; those of its PNG are only asked for where `needs_png`, and 0 elsewhere.
    """

    on_cpu = True
    reads_candidate = False

    def __init__(
        self,
        card: MetricCard,
        value: Callable[[float, int, int], float | None],
        *,
        by_bpp: bool = False,
        needs_png: bool = False,
    ) -> None:
        self.card = card
        self._value = value
        self._by_bpp = by_bpp
        self.of_pairs = (_PNG,) if needs_png else ()

    def measure(self, batch: Batch) -> Sequence[Value]:
        if batch.bits is None:
            return [Value(None, why=NO_BITS)] * len(batch)
        area = pixels(batch)
        png = _PNG.of(batch) if self.of_pairs else [0] * len(batch)
        return values(lambda bits, size: self._of(float(bits), area, size), list(batch.bits), png)

    def _of(self, bits: float, area: int, png: int) -> Value:
        value = self._value(bits, area, png)
        return Value(None, why=FREE) if value is None else Value(value, bits / area if self._by_bpp else 1.0)


class TokensUsed(ImageMetric):
    """Positions of every image, as papers count tokens; a bitstream has none."""

    on_cpu = True
    reads_candidate = False
    card = MetricCard(
        name="tokens",
        title="Tokens per image",
        version=2,
        unit="tokens",
        better="lower",
        source="positions of the tokens that the decoder gets; residual and product codes are books of one position",
        bounds=(0.0, None),
        paired=False,
    )

    def measure(self, batch: Batch) -> Sequence[Value]:
        if batch.tokens is None:
            return [Value(None, why=NO_BITS)] * len(batch)
        # The tiles of one image follow each other, and what the image costs is all of them.
        counts, tiles = batch.tokens.positions, len(batch.tokens) // len(batch)
        return [_counted(counts[k * tiles : (k + 1) * tiles]) for k in range(len(batch))]


def _counted(positions: Sequence[int | None]) -> Value:
    known = [n for n in positions if n is not None]
    if len(known) < len(positions):
        return Value(None, why="a bitstream has no tokens")
    return Value(float(sum(known)))


def _card(name: str, title: str, unit: str, better: Any, **more: Any) -> MetricCard:
    return MetricCard(
        name=name, title=title, version=1, unit=unit, better=better, source=SOURCE, bounds=(0.0, None), **more
    )


def bits() -> Rate:
    """Bits of an image under a flat prior."""
    return Rate(_card("bits", "Bits per image", "bit", "lower", paired=False), lambda b, area, png: b)


def bpp() -> Rate:
    """Bits of an image divided by the pixels of the scored image."""
    return Rate(_card("bpp", "Bits per pixel", "bit/px", "lower", paired=False), lambda b, area, png: b / area)


def ratio() -> Rate:
    """24 bits per pixel over the bits per pixel."""
    card = _card(
        "ratio",
        "Compression ratio to 24 bit/px",
        "x",
        "higher",
        reduction="24 / mean bits per pixel (per-image ratios weighted by their bits per pixel)",
        paired=False,
    )
    return Rate(card, lambda b, area, png: RAW_BPP * area / b if b > 0 else None, by_bpp=True)


def ratio_png() -> Rate:
    """Size of the PNG of the same original over the bits."""
    card = _card(
        "ratio-png",
        "Compression ratio to PNG",
        "x",
        "higher",
        reduction="mean PNG bits per pixel / mean bits per pixel (ratios weighted by their bits per pixel)",
    )
    return Rate(card, lambda b, area, png: png / b if b > 0 else None, by_bpp=True, needs_png=True)


METRICS = (bits, bpp, ratio, ratio_png, TokensUsed)
