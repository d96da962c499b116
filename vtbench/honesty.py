"""Whether the tokens are all that the decoder sees, and all that it sees is counted: the checks of `vtbench check` that
look for what passes beside them.

Run as a module it is the fresh process, which gets packed bytes on its standard input and answers with pixels.
"""

from __future__ import annotations

import base64
import json
import math
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench.contract import encode, four, photo, seeds_for
from vtbench.models.build import build, load_random
from vtbench.types.adapter import Tokenizer
from vtbench.types.cards import Fixed
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Codes, unpack

if TYPE_CHECKING:
    import numpy as np
    import torch


def _other(made: Tokenizer, side: int) -> torch.Tensor:
    """Another picture than `photo(side, side)`, of another shape where the model takes one."""
    sizes = made.card.sizes
    if isinstance(sizes, Fixed):
        return photo(side, side, at=101)
    height, width = (-(-max(sizes.at_least, n) // sizes.of) * sizes.of for n in (96, 160))
    return photo(height, width, at=101)


def state(made: Tokenizer, side: int) -> tuple[Any, str]:
    """Tokens of one image, another image encoded, then the first decoded: it must be what it was."""
    image, seeds = photo(side, side), seeds_for(1)
    tokens = encode(made, image)
    first = made.decode(tokens, seeds)
    encode(made, _other(made, side), [seeds[0] + 1])
    again = made.decode(tokens, seeds)
    if tuple(again.shape) != tuple(first.shape) or not bool((again == first).all()):
        return "failed", (
            "tokens decode to another image after another image was encoded: decode reads something that encode left "
            "behind (on self, in a global, a file, the environment); everything that it needs must be in the tokens"
        )
    return "passed", "what was encoded in between does not move what tokens decode to"


def fresh(made: Tokenizer, spec: Mapping[str, Any] | None, side: int, device: str, dtype: str,
           environment: Mapping[str, str], began: float) -> tuple[Any, str]:  # fmt: skip
    import numpy as np

    from vtbench.images.rounding import to_uint8

    if spec is None:
        return "not checked", "an object cannot be built again in another process: register it to check this"
    seeds = seeds_for(2)
    blobs: list[bytes] = []
    here: list[np.ndarray[Any, Any]] = []
    for image, seed in zip((photo(side, side), _other(made, side)), seeds, strict=True):
        tokens = encode(made, image, [seed])
        (blob,) = tokens.pack()
        again = unpack(blob)
        if again.size != tokens.size or not math.isclose(float(again.bits()[0]), float(tokens.bits()[0])):
            return "failed", "the packed bytes unpack to other tokens: use Codes, Latents or Bitstream as they are"
        blobs.append(blob)
        here.append(to_uint8(made.decode(tokens, [seed]).detach().to("cpu").float())[0].numpy())
    asked = {
        **spec, "blobs": [base64.b64encode(b).decode() for b in blobs], "seeds": seeds, "device": device,
        "dtype": dtype, "began": began,
    }  # fmt: skip
    ran = subprocess.run(
        [sys.executable, "-m", "vtbench.honesty"], input=json.dumps(asked).encode(), capture_output=True,
        timeout=900, env=dict(environment),
    )  # fmt: skip
    if ran.returncode:
        last = ran.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        return "failed", (
            f"a fresh process that got only the packed bytes could not decode them ({last[0][:200]}): "
            "the decoder needs something that is not in the tokens"
        )
    there = np.frombuffer(ran.stdout, np.uint8)
    wanted = np.concatenate([h.ravel() for h in here])
    if there.size != wanted.size or not np.array_equal(there, wanted):
        off = (
            f" (by up to {int(np.abs(wanted.astype(int) - there.astype(int)).max())} grey levels)"
            if there.size == wanted.size
            else ""
        )
        return "failed", (
            f"a fresh process that got only the packed bytes decoded another image{off}: "
            "the decoder uses something that is not in the tokens"
        )
    return "passed", f"a fresh process decodes the same image from {len(blobs[0])} packed bytes"


HEADER = 4096
"""Bytes: far above what ten scales and their alphabets need, far below a picture."""


def hidden(made: Tokenizer, side: int) -> tuple[Any, str]:
    """Whatever differs from image to image must be counted: headers alike, lengths declared, no holes."""
    images = four(side)
    tokens = [encode(made, images[i : i + 1], seeds_for(4)[i : i + 1]) for i in range(4)]
    heads = []
    for one in tokens:
        (blob,) = one.pack()
        (length,) = struct.unpack("<I", blob[4:8])
        head = json.loads(blob[8 : 8 + length])
        if length > HEADER:
            return "failed", (
                f"{length} bytes stand beside the tokens (size, grids, note), which no bit count sees: what the "
                "decoder needs belongs into the indices, the latents or the bytes"
            )
        if isinstance(one, Codes):
            # Paid for, or fixed: looked at below.
            head.pop("absent"), head.pop("positions")
        heads.append(head)
    odd = sorted({k for h in heads for k in h if h[k] != heads[0].get(k)})
    if odd:
        return "failed", (
            f"{', '.join(odd)} of the tokens differs from image to image of one size, and no bit count sees it: what "
            "the decoder needs belongs into the indices, the latents or the bytes"
        )
    codes = [t for t in tokens if isinstance(t, Codes)]
    shapes = {tuple(t.indices.shape) for t in codes}
    masks = [t.present for t in codes]
    if codes and not codes[0].variable and (len(shapes) > 1 or any(bool((m != masks[0]).any()) for m in masks)):
        return "failed", (
            "the number of tokens differs from image to image and is not paid for: set variable=True on the Codes"
        )
    for one in codes:
        used = one.present[0].any(dim=1)
        if one.variable and not bool(used[: int(used.sum())].all()):
            return "failed", (
                "tokens are absent (-1) in the middle of a code, whose places no bit count sees: absent positions "
                "may only end it"
            )
    return "passed", "images of one size differ in nothing but what is counted"


def budget(made: Tokenizer, side: int) -> tuple[Any, str]:
    card = made.card
    if not card.knob or card.knob not in made.options:
        return "failed", "the adapter takes a budget, and the card names no option as its knob: set knob and options"
    values = sorted(float(v) for v in card.knob_values) or [float(made.options[card.knob]) / 2]
    low, high = values[0], max(values[-1], float(made.options[card.knob]))
    image, seeds = photo(side, side), seeds_for(1)
    few, many = (float(made.encode(image, seeds, given).bits()[0]) for given in (low, high))
    if not few < many:
        return "failed", (
            f"a {card.knob} of {low:g} gives {few:.0f} bits and {high:g} gives {many:.0f}: encode must cut its code to "
            "the budget that it is handed"
        )
    return "passed", f"a {card.knob} of {low:g} gives {few:.0f} bits, {high:g} gives {many:.0f}"


def decode_here(asked: Mapping[str, Any], loaded: Callable[[], None] = lambda: None) -> bytes:
    """What the fresh process does: build the model, unpack, decode; uint8 (3, H, W) of every blob as bytes."""
    from vtbench.images.rounding import to_uint8

    path = Path(asked["checkpoint"]) if asked.get("checkpoint") else None
    if asked.get("random"):
        made = load_random(asked["model"], asked["options"], asked["device"], asked["dtype"])
    else:
        made = build(asked["model"], asked["options"], path, asked["device"], asked["dtype"]).model
    loaded()
    out = b""
    for blob, seed in zip(asked["blobs"], asked["seeds"], strict=True):
        images = made.decode(unpack(base64.b64decode(blob)), [seed])
        out += to_uint8(images.detach().to("cpu").float())[0].numpy().tobytes()
    return out


CACHES = ("__pycache__", ".cache", "site-packages", "torchinductor", "triton", "/proc/", "/sys/", "/dev/")
"""Parts of paths of files that libraries may well make and read while a network runs."""


def _note_read(event: str, given: Sequence[Any], began: float, read: list[str]) -> None:
    """Python's audit events: a file that was written since the check began and that decode opens carries features."""
    if event != "open" or not isinstance(given[0], str | bytes) or (isinstance(given[1], str) and "w" in given[1]):
        return
    path = os.fsdecode(given[0])
    try:
        recent = os.stat(path).st_mtime >= began
    except OSError:
        return
    if recent and os.path.isfile(path) and not any(part in path for part in CACHES):
        read.append(path)


def main() -> None:
    """Answers one question of `fresh`."""
    asked = json.loads(sys.stdin.read())
    # An adapter may print; only the picture goes to the pipe.
    pipe, sys.stdout = sys.stdout.buffer, sys.stderr
    read: list[str] = []

    def watch() -> None:
        sys.addaudithook(lambda event, given: _note_read(event, given, float(asked["began"]), read))

    pixels = decode_here(asked, watch)
    if read:
        raise VtbenchError(f"decode reads {Path(read[0]).name}, which was written after the check began")
    pipe.write(pixels)
    pipe.flush()


if __name__ == "__main__":
    main()
