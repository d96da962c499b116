"""Arrays of samples: ADM's .npz with uint8 images (N, H, W, 3) as `arr_0` and perhaps labels as `arr_1`, or the images
alone as .npy."""

from __future__ import annotations

import contextlib
import math
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from vtbench.images.npz import Header, read_array, read_header
from vtbench.images.reading import rgb_sha256
from vtbench.images.sets import ImageSet, streaming_set
from vtbench.images.stream import Original
from vtbench.types.errors import VtbenchError
from vtbench.types.foreign import reading
from vtbench.types.item import Item

Open = Callable[[], contextlib.AbstractContextManager[IO[bytes]]]
"""Opens the .npy of the images, wherever it lies."""


def open_npz(path: Path) -> ImageSet:
    """Images of an ADM batch, read from the archive without unpacking it; refuses what is none in a sentence."""
    header, labels = _facts(path)

    @contextlib.contextmanager
    def images() -> Iterator[IO[bytes]]:
        with zipfile.ZipFile(path) as archive, archive.open("arr_0.npy") as source:
            yield source

    return _set(path, images, header, labels)


def open_npy(path: Path) -> ImageSet:
    """Images of an .npy, read in place; refuses features, statistics and pickled objects in a sentence."""
    with reading(path, ".npy"), path.open("rb") as source:
        header = read_header(source)
    if header.dtype.kind == "f" and len(header.shape) < 4:
        raise VtbenchError(
            f"{path} holds {header.dtype} of shape {header.shape}, which are no images: wanted uint8 (N, H, W, 3); "
            "features and moments alone do not say whose they are: give statistics as an .npz with mu and sigma"
        )
    _refuse(path, "the array", header)
    return _set(path, lambda: path.open("rb"), header, None)


def _set(path: Path, images: Open, header: Header, labels: list[int] | None) -> ImageSet:
    def batches(size: int) -> Iterator[list[Original]]:
        return _images(path, images, header.shape, size)

    return streaming_set(path.name, int(header.shape[0]), batches, labels)


def _facts(path: Path) -> tuple[Header, list[int] | None]:
    """The header of the images, which are what is wanted, and their labels where they have any."""
    if not path.exists():
        raise VtbenchError(f"{path} does not exist: give an .npz with uint8 images as arr_0")
    with reading(path, ".npz"), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if "arr_0.npy" not in names:
            listed = ", ".join(names)[:80]
            raise VtbenchError(f"{path} has no arr_0 (it has {listed}): give uint8 images NHWC as arr_0")
        with archive.open("arr_0.npy") as source:
            header = read_header(source)
        _refuse(path, "arr_0", header)
        labels = _labels(path, archive, header.shape[0]) if "arr_1.npy" in names else None
    return header, labels


def _labels(path: Path, archive: zipfile.ZipFile, images: int) -> list[int] | None:
    with archive.open("arr_1.npy") as source:
        header = read_header(source)
    if header.dtype.kind not in "iu":
        return None
    count = math.prod(header.shape)
    if count != images:
        raise VtbenchError(f"{path} has {count} labels (arr_1) for {images} images: wanted one each")
    with archive.open("arr_1.npy") as source:
        return [int(v) for v in read_array(source, archive.getinfo("arr_1.npy").file_size).reshape(-1)]


def _refuse(path: Path, array: str, header: Header) -> None:
    """What the images may not be, each with what was seen. array: what they are called in the file."""
    shape = header.shape
    if header.dtype.hasobject:
        raise VtbenchError(
            f"{path}: {array} holds Python objects, which are never unpickled: wanted uint8 (N, H, W, 3)"
        )
    if len(shape) != 4 or shape[3] != 3:
        last = shape[-1] if shape else 0
        what = "grey" if len(shape) == 3 or last == 1 else "RGBA" if last == 4 else "of another shape"
        raise VtbenchError(f"{path}: {array} is {what} {tuple(shape)}: wanted uint8 (N, H, W, 3)")
    if str(header.dtype) != "uint8":
        raise VtbenchError(
            f"{path}: {array} is {header.dtype}: wanted uint8 in 0..255, rounded once where the images were made"
        )
    if header.fortran:
        raise VtbenchError(f"{path}: {array} is in Fortran order: save it with numpy.savez from a plain array")
    if shape[0] and not (shape[1] and shape[2]):
        raise VtbenchError(f"{path}: {array} is {tuple(shape)}, images without a pixel: wanted uint8 (N, H, W, 3)")


def _images(path: Path, images: Open, shape: tuple[int, ...], size: int) -> Iterator[list[Original]]:
    """The images in lists of `size`; a file that ends early is refused where it does."""
    import numpy as np

    each = int(np.prod(shape[1:]))
    with reading(path, "an array of images"), images() as source:
        read_header(source)
        for start in range(0, shape[0], size):
            count = min(size, shape[0] - start)
            data = source.read(count * each)
            if len(data) != count * each:
                raise VtbenchError(f"{path} ends after {start} of {shape[0]} images: the file is truncated")
            pixels = np.frombuffer(data, np.uint8).reshape(count, *shape[1:])
            yield [Original(Item(f"{start + k:06d}", start + k), rgb, rgb_sha256(rgb)) for k, rgb in enumerate(pixels)]
