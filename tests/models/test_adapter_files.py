"""A file adapter's numbers are its own files': what it imports, reads and declares, in every form that Python has.

Truth is arithmetic: PSNR of pictures whose samples were rounded to so many steps.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from forks import Forks
from level_adapters import ASK, CODE, READ, adapter, ask, psnr, write
from support import cuts


@pytest.mark.parametrize("how", [*CODE, *READ])
def test_an_edited_file_gives_a_fresh_number(how: str, forks: Forks, pictures: Path, tmp_path: Path) -> None:
    code, name, text = {**CODE, **READ}[how]
    (tmp_path / "my.py").write_text(code)
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "__init__.py").write_text("")
    (tmp_path / "between.py").write_text("from last import LEVELS\n")
    write(tmp_path, name, text, 7)
    first, *_ = ask(forks, tmp_path, pictures, "same")
    write(tmp_path, name, text, 1)
    second, why, reads, _ = ask(forks, tmp_path, pictures, "same")
    assert first == psnr(pictures, 7)
    assert second == psnr(pictures, 1)
    if how in READ:
        assert f"lev reads {Path(name).name}, which it does not declare" in why
        assert [r["file"] for r in reads] == [Path(name).name]
        assert all(len(r["sha256"]) == 64 for r in reads)
    else:
        assert "does not declare" not in why or how == "importlib in encode"


@pytest.mark.parametrize("how", ["a module beside", "declared", "torch in load"])
def test_what_stayed_as_it_was_is_answered_from_disk(how: str, forks: Forks, pictures: Path, tmp_path: Path) -> None:
    code, name, text = {**CODE, **READ}[how]
    (tmp_path / "my.py").write_text(code)
    write(tmp_path, name, text, 7)
    assert ask(forks, tmp_path, pictures, "same") == ask(forks, tmp_path, pictures, "same")


def test_a_run_of_what_was_read_at_work_is_made_again(forks: Forks, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text(READ["in encode"][0])
    write(tmp_path, "levels.txt", "{}", 7)
    first, again = (ask(forks, tmp_path, pictures, "same") for _ in range(2))
    assert first[0] == again[0]
    assert first[3] < again[3]
    assert [r["at_work"] for r in again[2]] == [True]


KILLED = """
import vtbench
def stop(name, task, done, total):
    if done == 2:
        raise KeyboardInterrupt
try:
    vtbench.evaluate("my.py@lev", images=images, view="native", tasks=["compression"], out=out, batch_size=2,
                     progress=stop)
except KeyboardInterrupt:
    answer = "stopped"
"""


def test_a_run_that_was_stopped_does_not_go_on_with_another_file(forks: Forks, tmp_path: Path) -> None:
    images = cuts(tmp_path / "images", 6, ((24, 24),))
    (tmp_path / "my.py").write_text(READ["in encode"][0])
    write(tmp_path, "levels.txt", "{}", 7)
    assert forks.answer(KILLED, tmp_path, images=str(images), out=str(tmp_path / "same")) == "stopped"
    write(tmp_path, "levels.txt", "{}", 2)
    assert ask(forks, tmp_path, images, "same")[0] == psnr(images, 2)


HARMLESS = {
    "libraries": "import scipy.special, PIL.ImageFont, matplotlib.font_manager\n",
    "the system": "open('/proc/self/status').read(); open(os.devnull).read()\n"
    "import zoneinfo; zoneinfo.ZoneInfo('UTC')\n",
    "its own scratch": "import tempfile\np = tempfile.mkstemp()[1]\nopen(p, 'w').write('x'); open(p).read()\n",
    "a part that vtbench gives": "import vtbench.models.checkpoint, vtbench.adapters.networks.llamagen\n",
}


@pytest.mark.parametrize("how", HARMLESS)
def test_what_decides_no_number_is_no_reason(how: str, forks: Forks, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text(adapter(HARMLESS[how], "7"))
    _, why, reads, _ = ask(forks, tmp_path, pictures, "out")
    assert reads == []
    assert "does not declare" not in why


def test_weights_that_the_card_names_are_no_undeclared_files(forks: Forks, pictures: Path, tmp_path: Path) -> None:
    """`--checkpoint FILE`, read by the adapter with any reader."""
    weights = 'CARD = __import__("dataclasses").replace(CARD, weights=(Weights(file="n.pt"),))\nFAMILY = Family('
    code = adapter("from vtbench import Weights\n", "self.n", "self.n = float(torch.load(files['model']))")
    (tmp_path / "my.py").write_text(code.replace("FAMILY = Family(", weights))
    (tmp_path / "given").mkdir()
    write(tmp_path / "given", "n.pt", "", 7)
    asked = ASK.replace("out=out", 'out=out, checkpoint="given/n.pt"')
    _, why, reads, _ = forks.answer(asked, tmp_path, images=str(pictures), out=str(tmp_path / "out"))
    assert reads == []
    assert "does not declare" not in why


def test_a_declared_file_that_is_not_there_is_one_sentence(forks: Forks, tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text(adapter(steps="7", files="('conf.json',)"))
    code = """
from vtbench.models.load import load
from vtbench.types.errors import VtbenchError
try:
    load("my.py@lev")
except VtbenchError as bad:
    answer = str(bad)
"""
    assert "declares conf.json, and" in forks.answer(code, tmp_path)


TWO = """
import vtbench
made = vtbench.evaluate(["a/my.py@lev", "b/my.py@lev"], images=images, view="native", tasks=["compression"], out=out)
answer = [[r.score("psnr").value for r in made.runs], made.failures]
"""


def test_two_adapters_with_modules_of_one_name(forks: Forks, pictures: Path, tmp_path: Path) -> None:
    """Python gives the second adapter the first one's module: a sentence, not the first one's number."""
    for name, levels in (("a", 7), ("b", 1)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "my.py").write_text(CODE["a module beside"][0])
        write(tmp_path / name, "my_levels.py", "LEVELS = {}\n", levels)
    values, failures = forks.answer(TWO, tmp_path, images=str(pictures), out=str(tmp_path / "out"))
    assert len(values) == 1
    assert "has loaded another module called my_levels" in failures["b/my.py@lev"]
