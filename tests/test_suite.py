"""Suites: manifests with hashes, folders, globs, tar shards, data sets in the hub's layout."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vtbench.images import manifests as suite_manifests
from vtbench.images.hub import REMOTE
from vtbench.images.manifests import builtin_suites
from vtbench.images.opening import list_suites, open_suite
from vtbench.images.reading import BadImage, rgb_sha256
from vtbench.types.errors import MissingExtra, Unavailable, VtbenchError

STARTERS = ("starter-detail", "starter-natural", "starter-text")


def picture(seed: int, side: int = 8) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def save(path: Path, seed: int) -> np.ndarray[Any, Any]:
    path.parent.mkdir(parents=True, exist_ok=True)
    rgb = picture(seed)
    Image.fromarray(rgb).save(path)
    return rgb


# -- the built-in suites ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STARTERS)
def test_starters_are_whole(name: str) -> None:
    """Every image is there, loads, and has both hashes of its manifest."""
    made = open_suite(name)
    assert len(made.items) >= 7
    assert made.licence
    for item in made.items:
        rgb = made.load(item)
        assert rgb_sha256(rgb) == item.sha256_rgb
        assert hashlib.sha256(made.read(item)).hexdigest() == item.sha256_file


def test_no_image_is_scored_twice_or_fitted_on() -> None:
    from sklearn.datasets import load_sample_images

    scored = Counter(item.sha256_rgb for name in STARTERS for item in open_suite(name).items)
    assert max(scored.values()) == 1
    fitted = {rgb_sha256(image) for image in load_sample_images().images}
    assert len(fitted) == 2
    assert not fitted & set(scored)


def test_only_one_of_the_stereo_pair() -> None:
    places = {item.place for name in STARTERS for item in open_suite(name).items}
    assert len([p for p in places if "motorcycle" in p]) == 1


def test_images_come_from_the_wheel_not_from_a_download() -> None:
    from importlib.metadata import files

    shipped = {f.as_posix().removeprefix("skimage/data/") for f in files("scikit-image") or ()}
    named = [str(i.place) for name in STARTERS for i in open_suite(name).items]
    outside = [p.partition(":")[2] for p in named if ":" in p and p.partition(":")[2] not in shipped]
    assert outside == []
    assert all((suite_manifests.MANIFESTS / p).is_file() for p in named if ":" not in p)


def test_patterns_are_what_their_formulas_say() -> None:
    made = open_suite("starter-detail")
    by_name = {i.id: made.load(i) for i in made.items if "pattern" in i.meta}
    assert set(by_name) == {"zone-plate", "siemens-star", "line-pairs", "checkerboards", "grids"}
    board = by_name["checkerboards"][..., 0]
    # One-pixel squares: neighbours differ everywhere; eight-pixel squares: every eighth.
    assert (np.diff(board[:128, :128].astype(int), axis=1) != 0).all()
    changes = np.flatnonzero(np.diff(board[200, 128:].astype(int)))
    assert (np.diff(changes) == 8).all()
    plate = by_name["zone-plate"][..., 0].astype(float)
    assert np.array_equal(plate, plate.T)
    assert np.array_equal(plate, plate[::-1, ::-1])
    # At distance r from the middle, cos(pi r^2 / 256) along the middle row (r = k + 1/2, and 1/2 across).
    k = np.arange(128)
    truth = 0.5 + 0.5 * np.cos(np.pi * ((k + 0.5) ** 2 + 0.25) / 256)
    assert np.abs(plate[128, 128:] / 255 - truth).max() <= 0.5 / 255 + 1e-12
    grid = by_name["grids"][:128, :128, 0]
    assert [int(n) for n in np.flatnonzero((grid == 0).all(axis=0))] == list(range(3, 128, 8))
    # 36 spokes: on a circle, 72 changes between black and white.
    angle = np.linspace(0, 2 * np.pi, 7200, endpoint=False)
    star = by_name["siemens-star"][..., 0]
    ring = star[(128 + 100 * np.sin(angle)).astype(int), (128 + 100 * np.cos(angle)).astype(int)] > 127
    assert int((ring != np.roll(ring, 1)).sum()) == 72


def test_text_is_measured_and_inside_its_boxes() -> None:
    made = open_suite("starter-text")
    lines = 0
    heights = set()
    for item in made.items:
        rgb = made.load(item).astype(int)
        assert rgb.shape == (512, 512, 3)
        paper = rgb[0, 0]
        ink = np.abs(rgb - paper).max(axis=2) > 100
        covered = np.zeros(ink.shape, bool)
        for line in item.meta["lines"]:
            x0, y0, x1, y1 = line["box"]
            assert 0 <= x0 < x1 <= 512
            assert 0 <= y0 < y1 <= 512
            assert ink[y0:y1, x0:x1].any(), line["text"]
            # The box holds an ascender or a capital above the x, so it is higher; a line is never three times as high.
            assert line["x_height"] < y1 - y0 <= 3 * line["x_height"] + 6, line["text"]
            assert not covered[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2].any(), f"{line['text']} overlaps another line"
            covered[y0:y1, x0:x1] = True
            heights.add(line["x_height"])
            lines += 1
        assert not (ink & ~covered & (np.abs(rgb - paper).max(axis=2) > 150)).any(), f"{item.id}: ink outside the boxes"
    assert heights >= {3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 17, 20, 24}
    assert 60 <= lines <= 110
    blocks = {line["block"] for item in made.items for line in item.meta["lines"]}
    assert blocks >= {"ladder", "digits", "mixed", "paragraph", "table", "receipt"}
    dark = [i.id for i in made.items if made.load(i)[0, 0].max() < 64]
    assert len(dark) == 1


def test_x_height_in_the_picture() -> None:
    """Rows that hold ink of the letters w, v, x, z alone, in the picture itself, are as many as stated (one of slack
    for antialiased edges)."""
    made = open_suite("starter-text")
    page = next(i for i in made.items if i.id == "text-ladder-light")
    dark = made.load(page)[..., 0] < 128
    for line in page.meta["lines"]:
        x0, y0, x1, y1 = line["box"]
        rows = dark[y0:y1, x0:x1].sum(axis=1)
        # Rows between baseline and x-line hold far more ink than those of ascenders and descenders.
        dense = np.flatnonzero(rows >= 0.35 * rows.max())
        assert abs(int(dense[-1] - dense[0] + 1) - line["x_height"]) <= max(1, round(0.2 * line["x_height"])), line[
            "text"
        ]


# -- tampering -------------------------------------------------------------------------------------------------------


@pytest.fixture
def manifests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of manifests with one suite of two images."""
    home = tmp_path / "suites"
    lines: list[dict[str, Any]] = [{"suite": "mine", "version": "3", "title": "Mine", "licence": "CC0"}]
    for seed, name in enumerate(("a", "b")):
        rgb = save(home / "images" / f"{name}.png", seed)
        data = (home / "images" / f"{name}.png").read_bytes()
        lines.append({"item": name, "file": f"images/{name}.png", "sha256_file": hashlib.sha256(data).hexdigest(),
                      "sha256_rgb": rgb_sha256(rgb)})  # fmt: skip
    (home / "mine.jsonl").write_text("\n".join(map(json.dumps, lines)))
    monkeypatch.setattr(suite_manifests, "MANIFESTS", home)
    return home


def test_one_pixel_changed(manifests: Path) -> None:
    made = open_suite("mine")
    assert np.array_equal(made.load(made.items[1]), picture(1))
    changed = picture(1)
    changed[3, 3, 0] ^= 1
    Image.fromarray(changed).save(manifests / "images" / "b.png")
    with pytest.raises(VtbenchError, match="b of mine is not the image that its manifest states"):
        made.load(made.items[1])
    made.load(made.items[0])


def test_same_pixels_in_another_file_are_the_same_image(manifests: Path) -> None:
    """The second hash decides."""
    Image.fromarray(picture(1)).save(manifests / "images" / "b.png", compress_level=0)
    made = open_suite("mine")
    assert np.array_equal(made.load(made.items[1]), picture(1))


def test_same_file_decoded_otherwise_is_said(manifests: Path) -> None:
    lines = (manifests / "mine.jsonl").read_text().splitlines()
    row = json.loads(lines[2]) | {"sha256_rgb": "0" * 64}
    (manifests / "mine.jsonl").write_text("\n".join([*lines[:2], json.dumps(row)]))
    made = open_suite("mine")
    with pytest.raises(VtbenchError, match="its file is the same, so Pillow decodes it otherwise"):
        made.load(made.items[1])


def test_missing_file_and_broken_manifest(manifests: Path) -> None:
    made = open_suite("mine")
    (manifests / "images" / "a.png").unlink()
    with pytest.raises(BadImage, match="a cannot be read"):
        made.load(made.items[0])
    (manifests / "mine.jsonl").write_text('{"suite": "mine", "version": "3"}\n{"item": ')
    with pytest.raises(VtbenchError, match=r"mine\.jsonl line 2 is not JSON"):
        open_suite("mine")


def test_hash_follows_the_content(manifests: Path) -> None:
    before = open_suite("mine").hash
    text = (manifests / "mine.jsonl").read_text()
    (manifests / "mine.jsonl").write_text(text.replace('"title": "Mine"', '"title": "Other"'))
    assert open_suite("mine").hash == before
    (manifests / "mine.jsonl").write_text(text.replace(rgb_sha256(picture(0)), "1" * 64))
    assert open_suite("mine").hash != before


# -- folders and globs -----------------------------------------------------------------------------------------------


def test_folder(tmp_path: Path) -> None:
    """Sorted relative names; hidden files, other suffixes and loops of links are left out."""
    for seed, name in enumerate(("b/2.png", "a.png", "b/1.jpg", "c.PNG", ".hidden.png", ".cache/x.png")):
        save(tmp_path / name, seed)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "b" / "up").symlink_to(tmp_path)
    made = open_suite(str(tmp_path))
    assert [i.id for i in made.items] == ["a.png", "b/1.jpg", "b/2.png", "c.PNG"]
    assert np.array_equal(made.load(made.items[0]), picture(1))
    before = made.hash
    assert open_suite(str(tmp_path)).hash == before
    save(tmp_path / "a.png", 9)
    assert open_suite(str(tmp_path)).hash != before


def test_truncated_file_is_an_item_that_says_so(tmp_path: Path) -> None:
    save(tmp_path / "good.png", 0)
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    made = open_suite(str(tmp_path))
    assert len(made.items) == 2
    with pytest.raises(BadImage, match=r"half\.png"):
        made.load(made.items[1])
    made.load(made.items[0])


def test_globs_and_one_file(tmp_path: Path) -> None:
    for seed, name in enumerate(("x/1.png", "y/2.png", "y/3.jpg")):
        save(tmp_path / name, seed)
    assert [i.id for i in open_suite(f"{tmp_path}/**/*.png").items] == ["x/1.png", "y/2.png"]
    assert [i.id for i in open_suite(f"{tmp_path}/y/*").items] == ["2.png", "3.jpg"]
    assert [i.id for i in open_suite(str(tmp_path / "y" / "2.png")).items] == ["2.png"]
    with pytest.raises(VtbenchError, match="no image matches"):
        open_suite(f"{tmp_path}/*.webp")
    (tmp_path / "empty").mkdir()
    with pytest.raises(VtbenchError, match="holds no image"):
        open_suite(str(tmp_path / "empty"))


def test_imagenet_folders(tmp_path: Path) -> None:
    for name in ("n01440764/ILSVRC2012_val_00000293.JPEG", "n01443537/ILSVRC2012_val_00000236.JPEG"):
        save(tmp_path / "val" / name, 0)
    made = open_suite(str(tmp_path / "val"))
    assert [i.meta for i in made.items] == [{"class": "n01440764"}, {"class": "n01443537"}]
    save(tmp_path / "flat" / "ILSVRC2012_val_00000001.JPEG", 0)
    assert [i.meta for i in open_suite(str(tmp_path / "flat")).items] == [{}]


def test_near_names_are_offered() -> None:
    with pytest.raises(VtbenchError, match="starter-natural"):
        open_suite("starter-naturl")


def test_a_large_folder_costs_little(tmp_path: Path) -> None:
    """4,000 files: an item costs less than 700 bytes, so 20,000 cost 14 MB; loading keeps nothing."""
    one = tmp_path / "images" / "0.png"
    save(one, 0)
    for k in range(1, 4000):
        os.link(one, one.with_name(f"{k}.png"))
    tracemalloc.start()
    made = open_suite(str(tmp_path / "images"))
    kept, _ = tracemalloc.get_traced_memory()
    for item in made.items[:300]:
        made.load(item)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(made.items) == 4000
    assert kept / 4000 < 700
    # Loading keeps nothing but what Pillow's plug-ins set up once.
    assert after - kept < 1_000_000


# -- tar shards ------------------------------------------------------------------------------------------------------


def shard(path: Path, seeds: range) -> None:
    with tarfile.open(path, "w") as archive:
        for seed in seeds:
            out = io.BytesIO()
            Image.fromarray(picture(seed)).save(out, "PNG")
            for suffix, body in (("png", out.getvalue()), ("cls", b"7")):
                member = tarfile.TarInfo(f"{seed:06d}.{suffix}")
                member.size = len(body)
                archive.addfile(member, io.BytesIO(body))


def test_shards(tmp_path: Path) -> None:
    """The same pictures in the same order as the webdataset package reads."""
    import webdataset

    for k in range(2):
        shard(tmp_path / f"val-{k:03d}.tar", range(3 * k, 3 * k + 3))
    spec = f"{tmp_path}/val-{{000..001}}.tar"
    theirs = [rgb for (rgb,) in webdataset.WebDataset(spec, shardshuffle=False).decode("rgb8").to_tuple("png")]
    for made in (open_suite(spec), open_suite(f"{tmp_path}/val-*.tar")):
        assert len(made.items) == 6
        assert made.items[4].id == "val-001/000004.png"
        assert all(np.array_equal(made.load(i), t) for i, t in zip(made.items, theirs, strict=True))


def test_bad_shards(tmp_path: Path) -> None:
    shard(tmp_path / "a.tar", range(2))
    import gzip

    (tmp_path / "z.tar").write_bytes(gzip.compress((tmp_path / "a.tar").read_bytes()))
    for spec, words in (
        ("z.tar", "uncompressed"),
        ("none.tar", "cannot be read"),
        ("x-{1..b}.tar", "no list of shards"),
    ):
        with pytest.raises(VtbenchError, match=words):
            open_suite(str(tmp_path / spec))


# -- the hub ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """huaweilin/VTBench's layout, small: configurations with their own splits of parquet files with an image column."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    home = tmp_path / "VTBench"
    parts = {("task1-imagenet", "val"): 3, ("task3-movie-posters", "test"): 2,
             **{("task3-multilingual", s): 1 for s in ("Chinese", "Hindi", "Japanese", "Korean")},
             **{(c, "test"): 1 for c in ("task1-high-resolution", "task1-varying-resolution",
                                         "task2-detail-preservation", "task3-arxiv-abstracts")}}  # fmt: skip
    configs: dict[str, list[str]] = {}
    seed = 0
    for (config, split), n in parts.items():
        cells = []
        for _ in range(n):
            out = io.BytesIO()
            Image.fromarray(picture(seed)).save(out, "PNG")
            cells.append({"bytes": out.getvalue(), "path": None})
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
    made = open_suite(f"hf:{dataset}@local#task1-imagenet")
    assert [i.id for i in made.items] == ["000000", "000001", "000002"]
    assert all(np.array_equal(made.load(i), picture(k)) for k, i in enumerate(made.items))
    assert [i.id for i in made.items[1:]] == ["000001", "000002"]
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
        made = open_suite(facts["address"].replace("huaweilin/VTBench@main", f"{dataset}@local"))
        assert all(made.load(item).shape[2] == 3 for item in made.items)
        sizes[name] = len(made.items)
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
    with pytest.raises(MissingExtra, match=r"vtbench\[hub\]"):
        open_suite(f"hf:{dataset}@local#task1-imagenet")


def test_branch_becomes_a_commit(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run states the commit that a branch stood for; nothing is asked for a commit."""
    import datasets
    import huggingface_hub

    asked: list[Any] = []
    sha = "c" * 40

    class Hub:
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
    assert addresses == {
        "task1-imagenet", "task1-high-resolution", "task1-varying-resolution", "task2-detail-preservation",
        "task3-movie-posters", "task3-arxiv-abstracts", "task3-multilingual",
    }  # fmt: skip


# -- the list --------------------------------------------------------------------------------------------------------


def test_list() -> None:
    rows = {row["name"]: row for row in list_suites()}
    assert set(STARTERS) <= set(builtin_suites())
    assert set(rows) == {*builtin_suites(), *REMOTE}
    assert all(rows[n]["state"] == "ready" and rows[n]["n"] == len(open_suite(n).items) for n in STARTERS)
    assert rows["vtbench-imagenet"]["n"] == 50_000
    assert "network" in rows["vtbench-imagenet"]["needs"]


def test_listing_imports_nothing_heavy() -> None:
    code = (
        "import sys; from vtbench.images.opening import list_suites; list_suites();"
        "print([m for m in ('torch', 'numpy', 'PIL', 'datasets', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_scripts_patterns_are_the_committed_ones() -> None:
    """make_starter's formulas still give the committed pixels (pages need the fonts they were made with)."""
    from vtbench.tasks.suites import make_starter

    made = open_suite("starter-detail")
    for item in made.items:
        if "pattern" in item.meta:
            assert np.array_equal(make_starter.PATTERNS[item.meta["pattern"]](), made.load(item)), item.id
