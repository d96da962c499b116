"""Codecs through Pillow: JPEG, WebP, JPEG 2000, AVIF, JPEG XL and PNG. Bits are those of the file, headers included."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench.adapters.fits.kodak import FILES as KODAK
from vtbench.images.reading import PLUGINS, formats
from vtbench.images.rounding import to_float, to_uint8
from vtbench.types.adapter import Tokenizer
from vtbench.types.cards import OURS, Card, Family, Multiple
from vtbench.types.errors import ImageFailed, MissingExtra, VtbenchError
from vtbench.types.tokens import Bitstream, Tokens

if TYPE_CHECKING:
    import torch

QUALITIES = (5, 10, 20, 30, 50, 75, 90, 95)


def _card(name: str, title: str, note: str, **more: Any) -> Card:
    curves = (KODAK[name],) if name in KODAK else ()
    return Card(
        name=name,
        family="codecs",
        sources=OURS,
        kind="codec",
        title=title,
        sizes=Multiple(1),
        note=note,
        curves=curves,
        **more,
    )


CARDS = (
    _card(
        "jpeg",
        "JPEG (libjpeg through Pillow)",
        "4:2:0, baseline, Pillow's default tables; headers counted",
        options={"quality": 75},
        knob="quality",
        knob_values=QUALITIES,
    ),
    _card(
        "webp",
        "WebP (libwebp through Pillow)",
        "lossy, method 4; headers counted",
        options={"quality": 75},
        knob="quality",
        knob_values=QUALITIES,
    ),
    _card(
        "jpeg2000",
        "JPEG 2000 (OpenJPEG through Pillow)",
        "9/7 wavelet, one layer of a stated PSNR; headers counted",
        options={"db": 35},
        knob="db",
        knob_values=(25, 30, 35, 40, 45),
    ),
    _card(
        "avif",
        "AVIF (libavif through Pillow)",
        "4:2:0, speed 6; headers counted",
        options={"quality": 60},
        knob="quality",
        knob_values=(10, 20, 30, 45, 60, 75, 90),
    ),
    _card(
        "jpeg-xl",
        "JPEG XL (libjxl through pillow-jxl-plugin)",
        "lossy (VarDCT), effort 7; quality as in cjxl, 99 at most: what is beyond is jpeg-xl-lossless; headers counted",
        options={"quality": 75},
        knob="quality",
        knob_values=QUALITIES,
        extra="formats",
    ),
    _card(
        "jpeg-xl-lossless",
        "JPEG XL, lossless",
        "modular, effort 7; headers counted",
        extra="formats",
    ),
    _card("png", "PNG, lossless", "zlib level 9; the lossless ceiling; headers counted"),
)


class PillowCodec(Tokenizer):
    """The card's name is Pillow's format but for the settings below."""

    FORMATS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
        "jpeg": ("JPEG", {}),
        "webp": ("WEBP", {"method": 4}),
        "jpeg2000": ("JPEG2000", {"irreversible": True, "quality_mode": "dB", "no_jp2": True}),
        "avif": ("AVIF", {"speed": 6, "subsampling": "4:2:0", "max_threads": 1}),
        "jpeg-xl": ("JXL", {"effort": 7, "num_threads": 1}),
        "jpeg-xl-lossless": ("JXL", {"effort": 7, "num_threads": 1, "lossless": True}),
        "png": ("PNG", {"compress_level": 9}),
    }
    MOST: Mapping[str, int] = {"jpeg-xl": 99}
    """Greatest value of the knob where it is not 100: libjxl refuses 100 but for the lossless mode."""

    def __init__(self, card: Card, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(card, options)
        value, most = self.options.get(card.knob or "", 50), self.MOST.get(card.name, 100)
        if not 1 <= value <= most:
            raise VtbenchError(f"{card.name}: {card.knob} is {value}; give 1 to {most}")

    def load(self, files: Mapping[str, Path], device: str = "cpu", dtype: str = "float32") -> None:
        name, _ = self.FORMATS[self.card.name]
        if name in PLUGINS and name not in formats():
            raise MissingExtra(PLUGINS[name].module, self.card.extra or "", self.card.title)

    def _encode(self, rgb: Any) -> bytes:
        from PIL import Image

        name, settings = self.FORMATS[self.card.name]
        extra = {"quality_layers": [self.options["db"]]} if "db" in self.options else dict(self.options)
        out = io.BytesIO()
        try:
            Image.fromarray(rgb).save(out, format=name, **settings, **extra)
        except (OSError, ValueError, OverflowError, RuntimeError) as bad:
            # Formats end at sizes of their own (WebP at 16,383 pixels a side, JPEG at 65,535); the libraries say which.
            height, width = rgb.shape[:2]
            raise ImageFailed(f"{self.card.name} cannot encode {width} x {height} pixels ({bad})") from bad
        return out.getvalue()

    def encode(self, images: torch.Tensor, seeds: Sequence[int], budget: float | None = None) -> Tokens:
        pixels = to_uint8(images).permute(0, 2, 3, 1).contiguous().numpy()
        return Bitstream([self._encode(p) for p in pixels], (int(images.shape[2]), int(images.shape[3])))

    def decode(self, tokens: Tokens, seeds: Sequence[int]) -> torch.Tensor:
        import numpy as np
        import torch
        from PIL import Image

        assert isinstance(tokens, Bitstream)

        def one(data: bytes) -> Any:
            image = Image.open(io.BytesIO(data))
            # `convert` copies also where there is nothing to convert.
            return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))

        return to_float(torch.from_numpy(np.stack([one(d) for d in tokens.data])).permute(0, 3, 1, 2))


FAMILY = Family("codecs", "Image codecs", CARDS, PillowCodec)
