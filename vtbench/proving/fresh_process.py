"""The fresh process of `vtbench check`: packed bytes come on standard input, decoded pixels go to standard output.

Run as `python -m vtbench.proving.fresh_process`; `ask` starts it. A decoder that needs more than the tokens cannot
answer there.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtbench.images.rounding import to_uint8
from vtbench.models.build import build, load_random
from vtbench.models.isolation import isolated
from vtbench.types.adapter import Tokenizer
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Tokens, unpack

SECONDS = 900
"""Longest wait for an answer: a large model must be loaded anew."""
CACHES = ("__pycache__", ".cache", "site-packages", "torchinductor", "triton", "/proc/", "/sys/", "/dev/")
"""Parts of paths of files that libraries may well write and read while a network runs."""


@dataclass(frozen=True)
class Origin:
    """How a fresh process builds a model again."""

    model: str
    options: Mapping[str, str]
    checkpoint: str | None
    device: str
    dtype: str
    random: bool
    """Are the weights made from the parameters' names, for lack of the real ones?"""
    environment: Mapping[str, str]
    """Of this process before the model was loaded."""
    began: float
    """When the check began, in seconds since 1970."""
    prefix: str | None = None
    """Which copy of the checkpoint's weights."""


def ask(origin: Origin, blobs: Sequence[bytes], seeds: Sequence[int]) -> subprocess.CompletedProcess[bytes]:
    """The answer of a fresh process to packed tokens: pixels on its standard output, or an error."""
    question = {
        "model": origin.model,
        "options": dict(origin.options),
        "checkpoint": origin.checkpoint,
        "prefix": origin.prefix,
        "random": origin.random,
        "device": origin.device,
        "dtype": origin.dtype,
        "began": origin.began,
        "blobs": [base64.b64encode(b).decode() for b in blobs],
        "seeds": list(seeds),
    }
    return subprocess.run(
        [sys.executable, "-m", "vtbench.proving.fresh_process"],
        input=json.dumps(question).encode(),
        capture_output=True,
        timeout=SECONDS,
        env=dict(origin.environment),
    )


@isolated()
def decode_here(question: Mapping[str, Any], loaded: Callable[[], None] = lambda: None) -> bytes:
    """What the fresh process does: build the model, unpack, decode; `decoded` of every blob.

    `loaded` is called between building and decoding.
    """
    path = Path(question["checkpoint"]) if question.get("checkpoint") else None
    model, options, device, dtype = (question[key] for key in ("model", "options", "device", "dtype"))
    random = question.get("random")
    tokenizer = (
        load_random(model, options, device, dtype)
        if random
        else build(model, options, path, device, dtype, prefix=question.get("prefix")).model
    )
    loaded()
    out = b""
    for blob, seed in zip(question["blobs"], question["seeds"], strict=True):
        out += decoded(tokenizer, unpack(base64.b64decode(blob)), seed)
    return out


def decoded(tokenizer: Tokenizer, tokens: Tokens, seed: int) -> bytes:
    """What an image's tokens decode to: uint8 (3, H, W), or float32 where the model gives features and no pixels."""
    out = tokenizer.decode(tokens, [seed]).detach().to("cpu").float()
    rounded = to_uint8(out) if tokenizer.card.no_pixels is None else out
    return bytes(rounded[0].numpy().tobytes())


def _note_read(event: str, arguments: Sequence[Any], began: float, read: list[str]) -> None:
    """Python's audit events: a file that was written since the check began and that decode opens carries features."""
    if event != "open" or not isinstance(arguments[0], str | bytes):
        return
    if isinstance(arguments[1], str) and "w" in arguments[1]:
        return
    path = os.fsdecode(arguments[0])
    try:
        recent = os.stat(path).st_mtime >= began
    except OSError:
        return
    if recent and os.path.isfile(path) and not any(part in path for part in CACHES):
        read.append(path)


def main() -> None:
    """Answers one question of `ask`."""
    question = json.loads(sys.stdin.read())
    # An adapter may print; only the picture goes to the pipe.
    pipe, sys.stdout = sys.stdout.buffer, sys.stderr
    read: list[str] = []

    def watch() -> None:
        began = float(question["began"])
        sys.addaudithook(lambda event, arguments: _note_read(event, arguments, began, read))

    pixels = decode_here(question, watch)
    if read:
        raise VtbenchError(f"decode reads {Path(read[0]).name}, which was written after the check began")
    pipe.write(pixels)
    pipe.flush()


if __name__ == "__main__":
    main()
