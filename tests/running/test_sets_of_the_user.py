"""Sets as people have them, from the command line: the same set in every form, what is none, and sets that are too
small, which are null with the reason. The Inception is seeded: its numbers mean nothing but equality."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import command

from vtbench import registry
from vtbench.metrics import frechet
from vtbench.running import sets
from vtbench.types.errors import VtbenchError

ROUNDING = 1e-12
"""Of traces in float64 whose difference is the distance of a set from itself."""
OF_SETS = ("fid", "sfid", "kid", "precision", "recall", "density", "coverage")


@pytest.fixture(scope="module", autouse=True)
def inception(seeded_inception: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VTBENCH_METRIC_WEIGHTS", f"inception-2015-12-05={seeded_inception}")
        yield


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VTBENCH_CACHE", str(tmp_path / "cache"))


def pixels(*seeds: int) -> np.ndarray[Any, Any]:
    """uint8 (n, 16, 16, 3)"""
    return np.stack([np.random.default_rng(s).integers(0, 256, (16, 16, 3), dtype=np.uint8) for s in (*seeds, 0)])[:-1]


def folder(name: str, seeds: range) -> Path:
    Path(name).mkdir(exist_ok=True)
    for k, rgb in enumerate(pixels(*seeds)):
        Image.fromarray(rgb).save(Path(name) / f"{k:03d}.png")
    return Path(name)


def scores(*words: object, code: int = 0) -> dict[str, Any]:
    """{metric: score} of `score … --set`."""
    ended, _, err = command("score", *words, "--set", "--json-file", "scored.json")
    assert ended == code, err
    assert "Warning" not in err
    result = json.loads(Path("scored.json").read_text())
    return dict(result["candidates"][0]["scores"])


def test_a_set_is_the_same_in_every_form() -> None:
    """Folder, tar with what macOS puts beside, zip and array: one number of one n, and no bad image."""
    reference, source = folder("ref", range(4)), folder("src", range(9, 13))
    beside = {"imgs/._000.png": b"\0\5\x16\7", "__MACOSX/imgs/._001.png": b"\0\5\x16\7", "imgs/.hid.png": b"x"}
    with tarfile.open("set.tar", "w") as shard:
        shard.add(source, "imgs")
        for name, data in beside.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            shard.addfile(member, io.BytesIO(data))
    shutil.make_archive("set", "zip", source)
    np.save("set.npy", pixels(*range(9, 13)))
    numbers = [scores(reference, name, "--metrics", "fid")["fid"] for name in ("src", "set.tar", "set.zip", "set.npy")]
    assert {(s["value"], s["n"]) for s in numbers} == {(numbers[0]["value"], 4)}
    assert numbers[0]["value"] > 0
    assert scores("set.zip", "src", "--metrics", "fid")["fid"]["value"] == pytest.approx(0, abs=ROUNDING)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("set.tar.gz", gzip.compress(b"x", mtime=0)),
        ("set.zip", b"PK\3\4 a zip that ends here"),
        ("features.npy", np.lib.format.magic(1, 0) + b"\x10\0{'descr': '<f4'}"),
        ("notes.txt", b"images/1.png"),
        ("cut.parquet", b"PAR1 and no more"),
    ],
)
@pytest.mark.parametrize("side", ["reference", "candidate"])
def test_what_is_no_set_is_refused_before_anything_runs(name: str, content: bytes, side: str) -> None:
    folder("ref", range(2))
    Path(name).write_bytes(content)
    words = [name, "ref"] if side == "reference" else ["ref", name]
    code, out, err = command("score", *words, "--set", "--metrics", "fid")
    assert (code, out) == (2, "")
    sentences = [line for line in err.splitlines() if line.startswith("vtbench: ")]
    assert len(sentences) == 1
    assert name in sentences[0]


def too_small(form: str, good: int) -> str:
    """A reference of so many readable images."""
    if form == "npz":
        np.savez("ref.npz", pixels(*range(good)).reshape(good, 16, 16, 3))
        return "ref.npz"
    if form == "npy":
        np.save("ref.npy", pixels(*range(good)).reshape(good, 16, 16, 3))
        return "ref.npy"
    folder("ref", range(good))
    if form == "torn":
        Path("ref/torn.png").write_bytes(b"torn")
    return "ref"


@pytest.mark.parametrize(
    ("form", "good"), [("folder", 1), ("torn", 0), ("torn", 1), ("npz", 0), ("npz", 1), ("npy", 0), ("npy", 1)]
)
def test_a_reference_of_no_or_one_image_is_null_with_the_reason(form: str, good: int) -> None:
    folder("cand", range(3))
    result = scores(too_small(form, good), "cand", "--metrics", ",".join(OF_SETS), code=1 if form == "torn" else 0)
    assert len(result) == len(OF_SETS)
    for score in result.values():
        assert (score["value"], score["n"]) == (None, 0)
        assert f"{good} reference images could be read; a set needs two" in score["why"]


@pytest.mark.parametrize("good", [0, 1])
def test_candidates_of_no_or_one_image_are_null_with_the_reason(good: int) -> None:
    folder("ref", range(3))
    np.savez("cand.npz", pixels(*range(good)).reshape(good, 16, 16, 3))
    for score in scores("ref", "cand.npz", "--metrics", "fid,kid").values():
        assert (score["value"], score["n"]) == (None, 0)
        assert f"{good} images were scored; a set needs two" in score["why"]


def test_the_inception_score_needs_no_reference() -> None:
    folder("cand", range(10))
    value = scores(folder("many", range(5)), "cand", "--metrics", "is")["is"]["value"]
    assert value is not None
    assert scores(folder("one", range(1)), "cand", "--metrics", "is")["is"]["value"] == value


def test_sets_of_different_n_are_compared() -> None:
    """Only pairs need equal n: a reference is another set."""
    assert scores(folder("ref", range(3)), folder("cand", range(5)), "--metrics", "fid")["fid"]["n"] == 5


def test_a_distance_of_pairs_has_no_value_between_sets_of_different_n() -> None:
    """rFID is of reconstructions and their originals; clean-fid's number of any two sets has a name of its own."""
    folder("ref", range(3))
    np.savez("s.npz", mu=np.zeros(2048), sigma=np.eye(2048), n=np.array(4))
    result = scores("ref", folder("cand", range(2)), "--metrics", "rfid-clean,fid-clean")
    assert (result["rfid-clean"]["value"], result["rfid-clean"]["n"]) == (None, 0)
    assert "3 originals and 2 candidates could be read: fid-clean compares any two" in result["rfid-clean"]["why"]
    assert result["fid-clean"]["n"] == 2
    assert "4 originals and 2 candidates" in scores("s.npz", "cand", "--metrics", "rfid")["rfid"]["why"]
    Path("ref/002.png").write_bytes(b"torn")
    now = scores("ref", "cand", "--metrics", "rfid-clean,fid-clean", code=1)
    assert now["rfid-clean"]["value"] == now["fid-clean"]["value"] is not None


def test_sets_of_one_n_and_statistics_that_do_not_say_theirs_are_taken_for_pairs() -> None:
    """Files of pytorch-fid hold no n."""
    assert sets.no_pairs(frechet.rfid(), 3, 3) is None
    assert sets.no_pairs(frechet.rfid(), None, 3) is None
    assert sets.no_pairs(frechet.fid(), 4, 3) is None
    for name, instead in frechet.OF_ANY_SETS.items():
        pairs, any_two = (registry.metrics().get(n)() for n in (name, instead))
        assert f"{instead} compares any two sets" in str(sets.no_pairs(pairs, 4, 3))
        assert pairs.extractor().id == any_two.extractor().id


def test_statistics_say_what_was_left_out_and_what_is_unreadable() -> None:
    folder("imgs", range(4))
    Path("imgs/x.psd").write_bytes(b"8BPS")
    Path("imgs/torn.png").write_bytes(b"x")
    code, out, err = command("statistics", "imgs", "--out", "s.npz")
    assert (code, out.strip()) == (1, "s.npz")
    assert "1 .psd, such as x.psd" in err
    assert "torn.png" in err
    assert int(np.load("s.npz")["n"]) == 4


def test_statistics_of_one_image_are_refused_or_null() -> None:
    folder("cand", range(3))
    with pytest.raises(VtbenchError, match="have no covariance"):
        sets.statistics(folder("one", range(1)), Path("s.npz"))
    assert not list(Path().glob("**/*.npz"))
    for name, dim, n in (("one.npz", 2048, 1), ("other.npz", 7, 5)):
        np.savez(name, mu=np.zeros(dim), sigma=np.zeros((dim, dim)), n=np.array(n))
    assert (
        "statistics of 1 image, which has no covariance" in scores("one.npz", "cand", "--metrics", "fid")["fid"]["why"]
    )
    assert "statistics of 7 features" in scores("other.npz", "cand", "--metrics", "fid")["fid"]["why"]
    np.savez("nan.npz", mu=np.zeros(2), sigma=np.full((2, 2), np.nan))
    np.savez("flat.npz", mu=np.zeros(()), sigma=np.zeros(()))
    for name, words in (("nan.npz", "hold NaN or infinity"), ("flat.npz", r"wanted \(d,\) and \(d, d\)")):
        with pytest.raises(VtbenchError, match=words):
            sets.score(Path(name), [Path("cand")], ["fid"])


def test_tables_are_images_from_the_command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import datasets
    import pyarrow
    from pyarrow import parquet

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    folder("src", range(3))
    files = pyarrow.array([p.read_bytes() for p in sorted(Path("src").iterdir())], pyarrow.binary())
    Path("data").mkdir()
    parquet.write_table(pyarrow.table({"jpg": files}), "data/train.parquet")
    for spec in ("hf:./data@local", "data/train.parquet"):
        code, out, err = command("evaluate", "png", "--images", spec, "--view", "native", "--task", "compression")
        assert code == 0, err
        assert "3 images" in out.splitlines()[0]
    assert scores("src", "data/train.parquet", "--metrics", "fid")["fid"]["value"] == pytest.approx(0, abs=ROUNDING)
