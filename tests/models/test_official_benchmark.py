"""benchmarks/official.py on one family: a full-size architecture through the command, with made-up weights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from vtbench import registry

ROOT = Path(__file__).resolve().parents[2]


def test_a_full_size_architecture_runs_from_a_file_in_the_official_container(tmp_path: Path) -> None:
    """The script itself fails if the run is ranked or not marked unverified; the file is gone afterwards."""
    command = [sys.executable, str(ROOT / "benchmarks" / "official.py"), "taef1", "--folder", str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr
    header, _, row = ran.stdout.splitlines()
    values = dict(zip(header.split(" | "), row.split(" | "), strict=True))
    assert values["| model"] == "| taef1"
    # README of taesd: 1.22 M parameters in each half; 16 channels of float16 for 8 x 8 pixels are 4 bits a pixel.
    assert values["parameters, M"] == "2.5"
    assert float(values["bpp |"].rstrip(" |")) == 4.0
    assert 100 < float(values["peak memory, MiB"]) < 4000
    assert not list(tmp_path.iterdir()), "weights were left behind"


def test_every_family_with_a_network_is_in_the_table() -> None:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import official  # type: ignore[import-not-found]
    finally:
        sys.path.pop(0)
    chosen = {registry.model(name).family.name for name in official.default_models()}
    native = {e.family.name for e in registry.entries() if e.family.network and e.card.kind != "generator"}
    assert chosen == native
