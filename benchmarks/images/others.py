"""JPEG, WebP, JPEG 2000, AVIF, JPEG XL, BMP, GIF and PPM, made by imagecodecs and Pillow."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import imagecodecs
import numpy as np
from PIL import Image

from benchmarks.images.cases import COLOURS, HEIGHT, WIDTH, Case, Samples, samples
from benchmarks.images.pngs import exif_of


def by(decode: str) -> Any:
    """The decoder of imagecodecs, giving (H, W, n)."""

    def undo(data: bytes) -> Samples:
        out = np.asarray(getattr(imagecodecs, decode)(data))
        return out[..., None] if out.ndim == 2 else out

    return undo


def flat(values: Samples) -> Samples:
    return values[..., 0] if values.shape[2] == 1 else values


def by_pillow(kind: str, values: Samples, mode: str, turn: int, **how: Any) -> bytes:
    """Pillow's file of the values, with an Exif block."""
    out = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(flat(values)), mode)
    image.save(out, kind, exif=b"Exif\0\0" + exif_of(turn), **how)
    return out.getvalue()


def kinds(bits: int, *, grey: bool = True) -> Iterator[tuple[str, str, Samples]]:
    """(colour, alpha, samples) of grey and RGB, without and with alpha."""
    for colour in ("grey", "RGB") if grey else ("RGB",):
        for alpha in ("none", "straight"):
            yield colour, alpha, samples(bits, COLOURS[colour] + (alpha != "none"))


def jpeg_cases() -> Iterator[Case]:
    ways = {"4:4:4": {"subsampling": 0}, "4:2:0": {"subsampling": 2}, "progressive": {"progressive": True}}
    for layout, how in ways.items():

        def make(turn: int, how: dict[str, Any] = how) -> list[bytes]:
            return [by_pillow("JPEG", samples(8, 3), "RGB", turn, quality=95, **how)]

        yield Case("JPEG", 8, "RGB", "none", layout, make, by("jpeg8_decode"), turned=True, bound=2)

    def grey(turn: int) -> list[bytes]:
        return [by_pillow("JPEG", samples(8, 1), "L", turn)]

    yield Case("JPEG", 8, "grey", "none", "", grey, by("jpeg8_decode"), turned=True, bound=2)

    def cmyk(turn: int) -> list[bytes]:
        return [by_pillow("JPEG", samples(8, 4), "CMYK", turn, quality=95)]

    def undo(data: bytes) -> Samples:
        # Adobe's CMYK lies inverted in the file (Adobe technical note 5116, APP14).
        return 255 - by("jpeg8_decode")(data)

    yield Case("JPEG", 8, "CMYK", "none", "Adobe", cmyk, undo, turned=True, bound=3)


def webp_cases() -> Iterator[Case]:
    for colour, alpha, values in kinds(8, grey=False):
        mode = "RGBA" if alpha == "straight" else "RGB"

        def make(turn: int, values: Samples = values, mode: str = mode) -> list[bytes]:
            return [by_pillow("WEBP", values, mode, turn, lossless=True, exact=True)]

        yield Case("WebP", 8, colour, alpha, "lossless", make, by("webp_decode"), turned=True)


def jpeg2000_cases() -> Iterator[Case]:
    for bits in (1, 4, 8, 9, 10, 12, 16):
        for colour, alpha, values in kinds(bits):

            def make(_: int, values: Samples = values, bits: int = bits) -> Iterator[bytes]:
                for form in ("jp2", "j2k"):
                    how = {"codecformat": form, "reversible": True, "bitspersample": bits, "mct": values.shape[2] > 2}
                    yield bytes(imagecodecs.jpeg2k_encode(flat(values), level=0, **how))

            yield Case("JPEG 2000", bits, colour, alpha, "lossless, file and codestream", make, by("jpeg2k_decode"))


def jpeg2000_in_space(space: int) -> bytes:
    """A file of three components that says so of its colours, by the number of an enumerated space."""
    data = bytes(imagecodecs.jpeg2k_encode(samples(8, 3), level=0, codecformat="jp2", mct=False))
    place = data.index(b"colr") + 7
    return data[:place] + space.to_bytes(4, "big") + data[place + 4 :]


def avif_cases() -> Iterator[Case]:
    for bits in (8, 10, 12):
        for colour, alpha, values in kinds(bits, grey=False):

            def make(_: int, values: Samples = values, bits: int = bits) -> list[bytes]:
                return [bytes(imagecodecs.avif_encode(values, level=100, bitspersample=bits))]

            yield Case("AVIF", bits, colour, alpha, "", make, by("avif_decode"), bound=2)


def jpegxl_cases() -> Iterator[Case]:
    for bits in (8, 16):
        for colour, alpha, values in kinds(bits):

            def make(_: int, values: Samples = values) -> list[bytes]:
                return [bytes(imagecodecs.jpegxl_encode(flat(values), lossless=True))]

            yield Case("JPEG XL", bits, colour, alpha, "lossless", make, by("jpegxl_decode"))


def bmp_and_gif_cases() -> Iterator[Case]:
    for colour, mode in (("grey", "L"), ("RGB", "RGB")):

        def make(_: int, mode: str = mode, count: int = COLOURS[colour]) -> list[bytes]:
            out = io.BytesIO()
            Image.fromarray(flat(samples(8, count)), mode).save(out, "BMP")
            return [out.getvalue()]

        yield Case("BMP", 8, colour, "none", "", make, by("bmp_decode"))
    index, table = samples(8, 1)[..., 0], np.random.default_rng(3).integers(0, 256, (256, 3)).astype(np.uint8)
    clear = int(index[5, 5])
    for alpha in ("none", "one index"):

        def gif(_: int, alpha: str = alpha) -> list[bytes]:
            image = Image.fromarray(index, "P")
            image.putpalette(table.tobytes())
            out = io.BytesIO()
            image.save(out, "GIF", optimize=False, **({} if alpha == "none" else {"transparency": clear}))
            return [out.getvalue()]

        cover = np.where(index == clear, 0, 255).astype(np.uint8)[..., None]
        stored = table[index] if alpha == "none" else np.concatenate([table[index], cover], axis=2)
        yield Case("GIF", 8, "palette", alpha, "8-bit index", gif, lambda _, stored=stored: stored)


def ppm_cases() -> Iterator[Case]:
    for bits in (8, 10, 12, 16):
        for colour in ("grey", "RGB"):
            values = samples(bits, COLOURS[colour])

            def make(_: int, values: Samples = values, bits: int = bits) -> Iterator[bytes]:
                for kind in ("P5", "P2") if values.shape[2] == 1 else ("P6", "P3"):
                    head = f"{kind}\n# a comment\n{WIDTH} {HEIGHT}\n{(1 << bits) - 1}\n".encode()
                    if kind in ("P5", "P6"):
                        yield head + values.astype(">u2" if bits > 8 else "u1").tobytes()
                    else:
                        yield head + " ".join(map(str, values.ravel())).encode() + b"\n"

            yield Case("PPM", bits, colour, "none", "binary and text", make, lambda _, values=values: values)


def plain(image: Image.Image, kind: str) -> bytes:
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()
