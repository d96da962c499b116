"""The site of a made leaderboard: seconds and memory of its build, bytes, elements and heights of its pages.

`python benchmarks/site.py [--models 100] [--tasks 5] [--images 12]`: writes runs (tests/synthetic_runs.py), builds
their site in a process of its own, and opens its first pages in Chromium, where there is one. The runs hold no
pictures, so that what is measured is the pages.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = """
import json, resource, sys, time
from pathlib import Path
wall, cpu = time.perf_counter(), time.process_time()
from vtbench import leaderboard
leaderboard.build([Path(sys.argv[1])], Path(sys.argv[2]))
print(json.dumps({
    "wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "torch": "torch" in sys.modules,
    "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
}))
"""
WIDTHS = (1440, 390)


def build(runs: Path, site: Path) -> dict[str, float]:
    ran = subprocess.run(
        [sys.executable, "-c", BUILD, str(runs), str(site)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    measured: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return measured


def height(page: Path, width: int) -> int | None:
    """Of the page in pixels, as Chromium lays it out; None without Chromium."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        return None
    # A page that only frames the other, and writes its height where --dump-dom finds it.
    with tempfile.TemporaryDirectory() as folder:
        frame = Path(folder) / "frame.html"
        frame.write_text(
            f'<iframe id="f" src="{page.as_uri()}" style="width:{width}px;height:900px;border:0"></iframe>'
            '<p id="h"></p>'
            "<script>f.onload = () => h.textContent = `height ${f.contentDocument.documentElement.scrollHeight}`"
            "</script>"
        )
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--dump-dom"]
        profile = f"--user-data-dir={folder}/profile"
        command = [
            chromium,
            *flags,
            profile,
            "--virtual-time-budget=5000",
            f"--window-size={width},900",
            frame.as_uri(),
        ]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    stated = re.search(r"height (\d+)", ran.stdout)
    return int(stated[1]) if stated else None


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__)
    for name, default in (("models", 100), ("tasks", 5), ("images", 12)):
        parse.add_argument(f"--{name}", type=int, default=default)
    asked = parse.parse_args()
    sys.path.insert(0, str(ROOT / "tests"))
    import synthetic_runs

    with tempfile.TemporaryDirectory() as folder:
        runs, site = Path(folder) / "runs", Path(folder) / "site"
        synthetic_runs.write_world(runs, asked.models, asked.tasks, asked.images)
        measured = build(runs, site)
        files = [p for p in site.rglob("*") if p.is_file()]
        print(f"| {asked.models} operating points, {asked.tasks} tasks, {asked.images} images | |\n|---|---|")
        print(f"| build, s (CPU s) | {measured['wall']:.1f} ({measured['cpu']:.1f}) |")
        print(f"| peak memory, MiB | {measured['mib']:.0f} |\n| torch imported | {bool(measured['torch'])} |")
        print(f"| files, MB | {len(files)}, {sum(p.stat().st_size for p in files) / 1e6:.1f} |")
        print("\n| page | kB | elements | tab stops | " + " | ".join(f"px high at {w}" for w in WIDTHS) + " |")
        print("|---" * (4 + len(WIDTHS)) + "|")
        shown = ["index.html", "task/reconstruction.html", "published.html", "compare.html"]
        shown += [p.relative_to(site).as_posix() for p in sorted((site / "model").glob("*.html"))[:1]]
        for name in shown:
            text = (site / name).read_text()
            stops = len(re.findall(r"<(?:a [^>]*href|button|select|input|summary)(?![^>]*tabindex=\"-1\")", text))
            heights = [height(site / name, width) for width in WIDTHS]
            counts = [f"{len(text.encode()) / 1000:.0f}", len(re.findall(r"<[a-z]", text)), stops]
            print(f"| {name} | " + " | ".join(str(c) for c in [*counts, *heights]) + " |")


if __name__ == "__main__":
    main()
