"""Whether the tokens are all that the decoder sees, and all that it sees is counted.

The checks of `vtbench check` that look for what passes beside the tokens; each returns (status, sentence).
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING

from vtbench.models.outputs import check_tokens
from vtbench.proving.checks import Verdict, encode
from vtbench.proving.fresh_process import Origin, ask, decoded
from vtbench.proving.pictures import four, photo, seeds_for
from vtbench.types.adapter import Tokenizer
from vtbench.types.cards import Fixed
from vtbench.types.tokens import Tokens, unpack

if TYPE_CHECKING:
    import torch

SHARE = 1e-3
"""How far features may be from those of another process, as a share of the greatest: sums may run in another order."""
HEADER = 4096
"""Bytes: far above what ten scales and their alphabets need, far below a picture."""


def _other_photo(tokenizer: Tokenizer, side: int) -> torch.Tensor:
    """Another picture than `photo(side, side)`, of another shape where the model takes one."""
    sizes = tokenizer.card.sizes
    if isinstance(sizes, Fixed):
        return photo(side, side, at=101)
    height, width = (-(-max(sizes.at_least, n) // sizes.of) * sizes.of for n in (96, 160))
    return photo(height, width, at=101)


def state(tokenizer: Tokenizer, side: int) -> Verdict:
    """Tokens of one image, another image encoded, then the first decoded: it must be what it was."""
    image, seeds = photo(side, side), seeds_for(1)
    tokens = encode(tokenizer, image)
    first = tokenizer.decode(tokens, seeds)
    encode(tokenizer, _other_photo(tokenizer, side), [seeds[0] + 1])
    again = tokenizer.decode(tokens, seeds)
    if tuple(again.shape) != tuple(first.shape) or not bool((again == first).all()):
        return "failed", (
            "tokens decode to another image after another image was encoded: decode reads something that encode left "
            "behind (on self, in a global, a file, the environment); everything that it needs must be in the tokens"
        )
    return "passed", "what was encoded in between does not move what tokens decode to"


def fresh(tokenizer: Tokenizer, origin: Origin | None, side: int) -> Verdict:
    """A process that gets only the packed bytes must decode the same pixels. origin: None of a loaded object."""
    if origin is None:
        return "not checked", "an object cannot be built again in another process: register it to check this"
    seeds = seeds_for(2)
    blobs: list[bytes] = []
    here = b""
    for image, seed in zip((photo(side, side), _other_photo(tokenizer, side)), seeds, strict=True):
        tokens = encode(tokenizer, image, [seed])
        (blob,) = tokens.pack()
        again = unpack(blob)
        if again.size != tokens.size or not math.isclose(float(again.bits()[0]), float(tokens.bits()[0])):
            return "failed", "the packed bytes unpack to other tokens: use Codes, Latents or Bitstream as they are"
        blobs.append(blob)
        here += decoded(tokenizer, tokens, seed)
    answer = ask(origin, blobs, seeds)
    if answer.returncode:
        last = answer.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        return "failed", (
            f"a fresh process that got only the packed bytes could not decode them ({last[0][:200]}): "
            "the decoder needs something that is not in the tokens"
        )
    pixels = tokenizer.card.no_pixels is None
    what, other = ("image", "another image") if pixels else ("features", "other features")
    far = _far(here, answer.stdout, features=not pixels)
    if far is None:
        return "passed", f"a fresh process decodes the same {what} from {len(blobs[0])} packed bytes"
    return "failed", (
        f"a fresh process that got only the packed bytes decoded {other}{far}: "
        "the decoder uses something that is not in the tokens"
    )


def _far(here: bytes, there: bytes, *, features: bool) -> str | None:
    """How far what a fresh process decoded is from what was decoded here, in words; None where it is the same."""
    import numpy as np

    wanted, answer = (np.frombuffer(part, np.float32 if features else np.uint8) for part in (here, there))
    if features:
        same = wanted.shape == answer.shape and np.allclose(wanted, answer, rtol=0, atol=SHARE * abs(wanted).max())
        return None if same else ""
    if np.array_equal(answer, wanted):
        return None
    if answer.size != wanted.size:
        return ""
    return f" (by up to {int(np.abs(wanted.astype(int) - answer.astype(int)).max())} grey levels)"


def hidden(tokenizer: Tokenizer, side: int) -> Verdict:
    """Whatever differs from image to image must be counted: all images of one size have one layout, here as there."""
    four_images = four(side)
    sizes = [four_images, _other_shapes(tokenizer, side)]
    for images in sizes:
        seeds = seeds_for(len(images))
        sent = [encode(tokenizer, images[i : i + 1], seeds[i : i + 1]) for i in range(len(images))]
        said = _beside([check_tokens(one, tokenizer.card.name, images[:1].shape) for one in sent])
        if said is not None:
            return "failed", said
    return "passed", "images of one size differ in nothing but what is counted"


def _other_shapes(tokenizer: Tokenizer, side: int) -> torch.Tensor:
    """Three pictures of another shape, where the model takes one: (3, 3, H, W)."""
    import torch

    first = _other_photo(tokenizer, side)
    return torch.cat([first, first.flip(3), torch.full_like(first, 0.5)])


def _beside(tokens: list[Tokens]) -> str | None:
    """What stands beside the tokens of images of one size, or differs there; None if nothing does."""
    layouts = [one.layout() for one in tokens]
    for one in tokens:
        (length,) = struct.unpack("<I", one.pack()[0][4:8])
        if length > HEADER:
            return (
                f"{length} bytes stand beside the tokens (size, grids, note), which no bit count sees: what the "
                "decoder needs belongs into the indices, the latents or the bytes"
            )
    differing = sorted({key for one in layouts for key in {*one, *layouts[0]} if one.get(key) != layouts[0].get(key)})
    if "positions" in differing:
        return "the number of tokens differs from image to image and is not paid for: set variable=True on the Codes"
    if not differing and len({getattr(one, "note", "") for one in tokens}) > 1:
        return "the note of the tokens differs from image to image: what the decoder needs belongs into the bytes"
    if not differing:
        return None
    return (
        f"{', '.join(differing)} of the tokens differs from image to image of one size, and no bit count sees it: what "
        "the decoder needs belongs into the indices, the latents or the bytes"
    )


def budget(tokenizer: Tokenizer, side: int) -> Verdict:
    """Does a smaller budget give fewer bits?"""
    card, options = tokenizer.card, tokenizer.options
    if not card.knob or card.knob not in options:
        return "failed", "the adapter takes a budget, and the card names no option as its knob: set knob and options"
    values = sorted(float(v) for v in card.knob_values) or [float(options[card.knob]) / 2]
    low, high = values[0], max(values[-1], float(options[card.knob]))
    image, seeds = photo(side, side), seeds_for(1)
    few, many = (float(tokenizer.encode(image, seeds, value).bits()[0]) for value in (low, high))
    if not few < many:
        return "failed", (
            f"a {card.knob} of {low:g} gives {few:.0f} bits and {high:g} gives {many:.0f}: encode must cut its code to "
            "the budget that it is handed"
        )
    return "passed", f"a {card.knob} of {low:g} gives {few:.0f} bits, {high:g} gives {many:.0f}"
