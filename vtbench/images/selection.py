"""Which files of a folder, a tar or a zip are its images, by which names, and what is said of those left out."""

from __future__ import annotations

import importlib.util
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from vtbench.images.kinds import is_picture
from vtbench.images.reading import PLUGINS
from vtbench.types.errors import VtbenchError, how_to_install
from vtbench.types.readable import readable

SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo"),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif", ".avifs"),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "GIF": (".gif",),
    "HEIF": (".heic", ".heif", ".hif"),
    "JXL": (".jxl",),
}
"""What a file's name must end in to be taken as an image, by Pillow's format. Which formats are tried on its bytes is
not decided by it."""
PLUGIN_SUFFIXES = frozenset(suffix for name in PLUGINS for suffix in SUFFIXES[name])
RAW = (".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2")
NOT_READ = frozenset((*RAW, ".dib", ".psd", ".exr", ".hdr", ".pfm", ".svg", ".ico", ".tga", ".dds", ".qoi", ".pcx"))
"""Suffixes of pictures that no decoder here reads."""
CONTAINERS = frozenset((".tar", ".tgz", ".gz", ".zip", ".parquet", ".arrow", ".npz", ".7z", ".rar", ".tfrecord"))
"""Suffixes of files that may hold many images, each a set of its own."""
NO_PICTURES = frozenset(("__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "lost+found"))
"""Folders that systems put beside a user's: resource forks of macOS, thumbnails of network drives, waste bins."""
SNIFFED = 16
"""So many files of one suffix that is no picture's are looked into: if one is a picture, the suffix is said."""


def suffixes() -> frozenset[str]:
    """What an image's name may end in here, in small letters."""
    missing = {name for name, plugin in PLUGINS.items() if importlib.util.find_spec(plugin.module) is None}
    return frozenset(suffix for name, ends in SUFFIXES.items() if name not in missing for suffix in ends)


def visible(name: str) -> bool:
    """False for hidden files and folders (those of AppleDouble, `._x`, among them) and what systems put beside.
    `name`: a relative path."""
    return not any(part.startswith(".") or part in NO_PICTURES for part in PurePosixPath(name).parts)


class Selection:
    """Takes the images among names that go by, and counts what else may be one."""

    def __init__(self) -> None:
        self._suffixes = suffixes()
        self._unknown: Counter[str] = Counter()
        self._said: set[str] = set()
        self._first: dict[str, str] = {}

    def takes(self, name: str, head: Callable[[], bytes]) -> bool:
        """Whether the file is an image by its name. head: gives its first bytes, asked for where the suffix says
        nothing."""
        suffix = PurePosixPath(name).suffix.lower()
        if suffix in self._suffixes:
            return True
        what = suffix or "without a suffix"
        self._unknown[what] += 1
        if what in self._said:
            return False
        known = suffix in PLUGIN_SUFFIXES or suffix in NOT_READ or suffix in CONTAINERS
        if known or (self._unknown[what] <= SNIFFED and is_picture(head())):
            self._said.add(what)
            self._first[what] = name
        return False

    def leave(self, what: str, name: str) -> None:
        """Counts a file that was not taken for another reason than its suffix."""
        self._unknown[what] += 1
        self._said.add(what)
        self._first.setdefault(what, name)

    @property
    def left_out(self) -> dict[str, int]:
        """{suffix or another reason: files} of what was not taken and is, or may hold, pictures."""
        return {what: self._unknown[what] for what in sorted(self._said)}

    def note(self) -> str:
        """One sentence on the files that were left out, one of them named; empty where there are none."""
        if not self._said:
            return ""
        plugin = any(what in PLUGIN_SUFFIXES for what in self._said)
        advice = f" (.heic and .jxl are read with {how_to_install('formats')})" if plugin else ""
        return f"left out, though they are or may hold pictures: {self.listed()}{advice}"

    def listed(self) -> str:
        """What was left out, counted, and one name."""
        counted = ", ".join(f"{n} {what}" for what, n in self.left_out.items())
        return f"{counted}, such as {readable(min(self._first.values()))}"


def in_order(names: Iterable[str]) -> list[str]:
    """Sorted by name in Unicode normal form, so that a copy by macOS, which decomposes names, is in the same order."""
    return sorted(names, key=lambda name: (normal(name), name))


def normal(name: str) -> str:
    """Unicode normal form C: macOS keeps é as two characters, other systems as one."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def ids_of(names: Sequence[str], where: str) -> list[str]:
    """What the files are called in rows: their relative paths in normal form, valid UTF-8, each its own."""
    ids = [readable(normal(name)) for name in names]
    if len(set(ids)) < len(ids):
        # The same name in two normal forms: they stay apart as they are.
        ids = [readable(name) for name in names]
    if len(set(ids)) < len(ids):
        twice = next(name for name, n in Counter(ids).items() if n > 1)
        raise VtbenchError(f"{where} holds two files that are both called {twice}: rename one of them")
    return ids
