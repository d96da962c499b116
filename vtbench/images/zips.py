"""Images in a zip file as a suite, read in place: StyleGAN's and EDM's data sets, samples, and what people send."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from vtbench.images.kinds import HEAD
from vtbench.images.limits import FILE_LIMIT, BadImage
from vtbench.images.selection import Selection, ids_of, in_order, visible
from vtbench.images.suite import Suite, gone
from vtbench.types.errors import VtbenchError
from vtbench.types.foreign import reading
from vtbench.types.item import Item
from vtbench.types.shortage import refuse_shortage

LOCAL_HEADER = 30
"""Bytes before a member's name (PKWARE, APPNOTE.TXT, 4.3.7); the lengths of name and extra field end it."""
ENCRYPTED = 0x1
METHODS = {9: "deflate64", 12: "bzip2", 14: "lzma", 93: "zstd", 95: "xz"}
"""Names of compressions that are not read (APPNOTE.TXT, 4.4.5)."""


class ZipSuite(Suite):
    """The place of an item is its ZipInfo; every reader opens the file for itself."""

    def __init__(self, path: Path, items: list[Item]) -> None:
        super().__init__(path.name, items)
        self.file = path

    def path(self, item: Item) -> Path:
        return self.file

    def read(self, item: Item) -> bytes:
        member: zipfile.ZipInfo = item.place
        try:
            with self.file.open("rb") as source:
                source.seek(member.header_offset)
                header = source.read(LOCAL_HEADER)
                name, extra = int.from_bytes(header[26:28], "little"), int.from_bytes(header[28:30], "little")
                source.seek(name + extra, 1)
                packed = source.read(member.compress_size)
            stored = member.compress_type == zipfile.ZIP_STORED
            data = packed if stored else zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, member.file_size + 1)
        except OSError as bad:
            raise gone(item, self.file, bad) from bad
        except zlib.error as bad:
            raise BadImage(f"{item.id} of {self.name} is damaged ({bad}): copy the zip again") from bad
        if len(data) != member.file_size or zlib.crc32(data) != member.CRC:
            raise BadImage(f"{item.id} of {self.name} is damaged (its checksum differs): copy the zip again")
        return data


def open_zip(path: Path) -> Suite:
    """Every image of the zip, in sorted order of name. Raises VtbenchError for what is damaged, encrypted or compressed
    otherwise than by deflate."""
    selection = Selection()
    with reading(path, "a zip"), zipfile.ZipFile(path) as archive:
        members = {
            member.filename: member
            for member in archive.infolist()
            if not member.is_dir() and visible(member.filename)
            if selection.takes(member.filename, _head(archive, member))
        }
    for member in members.values():
        _refuse(path, member)
    if not members:
        holds = f"; it holds {selection.listed()}" if selection.left_out else ""
        raise VtbenchError(f"{path} holds no image{holds}: give a zip of files such as 000001.png")
    names = in_order(members)
    items = [Item(identity, members[name]) for name, identity in zip(names, ids_of(names, str(path)), strict=True)]
    suite = ZipSuite(path, items)
    suite.left_out = selection.left_out
    suite.notes += filter(None, [selection.note()])
    return suite


def _refuse(path: Path, member: zipfile.ZipInfo) -> None:
    if member.flag_bits & ENCRYPTED:
        raise VtbenchError(f"{path} is encrypted ({member.filename}): unpack it, and give the folder")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        method = METHODS.get(member.compress_type, f"method {member.compress_type}")
        raise VtbenchError(f"{path} is compressed with {method} ({member.filename}): unpack it, and give the folder")
    if member.file_size > FILE_LIMIT:
        raise VtbenchError(
            f"{path}: {member.filename} would be {member.file_size} bytes, the limit is {FILE_LIMIT}: look at it first"
        )


def _head(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Callable[[], bytes]:
    """Gives the member's first bytes; none where they cannot be had."""

    def read() -> bytes:
        try:
            with archive.open(member) as source:
                return source.read(HEAD)
        except (OSError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error, EOFError) as bad:
            refuse_shortage(bad, member.filename)
            return b""

    return read
