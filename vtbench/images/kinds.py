"""What a file is by its first bytes, whatever its name says: a picture, or a container of pictures."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal

from vtbench.types.errors import VtbenchError
from vtbench.types.shortage import refuse_shortage

Kind = Literal["picture", "tar", "zip", "npz", "npy", "parquet", "arrow", "packed", "torch", "other"]
"""packed: compressed, or an archive of a form that is not read; torch: a file of torch.save."""

HEAD = 512
"""Bytes that tell: a tar's mark stands at 257."""
_PICTURES = (
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
    b"GIF87a",
    b"GIF89a",
    b"II*\0",
    b"MM\0*",
    b"II+\0",
    b"MM\0+",
    b"\0\0\0\x0cjP  ",
    b"\xff\x4f\xff\x51",
    b"\xff\x0a",
    b"\0\0\0\x0cJXL ",
    b"8BPS",
    b"v/1\x01",
    b"qoif",
    b"DDS ",
)
"""PNG, JPEG, GIF, TIFF (and cameras' raw files), BigTIFF, JPEG 2000 (file, codestream), JPEG XL (codestream, file),
Photoshop, OpenEXR, QOI, DirectDraw."""
_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")
"""Brands of ISO 23008-12 (HEIF) and AVIF, at byte 8."""
_PACKED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!": "rar",
}


def is_picture(head: bytes) -> bool:
    """Whether a file that begins so is a picture of some format, one that is read here or not."""
    if head.startswith(_PICTURES):
        return True
    if head[:4] == b"RIFF":
        return head[8:12] == b"WEBP"
    if head[:2] == b"BM":
        return head[6:10] == b"\0\0\0\0"
    if head[4:8] == b"ftyp":
        return head[8:12] in _BRANDS
    return head[:1] == b"P" and head[1:2] in b"123456" and head[2:3] in b" \t\r\n#" and len(head) > 2


def packing(head: bytes) -> str | None:
    """The name of the compression or archive that begins so, of those that are not read."""
    return next((name for mark, name in _PACKED.items() if head.startswith(mark)), None)


def kind_of(path: Path) -> Kind:
    """What the file is. Raises VtbenchError if it cannot be read."""
    head = head_of(path)
    if is_picture(head):
        return "picture"
    if packing(head):
        return "packed"
    if head[257:262] == b"ustar":
        return "tar"
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return _of_zip(path)
    if head[:4] == b"\xff\xff\xff\xff" and path.suffix == ".arrow":
        # A stream of Arrow has no mark but that of its first message, which is too common to be one.
        return "arrow"
    marks: dict[bytes, Kind] = {b"PAR1": "parquet", b"ARROW1": "arrow", b"\x93NUMPY": "npy"}
    return next((kind for mark, kind in marks.items() if head.startswith(mark)), "other")


def head_of(path: Path) -> bytes:
    """The first bytes of a regular file; VtbenchError if there are none to be had."""
    try:
        if not path.is_file():
            what = "is no file" if path.exists() else "leads nowhere"
            raise VtbenchError(f"{path} {what}: give a folder, or a file that holds images")
        with path.open("rb") as source:
            return source.read(HEAD)
    except OSError as bad:
        refuse_shortage(bad, path)
        raise VtbenchError(f"{path} cannot be read ({bad.strerror or bad}): mend its rights, or give another") from bad


def is_npz(path: Path) -> bool:
    """Whether a file is numpy's archive of arrays: by what it holds, or by its name where that says nothing."""
    kind = kind_of(path)
    return kind == "npz" or (kind == "other" and path.suffix == ".npz")


def _of_zip(path: Path) -> Kind:
    """A zip may be numpy's archive of arrays, or a checkpoint."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError) as bad:
        refuse_shortage(bad, path)
        # Said where it is opened, for what its name says it is.
        return "npz" if path.suffix == ".npz" else "zip"
    if any(name.endswith("data.pkl") for name in names):
        return "torch"
    return "npz" if names and all(name.endswith(".npy") for name in names) else "zip"
