"""ImageNet's validation set as people have it: every layout gives the same pictures, names and numbers."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import encoded, photograph
from PIL import Image

import vtbench
from vtbench.images.opening import open_suite

SYNSETS = ("n01440764", "n01443537", "n15075141")
CAT = photograph(96, 140)


def _files() -> dict[str, bytes]:
    """Six files with upstream's names: most are RGB, one is grey, one is CMYK, one is a PNG under a JPEG's name."""
    cuts = [np.ascontiguousarray(CAT[4 * k :, 9 * k :]) for k in range(6)]
    bodies = [encoded(cut, "JPEG", quality=95) for cut in cuts[:3]]
    bodies.append(encoded(Image.fromarray(cuts[3]).convert("L"), "JPEG"))
    bodies.append(encoded(Image.fromarray(cuts[4]).convert("CMYK"), "JPEG"))
    bodies.append(encoded(cuts[5], "PNG"))
    return {f"ILSVRC2012_val_{k:08d}": body for k, body in enumerate(bodies, 1)}


FILES = _files()
CLASSES = {name: SYNSETS[k % 3] for k, name in enumerate(FILES)}


def _write(path: Path, body: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)


def flat(root: Path) -> str:
    """The archive unpacked, and beside the pictures what the devkit says of them."""
    for name, body in FILES.items():
        _write(root / "val" / f"{name}.JPEG", body)
    labels = "".join(f"{SYNSETS.index(c) + 1}\n" for c in CLASSES.values())
    _write(root / "val" / "ILSVRC2012_validation_ground_truth.txt", labels.encode())
    _write(root / "val" / "LOC_val_solution.csv", b"ImageId,PredictionString\n")
    _write(root / "val" / "meta.mat", b"MATLAB 5.0 MAT-file")
    return str(root / "val")


def synsets(root: Path) -> str:
    for name, body in FILES.items():
        _write(root / "val" / CLASSES[name] / f"{name}.JPEG", body)
    _write(root / "val" / "wnids.txt", "\n".join(SYNSETS).encode())
    return str(root / "val")


def whole_devkit(root: Path) -> str:
    """The downloaded tree: pictures in one folder, the devkit in another."""
    flat(root)
    _write(root / "ILSVRC2012_devkit_t12" / "data" / "ILSVRC2012_validation_ground_truth.txt", b"1\n" * 6)
    _write(root / "ILSVRC2012_devkit_t12" / "readme.txt", b"ILSVRC2012")
    return str(root)


def _tar(path: Path, members: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, body in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body))


def tar(root: Path) -> str:
    """ILSVRC2012_img_val.tar as it is downloaded."""
    _tar(root / "ILSVRC2012_img_val.tar", {f"{name}.JPEG": body for name, body in FILES.items()})
    return str(root / "ILSVRC2012_img_val.tar")


def shards(root: Path) -> str:
    """webdataset: a picture, its class and its notes a sample."""
    for number, part in enumerate((list(FILES)[:4], list(FILES)[4:])):
        members: dict[str, bytes] = {}
        for name in part:
            members[f"{name}.jpg"] = FILES[name]
            members[f"{name}.cls"] = str(SYNSETS.index(CLASSES[name])).encode()
            members[f"{name}.json"] = json.dumps({"label": CLASSES[name]}).encode()
        _tar(root / f"imagenet1k-validation-{number:02d}.tar", members)
    return str(root / "imagenet1k-validation-{00..01}.tar")


def _tables(root: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    (root / "data").mkdir(parents=True)
    for number, part in enumerate((list(FILES)[:4], list(FILES)[4:])):
        cells = [{"bytes": FILES[n], "path": f"{n}_{CLASSES[n]}.JPEG"} for n in part]
        table = pyarrow.table({"image": cells, "label": [SYNSETS.index(CLASSES[n]) for n in part]})
        parquet.write_table(table, root / "data" / f"validation-0000{number}-of-00002.parquet")


def parquet_folder(root: Path) -> str:
    _tables(root)
    return f"hf:{root}@local"


def parquet_glob(root: Path) -> str:
    _tables(root)
    return f"{root}/data/validation-*.parquet"


LAYOUTS: dict[str, Callable[[Path], str]] = {
    "flat, with a file of labels": flat,
    "synset folders": synsets,
    "the whole download": whole_devkit,
    "the archive": tar,
    "webdataset shards": shards,
    "parquet of the hub": parquet_folder,
    "parquet files": parquet_glob,
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_holds_the_same_pictures(layout: str, tmp_path: Path) -> None:
    suite = open_suite(LAYOUTS[layout](tmp_path / "imagenet"))
    assert len(suite.items) == 6
    assert suite.notes == []
    loaded = sorted(suite.load(item).tobytes() for item in suite.items)
    wanted = [np.asarray(Image.open(io.BytesIO(body)).convert("RGB")).tobytes() for body in FILES.values()]
    assert loaded == sorted(wanted)
    classes = [item.meta.get("class") for item in suite.items]
    assert classes == sorted(CLASSES.values()) if layout == "synset folders" else classes == [None] * 6


def test_every_layout_gives_the_same_numbers(tmp_path: Path) -> None:
    values: dict[str, Any] = {}
    for number, (layout, make) in enumerate(LAYOUTS.items()):
        made = vtbench.evaluate(
            "jpeg", images=make(tmp_path / str(number)), view="64", tasks=["compression"], out=tmp_path / f"out{number}"
        )
        assert made.failures == {}
        run = made.runs[0]
        rows = sorted((row.sha256, row.values["psnr"], row.bits) for row in run.rows())
        values[layout] = [run.score("psnr").value, run.score("bpp").value, run.info.n, rows]  # type: ignore[union-attr]
    first = values.pop("flat, with a file of labels")
    for layout, other in values.items():
        assert other[2:] == first[2:], layout
        # The order of the files, and with it that of the sum, is another.
        assert other[:2] == pytest.approx(first[:2], rel=1e-12), layout
