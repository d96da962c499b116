"""Sets of images without pairing: one stream for folders, shards and arrays, and what they note on the way."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from image_files import encoded, picture, save

from vtbench.images.opening import open_set
from vtbench.images.reading import rgb_sha256
from vtbench.images.sets import BATCH, ImageSet
from vtbench.types.errors import VtbenchError

COUNT = BATCH + 5


def as_folder(path: Path) -> Path:
    for k in range(COUNT):
        save(path / f"{k:03d}.png", picture(k))
    return path


def as_shard(path: Path) -> Path:
    with tarfile.open(path.with_suffix(".tar"), "w") as archive:
        for k in range(COUNT):
            data = encoded(picture(k), "PNG")
            member = tarfile.TarInfo(f"{k:03d}.png")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path.with_suffix(".tar")


def as_array(path: Path, save_with: Callable[..., None] = np.savez) -> Path:
    save_with(path.with_suffix(".npz"), np.stack([picture(k) for k in range(COUNT)]))
    return path.with_suffix(".npz")


def as_packed_array(path: Path) -> Path:
    return as_array(path, np.savez_compressed)


def as_plain_array(path: Path) -> Path:
    np.save(path.with_suffix(".npy"), np.stack([picture(k) for k in range(COUNT)]))
    return path.with_suffix(".npy")


def as_zip(path: Path) -> Path:
    return Path(shutil.make_archive(str(path), "zip", as_folder(path)))


def pixels(images: ImageSet) -> np.ndarray:
    return torch.cat(list(images.read())).permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("form", [as_folder, as_shard, as_array, as_packed_array, as_plain_array, as_zip])
def test_every_form_streams_the_same_pixels_in_order(tmp_path: Path, form: Callable[[Path], Path]) -> None:
    images = open_set(form(tmp_path / "set"))
    truth = np.stack([picture(k) for k in range(COUNT)])
    assert images.n == COUNT
    tensors = list(images.read())
    assert [len(t) for t in tensors] == [BATCH, COUNT - BATCH]
    assert all(t.dtype == torch.uint8 and t.is_contiguous() for t in tensors)
    assert np.array_equal(pixels(images), truth)
    # The same once more, image by image and in batches of another size.
    assert images.batches is not None
    batches = list(images.batches(10))
    assert [len(b) for b in batches] == [10] * (COUNT // 10) + [COUNT % 10]
    for original, rgb in zip((o for b in batches for o in b), truth, strict=True):
        assert original.rgb is not None
        assert np.array_equal(original.rgb, rgb)
        # As a row states it, so that a set that was stopped goes on with its rows.
        assert original.sha256 == rgb_sha256(rgb)


def test_sizes_end_a_tensor_and_order_stays(tmp_path: Path) -> None:
    """Features are kept in the images' order, so that neighbours of one size go together and none is moved."""
    for k, (height, width) in enumerate([(8, 8), (8, 8), (8, 9), (8, 8), (9, 8), (9, 8)]):
        save(tmp_path / f"{k}.png", picture(k, height, width))
    tensors = list(open_set(tmp_path).read())
    assert [tuple(t.shape) for t in tensors] == [(2, 3, 8, 8), (1, 3, 8, 9), (1, 3, 8, 8), (2, 3, 9, 8)]
    assert np.array_equal(tensors[3][1].permute(1, 2, 0).numpy(), picture(5, 9, 8))


def test_bad_and_black_images_are_noted_and_the_others_go_on(tmp_path: Path) -> None:
    as_folder(tmp_path)
    save(tmp_path / "003.png", np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "010.png").write_bytes(b"torn")
    images = open_set(tmp_path)
    assert sum(len(t) for t in images.read()) == COUNT - 1
    assert list(images.bad) == ["010.png"]
    assert images.black == ["003.png"]
    assert images.load is not None
    assert images.load(images.items[10]) == images.bad["010.png"]
    assert np.array_equal(images.load(images.items[11]), picture(11))


def test_prompts_and_labels_of_drawn_images(tmp_path: Path) -> None:
    for k in range(3):
        save(tmp_path / "images" / f"{k}.png", picture(k))
    lines = [{"file": f"images/{k}.png", "text": None, "label": 5 - k, "metadata": {"k": k}} for k in (0, 1, 4)]
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    for path in (tmp_path, tmp_path / "images"):
        images = open_set(path)
        assert [i.meta.get("label") for i in images.items] == [5, 4, None]
        assert images.items[1].meta["k"] == 1
        assert images.labels == [5, 4]
        assert [r.partition(" images")[0] for r in images.remarks] == ["1", "1"]


def test_an_array_that_ends_early_is_refused_where_it_does(tmp_path: Path) -> None:
    """The header promises more images than there are bytes: the archive itself is whole."""
    import zipfile

    held = io.BytesIO()
    np.lib.format.write_array_header_1_0(held, {"descr": "|u1", "fortran_order": False, "shape": (40, 8, 8, 3)})
    with zipfile.ZipFile(tmp_path / "short.npz", "w") as archive:
        archive.writestr("arr_0.npy", held.getvalue() + b"\0" * (35 * 8 * 8 * 3))
    images = open_set(tmp_path / "short.npz")
    with pytest.raises(VtbenchError, match=r"short\.npz ends after 32 of 40 images: the file is truncated"):
        list(images.read())


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((10, 2048), np.float32), r"float32 of shape \(10, 2048\), which are no images"),
        (np.zeros(()), r"float64 of shape \(\), which are no images"),
        (np.zeros((4, 8, 8, 3), np.float32), "the array is float32: wanted uint8"),
        (np.zeros((4, 8, 8), np.uint8), "the array is grey"),
        (np.zeros((4, 3, 8, 8), np.uint8), "of another shape"),
        (np.zeros((4, 0, 8, 3), np.uint8), "images without a pixel"),
        (np.array({"mu": 1, "sigma": 2}), "Python objects, which are never unpickled"),
    ],
)
def test_what_an_npy_may_not_be(tmp_path: Path, array: np.ndarray, words: str) -> None:
    """Features, moments and pickles lie in .npy too; none is taken for images, and no pickle runs."""
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    with pytest.raises(VtbenchError, match=words) as refused:
        open_set(tmp_path / "x.npy")
    assert refused.value.code == 2


def test_arrays_are_known_by_their_content(tmp_path: Path) -> None:
    as_array(tmp_path / "a").rename(tmp_path / "array.bin")
    as_plain_array(tmp_path / "b").rename(tmp_path / "array")
    (tmp_path / "half.npy").write_bytes((tmp_path / "array").read_bytes()[:-9])
    for name in ("array.bin", "array"):
        assert open_set(tmp_path / name).n == COUNT
    as_zip(tmp_path / "c").rename(tmp_path / "pictures.npz")
    assert open_set(tmp_path / "pictures.npz").n == COUNT
    with pytest.raises(VtbenchError, match="truncated"):
        list(open_set(tmp_path / "half.npy").read())
