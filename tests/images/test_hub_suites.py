"""Data sets in the hub's layout as suites, from a local folder."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import encoded, picture

from vtbench.images.hub import REMOTE
from vtbench.images.opening import open_suite
from vtbench.images.suite import Suite
from vtbench.types.errors import MissingExtra, Unavailable, VtbenchError

OTHER_CONFIGS = (
    "task1-high-resolution",
    "task1-varying-resolution",
    "task2-detail-preservation",
    "task3-arxiv-abstracts",
)


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def dataset(tmp_path: Path, hub_cache: None) -> Path:
    """huaweilin/VTBench's layout, small: configurations with their own splits of parquet files with an image column."""
    import datasets

    home = tmp_path / "VTBench"
    parts = {("task1-imagenet", "val"): 3, ("task3-movie-posters", "test"): 2}
    parts |= {("task3-multilingual", split): 1 for split in ("Chinese", "Hindi", "Japanese", "Korean")}
    parts |= {(config, "test"): 1 for config in OTHER_CONFIGS}
    configs: dict[str, list[str]] = {}
    seed = 0
    for (config, split), n in parts.items():
        cells = []
        for _ in range(n):
            cells.append({"bytes": encoded(picture(seed), "PNG"), "path": None})
            seed += 1
        (home / config).mkdir(parents=True, exist_ok=True)
        table = datasets.Dataset.from_dict({"image": cells}, features=datasets.Features({"image": datasets.Image()}))
        table.to_parquet(str(home / config / f"{split}-00000-of-00001.parquet"))
        configs.setdefault(config, []).append(split)
    lines = ["---", "configs:"]
    for config, splits in configs.items():
        lines += [f"- config_name: {config}", "  data_files:"]
        lines += [x for s in splits for x in (f"  - split: {s}", f"    path: {config}/{s}-*")]
    (home / "README.md").write_text("\n".join([*lines, "---", ""]))
    return home


def test_hub_layout(dataset: Path) -> None:
    suite = open_suite(f"hf:{dataset}@local#task1-imagenet")
    assert [i.id for i in suite.items] == ["000000", "000001", "000002"]
    assert all(np.array_equal(suite.load(i), picture(k)) for k, i in enumerate(suite.items))
    assert [i.id for i in suite.items[1:]] == ["000001", "000002"]
    # All splits of a configuration in the order of their names, or one of them.
    many = open_suite(f"hf:{dataset}@local#task3-multilingual")
    assert [int(many.load(i)[0, 0, 0]) for i in many.items] == [int(picture(k)[0, 0, 0]) for k in (5, 6, 7, 8)]
    one = open_suite(f"hf:{dataset}@local#task3-multilingual/Japanese")
    assert np.array_equal(one.load(one.items[0]), picture(7))
    assert one.hash != many.hash


def test_all_seven_parts_of_vtbench_from_a_local_copy(dataset: Path, tmp_path: Path) -> None:
    import vtbench

    assert len(REMOTE) == 7
    sizes = {}
    for name, facts in REMOTE.items():
        suite = open_suite(facts["address"].replace("huaweilin/VTBench@main", f"{dataset}@local"))
        assert all(suite.load(item).shape[2] == 3 for item in suite.items)
        sizes[name] = len(suite.items)
    assert (sizes["vtbench-imagenet"], sizes["vtbench-multilingual"], sum(sizes.values())) == (3, 4, 13)
    run = vtbench.evaluate(
        "png", images=f"hf:{dataset}@local#task1-imagenet", view="native", tasks=["compression"], out=tmp_path / "out"
    ).runs[0]
    assert run.info["status"] == "complete"
    assert run.info["n"] == 3


def test_hub_mistakes(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for spec in (f"hf:{dataset}", "hf:huaweilin/VTBench", "hf:huaweilin/VTBench@"):
        with pytest.raises(VtbenchError, match="names no revision"):
            open_suite(spec)
    with pytest.raises(VtbenchError, match=r"no split 'Japanse'.*Japanese"):
        open_suite(f"hf:{dataset}@local#task3-multilingual/Japanse")
    with pytest.raises(Unavailable, match="cannot be had"):
        open_suite(f"hf:{dataset}@local#task9")
    monkeypatch.setenv("VTBENCH_OFFLINE", "1")
    for spec in ("vtbench-imagenet", "hf:huaweilin/VTBench@main#task1-imagenet"):
        with pytest.raises(Unavailable, match="huaweilin/VTBench is a data set on the hub"):
            open_suite(spec)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"\[hub\]"):
        open_suite(f"hf:{dataset}@local#task1-imagenet")


def test_branch_becomes_a_commit(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run states the commit that a branch stood for; nothing is asked for a commit."""
    import datasets
    import huggingface_hub

    asked: list[Any] = []
    sha = "c" * 40

    class Hub:
        def __init__(self, endpoint: str | None = None) -> None:
            self.endpoint = endpoint

        def dataset_info(self, name: str, revision: str, timeout: float) -> Any:
            asked.append((name, revision))
            return type("Info", (), {"sha": sha})()

    whole = datasets.load_dataset

    def load(name: str, config: str | None, revision: str) -> Any:
        assert revision == sha
        return whole(str(dataset), config)

    monkeypatch.setenv("VTBENCH_OFFLINE", "0")
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(datasets, "load_dataset", load)
    moving = open_suite("vtbench-imagenet")
    pinned = open_suite(f"hf:huaweilin/VTBench@{sha}#task1-imagenet")
    assert asked == [("huaweilin/VTBench", "main")]
    assert moving.version == pinned.version == sha
    assert moving.hash == pinned.hash


def test_remote_names_are_the_issues() -> None:
    addresses = {f["address"].partition("#")[2] for f in REMOTE.values()}
    assert addresses == {"task1-imagenet", "task3-movie-posters", "task3-multilingual", *OTHER_CONFIGS}


# -- identity ----------------------------------------------------------------------------------------------------------


def parquet(home: Path, seeds: Sequence[int], texts: Sequence[str] | None = None) -> Path:
    import datasets

    cells = []
    for seed in seeds:
        cells.append({"bytes": encoded(picture(seed), "BMP"), "path": None})
    features: dict[str, Any] = {"image": datasets.Image()}
    columns: dict[str, Any] = {"image": cells}
    if texts is not None:
        features["text"], columns["text"] = datasets.Value("string"), list(texts)
    home.mkdir(parents=True)
    table = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    table.to_parquet(str(home / "train-00000-of-00001.parquet"))
    return home


def hub(home: Path) -> Suite:
    return open_suite(f"hf:{home}@local")


@pytest.mark.usefixtures("hub_cache")
def test_a_local_data_set_is_its_rows_wherever_it_lies(tmp_path: Path) -> None:
    one = parquet(tmp_path / "one", (0, 1))
    copy = tmp_path / "elsewhere" / "two"
    shutil.copytree(one, copy, copy_function=shutil.copyfile)
    suite = hub(one)
    assert suite.identity_seconds == 0
    assert suite.hash == hub(one).hash == hub(copy).hash
    assert suite.identity_seconds > 0
    lines = [f"{i.id}\0{hashlib.sha256(suite.read(i)).hexdigest()}\n" for i in suite.items]
    assert suite.hash == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert hub(parquet(tmp_path / "three", (0, 2))).hash != suite.hash


@pytest.mark.usefixtures("hub_cache")
def test_texts_of_a_data_set_are_part_of_it(tmp_path: Path) -> None:
    hashes = {
        hub(parquet(tmp_path / str(k), (0, 1), texts)).hash
        for k, texts in enumerate((("a", "b"), ("a", "c"), ("ab", ""), None))
    }
    assert len(hashes) == 4
