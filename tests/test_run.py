"""The pipeline: kills give the same rows, failures are named and hide nothing, a folder is one question's."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import vtbench
from vtbench import registry
from vtbench.contract import photograph
from vtbench.errors import VtbenchError
from vtbench.results import read_lines, read_run

FILE = Path(__file__).parent / "bad_adapters.py"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-two small cuts of a photograph, of three sizes."""
    folder = tmp_path_factory.mktemp("images")
    whole = photograph()
    for i in range(22):
        height, width = [(64, 64), (48, 80), (67, 61)][i % 3]
        top, left = 61 * i % (512 - height), 97 * i % (512 - width)
        Image.fromarray(np.ascontiguousarray(whole[top : top + height, left : left + width])).save(
            folder / f"{i:02d}.png"
        )
    return folder


def evaluate(name: str, images: Path, out: Path, **more: Any) -> vtbench.api.Evaluation:
    return vtbench.evaluate(f"{FILE}@{name}", images=images, view="native", tasks=["compression"], out=out, **more)


def stable(path: Path) -> list[dict[str, Any]]:
    """Rows without their timings."""
    rows = list(read_lines(path / "rows.jsonl"))
    for row in rows:
        row.pop("seconds")
    return rows


def test_twenty_kills_leave_the_same_rows(images: Path, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "vtbench", "evaluate", f"{FILE}@slow", "--images", str(images), "--view", "native",
        "--task", "compression", "--batch-size", "3",
    ]  # fmt: skip
    whole = evaluate("slow", images, tmp_path / "whole", batch_size=3).runs[0].path
    dice = random.Random(0)
    kills = 0
    while kills < 20:
        environment = {**os.environ, "SLOW": "0.15"}
        running = subprocess.Popen([*command, "--out", str(tmp_path / "killed")], env=environment,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        folders = list((tmp_path / "killed").glob("*"))
        # Most of the time is start-up; wait until it writes, then kill at a random moment.
        deadline = time.monotonic() + 60
        before = (folders[0] / "rows.jsonl").stat().st_size if folders and (folders[0] / "rows.jsonl").exists() else 0
        while time.monotonic() < deadline and running.poll() is None:
            found = list((tmp_path / "killed").glob("*/rows.jsonl"))
            if found and found[0].stat().st_size != before:
                break
            time.sleep(0.01)
        time.sleep(dice.random() * 0.2)
        if running.poll() is not None:
            # It came to its end before the kill: tear the last line as a kill in mid-write would, and go on.
            torn = next((tmp_path / "killed").glob("*/rows.jsonl"))
            info = torn.parent / "run.json"
            state = json.loads(info.read_text())
            state["status"] = "running"
            info.write_text(json.dumps(state))
            data = torn.read_bytes()
            torn.write_bytes(data[: dice.randrange(len(data))])
        else:
            running.send_signal(signal.SIGKILL)
            running.wait()
        kills += 1
    assert (
        subprocess.run([*command, "--out", str(tmp_path / "killed")], capture_output=True, check=False).returncode == 0
    )
    (folder,) = (tmp_path / "killed").glob("*")
    assert folder.name == whole.name
    assert stable(folder) == stable(whole)
    ours, theirs = ({s["metric"]: s["value"] for s in read_run(p).scores if s["task"] == "compression" and
                     "second" not in s["unit"] and "second" not in s["metric"] and s["metric"] != "peak-memory"}
                    for p in (folder, whole))  # fmt: skip
    assert ours == theirs
    assert json.loads((folder / "run.json").read_text())["status"] == "complete"


def test_batch_size_does_not_move_scores(images: Path, tmp_path: Path) -> None:
    found = [stable(evaluate("slow", images, tmp_path / str(b), batch_size=b).runs[0].path) for b in (1, 4, 16)]
    assert found[0] == found[1] == found[2]


def test_shards_merge_to_one_pass(images: Path, tmp_path: Path) -> None:
    from vtbench.merge import merge

    whole = evaluate("slow", images, tmp_path / "whole", batch_size=3).runs[0]
    for i in (1, 2, 3):
        evaluate("slow", images, tmp_path / "shards", batch_size=3, shard=(i, 3))
    (merged,) = merge([tmp_path / "shards"], tmp_path / "merged")
    assert stable(merged) == stable(whole.path)
    assert read_run(merged).info["shard"] is None
    one = {
        s["metric"]: (s["value"], s["low"], s["high"], s["n"])
        for s in whole.scores
        if s["metric"] in whole.info["metrics"]
    }
    joined = read_run(merged)
    assert {s["metric"]: (s["value"], s["low"], s["high"], s["n"]) for s in joined.scores if s["metric"] in one} == one
    with pytest.raises(VtbenchError, match="shard 2 of 3 is missing"):
        merge([p for p in (tmp_path / "shards").iterdir() if "shard-2" not in p.name], tmp_path / "other")


def test_a_limited_run_goes_on(images: Path, tmp_path: Path) -> None:
    first = evaluate("slow", images, tmp_path / "out", limit=8, batch_size=3).runs[0]
    assert (first.info["n"], first.info["ranked"]) == (8, False)
    assert "limited to 8 of 22" in first.info["why_not_ranked"]
    second = evaluate("slow", images, tmp_path / "out", batch_size=3).runs[0]
    assert second.path == first.path
    assert stable(second.path) == stable(evaluate("slow", images, tmp_path / "whole", batch_size=3).runs[0].path)


def test_the_same_question_is_answered_from_disk(images: Path, tmp_path: Path) -> None:
    path = evaluate("slow", images, tmp_path).runs[0].path
    before = (path / "rows.jsonl").stat().st_mtime_ns
    evaluate("slow", images, tmp_path)
    assert (path / "rows.jsonl").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("name", "words"),
    [("nan", "NaN"), ("wrong-size", "shape"), ("wrong-type", "float tensor"), ("wrong-range", "looks like"),
     ("bytes", "divide by 255"), ("raises", "raised RuntimeError"), ("alphabet", "alphabet")],
)  # fmt: skip
def test_a_failing_model_is_named_and_the_others_go_on(name: str, words: str, images: Path, tmp_path: Path) -> None:
    made = vtbench.evaluate(
        [f"{FILE}@{name}", f"{FILE}@right"], images=images, view="native", tasks=["compression"], out=tmp_path
    )
    assert [r.name for r in made.runs] == ["right"]
    ((_, why),) = made.failures.items()
    assert words in why
    failed = [read_run(p.parent).info for p in tmp_path.glob(f"{name}--*/run.json")]
    assert [f["status"] for f in failed] == ["failed"]
    assert not failed[0]["ranked"]


def test_bad_images_are_named_and_the_rest_scored(images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for path in sorted(images.iterdir())[:4]:
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "01.png").write_bytes((images / "01.png").read_bytes()[:500])
    (folder / "zz.png").write_text("no image")
    run = evaluate("right", folder, tmp_path / "out").runs[0]
    assert run.info["status"] == "incomplete"
    assert not run.info["ranked"]
    assert "2 of 5 images could not be scored" in run.info["why_not_ranked"]
    bad = {r["item"]: r["why"]["*"] for r in run.rows() if "*" in r["why"]}
    assert set(bad) == {"01.png", "zz.png"}
    assert "01.png" in bad["01.png"]
    assert run.score("bpp")["n"] == 3  # type: ignore[index]
    assert run.score("bpp")["missing"] == 2  # type: ignore[index]


def test_metrics_that_cannot_be_had_are_null_with_a_reason(images: Path, tmp_path: Path) -> None:
    made = vtbench.evaluate(
        f"{FILE}@right", images=images, view="native", tasks=["reconstruction"], limit=2, out=tmp_path
    )
    for score in made.runs[0].scores:
        assert (score["value"] is None) == (score["why"] is not None)


def test_an_object_from_a_training_loop(images: Path) -> None:
    class Mine(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(1.0))

        def encode(self, x: torch.Tensor) -> vtbench.tokens.Tokens:
            from vtbench.tokens import Latents

            height, width = int(x.shape[2]), int(x.shape[3])
            return Latents((x * self.scale).detach().half(), (height, width))

        def decode(self, tokens: Any) -> torch.Tensor:
            return tokens.values.float() / self.scale

    made = vtbench.evaluate(Mine(), images=images, view="native", tasks=["compression"], limit=3)
    frame = made.to_pandas()
    assert float(frame.loc[frame.metric == "bpp", "value"].iloc[0]) == 48.0
    assert set(frame.weights) == {"own"}
    with pytest.raises(VtbenchError, match="no tokenizer"):
        vtbench.evaluate(object(), images=images)


def test_wrong_questions_write_nothing(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for call, words in (
        (lambda: vtbench.evaluate("jpegg", images=images, out=out), "did you mean jpeg"),
        (lambda: vtbench.evaluate("jpeg", images=images, out=out, options={"qualty": "5"}), "did you mean quality"),
        (lambda: vtbench.evaluate("jpeg", images=images, out=out, options={"quality": "best"}), "wanted a int"),
        (lambda: vtbench.evaluate("jpeg", images=tmp_path / "none", out=out), "there is no suite"),
        (lambda: vtbench.evaluate("jpeg", images=images, tasks=["compresion"], out=out), "did you mean compression"),
        (lambda: vtbench.evaluate("jpeg", images=images, view="big", out=out), "is no view"),
        (lambda: vtbench.evaluate("jpeg", images=images, device="tpu", out=out), "give cpu, cuda"),
        (lambda: vtbench.evaluate("jpeg", images=images, limit=0, out=out), "1 or more"),
        (lambda: vtbench.evaluate("jpeg", images=images, checkpoint=FILE, out=out), "no weights to load"),
    ):
        with pytest.raises(VtbenchError, match=words):
            call()
    assert not out.exists() or not list(out.iterdir())


def test_images_that_somebody_has(images: Path, tmp_path: Path) -> None:
    made = vtbench.evaluate(
        f"folder:{images}", images=images, view="native", tasks=["reconstruction"], limit=4, out=tmp_path
    )
    score = made.runs[0].score("psnr")
    assert score is not None
    assert score["value"] is None
    assert score["details"]["n_lossless"] == 4


def test_metrics_added_to_a_run_from_its_images_and_from_its_tokens(images: Path, tmp_path: Path) -> None:
    from vtbench.rescore import add_metrics

    whole = vtbench.evaluate(
        f"{FILE}@slow", images=images, view="native", tasks=["reconstruction"], out=tmp_path / "w", limit=5
    )
    psnr = {r["item"]: r["values"]["psnr"] for r in whole.rows()}
    for save in ("images", "tokens"):
        run = evaluate("slow", images, tmp_path / save, save=[save], limit=5).runs[0]
        # `bias-r` is no metric of the compression task; the number must be that of a run that had the pictures.
        added = add_metrics(run.path, ["bias-r"] if "psnr" in run.info["metrics"] else ["psnr"])
        assert all(("bias-r" in r["values"]) or ("psnr" in r["values"]) for r in added.rows())
        assert {r["item"]: r["values"]["psnr"] for r in added.rows()} == pytest.approx(psnr)
        assert read_run(run.path).score("bpp")["value"] == run.score("bpp")["value"]  # type: ignore[index]


def test_every_metric_of_every_task_exists() -> None:
    known = set(registry.metrics())
    for name, task in registry.tasks().items():
        assert set(task.metrics) <= known, name
