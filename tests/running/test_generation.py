"""vtbench generate and evaluate --task generation, with the built-in generator: seeds, resuming, refusals, a run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vtbench import api
from vtbench.images.prompts import PromptSuite, open_prompts
from vtbench.images.seeds import sample_seed
from vtbench.models.load import Loaded, load
from vtbench.running.draw import Drawing, Order, draw, read_drawing
from vtbench.types.adapter import Prompt
from vtbench.types.errors import VtbenchError


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    return load("ngram-kmeans", {"size": "64"})


def generate(loaded: Loaded, prompts: PromptSuite, per_prompt: int, out: Path, progress=None, **more: int) -> Drawing:
    return draw(loaded, Order(prompts, per_prompt, **more), out, progress)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted((folder / "images").rglob("*.png"))}


def test_four_at_once_are_four_of_one_and_the_classes_differ(loaded: Loaded) -> None:
    prompts = [Prompt(str(k), label=k % 2) for k in range(4)]
    together = loaded.generator.generate(prompts, [3, 3, 5, 6])
    alone = torch.cat([loaded.generator.generate([p], [s]) for p, s in zip(prompts, (3, 3, 5, 6), strict=True)])
    assert torch.equal(together, alone)
    # One seed, two classes: the pavilion's sky and stone against the flower.
    assert not torch.equal(together[0], together[1])


def test_the_images_stand_where_the_lines_say(loaded: Loaded, tmp_path: Path) -> None:
    made = generate(loaded, open_prompts("classes:2"), 3, tmp_path / "o", seed=4, batch_size=4)
    assert [(r["label"], r["sample"]) for r in made.rows] == [(c, k) for c in (0, 1) for k in range(3)]
    row = made.rows[4]
    assert row["seed"] == sample_seed(4, "class-0001", 1)
    again = loaded.generator.generate([Prompt("x", label=1)], [row["seed"]])
    read = np.asarray(Image.open(tmp_path / "o" / row["file"]))
    assert np.array_equal((again[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy(), read)


def test_a_stop_anywhere_goes_on_to_the_same_bytes(loaded: Loaded, tmp_path: Path) -> None:
    suite = open_prompts("classes:2")
    whole = generate(loaded, suite, 3, tmp_path / "whole", batch_size=2)
    generate(loaded, suite, 3, tmp_path / "cut", batch_size=2)
    cut = tmp_path / "cut"
    lines = (cut / "samples.jsonl").read_bytes().splitlines(keepends=True)
    # A kill between picture and line, in the middle of a line, and a picture that somebody removed.
    (cut / "samples.jsonl").write_bytes(b"".join(lines[:3]) + lines[3][:20])
    (cut / whole.rows[1]["file"]).unlink()
    torn = cut / "images" / "class-0001" / ".00000.png.g5wphovi"
    torn.write_bytes(b"half")
    drawn: list[int] = []
    generate(loaded, suite, 3, cut, batch_size=1, progress=lambda done, _: drawn.append(done))
    assert drawn == [1, 2, 3, 4, 5, 6]
    assert not torn.exists()
    assert contents(cut) == contents(tmp_path / "whole")


def test_another_question_is_refused(loaded: Loaded, tmp_path: Path) -> None:
    suite = open_prompts("classes:2")
    generate(loaded, suite, 1, tmp_path, seed=1)
    with pytest.raises(VtbenchError, match="another question"):
        generate(loaded, suite, 1, tmp_path, seed=2)
    with pytest.raises(VtbenchError, match="belongs to --n 1"):
        generate(loaded, suite, 2, tmp_path, seed=1)
    with pytest.raises(VtbenchError, match="class-conditional"):
        generate(loaded, open_prompts("starter-objects"), 1, tmp_path / "b")
    with pytest.raises(VtbenchError, match="ngram-kmeans has 2 classes, 0 to 1, and classes:3-3 asks for the class 3"):
        generate(loaded, open_prompts("classes:3-3"), 1, tmp_path / "c")


@pytest.mark.parametrize("damage", ["{", "[1]", "\x00"])
def test_a_damaged_record_is_refused(loaded: Loaded, tmp_path: Path, damage: str) -> None:
    generate(loaded, open_prompts("classes:2"), 1, tmp_path)
    (tmp_path / "generate.json").write_text(damage)
    suite = open_prompts("classes:2")
    for again in (lambda: read_drawing(tmp_path), lambda: generate(loaded, suite, 1, tmp_path)):
        with pytest.raises(VtbenchError, match=r"generate\.json"):
            again()


def test_nan_is_refused_and_what_was_made_stays(
    loaded: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = loaded.generator.generate

    def spoiled(prompts, seeds):
        out = inner(prompts, seeds)
        return out * float("nan") if prompts[0].label == 1 else out

    monkeypatch.setattr(loaded.generator, "generate", spoiled)
    with pytest.raises(VtbenchError, match="NaN or infinity for the prompt class-0001"):
        generate(loaded, open_prompts("classes:2"), 1, tmp_path, batch_size=1)
    assert list(contents(tmp_path)) == ["images/class-0000/00000.png"]


def test_a_run_with_the_tokenizers_share(
    tmp_path: Path, seeded_inception: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VTBENCH_METRIC_WEIGHTS", f"inception-2015-12-05={seeded_inception}")
    found = api.evaluate("ngram-kmeans", options={"size": "64"}, per_prompt=2, view="64", out=tmp_path / "out")
    run = found.runs[0]
    assert run.info["model"]["kind"] == "generator"
    assert run.info["status"] == "complete"
    assert "not comparable: 4 images" in run.info["why_not_ranked"]
    rows = list(run.rows())
    assert [r["label"] for r in rows] == [0, 0, 1, 1]
    fid, own, gap = (found.value(n) for n in ("fid", "tokenizer-rfid", "gfid-gap"))
    assert gap == pytest.approx(fid - own)
    assert "not comparable" in run.score("fid")["warning"]
    assert found.value("nfe") == 0
    assert run.score("cmmd")["value"] is None
    assert "ViT-L-14-336px.pt" in run.score("cmmd")["why"]
    before = (run.path / "rows.jsonl").read_bytes()
    api.evaluate("ngram-kmeans", options={"size": "64"}, per_prompt=2, view="64", out=tmp_path / "out")
    assert (run.path / "rows.jsonl").read_bytes() == before


def test_tokenizers_and_generators_keep_apart(tmp_path: Path) -> None:
    with pytest.raises(VtbenchError, match="two commands"):
        api.evaluate(["ngram-kmeans", "jpeg"], out=tmp_path)
    with pytest.raises(VtbenchError, match="for generators"):
        api.evaluate("jpeg", tasks=["generation"], out=tmp_path)
    with pytest.raises(VtbenchError, match="for tokenizers"):
        api.evaluate("ngram-kmeans", tasks=["text"], out=tmp_path)
    with pytest.raises(VtbenchError, match="--limit"):
        api.evaluate("ngram-kmeans", limit=3, out=tmp_path)


ENDING = """
import sys
from vtbench import Card, Family, Generator, Multiple

class G(Generator):
    calls = 0

    def generate(self, prompts, seeds):
        import torch

        self.calls += 1
        if self.calls == 2:
            RAISES
        return torch.rand(len(prompts), 3, 8, 8)

CARD = Card("g", "g", "generator", "G", sizes=Multiple(1), conditioning="class")
FAMILY = Family("g", "G", (CARD,), G)
"""


@pytest.mark.parametrize(
    ("raises", "status", "why"),
    [
        ("raise RuntimeError('no more')", "failed", "no more"),
        ("sys.exit(0)", "failed", "SystemExit"),
        ("raise KeyboardInterrupt", "interrupted", None),
        ("return 5", "failed", "g"),
    ],
)
def test_a_generator_that_fails_leaves_no_record_that_runs(
    raises: str, status: str, why: str | None, tmp_path: Path
) -> None:
    file = tmp_path / f"ends_{status}.py"
    file.write_text(ENDING.replace("RAISES", raises))
    loaded = load(f"{file}@g", generator=True)
    with pytest.raises((VtbenchError, KeyboardInterrupt)):
        draw(loaded, Order(open_prompts("classes:4"), batch_size=2), tmp_path / "drawn")
    record = json.loads((tmp_path / "drawn" / "generate.json").read_text())
    assert record["status"] == status
    assert (why is None) or why in record["failure"]
    # What was drawn stays, and the same command goes on behind it.
    assert len((tmp_path / "drawn" / "samples.jsonl").read_text().splitlines()) == 2
    drawing = draw(loaded, Order(open_prompts("classes:4"), batch_size=2), tmp_path / "drawn")
    assert (len(drawing.rows), drawing.info.status, drawing.info.failure) == (4, "complete", None)


@pytest.mark.parametrize("name", ["generate.json", "samples.jsonl", "images", "images/class-0001"])
def test_links_of_a_drawing_lead_nowhere_outside_it(name: str, tmp_path: Path) -> None:
    (tmp_path / "whole.py").write_text(ENDING.replace("RAISES", "pass"))
    loaded = load(f"{tmp_path / 'whole.py'}@g", generator=True)
    order = Order(open_prompts("classes:2"))
    out, away = tmp_path / "drawn", tmp_path / "away"
    draw(loaded, order, out)
    (out / name).rename(away)
    (out / name).symlink_to(away)
    content = {p: p.read_bytes() for p in (away.rglob("*") if away.is_dir() else [away]) if p.is_file()}
    if name == "images/class-0001":
        (out / "samples.jsonl").write_text("")
    with pytest.raises(VtbenchError, match="is a link to a"):
        draw(loaded, order, out)
    assert {p: p.read_bytes() for p in content} == content
