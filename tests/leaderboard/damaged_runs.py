"""Run folders, and damage to them by a seed: what disks, other programs and enemies make of a folder of results."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).resolve().parents[1] / "data" / "runs_schema1" / "runs"
"""Runs as vtbench wrote them."""
KINDS = ("curve", "generation", "saved_images", "saved_tokens", "shards")
FILES = ("run.json", "scores.jsonl", "rows.jsonl", "samples/samples.json")
MARKUP = '"><script>alert(1)</script><img src=x onerror=alert(2)>{{7*7}}'
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1 << 63, 1e308, -1e308, 5e-324, "", "1", "x" * 3000, "..", "/dev/zero", "../../../etc/passwd",
    "a\nb\x1b[31m\u202e", "\0", "\ud800", [], {}, [[]], [None], {"": {}}, [1, "2"], MARKUP, {MARKUP: MARKUP},
)  # fmt: skip


def seeds() -> dict[str, Path]:
    """{kind: a whole run's folder}"""
    return {kind: sorted((RECORDED / kind).iterdir())[0] for kind in KINDS}


def struck(value: Any, rng: random.Random) -> Any:
    """One node of JSON replaced, renamed or removed."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        kind = rng.randrange(5)
        if kind == 0:
            return {**value, str(rng.choice(VALUES)): value[key]}
        if kind == 1:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: struck(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        place = rng.randrange(len(value))
        return [*value[:place], struck(value[place], rng), *value[place + 1 :]]
    return rng.choice(VALUES)


def _json(path: Path, rng: random.Random) -> None:
    if path.suffix == ".json":
        path.write_text(json.dumps(struck(json.loads(path.read_text()), rng)))
        return
    lines = path.read_text().splitlines()
    place = rng.randrange(len(lines))
    lines[place] = json.dumps(struck(json.loads(lines[place]), rng))
    path.write_text("".join(line + "\n" for line in lines))


def _bytes(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    place = rng.randrange(len(data))
    kind = rng.randrange(4)
    if kind == 0:
        data[place] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del data[place : place + rng.randint(1, 64)]
    elif kind == 2:
        data[place:place] = rng.randbytes(rng.randint(1, 16))
    else:
        del data[place:]
    path.write_bytes(data)


def _text(path: Path, rng: random.Random) -> None:
    """What no other program that writes JSON means well by."""
    whole = path.read_text()
    line = whole.splitlines()[0] if path.suffix == ".jsonl" else whole
    texts: tuple[bytes, ...] = (
        b"7\n", b"null\n", b"[]\n", b'"text"\n', b"{}\n", b"\n", b"", b"\xff\xfe" + whole.encode("utf-16-le"),
        whole.encode("utf-32"), b"\xef\xbb\xbf" + whole.encode(), b"{" + b'"a":' * 9 + b"9" * 5000 + b"}" * 9 + b"\n",
        b'{"a":' * 150 + b"1" + b"}" * 150 + b"\n", b"[" * 100_000 + b"\n", (line + line).encode() + b"\n",
        line.replace(":", ": 1" + "0" * 5000 + ", \"x\":", 1).encode() + b"\n", b"\0" * 4096,
    )  # fmt: skip
    path.write_bytes(rng.choice(texts))


def _nesting(path: Path, rng: random.Random) -> None:
    """Valid JSON with a deep value or a long number under a key that nobody knows."""
    value = rng.choice(
        ('{"a":' * 400 + "1" + "}" * 400, "[" * 90 + "]" * 90, "9" * 5000, "-" + "9" * 400, "1e999", "NaN")
    )
    whole = path.read_text()
    path.write_text(whole.replace("{", '{"more": ' + value + ", ", 1))


def _no_file(path: Path, rng: random.Random) -> None:
    """Something else of the file's name."""
    path.unlink()
    kind = rng.randrange(6)
    if kind == 0:
        os.mkfifo(path)
    elif kind == 1:
        path.symlink_to("/dev/zero")
    elif kind == 2:
        path.symlink_to(path.name)
    elif kind == 3:
        path.mkdir()
    elif kind == 4:
        (path.parent.parent / "secret").write_text('{"schema": 1, "secret": "the secret"}\n')
        path.symlink_to(path.parent.parent / "secret")
    else:
        with path.open("wb") as sparse:
            sparse.truncate(1 << 38)


DAMAGE: tuple[Callable[[Path, random.Random], None], ...] = (_json, _json, _json, _bytes, _text, _nesting, _no_file)


def damaged_run(kind: str, seed: int, folder: Path) -> Path:
    """A damaged copy of a seed at the new folder `folder`; one seed, one damage."""
    rng = random.Random(f"{kind} {seed}")
    shutil.copytree(seeds()[kind], folder)
    path = folder / rng.choices(FILES, (4, 3, 2, 1))[0]
    rng.choice(DAMAGE)(path, rng)
    if path.name != "run.json" and rng.random() < 0.8:
        # Of an id of its own, so that it is read beside the whole run.
        info = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps({**info, "id": f"{seed:024x}"}))
    return folder
