"""Makes the starter suites: manifests over photographs that ship inside scikit-image, exact test patterns, text pages.

    python -m vtbench.tasks.suites.make_starter

Run once by a maintainer; needs matplotlib for its DejaVu fonts (free licence). The PNGs are committed: a page is never
rendered at a user's, so that fonts and libraries cannot move a number.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vtbench.images.reading import decode, rgb_sha256

HERE = Path(__file__).resolve().parent
SIDE = 256
PAGE = 512
NATURAL = (
    *("astronaut.png", "camera.png", "chelsea.png", "clock_motion.png", "coffee.png", "coins.png", "moon.png"),
    *("motorcycle_left.png", "rocket.jpg"),
)
TEXTURE = ("brick.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "retina.jpg")
LICENCE = "images of scikit-image (see skimage/data/README.txt) and patterns made by make_starter.py"


def skimage_data() -> Path:
    spec = importlib.util.find_spec("skimage")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "data"


def line(place: str, data: bytes, meta: Mapping[str, Any] | None = None) -> dict[str, Any]:
    name = Path(place.partition(":")[2] or place).stem
    rgb = decode(data, name)
    facts = {
        "item": name,
        "file": place,
        "sha256_file": hashlib.sha256(data).hexdigest(),
        "sha256_rgb": rgb_sha256(rgb),
    }
    return {**facts, **({"meta": dict(meta)} if meta else {})}


def write(name: str, title: str, lines: Sequence[Mapping[str, Any]], licence: str) -> None:
    head = {"suite": name, "version": "1", "title": title, "licence": licence}
    text = "\n".join(json.dumps(x, ensure_ascii=False) for x in (head, *lines))
    (HERE / f"{name}.jsonl").write_text(text + "\n", encoding="utf-8")


def save(name: str, rgb: np.ndarray[Any, Any]) -> tuple[str, bytes]:
    path = HERE / "images" / f"{name}.png"
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(rgb).save(path, optimize=True)
    return f"images/{name}.png", path.read_bytes()


# -- patterns: truth by formula --------------------------------------------------------------------------------------


def grey(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """[0, 1] -> uint8 RGB."""
    return np.repeat(np.round(np.clip(values, 0, 1) * 255).astype(np.uint8)[..., None], 3, axis=2)


def zone_plate() -> np.ndarray[Any, Any]:
    """cos(pi r^2 / N): the local frequency grows with the radius to half a cycle a pixel at the middle of the edges."""
    axis = np.arange(SIDE) - (SIDE - 1) / 2
    return grey(0.5 + 0.5 * np.cos(np.pi * (axis[:, None] ** 2 + axis[None] ** 2) / SIDE))


def siemens_star() -> np.ndarray[Any, Any]:
    """36 spokes, black and white, sampled 8 x 8 times a pixel."""
    fine = (np.arange(SIDE * 8) + 0.5) / 8 - SIDE / 2
    angle = np.arctan2(fine[:, None], fine[None])
    star = (np.sin(36 * angle) > 0).astype(float).reshape(SIDE, 8, SIDE, 8).mean(axis=(1, 3))
    return grey(star)


def line_pairs() -> np.ndarray[Any, Any]:
    """Eight bands of vertical (left) and horizontal (right) bars, 1 to 8 pixels wide."""
    out = np.ones((SIDE, SIDE))
    for k in range(8):
        top, half = 32 * k, SIDE // 2
        bars = (np.arange(SIDE) // (k + 1)) % 2
        out[top + 2 : top + 30, 2 : half - 2] = bars[None, 2 : half - 2]
        out[top + 2 : top + 30, half + 2 : SIDE - 2] = bars[2:30, None]
    return grey(out)


def checkerboards() -> np.ndarray[Any, Any]:
    """Four quadrants of squares of 1, 2, 4 and 8 pixels."""
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    size = np.choose(2 * (y >= SIDE // 2) + (x >= SIDE // 2), [1, 2, 4, 8])
    return grey(((y // size + x // size) % 2).astype(float))


def grids() -> np.ndarray[Any, Any]:
    """One-pixel lines every 8 pixels: black on white, white on black, red on blue, green on grey."""
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    on = (y % 8 == 3) | (x % 8 == 3)
    black, white = (0, 0, 0), (255, 255, 255)
    red_on_blue, green_on_grey = ((220, 30, 30), (20, 40, 160)), ((20, 140, 60), (128, 128, 128))
    pairs = ((black, white), (white, black), red_on_blue, green_on_grey)
    part = 2 * (y >= SIDE // 2) + (x >= SIDE // 2)
    table = np.array(pairs, dtype=np.uint8)
    return table[part, np.where(on, 0, 1)]


PATTERNS: Mapping[str, Callable[[], np.ndarray[Any, Any]]] = {
    "zone-plate": zone_plate,
    "siemens-star": siemens_star,
    "line-pairs": line_pairs,
    "checkerboards": checkerboards,
    "grids": grids,
}


# -- text: truth by construction -------------------------------------------------------------------------------------


def fonts(bold: bool = False, mono: bool = False) -> Path:
    import matplotlib

    name = {(False, False): "DejaVuSans", (True, False): "DejaVuSans-Bold", (False, True): "DejaVuSansMono"}[bold, mono]
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"


def x_height(font: Any) -> int:
    """Pixels of a rendered x that are darker than half, from its top row to its bottom row."""
    image = Image.new("L", (200, 200), 255)
    ImageDraw.Draw(image).text((50, 50), "x", font=font, fill=0)
    rows = np.flatnonzero((np.asarray(image) < 128).any(axis=1))
    return int(rows[-1] - rows[0] + 1) if len(rows) else 0


def font_of(height: int, **style: bool) -> Any:
    """The font whose x is `height` pixels high, as measured."""
    for size in np.arange(3.0, 80.0, 0.25):
        font = ImageFont.truetype(str(fonts(**style)), float(size))
        if x_height(font) == height:
            return font
    raise ValueError(f"no size of the font has an x-height of {height}")


class Page:
    """A page of lines whose text and boxes are known."""

    def __init__(self, dark: bool = False) -> None:
        self.paper, self.ink = ((24, 26, 32), (236, 236, 230)) if dark else ((255, 255, 255), (16, 16, 20))
        self.image = Image.new("RGB", (PAGE, PAGE), self.paper)
        self.draw = ImageDraw.Draw(self.image)
        self.lines: list[dict[str, Any]] = []

    def put(self, text: str, left: int, top: int, height: int, block: str, **style: bool) -> int:
        """Draws a line at (left, top); returns the y below it. The box is the ink's with two pixels around it."""
        font = font_of(height, **style)
        box = self.draw.textbbox((left, top), text, font=font)
        assert max(box[2], box[3]) < PAGE - 2, f"{text!r} runs over the page: {box}"
        self.draw.text((left, top), text, font=font, fill=self.ink)
        around = [max(0, box[0] - 2), max(0, box[1] - 2), min(PAGE, box[2] + 2), min(PAGE, box[3] + 2)]
        entry = {"text": text, "box": [int(v) for v in around], "x_height": height, "block": block}
        self.lines.append(entry)
        return int(box[3])


HEIGHTS = (3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 17, 20, 24)
PHRASES = {
    3: "the quick brown fox jumps over the lazy dog near a river bank",
    4: "pack my box with five dozen liquor jugs today",
    5: "sphinx of black quartz judge my vow at once",
    6: "how vexingly quick daft zebras jump",
    7: "bright vixens jump and dozy fowl quack",
    8: "five quacking zephyrs jolt my wax bed",
    9: "two driven jocks help fax my big quiz",
    10: "jackdaws love my big sphinx of quartz",
    12: "the five boxing wizards jump",
    14: "waltz nymph for quick jigs",
    17: "quick zephyrs blow vexing",
    20: "a mad boxer shot a jab",
    24: "grumpy wizards make",
}
OTHER = {
    3: "small print shows first what a tokenizer cannot keep in its codes",
    4: "every letter here is known so nothing is guessed",
    5: "reading begins where the strokes stay apart",
    6: "margins and spacing matter as well",
    7: "a page of words is a hard test",
    8: "numbers without names mean little",
    9: "measure twice and publish once",
    10: "light ink on a dark ground",
    12: "contrast is not detail",
    14: "half of the letters",
    17: "words remain legible",
    20: "large and clear",
    24: "end of line",
}


def ladder(dark: bool, phrases: Mapping[int, str]) -> Page:
    page = Page(dark)
    top = 12
    for height in HEIGHTS:
        top = page.put(phrases[height], 14, top, height, "ladder") + max(6, height // 2)
    return page


def digits() -> Page:
    page = Page()
    rows = (
        (5, "3141592653 5897932384 6264338327 9502884197"),
        (6, "2718281828 4590452353 6028747135"),
        (7, "1618033988 7498948482 0458683436"),
        (8, "1414213562 3730950488 016887"),
        (10, "5772156649 0153286060"),
        (12, "6931471805 599453"),
        (16, "1202056903 15"),
        (20, "9159655941"),
    )
    top = 16
    for height, text in rows:
        top = page.put(text, 14, top, height, "digits") + height + 6
    return page


def mixed() -> Page:
    page = Page()
    rows = (
        (5, "Invoice No. A-4471 / Ref: QX9-B2 (Copy)"),
        (6, "Dr. Okafor, Room 12B, 3rd Floor"),
        (7, "WARNING: Do NOT open Valve 7"),
        (8, "Tel. +44 20 7946 0018, Ext. 305"),
        (9, "e-mail: info@example.org"),
        (10, "Kg/m3, mV, GHz, dB, pH 7.4"),
        (12, "Smith & Sons, Est. 1897"),
        (16, "Gate B17, 09:45"),
        (20, "Open 24 Hours"),
    )
    top = 16
    for height, text in rows:
        top = page.put(text, 14, top, height, "mixed", bold=height >= 16) + height + 4
    return page


def paragraph() -> Page:
    page = Page()
    text = (
        "An image tokenizer turns a picture into a short list",
        "of symbols, and a decoder turns the symbols back into",
        "a picture. Whatever the symbols do not carry is made",
        "up by the decoder from what it saw during training.",
        "Smooth areas survive this with ease. Hair, gravel,",
        "brick and foliage come back as a texture of the same",
        "kind, though not the same one. Letters are harder:",
        "a stroke that moves by one pixel makes another word,",
        "and a reader notices at once. That is why a page of",
        "small print tells more about a tokenizer than the",
        "mean squared error of a thousand photographs, and",
        "why every line of this page is known by heart.",
    )
    top = 18
    for words in text:
        top = page.put(words, 16, top, 8, "paragraph") + 15
    return page


def table() -> Page:
    page = Page()
    head = ("Model", "Tokens", "PSNR", "Bits")
    rows = (
        ("Alpha", "256", "20.79", "3584"),
        ("Bravo", "1024", "24.45", "13312"),
        ("Carol", "64", "18.02", "768"),
        ("Delta", "576", "22.31", "8064"),
        ("Echo", "680", "23.90", "8160"),
        ("Fox", "32", "16.55", "384"),
    )
    columns = (20, 150, 280, 400)
    for k, row in enumerate((head, *rows)):
        for left, cell in zip(columns, row, strict=True):
            page.put(cell, left, 30 + 64 * k, 9, "table", bold=k == 0)
        page.draw.line((12, 64 + 64 * k, PAGE - 12, 64 + 64 * k), fill=(150, 150, 150))
    return page


def receipt() -> Page:
    page = Page()
    rows = (
        ("CORNER SHOP", ""),
        ("Bread white 800g", "1.35"),
        ("Milk 2 litre", "1.80"),
        ("Eggs free range", "2.95"),
        ("Butter salted", "2.40"),
        ("Apples 1.2 kg", "3.12"),
        ("Coffee ground", "4.75"),
        ("Soap bar x3", "1.99"),
        ("TOTAL", "18.36"),
        ("Card ending 4471", "18.36"),
        ("Thank you", ""),
    )
    for k, (what, price) in enumerate(rows):
        page.put(what, 130, 24 + 42 * k, 7, "receipt", mono=True)
        if price:
            page.put(price, 340, 24 + 42 * k, 7, "receipt", mono=True)
    return page


PAGES: Mapping[str, Callable[[], Page]] = {
    "text-ladder-light": lambda: ladder(False, PHRASES),
    "text-ladder-dark": lambda: ladder(True, OTHER),
    "text-digits": digits,
    "text-mixed": mixed,
    "text-paragraph": paragraph,
    "text-table": table,
    "text-receipt": receipt,
}


def main() -> None:
    data = skimage_data()
    photos = [line(f"skimage:{n}", (data / n).read_bytes()) for n in NATURAL]
    write("starter-natural", "Photographs", photos, LICENCE)
    texture = [line(f"skimage:{n}", (data / n).read_bytes()) for n in TEXTURE]
    patterns = [line(*save(name, make()), {"pattern": name}) for name, make in PATTERNS.items()]
    write("starter-detail", "Fine texture and exact patterns", [*texture, *patterns], LICENCE)
    pages = []
    for name, make in PAGES.items():
        page = make()
        pages.append(line(*save(name, np.asarray(page.image)), {"script": "latin", "lines": page.lines}))
    write(
        "starter-text",
        "Rendered text, true lines known",
        pages,
        "text and pages of vtbench; DejaVu fonts (free licence)",
    )


if __name__ == "__main__":
    main()
