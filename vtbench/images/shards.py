"""Tar shards in webdataset's layout as suites: read in place, nothing is unpacked."""

from __future__ import annotations

import glob as globbing
import itertools
import os
import posixpath
import re
import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from vtbench.images.identity import digests
from vtbench.images.kinds import HEAD, head_of, packing
from vtbench.images.limits import within_file_limit
from vtbench.images.selection import Selection, ids_of, in_order, suffixes, visible
from vtbench.images.suite import Suite, gone
from vtbench.types.errors import VtbenchError
from vtbench.types.foreign import cause
from vtbench.types.item import Item
from vtbench.types.shortage import refuse_shortage

Extent = tuple[int, int]
"""(offset, size) of a member's bytes in its shard."""
FIRST = ("jpg", "jpeg", "png", "webp")
"""Which of several images of one sample is taken before others."""
SAMPLE = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)")
"""webdataset's rule: a member's name up to the first dot of its last part is its sample, the rest is its key
(webdataset/tariterators.py, base_plus_ext)."""
SECOND = "second images of samples"


class ShardSuite(Suite):
    """The place of an item is (shard, offset, size)."""

    def path(self, item: Item) -> Path:
        return Path(item.place[0])

    def read(self, item: Item) -> bytes:
        shard, offset, size = item.place
        within_file_limit(size, item.id)
        try:
            with Path(shard).open("rb") as source:
                source.seek(offset)
                return source.read(size)
        except OSError as bad:
            raise gone(item, Path(shard), bad) from bad

    def contents(self) -> Iterator[str]:
        shards = itertools.groupby((item.place for item in self.items), key=lambda place: place[0])
        files = [(shard, [(offset, size) for _, offset, size in places]) for shard, places in shards]
        return digests(files, Path(os.path.commonpath([os.path.dirname(os.path.abspath(s)) for s, _ in files])))


def open_shards(spec: str) -> Suite:
    """Every image of the shards, in their order, one a sample; `spec` is a name, a glob, or `x-{0000..0009}.tar`, and
    after a `#` perhaps the key of the images, as in `x.tar#seg.png`. What a folder leaves out is left out here."""
    address, mark, key = (spec, "", "") if os.path.lexists(spec) else spec.partition("#")
    paths = [
        path for name in _braces(os.path.expanduser(address)) for path in (in_order(globbing.glob(name)) or [name])
    ]
    selection = Selection()
    items: list[Item] = []
    for shard, prefix in zip(paths, _prefixes(paths), strict=True):
        members = _members(shard, selection)
        names = _of_key(members, key) if mark else _one_a_sample(shard, members, selection)
        for name, identity in zip(names, ids_of([f"{prefix}/{name}" for name in names], shard), strict=True):
            items.append(Item(identity, (shard, *members[name])))
    if not items:
        keyed = f" of the key {key}" if mark else ""
        raise VtbenchError(f"{address} holds no image{keyed}: shards hold files such as 000001.jpg")
    suite = ShardSuite(spec, items)
    suite.left_out = selection.left_out
    suite.notes += filter(None, [selection.note()])
    return suite


def _prefixes(paths: Sequence[str]) -> list[str]:
    """What the items of each shard begin with: its name, or where two are called alike, its path."""
    stems = [Path(path).stem for path in paths]
    if len(set(stems)) == len(stems):
        return stems
    common = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
    return [Path(os.path.relpath(path, common)).with_suffix("").as_posix() for path in paths]


def _members(shard: str, selection: Selection) -> dict[str, Extent]:
    """Where the shard's images lie, by name: those that unpacking would leave. A member that comes twice is the later
    one, in the place of the first; a link is the file that it leads to."""
    images: dict[str, Extent] = {}
    everything: dict[str, Extent] = {}
    links: dict[str, str] = {}
    if Path(shard).exists() and not Path(shard).is_file():
        raise VtbenchError(f"the shard {shard} is no regular file: give whole, uncompressed tar files")
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                link = member.islnk() or member.issym()
                if member.isfile() and not member.issparse():
                    everything[posixpath.normpath(member.name)] = (member.offset_data, member.size)
                elif not link:
                    continue
                if visible(member.name) and selection.takes(member.name, bytes if link else _head(archive, member)):
                    links.pop(member.name, None)
                    images[member.name] = (member.offset_data, member.size)
                    if link:
                        links[member.name] = _target(member)
    except VtbenchError:
        raise
    except Exception as bad:
        refuse_shortage(bad, shard)
        # A damaged header makes the library raise more than its own errors.
        packed = packing(head_of(Path(shard))) if Path(shard).is_file() else None
        why = f"it is compressed with {packed}" if packed else cause(bad)
        raise VtbenchError(f"the shard {shard} cannot be read ({why}): give whole, uncompressed tar files") from bad
    for name, target in links.items():
        if target in everything:
            images[name] = everything[target]
        else:
            del images[name]
            selection.leave("links out of the tar", name)
    return images


def _target(member: tarfile.TarInfo) -> str:
    """The name of the member that a link leads to: hard links count from the top, symbolic ones from where they lie."""
    start = "" if member.islnk() else posixpath.dirname(member.name)
    return posixpath.normpath(posixpath.join(start, member.linkname))


def _head(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Callable[[], bytes]:
    def read() -> bytes:
        source = archive.extractfile(member)
        return b"" if source is None else source.read(HEAD)

    return read


# -- samples -----------------------------------------------------------------------------------------------------------


def _of_key(members: Mapping[str, Extent], key: str) -> list[str]:
    wanted = key.lower()
    return [name for name in members if (match := SAMPLE.fullmatch(name)) and match[2].lower() == wanted]


def _one_a_sample(shard: str, members: Mapping[str, Extent], selection: Selection) -> list[str]:
    """One image of each sample: the one whose key is a suffix alone (`jpg`) before those with a name (`seg.png`).

    Raises VtbenchError where all samples have several images of the same names and none is such.
    """
    samples: dict[str, dict[str, str]] = defaultdict(dict)
    for name in members:
        if match := SAMPLE.fullmatch(name):
            key = match[2].lower()
            if _names_a_field(key):
                samples[match[1]][key] = name
    _refuse_unclear(shard, [frozenset(keys) for keys in samples.values()])
    left_out = set()
    for keys in samples.values():
        plain = sorted(
            (k for k in keys if "." not in k), key=lambda k: (FIRST.index(k) if k in FIRST else len(FIRST), k)
        )
        if plain:
            left_out |= {name for key, name in keys.items() if key != plain[0]}
    for name in sorted(left_out):
        selection.leave(SECOND, name)
    return [name for name in members if name not in left_out]


def _names_a_field(key: str) -> bool:
    """Whether a key is a suffix alone or a field's name with one (`seg.png`); a number is part of a file's own name, as
    in `film.0001.png`."""
    return "." not in key or key[:1].isalpha()


def _refuse_unclear(shard: str, samples: Sequence[frozenset[str]]) -> None:
    fields = samples[0] if samples else frozenset()
    plain = {suffix.removeprefix(".") for suffix in suffixes()} & fields
    if len(samples) > 1 and len(fields) > 1 and not plain and all(keys == fields for keys in samples):
        keys = sorted(fields)
        raise VtbenchError(
            f"the samples of {shard} have several images each ({', '.join(keys)}): say which, as in {shard}#{keys[0]}"
        )


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
