"""The site as a whole: complete without a network or scripts, the same bytes again, swapped in whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs

import made_runs
import pytest
from made_runs import score
from site_pages import data_of, pages

from vtbench import leaderboard
from vtbench.types.errors import VtbenchError

ROOT = Path(__file__).resolve().parents[2]


def test_every_link_and_picture_is_in_the_site_and_nothing_is_fetched(world: Path) -> None:
    folder = world / "site"
    read = pages(folder)
    ids = {name: [a["id"] for _, a in page.elements if a.get("id")] for name, page in read.items()}
    systems = {of["key"] for of in data_of(folder, "systems")["systems"]}
    checked = 0
    for name, page in read.items():
        assert len(ids[name]) == len(set(ids[name])), f"{name} has an id twice"
        for tag, attributes in page.elements:
            for key in ("href", "src", "data-original"):
                target = attributes.get(key)
                if target is None:
                    continue
                if target.startswith("https://"):
                    assert tag == "a", f"{name} would fetch {target}"
                    continue
                path, _, fragment = target.partition("#")
                there = (folder / name).parent / path if path else folder / name
                assert there.resolve().is_file(), f"{name} points to {target}"
                inside = there.resolve().relative_to(folder.resolve()).as_posix()
                if inside == "compare.html" and "=" in fragment:
                    assert set(parse_qs(fragment)) <= {"a", "b"}, target
                    assert all(key in systems for keys in parse_qs(fragment).values() for key in keys), target
                else:
                    assert not fragment or fragment in ids[inside], f"{name} points to {target}"
                checked += 1
    assert checked > 300
    for sheet in (folder / "assets").glob("*.css"):
        assert "url(" not in sheet.read_text()
        assert "@import" not in sheet.read_text()


def test_torch_is_not_needed_to_build(world: Path, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom vtbench import leaderboard\n"
        f"leaderboard.build([Path({str(world / 'runs' / 'limited')!r})], Path({str(tmp_path / 's')!r}))\n"
        "print('torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"


def test_the_same_runs_give_the_same_bytes_wherever_they_lie(tmp_path: Path) -> None:
    for root, names in (("one", ("a", "b", "c")), ("two", ("c", "b", "a"))):
        for place, name in enumerate(names):
            folder = tmp_path / root / str(place)
            made_runs.picture(folder / "samples" / "r.png", seed=1)
            made_runs.picture(folder / "samples" / "c.png", seed=1, noise=ord(name) - 90)
            values = {"psnr": [30.0 + 0.1 * i * (ord(name) - 97) for i in range(6)]}
            samples = [{"item": "000.png", "reference": "r.png", "candidate": "c.png"}]
            scores = [score("psnr", 30.0), score("bpp", 1.0)]
            made_runs.write(folder, name=name, values=values, scores=scores, samples=samples)
        leaderboard.build([tmp_path / root], tmp_path / f"site-{root}")
    one, two = (
        {p.relative_to(s).as_posix(): p.read_bytes() for p in s.rglob("*") if p.is_file()}
        for s in (tmp_path / "site-one", tmp_path / "site-two")
    )
    assert one == two
    assert len([n for n in one if n.startswith("images/")]) == 4, "one original and three candidates"


def test_a_folder_that_is_no_site_is_left_alone(tmp_path: Path) -> None:
    made_runs.write(tmp_path / "r", scores=[score("psnr", 30.0)])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(VtbenchError, match=r"is not a page of vtbench"):
        leaderboard.build([tmp_path / "r"], tmp_path / "mine")
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.tex"]
    (tmp_path / "file").write_text("x")
    with pytest.raises(VtbenchError, match="is a file"):
        leaderboard.build([tmp_path / "r"], tmp_path / "file")
    with pytest.raises(VtbenchError, match="is not a page"):
        leaderboard.build([tmp_path / "r"], tmp_path / "r")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "mine", "r"]


def test_a_site_is_replaced_whole_and_survives_a_failed_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_runs.write(tmp_path / "r1", name="old-one", scores=[score("psnr", 30.0)])
    made_runs.write(tmp_path / "r2", name="new-one", scores=[score("psnr", 31.0)])
    (tmp_path / "site").mkdir()
    leaderboard.build([tmp_path / "r1"], tmp_path / "site")
    before = sorted(p.name for p in (tmp_path / "site" / "model").iterdir())
    real = Path.rename

    def fails(self: Path, target: Path) -> Path:
        if self.name.startswith(".site.new-"):
            raise OSError(28, "No space left on device")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(VtbenchError, match="disk is full"):
        leaderboard.build([tmp_path / "r2"], tmp_path / "site")
    monkeypatch.undo()
    assert sorted(p.name for p in (tmp_path / "site" / "model").iterdir()) == before
    leaderboard.build([tmp_path / "r2"], tmp_path / "site")
    after = [p.name for p in (tmp_path / "site" / "model").iterdir()]
    assert after == ["new-one.html"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r1", "r2", "site"], "nothing temporary stays"


def test_a_fault_of_ours_is_not_blamed_on_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run is left out for its own data only; what fails in a page's builder is raised as it is."""
    made_runs.write(tmp_path / "r", scores=[score("psnr", 30.0)])

    def broken(site: object) -> list[object]:
        raise AttributeError("a fault of the page")

    monkeypatch.setattr("vtbench.leaderboard.site.BUILDERS", (broken,))
    left_out: dict[Path, str] = {}
    with pytest.raises(AttributeError, match="a fault of the page"):
        leaderboard.build([tmp_path / "r"], tmp_path / "site", left_out)
    assert left_out == {}
    assert not (tmp_path / "site").exists()
