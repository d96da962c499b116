"""README's picture of the page: the top of the demo's, photographed by Chromium.

    make demo && python -m benchmarks.picture out/quick/site/index.html

Writes docs/page.webp, below 150 kB.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "page.webp"
WINDOW = (1440, 1000)
"""Pixels of the browser's window."""
WIDTH = 1200
"""Pixels of the picture."""
LARGEST = 150_000
"""Bytes."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def photograph(page: Path) -> Image.Image:
    """What the browser shows of a page in a window, RGB, in the light colours."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise SystemExit(f"none of {', '.join(BROWSERS)} is installed")
    with tempfile.TemporaryDirectory() as scratch:
        picture = Path(scratch) / "page.png"
        words = [
            browser,
            "--headless",
            "--hide-scrollbars",
            "--disable-gpu",
            f"--window-size={WINDOW[0]},{WINDOW[1]}",
            f"--user-data-dir={scratch}/profile",
            f"--screenshot={picture}",
            # Its sandbox does not run as root, as in a container.
            *(["--no-sandbox"] if os.geteuid() == 0 else []),
            page.resolve().as_uri(),
        ]
        subprocess.run(words, check=True, capture_output=True, timeout=120)
        with Image.open(picture) as opened:
            return opened.convert("RGB")


def compressed(image: Image.Image) -> bytes:
    """WebP, at the best quality that stays below LARGEST."""
    small = image.resize((WIDTH, round(image.height * WIDTH / image.width)), Image.Resampling.LANCZOS)
    for quality in range(90, 20, -5):
        out = io.BytesIO()
        small.save(out, "WEBP", quality=quality, method=6)
        if out.tell() < LARGEST:
            return out.getvalue()
    raise SystemExit(f"the picture does not fit in {LARGEST} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    data = compressed(photograph(parser.parse_args().page))
    PICTURE.write_bytes(data)
    print(f"{PICTURE.relative_to(Path.cwd())}: {len(data)} bytes")


if __name__ == "__main__":
    main()
