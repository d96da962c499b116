"""`vtbench evaluate --reducer`: one run a point in a folder like any other, the baselines beside, wrong questions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import command, stable
from tiny_towers import made_tower as tower_folder

from vtbench.results.record import find_runs, read_run
from vtbench.running import evaluate as evaluating
from vtbench.running.request import Request

COLOURS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tower_folder("dinov2", tmp_path_factory.mktemp("tower") / "tiny-dino")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, random = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (root / name).mkdir()
        for k in range(3):
            pixels = np.clip(np.array(colour) + random.normal(0, 60, (26 + k, 30, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{k}.png")
    return root


def evaluated(out: Path, images: Path, tower: Path, *words: object) -> Any:
    code, text, said = command("evaluate", "--tower", tower, "--images", images, "--out", out, "--json", *words)
    assert code == 0, said
    return json.loads(text)["runs"]


def test_a_reducer_is_measured_beside_the_baselines(tmp_path: Path, tower: Path, photographs: Path) -> None:
    runs = evaluated(tmp_path, photographs, tower, "--reducer", "fastervlm", "--keep", "9", "--option", "stage=vit")
    points = [(r["run"]["model"]["name"], r["run"]["model"]["options"]["keep"]) for r in runs]
    baselines = [*["random"] * 5, "uniform", "adaptive-pooling", "resize"]
    assert points == [("full", None), ("fastervlm", 9), *((name, 9) for name in baselines)]
    assert len({r["run"]["id"] for r in runs}) == 10
    code, said, _ = command(
        *("evaluate", "--tower", tower, "--images", photographs, "--out", tmp_path),
        *("--reducer", "fastervlm", "--keep", "9", "--option", "stage=vit"),
    )
    lines = {line.split("  ")[0]: line for line in said.splitlines()}
    assert code == 0
    assert "tiny-dino, 36 tokens" in said
    assert [name for name in lines if name.startswith(("full", "fastervlm"))] == ["full", "fastervlm 9, vit"]
    assert "9 ± 0" in lines["random 9, vit"]
    assert "mean ± standard deviation of 5 draws" in said
    full, point = runs[0], runs[1]
    assert {full["scores"][n]["value"] for n in ("agreement", "centred-cosine", "coverage", "retained")} >= {1.0}
    assert full["scores"]["visual-tokens"]["value"] == 36
    scores = point["scores"]
    assert scores["visual-tokens"]["value"] == 9
    assert scores["visual-tokens-mean-layer"]["value"] == (36 + 36 + 9 + 9) / 4
    for name in ("centred-cosine", "kl", "agreement", "accuracy", "knn-transfer", "knn-refit", "dense-correlation"):
        assert scores[name]["value"] is not None, name
    record = point["run"]["model"]
    assert record["kind"] == "reducer"
    assert record["tower"]["name"] == "tiny-dino"
    assert record["reducer"]["query_aware"] is False
    assert record["weights"]["status"] == "own"
    row = next(read_run(Path(point["path"])).rows()).as_dict()
    assert row["read"]["class"] == "blue"
    assert row["read"]["by_layer"] == [36, 36, 9, 9]
    assert 0.0 <= row["values"]["knn-refit"] <= 1.0


def test_behind_the_tower_only_coverage_says_something(tmp_path: Path, tower: Path, photographs: Path) -> None:
    (run,) = evaluated(tmp_path, photographs, tower, "--reducer", "uniform", "--keep", "9", "--no-baselines")
    assert run["scores"]["centred-cosine"]["value"] is None
    assert "--option stage=vit, or --option pool=mean" in run["scores"]["centred-cosine"]["why"]
    assert 0 < run["scores"]["coverage"]["value"] < 1
    # This classifier reads the mean of the patches as well.
    assert run["scores"]["kl"]["value"] > 0
    (mean,) = evaluated(
        tmp_path, photographs, tower, "--reducer", "uniform", "--keep", "9", "--no-baselines", "--option", "pool=mean"
    )
    assert mean["scores"]["centred-cosine"]["value"] is not None


def test_a_killed_run_goes_on_and_a_finished_one_answers(
    tmp_path: Path, tower: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def request(out: Path) -> Request:
        return Request([], images=photographs, out=out, reducers=["evit"], tower=str(tower), keep=[12], baselines=False)

    whole = evaluating.evaluate(request(tmp_path / "whole")).runs[0]
    kept: list[Callable[[], None]] = []

    def killed(*place: Any) -> None:
        if place[1] != "hash" and place[2] >= 4:
            raise KeyboardInterrupt
        kept.append(lambda: None)

    with pytest.raises(KeyboardInterrupt):
        evaluating.evaluate(request(tmp_path / "killed"), killed)
    (path,) = find_runs([tmp_path / "killed"])
    assert read_run(path).info.status == "interrupted"
    again = evaluating.evaluate(request(tmp_path / "killed")).runs[0]
    assert stable(again.path) == stable(whole.path)
    assert again.score("centred-cosine") == whole.score("centred-cosine")
    assert again.info.id == whole.info.id
    monkeypatch.setattr("vtbench.models.tower_reading.TowerSubject.read", None)
    assert evaluating.evaluate(request(tmp_path / "whole")).runs[0].scores == whole.scores


def test_the_question_names_tower_reducer_and_point(tmp_path: Path, tower: Path, photographs: Path) -> None:
    other = tower_folder("dinov2", tmp_path / "tiny-dino", seed=1)
    ids = set()
    for folder, keep, option in (
        (tower, 9, "draw=0"),
        (tower, 9, "draw=1"),
        (tower, 8, "draw=0"),
        (other, 9, "draw=0"),
    ):
        runs = evaluated(
            tmp_path / "out",
            photographs,
            folder,
            "--reducer",
            "random",
            "--keep",
            keep,
            "--no-baselines",
            "--option",
            option,
            "--limit",
            2,
        )
        ids |= {run["run"]["id"] for run in runs}
    assert len(ids) == 4


def test_a_reducer_of_somebodys_own_by_its_file(tmp_path: Path, tower: Path, photographs: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import torch\n"
        "from vtbench.types.reduction import Reducer, ReducerCard, Reduction\n"
        "class First(Reducer):\n"
        "    def reduce(self, view, budget, seed):\n"
        "        return Reduction(kept=torch.arange(budget))\n"
        "REDUCERS = (ReducerCard('first', 'The first', ('tower', 'vit'), 'select', build=First),)\n"
    )
    (run,) = evaluated(
        tmp_path / "out", photographs, tower, "--reducer", f"{file}@first", "--keep", "9", "--no-baselines"
    )
    assert run["scores"]["visual-tokens"]["value"] == 9
    assert "not vtbench's own" in run["run"]["why_not_ranked"]


def test_a_run_is_repeated_from_its_own_file_of_options(tmp_path: Path, tower: Path, photographs: Path) -> None:
    words = ("--reducer", "random", "--keep", "9", "--option", "draw=3", "--no-baselines")
    (run,) = evaluated(tmp_path / "one", photographs, tower, *words)
    code, text, said = command("evaluate", "--config", run["path"], "--out", tmp_path / "two", "--json")
    assert code == 0, said
    (again,) = json.loads(text)["runs"]
    assert again["run"]["id"] == run["run"]["id"]


def test_a_limit_moves_no_label_and_shards_join_to_the_whole(tmp_path: Path, tower: Path, photographs: Path) -> None:
    """The first three pictures are of one class, which says nothing of whether folders are classes."""
    words = ("--reducer", "uniform", "--keep", "9", "--no-baselines", "--limit", "3")
    (run,) = evaluated(tmp_path / "limited", photographs, tower, *words)
    assert run["scores"]["accuracy"]["n"] == 3
    asked = (
        "evaluate",
        "jpeg",
        "--task",
        "understanding",
        "--tower",
        tower,
        "--images",
        photographs,
        "--batch-size",
        3,
    )
    for shard in (("--shard", "1/2"), ("--shard", "2/2"), ()):
        assert command(*asked, *shard, "--out", tmp_path / ("shards" if shard else "whole"))[0] == 0
    assert command("merge", tmp_path / "shards", "--out", tmp_path / "merged")[0] == 0
    merged, whole = (read_run(find_runs([tmp_path / name])[0]) for name in ("merged", "whole"))
    for name in ("centred-cosine", "linear-cka", "knn-transfer", "knn-refit", "accuracy", "retained"):
        one, other = merged.score(name), whole.score(name)
        assert one is not None
        assert other is not None
        assert one.value is not None, name
        assert (one.value, one.n) == (other.value, other.n), name


def test_runs_of_two_towers_are_not_compared(tmp_path: Path, tower: Path, photographs: Path) -> None:
    other = tower_folder("dinov2", tmp_path / "other", seed=1)
    words = ("--reducer", "uniform", "--keep", "9", "--no-baselines")
    runs = [evaluated(tmp_path / "out", photographs, folder, *words)[0]["path"] for folder in (tower, other)]
    code, _, said = command("compare", *runs)
    assert code == 2
    assert "model that reads is 'tiny-dino'" in said


WRONG: list[tuple[tuple[str, ...], str]] = [
    (("--reducer", "fastervlm", "--keep", "9"), "give --tower FOLDER or a hub id"),
    (("--reducer", "fastervlm", "--tower", "TOWER"), "needs --keep"),
    (("--reducer", "fastervln", "--tower", "TOWER", "--keep", "9"), "did you mean fastervlm"),
    (("--reducer", "pvc", "--tower", "TOWER", "--keep", "9"), "pvc cannot be run here"),
    (("--reducer", "fastervlm", "--tower", "TOWER", "--keep", "0"), "give numbers of tokens, 1 or more"),
    (("--reducer", "fastervlm", "--tower", "TOWER", "--keep", "9,x"), "is no list of numbers"),
    (("--reducer", "fastervlm", "--tower", "TOWER", "--keep", "37", "--no-baselines"), "a picture is 36 tokens"),
    (("--reducer", "fastervlm", "--tower", "TOWER", "--keep", "9", "-o", "blck=2"), "has no option 'blck'"),
    (("--reducer", "fastervlm", "--tower", "TOWER", "--keep", "9", "-o", "pool=max"), "give model or mean"),
    (("--reducer", "fastervlm", "--tower", "TOWER", "--keep", "9", "--task", "text"), "a reducer's task is"),
    (("--reducer", "fastervlm", "--tower", "TOWER", "--keep", "9", "--shard", "1/2"), "leave out --ray and --shard"),
    (("jpeg", "--reducer", "fastervlm", "--tower", "TOWER", "--keep", "9"), "in two commands"),
    (("jpeg", "--keep", "9"), "give --reducer NAME"),
    ((), "nothing to evaluate"),
]


@pytest.mark.parametrize(("words", "sentence"), WRONG, ids=[str(k) for k in range(len(WRONG))])
def test_wrong_questions_are_one_sentence(
    tmp_path: Path, tower: Path, photographs: Path, words: tuple[str, ...], sentence: str
) -> None:
    own = [str(tower) if word == "TOWER" else word for word in words]
    code, _, said = command("evaluate", *own, "--images", photographs, "--out", tmp_path / "out")
    assert (code, sentence in said) == (2, True), said


def test_folders_that_are_none_of_the_classes(tmp_path: Path, tower: Path) -> None:
    for name in ("red", "yellow"):
        (tmp_path / "images" / name).mkdir(parents=True)
        Image.new("RGB", (24, 24), (200, 10, 10)).save(tmp_path / "images" / name / "a.png")
    words = ("evaluate", "--reducer", "uniform", "--tower", tower, "--keep", 9, "--no-baselines")
    rest = ("--images", tmp_path / "images", "--out", tmp_path / "out")
    code, _, said = command(*words, *rest)
    assert code == 2
    assert "the folder yellow is none of the 3 classes of the tower" in said
    assert command(*words, *rest, "--option", "labels=none")[0] == 0
