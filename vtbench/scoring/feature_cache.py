"""Features of the originals in the cache, kept for the next model: of which images they are stands in the file.

A file is named by everything that decides its features: the suite's content hash, which of its images in which
batches, the view, the network (its id, its code, the packages below it) and the kind of device. It holds the sha256 of
every image's pixels as the network saw them, and a record counts only for the very same pixels. Its own sha256 covers
all of that, so what is damaged, cut, or another file under this name is not taken, and made anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import itertools
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench.models.adapter_files import code_of
from vtbench.results import provenance, sources
from vtbench.results.cache_files import write_cache
from vtbench.results.stores import FeatureFile
from vtbench.scoring.measure import is_finite
from vtbench.types.environment import cache_dir
from vtbench.types.metric import Extractor

if TYPE_CHECKING:
    import numpy as np

RULE = 1
"""Goes up when a file under a name comes to mean something else."""
FOLDER = "features"
"""The folder below the cache's."""
HEAD, HEAD_MOST = 64, 1 << 16
"""The first line is padded to a multiple of so many bytes, and never longer than so many."""
DIGEST = 32
"""Bytes of an image's sha256."""
CHUNK = 1 << 22
"""Bytes at a time."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Originals:
    """Which images a run compares with, said before any is read. suite: its content hash; view: its fingerprint;
    `count` images from the `first` on, in batches of `batch` (features are the same bit for bit only where batches
    are), on a device of this kind."""

    suite: str
    view: str
    first: int
    count: int
    batch: int
    device: str

    def key(self, extractor: Extractor) -> str | None:
        """64 hexadecimal digits over all that decides these images' features; None where the network's code lies in
        no file, so that nothing tells whether it is the same."""
        try:
            code = sources.digest(code_of([Path(inspect.getfile(type(extractor)))]))
        except (OSError, TypeError):
            return None
        facts = {
            "rule": RULE,
            "extractor": extractor.id,
            "dim": extractor.dim,
            "code": code,
            "packages": provenance.packages(),
            **asdict(self),
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def place(key: str) -> Path:
    """The file of a key."""
    return cache_dir() / FOLDER / f"{key[:24]}.f32"


@dataclass(frozen=True, eq=False)
class KeptFeatures:
    """`images`: the sha256 of every image's pixels, as hexadecimal digits; `records`: their features, (n, dim)."""

    images: Sequence[str]
    records: np.ndarray[Any, Any]

    def of(self, rows: Sequence[int], images: Sequence[str]) -> np.ndarray[Any, Any] | None:
        """The records at `rows`, if they are of these images; None if any is of another."""
        if any(row >= len(self.images) or self.images[row] != image for row, image in zip(rows, images, strict=True)):
            return None
        records: np.ndarray[Any, Any] = self.records[list(rows)]
        return records


def known(originals: Originals, extractors: Mapping[str, Extractor], say: Say) -> dict[str, KeptFeatures]:
    """What the cache holds of these originals, by network; a file that cannot be trusted is named to `say`."""
    out = {}
    for name, extractor in extractors.items():
        key = originals.key(extractor)
        if key is None:
            continue
        try:
            out[name] = _read(place(key), key, extractor.dim)
        except FileNotFoundError:
            continue
        except (_Untrusted, OSError) as bad:
            why = (bad.strerror or str(bad)) if isinstance(bad, OSError) else str(bad)
            say(f"{place(key)}, features of the originals, cannot be trusted ({why}): they are made anew")
    return out


class _Untrusted(Exception):
    """What is wrong with a file of the cache."""


def _read(path: Path, key: str, dim: int) -> KeptFeatures:
    """The file's records, all of it verified. Raises _Untrusted or OSError."""
    import numpy as np

    if not stat.S_ISREG(path.stat().st_mode):
        raise _Untrusted("it is no file")
    with path.open("rb") as source:
        line = source.readline(HEAD_MOST)
        head = _head(line)
        n, stated = head.get("n"), head.get("sha256")
        if head.get("key") != key or head.get("dim") != dim or type(n) is not int or n < 0:
            raise _Untrusted("it is of other images or of another network")
        size = os.fstat(source.fileno()).st_size
        wanted = len(line) + n * (DIGEST + 4 * dim)
        if size != wanted:
            raise _Untrusted(f"it has {size} bytes of {wanted}")
        images = source.read(n * DIGEST)
        digest = hashlib.sha256(images)
        while chunk := source.read(CHUNK):
            digest.update(chunk)
        if digest.hexdigest() != stated:
            raise _Untrusted("its sha256 differs")
    with contextlib.suppress(OSError):
        # When it was last of use: what `vtbench cache prune` goes by.
        os.utime(path)
    shape, offset = (n, dim), len(line) + n * DIGEST
    records = np.memmap(path, "<f4", "r", offset, shape) if n else np.zeros(shape, "<f4")
    return KeptFeatures([images[i : i + DIGEST].hex() for i in range(0, len(images), DIGEST)], records)


def _head(line: bytes) -> dict[str, Any]:
    try:
        head = json.loads(line)
    except (ValueError, RecursionError):
        raise _Untrusted("it does not begin as such a file") from None
    if not isinstance(head, dict):
        raise _Untrusted("it does not begin as such a file")
    return head


def keep(originals: Originals, extractor: Extractor, images: Iterable[Any], features: FeatureFile) -> None:
    """Writes what a run computed on its originals, for the next one; `images`: the sha256 of their pixels, by row.

    Nothing is written where an image could not be read, where records are missing or hold NaN: such a file could not
    be trusted. A cache that cannot be written costs time only.
    """
    key, hashes = originals.key(extractor), list(images)
    if key is None or len(hashes) != originals.count or features.trouble(originals.count) is not None:
        return
    try:
        ids = b"".join(bytes.fromhex(h) for h in hashes)
    except (TypeError, ValueError):
        return
    if len(ids) != DIGEST * len(hashes) or not is_finite(features.read()):
        return
    digest = hashlib.sha256(ids)
    for chunk in _blocks(features.path):
        digest.update(chunk)
    head = {"vtbench": "features", "key": key, "extractor": extractor.id, "n": originals.count, "dim": extractor.dim}
    text = json.dumps({**head, "sha256": digest.hexdigest()}).encode()
    line = text + b" " * (-(len(text) + 1) % HEAD) + b"\n"
    write_cache(place(key), itertools.chain([line + ids], _blocks(features.path)))


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as source:
        while chunk := source.read(CHUNK):
            yield chunk
