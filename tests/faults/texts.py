"""Hostile prompts and manifests: a suite, or one sentence."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

from damaged_runs import MARKUP, struck
from harness import Kind
from pictures import check_sentence
from PIL import Image

from vtbench.images.opening import open_path
from vtbench.images.prompts import open_prompts
from vtbench.types.errors import VtbenchError

VALUES: tuple[Any, ...] = (
    None, True, -1, 1 << 63, 10**400, 1e308, float("nan"), "", "x" * 5000, "..", "../../etc/passwd", "/dev/zero",
    "a\nb\x1b[31m\u202e", "\0", "a\0b", "\ud800", "\ud800\udc00", [], {}, [[]], {"": {}}, MARKUP, "é" * 100, "CON",
    "-x", ".", "a/b", "a\\b", "~", "skimage:../../secret.png", "os:system",
)  # fmt: skip
LINES = (
    b"", b"null\n", b"[]\n", b"{}\n", b"\xff\xfe", b"[" * 100_000 + b"\n", b'{"a":' * 200 + b"1" + b"}" * 200 + b"\n",
    b'{"prompts": "x", "suite": "x"' + b"\n", b"\xef\xbb\xbf{}\n", b'{"id": ' + b"9" * 5000 + b"}\n", b"\0" * 4096,
)  # fmt: skip


def manifest(folder: Path) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = [
        {"suite": "mine", "version": "1", "title": "Mine", "licence": "CC0-1.0", "language": "en"}
    ]
    for number in range(3):
        file = folder / f"{number}.png"
        if not file.exists():
            Image.new("RGB", (4, 4), (number, 9, 9)).save(file)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        lines.append({"item": f"{number}", "file": file.name, "sha256_file": digest, "meta": {"text": "a"}})
    return lines


def prompts() -> list[dict[str, Any]]:
    head = {"prompts": "mine", "version": "1", "title": "Mine", "licence": "CC0-1.0", "language": "en"}
    return [head, *({"id": f"p{k}", "text": f"a cat {k}", "metadata": {"quote": "a"}} for k in range(3))]


def _written(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_bytes("".join(json.dumps(line) + "\n" for line in lines).encode())
    return path


def whole(folder: Path) -> int:
    suite = open_path(_written(folder / "m.jsonl", manifest(folder)))
    assert [suite.load(item).shape for item in suite.items] == [(4, 4, 3)] * 3
    assert len(open_prompts(str(_written(folder / "p.jsonl", prompts()))).prompts) == 3
    return 2


def case(seed: int, number: int, folder: Path) -> str:
    rng = random.Random(f"{seed} text {number}")
    lines = manifest(folder) if number % 2 else prompts()
    for _ in range(rng.randint(1, 2)):
        place = rng.randrange(len(lines))
        line = lines[place]
        if line and rng.random() < 0.6:
            lines[place] = {**line, rng.choice(sorted(line)): rng.choice(VALUES)}
        else:
            changed = struck(line, rng)
            lines[place] = changed if isinstance(changed, dict) else line
    path = _written(folder / "x.jsonl", lines)
    if rng.random() < 0.2:
        text = path.read_bytes().splitlines(keepends=True)
        text.insert(rng.randrange(len(text) + 1), rng.choice(LINES))
        path.write_bytes(b"".join(text))
    (folder.parent / "secret.png").write_bytes(b"the secret")
    try:
        if number % 2:
            suite = open_path(path)
            assert len(suite.hash) == 64
            for item in suite.items:
                try:
                    assert suite.load(item).shape == (4, 4, 3)
                except VtbenchError as bad:
                    check_sentence(bad)
        else:
            asked = open_prompts(str(path))
            assert len(asked.hash) == 64
            assert asked.licence is None or isinstance(asked.licence, str)
    except VtbenchError as bad:
        check_sentence(bad)
        return "refused"
    return "read"


KIND = Kind(
    "prompts and manifests",
    "A file of prompts or of images from elsewhere is a suite or one sentence with its line, and names nothing outside "
    "its folder.",
    "values, keys and lines replaced by hostile ones: half characters, NUL, paths, long numbers, deep nesting, markup",
    whole,
    case,
    together=500,
)
