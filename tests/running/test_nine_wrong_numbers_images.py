"""Issue 8, cases 1 (suites), 2, 3 and 7: images are their contents, what changed is refused, what is there is found."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import BAD_ADAPTERS, ROOT, cuts, evaluate, python, stable

import vtbench
from vtbench.models.again import again
from vtbench.results.record import IDENTITY_RULE, Run, read_run
from vtbench.running.merge import merge
from vtbench.running.rescore import add_metrics
from vtbench.types.errors import VtbenchError

OLD = ROOT / "tests" / "data" / "runs_schema1"


def raw(folder: Path, levels: tuple[int, ...], time: int = 1_700_000_000) -> Path:
    """Bitmaps of one size in bytes, each of one grey level, of a fixed time: alike but for their bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, level in enumerate(levels):
        path = folder / f"{number}.bmp"
        Image.fromarray(np.full((64, 64, 3), level, np.uint8)).save(path)
        os.utime(path, (time, time))
    return folder


def alike(one: Path, other: Path) -> bool:
    """Names, sizes and times, which are all that rule 1 looked at."""
    facts = [[(p.name, s.st_size, s.st_mtime_ns) for p in sorted(f.iterdir()) if (s := p.stat())] for f in (one, other)]
    return facts[0] == facts[1]


def psnr_run(images: Path, out: Path, **more: Any) -> Run:
    return vtbench.evaluate("dct", images=images, view="native", tasks=["reconstruction"], out=out, **more).runs[0]


# -- 1: a suite is what its files hold ---------------------------------------------------------------------------------


def test_other_bytes_under_the_same_names_sizes_and_times_are_another_question(tmp_path: Path) -> None:
    one, other = raw(tmp_path / "a" / "suite", (40, 80)), raw(tmp_path / "b" / "suite", (41, 83))
    assert alike(one, other)
    first, second = (psnr_run(f, tmp_path / "out") for f in (one, other))
    assert first.path != second.path
    assert first.info.suite.hash != second.info.suite.hash
    assert [r.sha256 for r in first.rows()] != [r.sha256 for r in second.rows()]
    assert first.info.identity_rule == second.info.identity_rule == IDENTITY_RULE == 2


def test_bytes_that_changed_in_place_are_another_question(tmp_path: Path) -> None:
    """In processes of their own: the cache of digests must see the change, though size and time were put back."""
    folder = raw(tmp_path / "suite", (40, 80))
    code = (
        "import sys, vtbench; run, = vtbench.evaluate('dct', images=sys.argv[1], view='native', "
        "tasks=['reconstruction'], out=sys.argv[2]).runs; print(run.path.name)"
    )
    first = python(code, folder, tmp_path / "out")
    assert python(code, folder, tmp_path / "out") == first
    raw(folder, (40, 81))
    second = python(code, folder, tmp_path / "out")
    assert second != first
    rows = [list(read_run(tmp_path / "out" / name.strip()).rows()) for name in (first, second)]
    assert rows[0][0].sha256 == rows[1][0].sha256
    assert rows[0][1].sha256 != rows[1][1].sha256


def test_copies_elsewhere_are_one_suite_that_merges_and_compares(tmp_path: Path) -> None:
    """Two machines: the same bytes in another folder, written at another time."""
    here = cuts(tmp_path / "here", 6, ((64, 64),))
    there = Path(shutil.copytree(here, tmp_path / "moved" / "there"))
    for path in there.iterdir():
        os.utime(path, (1_600_000_000, 1_600_000_000))
    whole = evaluate("slow", here, tmp_path / "whole", batch_size=2).runs[0]
    shards = [
        evaluate("slow", folder, tmp_path / "shards", batch_size=2, shard=(number, 2)).runs[0]
        for number, folder in ((1, here), (2, there))
    ]
    assert {run.info.suite.hash for run in (whole, *shards)} == {whole.info.suite.hash}
    (merged,) = merge([tmp_path / "shards"], tmp_path / "merged")
    assert merged.name == whole.path.name
    assert stable(merged) == stable(whole.path)
    other = vtbench.evaluate("dct", images=there, view="native", tasks=["compression"], out=tmp_path / "dct").runs[0]
    compared = vtbench.compare([whole.path, other.path], ["bpp"])
    assert compared.images == 6


def test_runs_of_rule_1_are_read_merged_compared_and_published_but_never_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Path(shutil.copytree(OLD, tmp_path / "recorded"))
    monkeypatch.chdir(place)
    (old,) = (place / "runs" / "limited").iterdir()
    before = {p.name: p.read_bytes() for p in old.iterdir() if p.is_file()}
    info = read_run(old).info
    assert info.identity_rule == 1
    fresh = vtbench.evaluate(
        info.model.name,
        images=info.suite.spec,
        view=info.view.name,
        tasks=[info.task.name],
        options=info.model.options,
        batch_size=info.batch_size,
        out=old.parent,
    ).runs[0]
    assert fresh.path != old
    assert (fresh.info.identity_rule, fresh.info.n) == (2, 4)
    assert {p.name: p.read_bytes() for p in old.iterdir() if p.is_file()} == before
    (pictures,) = (place / "runs" / "saved_images").iterdir()
    with pytest.raises(VtbenchError, match=r"by rule 1 and this vtbench by rule 2.*run evaluate again"):
        add_metrics(pictures, ["psnr"])
    (merged,) = merge([place / "runs" / "shards"], tmp_path / "merged")
    assert read_run(merged).info.identity_rule == 1
    points = list((place / "runs" / "curve").iterdir())
    assert vtbench.compare(points, ["psnr"]).images == 4
    command = [sys.executable, "-m", "vtbench", "leaderboard", "build", str(old), str(fresh.path), "--out", "site"]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert (place / "site" / "index.html").is_file()


# -- 2: what changed since is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize("save", ["images", "tokens"])
def test_originals_that_changed_are_refused_when_metrics_are_added(tmp_path: Path, save: str) -> None:
    folder = raw(tmp_path / "suite", (40, 80))
    run = vtbench.evaluate(
        "dct", images=folder, view="native", tasks=["compression"], out=tmp_path / "out", save=[save]
    ).runs[0]
    before = [(p.name, p.read_bytes()) for p in sorted(run.path.iterdir()) if p.is_file()]
    raw(folder, (40, 81))
    for call in (lambda: add_metrics(run.path, ["psnr"]), lambda: again(run)):
        with pytest.raises(VtbenchError, match="no longer what"):
            call()
    assert [(p.name, p.read_bytes()) for p in sorted(run.path.iterdir()) if p.is_file()] == before


def test_a_changed_adapter_is_refused_where_it_would_decode(tmp_path: Path) -> None:
    """Pictures that were kept need no model, so they may still be scored."""
    images = cuts(tmp_path / "images", 2, ((64, 64),))
    adapter = tmp_path / "mine.py"
    shutil.copy(BAD_ADAPTERS, adapter)
    code = """
import json, sys, vtbench
from vtbench.running.rescore import add_metrics
verb, adapter, images, out, save = sys.argv[1:]
if verb == "evaluate":
    run, = vtbench.evaluate(adapter + "@right", images=images, view="native", tasks=["compression"], out=out,
                            save=[save]).runs
    print(run.path)
else:
    try:
        print(add_metrics(__import__("pathlib").Path(out), ["psnr"]).score("psnr").value)
    except vtbench.VtbenchError as bad:
        print(bad)
"""
    out = tmp_path / "out"
    paths = {s: python(code, "evaluate", adapter, images, out / s, s).strip() for s in ("images", "tokens")}
    adapter.write_text(adapter.read_text().replace("clamp(0, 15).long()", "clamp(0, 14).long()"))
    refused = python(code, "add", adapter, images, paths["tokens"], "")
    assert "--code" in refused
    assert str(adapter) in refused
    assert float(python(code, "add", adapter, images, paths["images"], "")) > 10


def test_a_sibling_of_a_users_file_is_part_of_the_question(tmp_path: Path) -> None:
    images = cuts(tmp_path / "images", 2, ((64, 64),))
    (tmp_path / "levels.py").write_text("LEVELS = 15\n")
    text = BAD_ADAPTERS.read_text().replace("* 15).round().clamp(0, 15)", "* LEVELS).round().clamp(0, LEVELS)")
    text = text.replace(".float() / 15", ".float() / LEVELS").replace(
        "import os\n", "import os\nfrom levels import LEVELS\n"
    )
    (tmp_path / "mine.py").write_text(text)
    code = (
        "import json, sys, vtbench; run, = vtbench.evaluate(sys.argv[1] + '@right', images=sys.argv[2], view='native', "
        "tasks=['reconstruction'], out=sys.argv[3]).runs; print(json.dumps([run.path.name, run.score('psnr').value]))"
    )
    words = (tmp_path / "mine.py", images, tmp_path / "out")
    path = os.pathsep.join([str(ROOT), str(tmp_path)])
    first = json.loads(python(code, *words, PYTHONPATH=path))
    assert json.loads(python(code, *words, PYTHONPATH=path)) == first
    (tmp_path / "levels.py").write_text("LEVELS = 3\n")
    second = json.loads(python(code, *words, PYTHONPATH=path))
    assert second[0] != first[0]
    assert second[1] < first[1] - 3, "fewer levels, lower PSNR"


# -- 3: a shard is rescored alone --------------------------------------------------------------------------------------


@pytest.mark.parametrize("save", ["images", "tokens"])
def test_a_shard_is_rescored_without_the_other_shards_images(images: Path, tmp_path: Path, save: str) -> None:
    whole = evaluate("slow", images, tmp_path / "whole", batch_size=3, save=[save]).runs[0]
    shards = [
        evaluate("slow", images, tmp_path / "shards", batch_size=3, shard=(k, 3), save=[save]).runs[0]
        for k in (1, 2, 3)
    ]
    for shard in shards:
        added = add_metrics(shard.path, ["psnr"])
        score = added.score("psnr")
        assert score is not None
        assert (score.n, score.missing) == (added.info.n, 0)
        assert (added.info.status, added.info.shard) == ("complete", shard.info.shard)
    assert sum(read_run(s.path).info.n or 0 for s in shards) == 22
    (merged,) = merge([tmp_path / "shards"], tmp_path / "merged")
    rescored = add_metrics(whole.path, ["psnr"])
    assert stable(merged) == stable(rescored.path)
    joined = read_run(merged).score("psnr")
    alone = rescored.score("psnr")
    assert joined is not None
    assert alone is not None
    assert (joined.value, joined.low, joined.high, joined.n) == (alone.value, alone.low, alone.high, 22)


def test_a_metric_that_one_shard_alone_has_is_no_metric_of_the_whole(images: Path, tmp_path: Path) -> None:
    """It would be of a third of the images, or be lost, as the first shard has it or not."""
    shards = [
        evaluate("slow", images, tmp_path / "shards", batch_size=3, shard=(k, 3), save=["images"]).runs[0]
        for k in (1, 2, 3)
    ]
    for alone in shards[1], shards[0]:
        add_metrics(alone.path, ["mse"])
        with pytest.raises(
            VtbenchError, match="only some shards of slow, compression measured mse: run `vtbench score"
        ):
            merge([tmp_path / "shards"], tmp_path / "merged")
    add_metrics(shards[2].path, ["mse"])
    (merged,) = merge([tmp_path / "shards"], tmp_path / "merged")
    score = read_run(merged).score("mse")
    assert score is not None
    assert (score.n, score.missing) == (22, 0)


# -- 7: one bad file stops nothing -------------------------------------------------------------------------------------


def test_one_unreadable_original_stops_neither_score_nor_evaluate(tmp_path: Path) -> None:
    originals = cuts(tmp_path / "originals", 4, ((64, 64),))
    pictures = Path(shutil.copytree(originals, tmp_path / "pictures"))
    for path in sorted(pictures.iterdir()):
        pixels = np.asarray(Image.open(path)).astype(int) + 1
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
    (originals / "02.png").write_bytes((originals / "02.png").read_bytes()[:200])
    scored = vtbench.score(originals, [pictures, pictures], ["psnr"])
    assert list(scored.bad) == ["02.png"]
    for candidate in scored.candidates:
        (psnr,) = candidate.scores
        assert (psnr.n, psnr.missing) == (3, 1)
        assert [r["item"] for r in candidate.rows] == ["00.png", "01.png", "02.png", "03.png"]
    run = vtbench.evaluate(
        f"folder:{pictures}", images=originals, view="native", tasks=["reconstruction"], out=tmp_path / "out"
    ).runs[0]
    score = run.score("psnr")
    assert score is not None
    assert (run.info.status, score.n, score.missing) == ("incomplete", 3, 1)
    assert score.value == scored.candidates[0].scores[0].value
