"""Runs from anybody: their text stays text, their files stay where they are."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import made_runs
from made_runs import score
from site_pages import EVIL, check_only_own_scripts, pages

from vtbench import leaderboard
from vtbench.leaderboard import gallery
from vtbench.results.record import read_run


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    """Everything that a run may hold as text, in every place; the page's own script is the only one."""
    item = EVIL + ".png"
    made_runs.picture(tmp_path / "r" / "samples" / "0.reference.png")
    made_runs.picture(tmp_path / "r" / "samples" / "0.candidate.png", noise=9)
    folder = made_runs.write(
        tmp_path / "r",
        name=EVIL,
        title=EVIL,
        family=EVIL,
        kind=EVIL,
        task=EVIL,
        suite=EVIL,
        view=EVIL,
        options={EVIL: EVIL},
        knob=EVIL,
        ranked=False,
        why_not_ranked=EVIL,
        items=[item, "b.png"],
        values={"psnr": [30.0, None]},
        samples=[{"item": item, "reference": "0.reference.png", "candidate": "0.candidate.png"}],
        scores=[
            score("psnr", 30.0, warning=EVIL, details={EVIL: EVIL, "missing": {EVIL: 1}}, missing=1),
            score("ssim", None, why=EVIL),
            score("bpp", 1.0),
        ],
        weights={"status": EVIL, "why": EVIL, "files": [{"file": EVIL, "sha256": EVIL}]},
        extra={"vtbench": EVIL, "device": {"kind": EVIL}, "command": EVIL, "service": {EVIL: EVIL}},
    )
    info = json.loads((folder / "run.json").read_text())
    info["id"] = "../../" + EVIL
    info["model"]["card"].update(paper="javascript:alert(1)", code="data:text/html,x", licence=EVIL, note=EVIL)
    info["metrics"]["psnr"].update(title=EVIL, unit=EVIL, source=EVIL, convention_of=None)
    info["metrics"]["ssim"].update(convention_of=EVIL, better=EVIL)
    (folder / "run.json").write_text(json.dumps(info))
    leaderboard.build([folder], tmp_path / "site")
    for name, page in pages(tmp_path / "site").items():
        check_only_own_scripts(name, page)
        for _, attributes in page.elements:
            assert not (attributes.get("href") or "").startswith(("javascript:", "data:")), name
            assert attributes.get("src") != "x", name
        assert "<script>alert(1)" in page.words or name == "gallery.html", f"{name} does not show the name at all"
    written = [p.resolve() for p in (tmp_path / "site").rglob("*") if p.is_file()]
    assert all(p.is_relative_to((tmp_path / "site").resolve()) for p in written)
    assert all(re.fullmatch(r"[A-Za-z0-9_.\-]+", p.name) for p in written)


def test_formulas_do_not_reach_a_spreadsheet(tmp_path: Path) -> None:
    made_runs.write(tmp_path / "r", name="=HYPERLINK(1)", scores=[score("psnr", -3.5)])
    leaderboard.build([tmp_path / "r"], tmp_path / "site")
    line = (tmp_path / "site" / "data" / "scores.csv").read_text().splitlines()[1]
    assert ",'=HYPERLINK(1)," in line
    assert ",-3.5," in line


def test_only_pictures_of_the_sample_folder_are_copied(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    made_runs.picture(secret, seed=5)
    folder = tmp_path / "runs" / "r"
    made_runs.picture(folder / "samples" / "ok.reference.png")
    made_runs.picture(folder / "samples" / "ok.candidate.png", noise=5)
    (folder / "samples" / "notes.png").write_text("no picture")
    os.symlink(secret, folder / "samples" / "link.png")
    tries = ["../../../secret.png", str(secret), "link.png", "notes.png", "absent.png", "", ".", "..", "a/../link.png"]
    entries: list[Any] = [
        {"item": f"t{i}", "reference": "ok.reference.png", "candidate": t} for i, t in enumerate(tries)
    ]
    entries += [{"item": "ok", "reference": "ok.reference.png", "candidate": "ok.candidate.png"}, "text", None]
    made_runs.write(folder, scores=[score("psnr", 30.0)], samples=entries)
    assert [s.item for s in gallery.saved_pairs(read_run(folder))] == ["ok"]
    leaderboard.build([tmp_path / "runs"], tmp_path / "site")
    copied = [p.read_bytes() for p in (tmp_path / "site" / "images").iterdir()]
    assert secret.read_bytes() not in copied
    assert (folder / "samples" / "ok.candidate.png").read_bytes() in copied
