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
from vtbench.results.files import read_lines
from vtbench.results.record import read_run
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Latents

FILE = Path(__file__).parents[1] / "bad_adapters.py"


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
    from vtbench.running.merge import merge

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
            from vtbench.types.tokens import Latents

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
    from vtbench.running.rescore import add_metrics

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


FIXED = """
from vtbench.types.adapter import Tokenizer
from vtbench.types.cards import Card, Family, Fixed
from vtbench.types.tokens import Codes

CARD = Card(name="fixed", family="fixed", kind="discrete", title="Pixels", sizes=Fixed(64), alphabets=(256,) * 3)


class Whole(Tokenizer):
    def encode(self, images, seeds, budget=None):
        level = (images * 255).round().clamp(0, 255).long()
        return Codes(level.flatten(2).transpose(1, 2), (256,) * 3, tuple(images.shape[2:]))

    def decode(self, tokens, seeds):
        return tokens.indices.transpose(1, 2).reshape(len(tokens), 3, *tokens.size).float() / 255


FAMILY = Family("fixed", "Fixed", (CARD,), Whole)
"""


def test_a_model_of_one_size_is_resized_beside_its_ceiling_or_tiled(images: Path, tmp_path: Path) -> None:
    (tmp_path / "fixed.py").write_text(FIXED)
    model = f"{tmp_path / 'fixed.py'}@fixed"
    more: dict[str, Any] = {"images": images, "view": "96", "tasks": ["reconstruction"], "out": tmp_path / "out"}
    resized = vtbench.evaluate(model, limit=4, **more).runs[0]
    assert resized.info["served"] == {"resized to 64 x 64 and back (bicubic, antialiased)": 4}
    psnr = resized.score("psnr")
    assert psnr is not None
    # Its own loss is the rounding to bytes alone, so the ceiling is nearly what it reaches.
    assert psnr["value"] == pytest.approx(psnr["details"]["resize_only"], abs=0.2)
    assert all("psnr" in row["resize_only"] for row in resized.rows())
    tiled = vtbench.evaluate(model, limit=4, fit="tiles", **more).runs[0]
    assert tiled.path != resized.path
    assert tiled.info["served"] == {"4 tiles of 64 x 64": 4}
    assert tiled.score("psnr")["why"].startswith("lossless")  # type: ignore[index]
    # Four tiles of 64 x 64 x 24 bits over 96 x 96 pixels: padding is paid for, and never counted as pixels.
    assert tiled.score("bpp")["value"] == pytest.approx(4 * 64 * 64 * 24 / 96**2)  # type: ignore[index]
    rate = vtbench.evaluate(model, limit=4, fit="tiles", **{**more, "tasks": ["compression"]}).runs[0]
    # What the image costs is all of its tiles.
    assert rate.score("tokens")["value"] == 4 * 64 * 64  # type: ignore[index]
    assert "tiles" in rate.score("entropy-bpp")["why"]  # type: ignore[index]
    for wrong in ({"fit": "stretch"}, {"fit": "tiles", "save": ["tokens"]}):
        with pytest.raises(VtbenchError, match=r"--fit|tiles"):
            vtbench.evaluate(model, **more, **wrong)


def test_pictures_that_do_not_pair_are_refused_before_anything_is_written(images: Path, tmp_path: Path) -> None:
    theirs, out = tmp_path / "theirs", tmp_path / "out"
    theirs.mkdir()
    for path in images.iterdir():
        (theirs / path.name).write_bytes(path.read_bytes())
    (theirs / "05.png").unlink()
    Image.new("RGB", (10, 10)).save(theirs / "more.png")

    def refused(words: str, **more: Any) -> None:
        with pytest.raises(VtbenchError, match=words) as caught:
            vtbench.evaluate(
                f"folder:{theirs}", images=images, view="native", tasks=["reconstruction"], out=out, **more
            )
        assert caught.value.code == 2
        assert not out.exists()

    refused("1 missing from .*: 05.png; 1 in .* without an original: more.png")
    refused("1 in .* without an original", limit=3)
    (theirs / "more.png").unlink()
    (theirs / "05.png").write_bytes((images / "05.png").read_bytes())
    Image.new("RGB", (10, 12)).save(theirs / "07.png")
    refused(r"07.png \(10x12, wanted 80x48\)")


def test_what_was_not_kept_is_made_again(images: Path, tmp_path: Path) -> None:
    first = evaluate("slow", images, tmp_path, limit=5).runs[0]
    assert not (first.path / "images").exists()
    again = evaluate("slow", images, tmp_path, limit=5, save=["images"]).runs[0]
    assert again.path == first.path
    assert len(list((again.path / "images").iterdir())) == 5
    # And a call that asks for less keeps what is there.
    before = (again.path / "rows.jsonl").stat().st_mtime_ns
    assert evaluate("slow", images, tmp_path, limit=5).runs[0].info["save"] == ["images"]
    assert (again.path / "rows.jsonl").stat().st_mtime_ns == before
    twins = tmp_path / "twins"
    twins.mkdir()
    for suffix in ("png", "bmp"):
        Image.new("RGB", (64, 64)).save(twins / f"a.{suffix}")
    with pytest.raises(VtbenchError, match="has both"):
        evaluate("slow", twins, tmp_path / "o", save=["images"])


def test_a_model_that_fails_in_mid_run_is_no_wrong_question(images: Path, tmp_path: Path) -> None:
    made = evaluate("alphabet", images, tmp_path)
    ((_, why),) = made.failures.items()
    assert "outside its alphabet" in why


def test_a_merge_begins_anew_and_keeps_samples(images: Path, tmp_path: Path) -> None:
    from vtbench.running.merge import merge

    whole = evaluate("slow", images, tmp_path / "whole", batch_size=3).runs[0].path
    for i in (1, 2):
        evaluate("slow", images, tmp_path / "shards", batch_size=3, shard=(i, 2))
    left = tmp_path / "merged" / whole.name
    left.mkdir(parents=True)
    (left / "rows.jsonl").write_text('{"item": "left by a merge that was killed", "why": {}}\n')
    (merged,) = merge([tmp_path / "shards"], tmp_path / "merged")
    assert merged == left
    assert stable(merged) == stable(whole)
    assert (merged / "samples" / "samples.json").read_text() == (whole / "samples" / "samples.json").read_text()


def test_an_object_is_asked_again_and_left_as_it_was(images: Path, tmp_path: Path) -> None:
    from vtbench.types.tokens import Latents

    class Bare:
        """No state dict; what it does changes under the same name."""

        def __init__(self) -> None:
            self.net, self.gain = torch.nn.Dropout(0.9), 1.0

        def encode(self, x: torch.Tensor) -> Latents:
            assert not torch.is_grad_enabled()
            return Latents(self.net(x).half(), (int(x.shape[2]), int(x.shape[3])))

        def decode(self, tokens: Any) -> torch.Tensor:
            return tokens.values.float() * self.gain

    class Stateless:
        level = 1.0

        def encode(self, x: torch.Tensor) -> Latents:
            return Latents(x.half(), (int(x.shape[2]), int(x.shape[3])))

        def decode(self, tokens: Any) -> torch.Tensor:
            return tokens.values.float() * Stateless.level

    more: dict[str, Any] = {"images": images, "view": "64", "tasks": ["reconstruction"], "limit": 2, "out": tmp_path}
    thing = Bare()
    first = vtbench.evaluate(thing, **more)
    assert thing.net.training
    # float16 keeps bytes exactly; dropout would not.
    assert first.runs[0].score("psnr")["why"].startswith("lossless")  # type: ignore[index]
    assert first.runs[0].info["model"]["kind"] == "continuous"
    thing.gain = 0.5
    assert vtbench.evaluate(thing, **more).value("psnr") is not None
    assert vtbench.evaluate(Stateless(), **more).runs[0].score("psnr")["value"] is None  # type: ignore[index]
    Stateless.level = 0.5
    assert vtbench.evaluate(Stateless(), **more).value("psnr") is not None


def test_a_wrong_file_of_metric_weights_is_the_reason_of_a_null(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"features.0.weight": torch.zeros(3), "features.0.bias": torch.zeros(3)}, tmp_path / "alexnet.pth")
    monkeypatch.setenv("VTBENCH_METRIC_WEIGHTS", f"alexnet={tmp_path / 'alexnet.pth'}")
    from vtbench.scoring.loading import load_metrics

    metrics = load_metrics(["lpips-alex", "psnr"], "cpu")
    assert list(metrics.ready) == ["psnr"]
    assert "\n" not in metrics.unavailable["lpips-alex"]


def test_multiply_accumulates_of_a_network_are_counted(tmp_path: Path) -> None:
    """Known layers: 3 x 3 from 3 to 5 channels at stride 2, and 2 x 2 back; the same in inference mode."""

    class Small(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.down = torch.nn.Conv2d(3, 5, 3, stride=2, padding=1)
            self.up = torch.nn.ConvTranspose2d(5, 3, 2, stride=2)

        def encode(self, images: torch.Tensor) -> Latents:
            return Latents(self.down(images), (int(images.shape[2]), int(images.shape[3])))

        def decode(self, tokens: Latents) -> torch.Tensor:
            with torch.inference_mode():
                return self.up(tokens.values).sigmoid()

    for i in range(3):
        Image.fromarray(np.full((32, 48, 3), 60 * i, np.uint8)).save(tmp_path / f"{i}.png")

    def scored(batch: int) -> dict[str, Any]:
        run = vtbench.evaluate(Small(), tasks=["reconstruction"], images=tmp_path, view="native", batch_size=batch,
                               out=tmp_path.parent / f"{tmp_path.name}-{batch}")  # fmt: skip
        return dict(run.runs[0].score("macs") or {})

    found = scored(2)
    assert found["value"] == 16 * 24 * 5 * 27 + 16 * 24 * 5 * 12
    assert found["details"]["encode"] == 16 * 24 * 5 * 27
    assert found["unit"] == "MAC/image"
    alone = scored(3)
    assert alone["value"] is None
    assert "run of one batch" in alone["why"]


def test_an_interruption_says_how_to_go_on(images: Path, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "vtbench", "evaluate", f"{FILE}@slow", "--images", str(images), "--view", "native",
        "--task", "compression", "--batch-size", "3", "--out", str(tmp_path / "out"),
    ]  # fmt: skip
    running = subprocess.Popen(command, env={**os.environ, "SLOW": "0.3"}, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)  # fmt: skip
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("out/*/rows.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "stopped" in said
    assert "Traceback" not in said
    (info,) = (json.loads(p.read_text()) for p in tmp_path.glob("out/*/run.json"))
    assert info["status"] == "interrupted"
    assert not list(tmp_path.glob("out/*/lock"))


def test_batch_size_zero_is_the_fastest_that_was_tried(tmp_path: Path, images: Path) -> None:
    made = vtbench.evaluate("dct", tasks=["compression"], images=images, view="64", batch_size=0, limit=3, out=tmp_path)
    info = made.runs[0].info
    rates = info["model"]["images_per_second_by_batch"]
    assert "1" in rates
    assert info["batch_size"] == int(max(rates, key=lambda n: rates[n]))
    speed = dict(made.runs[0].score("images-per-second") or {})
    assert speed["details"]["batch_size"] == info["batch_size"]
    with pytest.raises(VtbenchError, match="0 for the fastest"):
        vtbench.evaluate("dct", images=images, batch_size=-1, out=tmp_path)


def test_the_table_says_each_reason_once(tmp_path: Path) -> None:
    from vtbench.cli.text import run_scores

    for i in range(3):
        Image.fromarray(photograph()[: 20 + i, :30]).save(tmp_path / f"{i}.png")
    (tmp_path / "zz.png").write_text("no image")
    run = vtbench.evaluate(
        f"{FILE}@right", images=tmp_path, view="33", tasks=["reconstruction"], out=tmp_path / "out"
    ).runs[0]
    text = run_scores(run)
    assert text.count("zz.png") == 1
    assert "3 of 4 images are smaller than the view and were enlarged" in text
    assert "3 of 4 images: padded by reflection to 36 x 36 and cropped back" in text


def test_a_run_that_goes_on_knows_its_multiply_accumulates(images: Path, tmp_path: Path) -> None:
    """Counted with the first batch alone: a kill after it, or while scoring, loses nothing and counts nothing else."""

    class Small(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.net = torch.nn.Conv2d(3, 3, 1)

        def encode(self, x: torch.Tensor) -> Latents:
            return Latents(self.net(x).half(), (int(x.shape[2]), int(x.shape[3])))

        def decode(self, tokens: Latents) -> torch.Tensor:
            return tokens.values.float().clamp(0, 1)

    def scored() -> Any:
        run = vtbench.evaluate(Small(), images=images, view="native", tasks=["compression"], out=tmp_path).runs[0]
        return run.path, run.score("macs")["value"]  # type: ignore[index]

    path, whole = scored()
    assert whole
    for kept in (8, 22):
        # Killed after eight rows, and killed while it scored all of them.
        rows = (path / "rows.jsonl").read_text().splitlines(keepends=True)
        (path / "rows.jsonl").write_text("".join(rows[:kept]))
        info = json.loads((path / "run.json").read_text())
        (path / "run.json").write_text(json.dumps({**info, "status": "running"}))
        assert scored() == (path, whole)
