"""Every format, depth, colour, alpha and layout through the reader, against a second decoder: writes docs/images.md.

    python -m benchmarks.images.page > docs/images.md

Files are made and undone again by imagecodecs, tifffile and by hand; the samples of the second decoder become pixels by
the arithmetic of `cases.rule`, which shares nothing with the reader.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from benchmarks.images import others, pngs, tiffs
from benchmarks.images.cases import TURNS, Case, rule
from vtbench.images.limits import BadImage
from vtbench.images.reading import read_picture

TEXT = """# Which files are read, and how

`python -m benchmarks.images.page > docs/images.md` writes this page; `tests/images/test_format_matrix.py` holds it
to what is read today.

One rule makes uint8 RGB of every file: the orientation that its metadata states is applied; colours and alpha are
the samples that the file names so; alpha is laid on white; grey is repeated; palettes are looked up; CMYK is
converted by Pillow's plain formula; samples of more than 8 bits keep their high byte (AVIF, whose decoder rounds,
aside), fewer are spread over 0 to 255; of several frames the first. Sizes are compared after decoding.

- **Colour profiles are not applied**, as everywhere in the field. A profile that is not sRGB in effect stands in
  the row's flags (`profile`), pairs whose sides state different ones are remarked beside their scores, and `--icc
  srgb` (evaluate, score, explain) converts by littleCMS: relative colorimetric, black point compensated, at 8 bits,
  before transparency is laid on white. The choice is part of the view (`256+srgb`) and of every fingerprint. What
  is stated in other words is named, not converted, and refused under `--icc srgb`: a PNG's cICP, gAMA and cHRM, the
  code points of an AVIF or HEIC (nclx), Adobe RGB by Exif, ROMM RGB of a JPEG 2000.
- **Damaged or large metadata is no damaged picture**: Exif that is none, texts above 1 MiB, profiles of megabytes,
  wrong checksums of chunks that decide no pixel. The pixels are read, and the flag `ignored` says what was left
  alone. A wrong checksum of IHDR, PLTE, tRNS or IDAT, or zlib's own, is an error of that image, and so is a pixel
  that names a colour behind the end of its palette.
- **Damage that no checksum shows**: JPEG, WebP, AVIF, JPEG 2000, JPEG XL, BMP, PPM, GIF and TIFF (but for Deflate at
  8 or 16 bits, whose checksum counts) keep none over their pixels, so that a damaged file may decode to other pixels
  in silence. A manifest is the remedy: `vtbench suite freeze DIR --out SUITE.jsonl` writes the sha256 of every file
  and of its pixels, and every verb that is given SUITE.jsonl in place of DIR compares them; an image that is another
  is an error of that image.
- **A picture whose alpha is 0 everywhere** is refused: there is nothing of it to compare.
- **Refused by name**: floating-point, signed and 32-bit samples (their range is not stated), CIE L\\*a\\*b\\*,
  colour filter arrays, JPEG 2000 in other enumerated spaces than sRGB, grey, sYCC and CMYK; files that are no regular
  files, of more than 1 GiB, or of more than 268,435,456 pixels.
- TIFF of grey with alpha in planes or of 16 bits, compressed by LZW, Zstandard, PackBits or LZMA, and JPEG 2000 of
  grey with alpha above 8 bits need imagecodecs (extra `images`); HEIC and JPEG XL the extra `formats`.

Every PNG is written row by row and interlaced. "turned": in all eight orientations. "difference": the largest of any
sample of any file of the line from what the second decoder's samples are by the same rule, in grey levels; 1 is a
rounding. Lossy formats are given up to a bound that holds for every version of their decoders.
"""


@dataclass(frozen=True)
class Line:
    """What became of a case: how many files, the largest difference, and what was said of them."""

    case: Case
    files: int
    difference: float
    said: str

    def cells(self) -> list[str]:
        case = self.case
        bound = f"at most {case.bound}" if case.form in LOSSY else str(round(self.difference))
        turned = "yes" if case.turned else "no"
        return [
            case.form,
            str(case.bits),
            case.colour,
            case.alpha,
            case.layout,
            str(self.files),
            turned,
            self.said,
            bound,
        ]


LOSSY = ("JPEG", "AVIF")
REFUSED = ("32-bit float", "16-bit float", "32-bit", "16-bit signed", "8-bit CIE L*a*b*")
HEADER = ("format", "bits", "colour", "alpha", "layout", "files", "turned", "", "difference")


def cases() -> Iterator[Case]:
    yield from pngs.png_cases()
    yield from tiffs.tiff_cases()
    yield from others.jpeg_cases()
    yield from others.webp_cases()
    yield from others.jpeg2000_cases()
    yield from others.avif_cases()
    yield from others.jpegxl_cases()
    yield from others.bmp_and_gif_cases()
    yield from others.ppm_cases()


def measured(case: Case) -> Line:
    """All files of a case through both decoders."""
    files, worst, flags = 0, 0.0, set[str]()
    for turn in TURNS if case.turned else (1,):
        for data in case.make(turn):
            files += 1
            picture = read_picture(data, "it")
            wanted = rule(case.undo(data), case, turn)
            if picture.rgb.shape != wanted.shape:
                raise AssertionError(f"{case}: {picture.rgb.shape}, the second decoder {wanted.shape}")
            worst = max(worst, float(np.abs(picture.rgb - wanted).max()))
            flags |= {*picture.flags}
    said = f"flagged: {', '.join(sorted(flags))}" if flags else "read"
    return Line(case, files, worst, said)


def refusals() -> Iterator[tuple[str, str]]:
    """(what, the sentence) of files that are refused."""
    clear = np.zeros((4, 4, 4), np.uint8)
    files = {f"TIFF, {kind}": tiffs.refused(kind) for kind in REFUSED}
    files["JPEG 2000, CIE L*a*b*"] = others.jpeg2000_in_space(14)
    files["PNG, alpha 0 everywhere"] = others.plain(Image.fromarray(clear), "PNG")
    for what, data in files.items():
        try:
            read_picture(data, "it")
        except BadImage as bad:
            yield what, str(bad)
        else:
            raise AssertionError(f"{what} was read")


def page(lines: list[Line]) -> str:
    """docs/images.md of these measurements."""
    out = [TEXT, f"| {' | '.join(HEADER)} |", f"|{'---|' * len(HEADER)}"]
    out += [f"| {' | '.join(line.cells())} |" for line in lines]
    out += ["", "## Refused by name", "", "| file | sentence |", "|---|---|"]
    out += [f"| {what} | {sentence.replace('*', chr(92) + '*')} |" for what, sentence in refusals()]
    return "\n".join(out)


if __name__ == "__main__":
    print(page([measured(case) for case in cases()]))
