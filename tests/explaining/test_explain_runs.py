"""Two runs whose difference has one known cause."""

from __future__ import annotations

from pathlib import Path

import pytest

from vtbench import evaluate
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
