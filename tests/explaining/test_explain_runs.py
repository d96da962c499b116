"""Two runs whose difference has one known cause."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from vtbench import Codes, evaluate
from vtbench.explaining.runs import explain_runs
from vtbench.types.errors import VtbenchError


def test_two_runs_are_explained_by_the_view_that_differs(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """The same codec under two crops: the view moves the first run's number to the second's, and nothing is left."""
    a, b = (
        evaluate("jpeg", tasks=["reconstruction"], images=pair[0], view="64", protocol=p, out=tmp_path / p).runs[0].path
        for p in ("vtbench", "magvit2")
    )
    answer = explain_runs(a, b, ["psnr"])
    (claim,) = answer.claims
    moves = {m.dimension: m for m in claim.moves}
    assert answer.n == 4
    assert any("protocol: 'vtbench' in the first, 'magvit2' in the second" in n for n in answer.notes)
    assert moves["both runs"].difference == pytest.approx(claim.claimed - (claim.value or 0))
    assert moves["view"].left == pytest.approx(0, abs=1e-9)
    assert moves["view"].difference == pytest.approx(moves["both runs"].difference)
    assert "magvit2" in answer.text()
    with pytest.raises(VtbenchError, match="has no value in both runs"):
        explain_runs(a, b, ["rfid"])
    same = explain_runs(a, a, ["ssim"])
    assert same.claims[0].moves[0].difference == 0


class Steps:
    """Rounds every sample to so many steps."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def encode(self, images: Any) -> Codes:
        return Codes((images * self.steps).round().long().flatten(1), (256,), tuple(images.shape[2:]))

    def decode(self, tokens: Codes) -> Any:
        return tokens.indices.reshape(len(tokens), 3, *tokens.size) / self.steps


def test_what_is_another_model_under_one_name_is_said(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """Neither weights nor options tell them apart: the records do, by the call, the code and what was read."""
    ask: dict[str, Any] = {"tasks": ["compression"], "images": pair[0], "view": "64", "out": tmp_path}
    a, b = (evaluate(Steps(n), **ask).runs[0].path for n in (7, 1))
    notes = explain_runs(a, b, ["psnr"]).notes
    assert any(note.startswith("the model's call: ") for note in notes)
    for name, change in {
        "the model's code": {"adapter_sha256": "0" * 64},
        "files that the model's code reads": {"reads": [{"file": "conf.yaml", "sha256": "1" * 64, "at_work": False}]},
    }.items():
        edited = Path(shutil.copytree(a, tmp_path / name.replace(" ", "-")))
        record = json.loads((edited / "run.json").read_text())
        record["model"].update(change)
        (edited / "run.json").write_text(json.dumps(record))
        answer = explain_runs(a, edited, ["psnr"])
        assert any(note.startswith(f"{name}: ") for note in answer.notes)
        assert f"({name})" in str(answer.claims[0].moves[-1].why)
    assert "the records name the same" in explain_runs(a, a, ["psnr"]).notes[0]
