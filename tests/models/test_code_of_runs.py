"""A run's folder from elsewhere may name code, a metric or an address: nobody here chose to run it or to send there."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import command, noise

import vtbench
from vtbench.models.named_code import recorded_code
from vtbench.results.record import read_run
from vtbench.running import rescore
from vtbench.types.errors import VtbenchError

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
METRIC = """
from pathlib import Path
Path({ran!r}).write_text("x")
from vtbench.metrics.psnr import METRICS
"""
TASK = """
{extra}
from vtbench import Task
TASK = Task(name="{name}", title="T", version=1, suites=(), view="native", metrics=("psnr",))
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two pictures, and files of code whose import leaves `ran` behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VTBENCH_CACHE", str(tmp_path / "cache"))
    noise(tmp_path / "a", side=300)
    return tmp_path


def written(path: Path, extra: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(ADAPTER.format(extra=extra))
    return path


def evil(place: Path, path: Path) -> Path:
    return written(path, f"Path({str(place / 'ran')!r}).write_text('x')")


def run_of(spec: str, *words: str) -> Path:
    """The run of a model on the two pictures, with its tokens."""
    asked = ("--images", "a", "--view", "native", "--task", "compression", "--save", "tokens", "--out", "out", *words)
    code, _, err = command("evaluate", spec, *asked)
    assert code == 0, err
    return max(Path("out").glob("grey--*"), key=lambda path: path.stat().st_mtime_ns)


def restated(run: Path, **model: Any) -> Path:
    record = json.loads((run / "run.json").read_text())
    record["model"] |= model
    (run / "run.json").write_text(json.dumps(record))
    return run


def verbs(run: Path, other: Path | None = None) -> list[tuple[object, ...]]:
    """Every command that would load the run's model."""
    out: list[tuple[object, ...]] = [("score", run, "--metrics", "psnr"), ("explain", run, "--claim", "psnr=9")]
    return out if other is None else [*out, ("explain", run, other)]


def refused(words: tuple[object, ...], said: str, place: Path) -> None:
    code, out, err = command(*words)
    assert code == 2, (words, out, err)
    assert said in err, (words, err)
    assert err.count("\n") == 1
    assert not (place / "ran").exists(), words


def test_code_inside_the_runs_folder_is_not_run(place: Path) -> None:
    written(place / "mine.py")
    run = run_of("mine.py@grey")
    assert command("score", run, "--metrics", "mse")[0] == 0
    inner = evil(place, run / "samples" / "a:b" / "evil.py")
    link = place / "linked.py"
    link.symlink_to(inner)
    for spec in (f"{inner}@grey", f"{inner.resolve()}@grey", f"{link}@grey", f"tokenbridge:{inner}@grey"):
        restated(run, spec=spec)
        for words in verbs(run):
            refused(words, "code that came with it", place)


def test_code_anywhere_else_is_not_run_for_a_records_word(place: Path) -> None:
    """Whoever writes the record can state the right digests too: what counts is that the user has named the code."""
    written(place / "mine.py")
    run = run_of("mine.py@grey")
    other = Path("second")
    shutil.copytree(run, other)
    info = json.loads((other / "run.json").read_text())
    info["view"] |= {"name": "256", "fingerprint": "0" * 16}
    (other / "run.json").write_text(json.dumps({**info, "id": "0" * 64}))
    away = evil(place, place / "downloads" / "evil.py")
    for code in ([], recorded_code(away)):
        for spec in (f"{away}@grey", "downloads/evil.py@grey", f"tokenbridge:{away}@grey"):
            restated(run, spec=spec, code=code)
            for words in verbs(run):
                refused(words, "you have not named it yourself", place)
            # Two runs: the first one's model is asked again, and what it says is the reason of a null.
            command("explain", run, other)
            assert not (place / "ran").exists()
    with pytest.raises(VtbenchError, match="not named it yourself"):
        rescore.add_metrics(run, ["psnr"])
    restated(run, spec="gone.py@grey")
    refused(verbs(run)[0], "which is not here", place)


@pytest.mark.parametrize("changed", ["mine.py", "levels.py"])
def test_code_that_is_another_by_now_is_not_imported(changed: str, place: Path) -> None:
    (place / "levels.py").write_text("LEVELS = 256\n")
    written(place / "mine.py", "from .levels import LEVELS")
    run = run_of("mine.py@grey")
    assert [one.file for one in read_run(run).info.model.code] == ["levels.py", "mine.py"]
    assert read_run(run).info.model.code[1].sha256 == hashlib.sha256((place / "mine.py").read_bytes()).hexdigest()
    (place / changed).write_text((place / changed).read_text() + f"\nopen({str(place / 'ran')!r}, 'w').write('x')\n")
    # In a process of its own, as here the older code is imported already; it is refused all the same.
    for words in verbs(run):
        refused(words, "not as it is now", place)
        refused((*words, "--code", "mine.py@grey"), f"{changed} differs from its record", place)


def test_the_user_names_the_code_himself(place: Path) -> None:
    written(place / "mine.py")
    run = run_of("mine.py@grey")
    shutil.rmtree(place / "cache")
    for words in verbs(run):
        refused(words, "you have not named it yourself", place)
    (place / "mine.py").rename(place / "moved.py")
    written(place / "mine.py")
    assert command("score", run, "--metrics", "psnr", "--code", "mine.py@grey")[0] == 0
    # Once named, it is the user's own.
    assert command(*verbs(run)[1])[0] == 0
    refused(("score", run, "--code", "gone.py@grey", "--metrics", "mse"), "names no file that is here", place)
    refused(("score", "a", "a", "--code", "mine.py@grey"), "is for a run", place)
    refused(("explain", "jpeg", "--claim", "psnr=9", "--code", "mine.py@grey"), "is for runs", place)
    restated(run, spec="jpeg")
    refused(("score", run, "--code", "mine.py@grey", "--metrics", "mse"), "leave out --code", place)


# -- other ways by which a record names code ---------------------------------------------------------------------------


def test_a_metric_that_a_record_names_by_file_is_not_imported(place: Path) -> None:
    code, _, err = command(
        "evaluate",
        "jpeg",
        "--images",
        "a",
        "--view",
        "native",
        "--task",
        "compression",
        "--save",
        "images",
        "--out",
        "out",
    )
    assert code == 0, err
    run = next(Path("out").glob("jpeg--*"))
    (place / "m.py").write_text(METRIC.format(ran=str(place / "ran")))
    name = f"{place / 'm.py'}@psnr"
    info = json.loads((run / "run.json").read_text())
    scores = [json.loads(line) for line in (run / "scores.jsonl").read_text().splitlines()]
    for part in ("metrics", "unavailable", "scores"):
        changed, lines = dict(info), list(scores)
        if part == "scores":
            lines.append({**scores[0], "metric": name, "value": None, "why": "none"})
        else:
            changed[part] = {**info[part], name: "none" if part == "unavailable" else dict(info["metrics"]["psnr"])}
        (run / "run.json").write_text(json.dumps(changed))
        (run / "scores.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        for words in (("score", run), ("compare", run, run), ("merge", "out", "--out", "m"), ("explain", run, run)):
            refused(words, "a file of code", place)
        assert command("leaderboard", "build", "out", "--out", "site")[0] in (1, 2)
        assert not (place / "ran").exists()


def test_the_config_of_a_run_names_code(place: Path) -> None:
    """`--config RUN` is a record's word, a file of options the user's; what is typed beside is the user's too."""
    (place / "t.py").write_text(TASK.format(extra="", name="plain"))
    written(place / "mine.py")
    run = run_of("mine.py@grey", "--task", "t.py@plain")
    for run in Path("out").glob("grey--plain--*"):
        assert command("evaluate", "--config", run)[0] == 0
        evil(place, place / "evil.py")
        (place / "e.py").write_text(TASK.format(extra=f"open({str(place / 'ran')!r}, 'w')", name="other"))
        config = yaml.safe_load((run / "config.yaml").read_text())
        for changed in (
            {"models": ["evil.py@grey"]},
            {"task": ["e.py@other"]},
            {"models": ["tokenbridge:evil.py@grey"]},
        ):
            (run / "config.yaml").write_text(yaml.safe_dump({**config, **changed}))
            for named in (run, run / "config.yaml"):
                refused(("evaluate", "--config", named), "you have not named it yourself", place)
        (run / "config.yaml").write_text(yaml.safe_dump({**config, "models": ["evil.py@grey"]}))
        assert command("evaluate", "mine.py@grey", "--config", run)[0] == 0
        assert not (place / "ran").exists()
        shutil.copy(run / "config.yaml", place / "own.yaml")
        command("evaluate", "--config", place / "own.yaml")
        assert (place / "ran").exists()


def test_a_record_does_not_say_where_a_key_is_sent(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-somebody-0123456789")
    asked: list[object] = []
    monkeypatch.setattr("vtbench.images.web.fetch", lambda *words, **more: asked.append(words))
    written(place / "mine.py")
    run = run_of("mine.py@grey")
    address = "http://203.0.113.7/v1"
    restated(run, spec="image-api", name="image-api", options={"base_url": address})
    for words in verbs(run):
        refused(words, "which a record does not decide", place)
    (run / "config.yaml").write_text(
        yaml.safe_dump(
            {"models": ["image-api"], "images": "a", "option": {"base_url": address}, "task": ["compression"]}
        )
    )
    refused(("evaluate", "--config", run), "which a record does not decide", place)
    refused(("evaluate", "image-api", "--config", run), "which a record does not decide", place)
    assert asked == []


def test_loading_from_python_is_naming(place: Path) -> None:
    written(place / "mine.py")
    vtbench.load("mine.py@grey")
    assert len(list((place / "cache" / "code").iterdir())) == 1
