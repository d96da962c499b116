"""Pictures of a generation for the page: beside an image stands its prompt, where a tokenizer has its original."""

from __future__ import annotations

import heapq
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from vtbench.results.files import write_json
from vtbench.running.draw import Drawing
from vtbench.running.writer import SAMPLES
from vtbench.types.adapter import Prompt

if TYPE_CHECKING:
    from PIL.Image import Image

PAPER, INK = (238, 238, 238), (34, 34, 34)


def write_samples(path: Path, drawing: Drawing) -> None:
    """The first images, one a prompt where there are several prompts, into `path`/samples."""
    folder = path / "samples"
    folder.mkdir(exist_ok=True)
    rows = heapq.nsmallest(SAMPLES, drawing.rows, key=lambda row: row.sample)
    known = []
    for number, row in enumerate(rows):
        names = {kind: f"{number:02d}.{kind}.png" for kind in ("reference", "candidate")}
        (folder / names["candidate"]).write_bytes((drawing.path / row.file).read_bytes())
        prompt = Prompt(row.prompt, row.text, row.label)
        height, width = row.size
        prompt_picture(prompt, width, height).save(folder / names["reference"])
        known.append({"item": row.id, **names})
    write_json(folder / "samples.json", known)


def prompt_picture(prompt: Prompt, width: int, height: int) -> Image:
    """The prompt's text, or its class, written on a plain ground of the image's size."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (width, height), PAPER)
    text = prompt.text if prompt.text is not None else f"class {prompt.label} ({prompt.id})"
    points = max(8, width // 16)
    lines = textwrap.fill(f"prompt: {text}", max(8, int(width / (0.55 * points))))
    font = ImageFont.load_default(points)
    ImageDraw.Draw(image).multiline_text((points // 2, points // 2), lines, fill=INK, font=font)
    return image
