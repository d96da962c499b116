"""Runs that show a browser every part of the pages: curves, pictures, text that was read, markup in every name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import made_runs
from made_runs import score
from site_pages import EVIL

LONG = "a-name-of-three-hundred-characters-" + "x" * 265
ITEMS = [f"photo-{i}.png" for i in range(6)]
READ = "quick zephyrs blow"
CLAIM = {"metric": "psnr", "value": 30.5, "source": "https://example.org/table", "protocol": "vtbench"}


def write(root: Path) -> Path:
    """Four systems on photographs, two of them on text as well; one with a long name, one all of markup."""
    for step, quality in enumerate((10, 50, 90)):
        _codec(root, quality, 28.0 + 3.1 * step, 0.25 * 2**step)
    _photos(root / "long", LONG, title=LONG, kind="discrete", psnr=27.0, bpp=0.1)
    _photos(root / "evil", EVIL, title=EVIL, kind="continuous", psnr=33.0, bpp=1.5, item=EVIL)
    return root


def _codec(root: Path, quality: int, psnr: float, bpp: float) -> None:
    options: dict[str, Any] = {"options": {"quality": quality}, "knob": "quality", "title": "JPEG"}
    folder = _photos(root / f"jpeg-{quality}", "jpeg", kind="codec", psnr=psnr, bpp=bpp, **options)
    info = json.loads((folder / "run.json").read_text())
    info["model"]["card"]["published"] = [CLAIM]
    (folder / "run.json").write_text(json.dumps(info))
    text = root / f"jpeg-{quality}-text"
    cer = [0.9 - 0.01 * quality + 0.01 * i for i in range(6)]
    scores = [score("cer", sum(cer) / 6, half=0.05), score("bpp", bpp, half=bpp / 10)]
    samples = [_sample(text, item, i, quality) for i, item in enumerate(ITEMS[:2])]
    where = {"task": "text", "suite": "starter-text", "view": "native"}
    made_runs.write(
        text, name="jpeg", values={"cer": cer}, items=ITEMS, samples=samples, scores=scores, **where, **options
    )
    rows = [json.loads(line) for line in (text / "rows.jsonl").read_text().splitlines()]
    for row in rows:
        line = {"x_height": 9, "chars": len(READ), "read": READ[: quality // 5], "original_read": READ}
        row["lines"] = [{**line, "read_right": min(len(READ), quality // 5)}, {**line, "read": EVIL, "read_right": 0}]
    (text / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _photos(folder: Path, name: str, *, psnr: float, bpp: float, item: str = "", **more: Any) -> Path:
    items = [item or ITEMS[0], *ITEMS[1:]]
    # Differences of two systems scatter.
    per = [psnr + d * (1 + bpp / 9) for d in (-3.0, -1.5, -0.2, 0.4, 1.3, 3.0)]
    values = {"psnr": per, "ssim": [p / 45 for p in per], "bpp": [bpp * (1 + i / 40) for i in range(6)]}
    means = {metric: sum(of) / 6 for metric, of in values.items()}
    return made_runs.write(
        folder,
        name=name,
        items=items,
        values=values,
        samples=[_sample(folder, item, i, psnr) for i, item in enumerate(items[:3])],
        scores=[
            score("psnr", means["psnr"], half=2.2),
            score("ssim", means["ssim"], half=0.03),
            score("lpips-alex", None, n=0, missing=6, why="the AlexNet weights are not here"),
            score("bpp", means["bpp"], half=bpp / 10),
        ],
        **more,
    )


def _sample(folder: Path, item: str, seed: int, quality: float) -> dict[str, str]:
    """Writes an original and its reconstruction; returns their line of samples.json."""
    names = {"reference": f"{seed}.reference.png", "candidate": f"{seed}.candidate.png"}
    made_runs.picture(folder / "samples" / names["reference"], size=(160, 120), seed=seed)
    made_runs.picture(folder / "samples" / names["candidate"], size=(160, 120), seed=seed, noise=600 / quality)
    return {"item": item, **names}
