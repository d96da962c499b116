"""Pages among the runs: a site holds copies of what it shows, which are no runs of their own."""

from __future__ import annotations

from pathlib import Path

MARKER = "vtbench-site.json"
"""Its presence says that a folder is a site of ours and may be replaced."""


def outside_sites(folders: list[Path], top: Path) -> list[Path]:
    """Those of the folders below `top` that lie in no site below it; a site that is `top` itself is read."""
    above = {place for folder in folders for place in folder.parents if place.is_relative_to(top) and place != top}
    sites = {place for place in above if (place / MARKER).is_file()}
    return [folder for folder in folders if not sites & {*folder.parents}]
