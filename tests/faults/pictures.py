"""Damaged pictures: the one reader gives pixels or one sentence, in time and memory."""

from __future__ import annotations

import functools
import random
import unicodedata
from pathlib import Path

from harness import Kind

from vtbench.images.limits import BadImage
from vtbench.images.reading import read_picture
from vtbench.types.errors import MissingExtra, VtbenchError


@functools.cache
def seeds() -> tuple[tuple[str, bytes], ...]:
    """(format and layout, a whole file) of every line of docs/images.md."""
    from benchmarks.images.page import cases

    out = []
    for case in cases():
        name = " ".join((case.form, str(case.bits), case.colour, case.alpha, case.layout))
        out.append((name, next(iter(case.make(1)))))
    return tuple(out)


def whole(_: Path) -> int:
    for name, data in seeds():
        assert read_picture(data, name).rgb.ndim == 3, name
    return len(seeds())


def damaged_picture(seed: int, number: int) -> tuple[str, bytes]:
    """A file with one or two changes of its bytes, or two formats spliced."""
    from damaged_checkpoints import damaged

    rng = random.Random(f"{seed} picture {number}")
    name, data = seeds()[number % len(seeds())]
    if rng.random() < 0.05:
        other = rng.choice(seeds())[1]
        place = rng.randrange(len(data))
        return name, data[:place] + other[rng.randrange(len(other)) :]
    if rng.random() < 0.5:
        # Headers decide what is allocated: most damage in their first bytes.
        head = rng.randrange(16, 200)
        return name, damaged(data[:head], rng) + data[head:]
    return name, damaged(data, rng)


def case(seed: int, number: int, folder: Path) -> str:
    name, data = damaged_picture(seed, number)
    try:
        picture = read_picture(data, "x.png")
    except (BadImage, MissingExtra) as bad:
        check_sentence(bad)
        return "refused"
    assert picture.rgb.dtype.name == "uint8", name
    assert picture.rgb.ndim == 3, name
    assert picture.rgb.shape[2] == 3, name
    return "read"


def check_sentence(bad: VtbenchError, code: int | None = None) -> None:
    """One line of moderate length, without anything that a terminal acts on, and nothing that it has no right to."""
    said = str(bad)
    assert code is None or bad.code == code
    assert "the secret" not in said
    assert 0 < len(said) < 2100
    assert not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in said), repr(said)


KIND = Kind(
    "images",
    "A damaged picture is one sentence in its row or is read; nothing hangs, ends the process or takes 2 GiB.",
    "files of every format and layout of docs/images.md, one or two changes of bytes, half of them in the header, one "
    "in twenty two formats spliced; read under a limit of 2 GiB and 20 seconds",
    whole,
    case,
    together=250,
)
