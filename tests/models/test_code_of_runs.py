"""A run's folder from elsewhere may hold code and name it as its model: nobody here chose to run it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import command, noise

ADAPTER = """
from pathlib import Path
{extra}
from vtbench import Card, Codes, Family, Multiple, Tokenizer

class Grey(Tokenizer):
    def encode(self, images, seeds, budget=None):
        index = (images.mean(dim=(1, 2, 3), keepdim=True) * 255).round().long().flatten(1)
        return Codes(index, (256,), tuple(images.shape[2:]))

    def decode(self, tokens, seeds):
        value = tokens.indices.float().reshape(len(tokens), 1, 1, 1) / 255
        return value.expand(len(tokens), 3, *tokens.size).clone()

CARD = Card("grey", "grey", "discrete", "One grey", sizes=Multiple(1))
FAMILY = Family("grey", "Grey", (CARD,), Grey)
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VTBENCH_CACHE", str(tmp_path / "cache"))
    noise(tmp_path / "a")
    (tmp_path / "mine.py").write_text(ADAPTER.format(extra=""))
    words = ("--images", "a", "--view", "native", "--task", "compression", "--save", "tokens", "--out", "out")
    code, _, err = command("evaluate", "mine.py@grey", *words)
    assert code == 0, err
    return next(Path("out").glob("grey--*"))


def test_code_inside_the_runs_folder_is_not_run(run: Path, tmp_path: Path) -> None:
    assert command("score", str(run), "--metrics", "mse")[0] == 0
    inner = run / "samples" / "a:b" / "evil.py"
    inner.parent.mkdir(parents=True)
    inner.write_text(ADAPTER.format(extra=f"Path({str(tmp_path / 'ran')!r}).write_text('x')"))
    link = tmp_path / "linked.py"
    link.symlink_to(inner)
    for spec in (f"{inner}@grey", f"{inner.resolve()}@grey", f"{link}@grey", f"tokenbridge:{inner}@grey"):
        record = json.loads((run / "run.json").read_text())
        record["model"]["spec"] = spec
        (run / "run.json").write_text(json.dumps(record))
        for words in (("score", str(run), "--metrics", "psnr"), ("explain", str(run), "--claim", "psnr=9")):
            code, _, err = command(*words)
            assert code == 2, (spec, words)
            assert "code that came with it" in err, (spec, words, err)
            assert not (tmp_path / "ran").exists()
