"""Rows of parquet, of arrow and of save_to_disk as suites: which column holds the images, by what it holds."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import encoded, picture

from vtbench.images.opening import open_set, open_suite
from vtbench.images.suite import Suite
from vtbench.types.errors import MissingExtra, Unavailable, VtbenchError

FILES: list[bytes | None] = [encoded(picture(seed), "PNG") for seed in range(3)]


@pytest.fixture(autouse=True)
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def parquet(path: Path, **columns: Any) -> Path:
    import pyarrow
    from pyarrow import parquet as tables

    path.parent.mkdir(parents=True, exist_ok=True)
    tables.write_table(pyarrow.table(columns), path)
    return path


def pictures(seeds: range = range(3)) -> Any:
    """A data set of the library, with one image column."""
    import datasets

    cells = [{"bytes": encoded(picture(seed), "PNG"), "path": None} for seed in seeds]
    return datasets.Dataset.from_dict({"image": cells}, features=datasets.Features({"image": datasets.Image()}))


def seeds_of(suite: Suite) -> list[int]:
    """Which pictures the suite holds."""
    by_pixels = {picture(seed).tobytes(): seed for seed in range(20)}
    return [by_pixels[suite.load(item).tobytes()] for item in suite.items]


def binary(files: list[bytes | None] = FILES, large: bool = False) -> Any:
    import pyarrow

    return pyarrow.array(files, pyarrow.large_binary() if large else pyarrow.binary())


FORMS: dict[str, Callable[[], dict[str, Any]]] = {
    "raw": lambda: {"jpg": binary(), "cls": [1, 2, 3]},
    "large": lambda: {"image": binary(large=True)},
    "struct": lambda: {"image": [{"bytes": f, "path": f"{k}.png"} for k, f in enumerate(FILES)]},
    "no-path": lambda: {"image": [{"bytes": f, "path": None} for f in FILES]},
    "bytes-alone": lambda: {"picture": [{"bytes": f} for f in FILES], "note": ["a", "b", "c"]},
    "beside-bytes-of-another-kind": lambda: {"embedding": binary([b"\1\2"] * 3), "jpg": binary()},
}


@pytest.mark.parametrize("form", FORMS)
def test_columns_of_bytes_are_images_where_they_are(tmp_path: Path, form: str) -> None:
    path = parquet(tmp_path / "data" / "train-00000-of-00001.parquet", **FORMS[form]())
    specs = [f"hf:{path.parent}@local", str(path), f"{path.parent}/*.parquet", f"hf:{path}@local"]
    suites = [open_suite(spec) for spec in specs]
    assert [seeds_of(suite) for suite in suites] == [[0, 1, 2]] * 4
    assert len({suite.hash for suite in suites}) == 1
    assert open_set(path).n == 3


def test_several_image_columns_are_named_and_chosen(tmp_path: Path) -> None:
    import datasets

    path = parquet(tmp_path / "raw" / "a.parquet", image=binary(), mask=binary(FILES[::-1]), text=["x", "y", "z"])
    both = pictures().add_column("other", [{"bytes": f, "path": None} for f in FILES[::-1]])
    typed = both.cast_column("other", datasets.Image())
    (tmp_path / "typed").mkdir()
    typed.to_parquet(str(tmp_path / "typed" / "a.parquet"))
    for spec, second in ((f"hf:{path.parent}@local", "mask"), (f"hf:{tmp_path / 'typed'}@local", "other")):
        with pytest.raises(VtbenchError, match=rf"several image columns \(image, {second}\).*#CONFIG/SPLIT/COLUMN"):
            open_suite(spec)
        assert seeds_of(open_suite(f"{spec}#//image")) == [0, 1, 2]
        assert seeds_of(open_suite(f"{spec}#/train/{second}")) == [2, 1, 0]
        assert open_suite(f"{spec}#//image").hash != open_suite(f"{spec}#//{second}").hash
        with pytest.raises(VtbenchError, match=rf"no column 'mas'.*it has image, {second}"):
            open_suite(f"{spec}#//mas")
    assert [i.meta for i in open_suite(f"hf:{path.parent}@local#//mask").items][:1] == [{"text": "x"}]


def test_a_column_of_what_lies_here_is_named_as_the_sentence_says(tmp_path: Path) -> None:
    """In every form that a table has here, also as a path, whose double slashes are one."""
    import datasets

    path = parquet(tmp_path / "raw" / "a.parquet", image=binary(), mask=binary(FILES[::-1]))
    both = pictures().add_column("mask", [{"bytes": f, "path": None} for f in FILES[::-1]])
    saved = tmp_path / "saved"
    datasets.DatasetDict({"test": both.cast_column("mask", datasets.Image())}).save_to_disk(str(saved))
    for spec in (str(path), f"{path.parent}/*.parquet", str(saved), f"hf:{path}@local", f"hf:{path.parent}@local"):
        with pytest.raises(VtbenchError) as several:
            open_suite(spec)
        advised = str(several.value).rpartition("as in ")[2]
        assert seeds_of(open_suite(advised)) == [0, 1, 2]
        mask = advised.removesuffix("image") + "mask"
        assert seeds_of(open_suite(mask)) == [2, 1, 0]
        assert open_set(Path(mask)).n == 3
    assert seeds_of(open_suite(f"{saved}#test/mask")) == [2, 1, 0]
    for wrong in (f"{path}#mas", f"{path}#/mas", f"{saved}#test/mas"):
        with pytest.raises(VtbenchError, match=r"no (split|column) 'mas'"):
            open_suite(wrong)


def test_columns_that_hold_no_images(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", label=[1, 2], blob=binary([b"\0", b"\1"]))
    with pytest.raises(VtbenchError, match="has no image column; it has label, blob: name one by"):
        open_suite(str(path))
    with pytest.raises(VtbenchError, match=r"the column label of .* cannot be read as images"):
        open_suite(f"hf:{path}@local#//label")
    suite = open_suite(f"hf:{path}@local#//blob")
    with pytest.raises(VtbenchError, match="is no image of a format"):
        suite.load(suite.items[0])


def test_an_empty_cell_is_one_bad_image(tmp_path: Path) -> None:
    suite = open_suite(str(parquet(tmp_path / "a.parquet", image=binary([None, *FILES]))))
    with pytest.raises(VtbenchError, match=r"000000 of .* holds no image bytes"):
        suite.load(suite.items[0])
    assert np.array_equal(suite.load(suite.items[1]), picture(0))


def test_folders_of_save_to_disk(tmp_path: Path) -> None:
    import datasets

    pictures().save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"train": pictures(), "test": pictures(range(5, 7))}).save_to_disk(str(tmp_path / "many"))
    for spec in (str(tmp_path / "one"), f"hf:{tmp_path / 'one'}@local", f"hf:{tmp_path / 'one'}@local#//image"):
        assert seeds_of(open_suite(spec)) == [0, 1, 2]
    assert seeds_of(open_suite(str(tmp_path / "many"))) == [5, 6, 0, 1, 2]
    assert seeds_of(open_suite(f"hf:{tmp_path / 'many'}@local#/test")) == [5, 6]
    with pytest.raises(VtbenchError, match="has no configurations, so none is 'default': write #/SPLIT/COLUMN"):
        open_suite(f"hf:{tmp_path / 'many'}@local#default/test")
    assert open_set(tmp_path / "one").n == 3
    (arrow,) = (tmp_path / "one").glob("*.arrow")
    assert seeds_of(open_suite(str(arrow))) == [0, 1, 2]
    assert open_suite(str(arrow)).hash == open_suite(str(tmp_path / "one")).hash


def test_another_file_of_the_same_name_and_time_is_another_set(tmp_path: Path) -> None:
    """The datasets library keeps what it read under the file's time of change; ours must not be answered from that."""
    path = parquet(tmp_path / "data" / "a.parquet", jpg=binary())
    spec = f"hf:{path.parent}@local"
    assert seeds_of(open_suite(spec)) == [0, 1, 2]
    facts = path.stat()
    parquet(path, jpg=binary(FILES[::-1]))
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert seeds_of(open_suite(spec)) == [2, 1, 0]


def test_damaged_tables_and_a_missing_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more PAR1")
    with pytest.raises(Unavailable, match="cannot be had"):
        open_suite(str(tmp_path / "a.parquet"))
    pictures().save_to_disk(str(tmp_path / "one"))
    monkeypatch.setitem(sys.modules, "datasets", None)
    for spec in (tmp_path / "a.parquet", tmp_path / "one"):
        with pytest.raises(MissingExtra, match=r"\.\[hub\]"):
            open_suite(str(spec))


def test_a_local_folder_called_like_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet(tmp_path / "somebody" / "photos" / "a.parquet", jpg=binary())
    monkeypatch.chdir(tmp_path)
    suite = open_suite("hf:somebody/photos@main")
    assert seeds_of(suite) == [0, 1, 2]
    assert "lies here, and was read from there" in suite.notes[0]
    assert open_suite("hf:somebody/photos@local").notes == []
