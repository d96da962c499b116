"""Tar shards in webdataset's layout as suites: read in place, nothing is unpacked."""

from __future__ import annotations

import glob as globbing
import itertools
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from vtbench.images.folders import SUFFIXES
from vtbench.images.identity import digests
from vtbench.images.suite import Suite, gone
from vtbench.types.errors import VtbenchError
from vtbench.types.item import Item


class ShardSuite(Suite):
    """The place of an item is (shard, offset, size)."""

    def path(self, item: Item) -> Path:
        return Path(item.place[0])

    def read(self, item: Item) -> bytes:
        shard, offset, size = item.place
        try:
            with Path(shard).open("rb") as source:
                source.seek(offset)
                return source.read(size)
        except OSError as bad:
            raise gone(item, bad) from bad

    def contents(self) -> Iterator[str]:
        shards = itertools.groupby((item.place for item in self.items), key=lambda place: place[0])
        files = [(shard, [(offset, size) for _, offset, size in places]) for shard, places in shards]
        return digests(files, Path(os.path.commonpath([os.path.dirname(os.path.abspath(s)) for s, _ in files])))


def open_shards(spec: str) -> Suite:
    """Every image of the shards, in their order; `spec` is a name, a glob, or `x-{0000..0009}.tar`."""
    names = [path for name in _braces(os.path.expanduser(spec)) for path in (sorted(globbing.glob(name)) or [name])]
    items: list[Item] = []
    for name in names:
        try:
            with tarfile.open(name, "r:") as archive:
                for member in archive:
                    if member.isfile() and PurePosixPath(member.name).suffix.lower() in SUFFIXES:
                        items.append(Item(f"{Path(name).stem}/{member.name}", (name, member.offset_data, member.size)))
        except (OSError, tarfile.TarError) as bad:
            raise VtbenchError(f"the shard {name} cannot be read ({bad}): give whole, uncompressed tar files") from bad
    if not items:
        raise VtbenchError(f"{spec} holds no image: shards hold files such as 000001.jpg")
    return ShardSuite(spec, items)


def _braces(spec: str) -> list[str]:
    """`x-{0000..0003}.tar` as four names."""
    before, brace, rest = spec.partition("{")
    inner, close, after = rest.partition("}")
    if not brace:
        return [spec]
    first, dots, last = inner.partition("..")
    if not close or not dots or not first.isdigit() or not last.isdigit() or int(last) - int(first) > 1_000_000:
        raise VtbenchError(f"{spec!r} is no list of shards: write x-{{0000..0009}}.tar, or a glob")
    return [n for i in range(int(first), int(last) + 1) for n in _braces(f"{before}{i:0{len(first)}d}{after}")]
