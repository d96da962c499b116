"""The checks of `vtbench check` on what a tokenizer computes: ranges, sizes, batches, seeds, and the facts of its card.

Each returns (status, sentence). `honesty` has the checks on what passes beside the tokens.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from vtbench.models.objects import TrainingLoopModel
from vtbench.models.outputs import Output, kind_of
from vtbench.models.system import ModelSystem
from vtbench.proving.pictures import four, photo, psnr, seeds_for
from vtbench.types.adapter import ClosedSystem, Tokenizer
from vtbench.types.cards import Card, Fixed, Multiple
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Bitstream, Codes, Latents, Tokens

if TYPE_CHECKING:
    import torch

Status = Literal["passed", "failed", "not checked"]
Verdict = tuple[Status, str]
Convention = tuple[str, tuple[int, ...]]
"""A value range by its name in `RANGES`, and an order of channels."""

RANGES = {"[0, 1]": (1.0, 0.0), "[-1, 1]": (2.0, -1.0), "ImageNet mean and deviation": None}
"""{name: (factor, offset) of an image in [0, 1]}."""
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation of ImageNet's images in [0, 1], as torchvision states them."""
SLACK_DB = 0.5
"""How far another convention may be ahead before it counts as the better one: codecs treat channels unequally, and a
linear tokenizer gives nearly the same picture in every range."""
EQUAL = 1e-4
"""Largest difference of images between batch of 4 and 4 of 1: float32 sums are ordered by batch size."""
LATENT_SHARE = 0.01
"""The same for latents, as a share of the greatest one: they are counted in half precision."""


def encode(tokenizer: Tokenizer, images: torch.Tensor, seeds: Sequence[int] | None = None) -> Tokens:
    """Tokens of images (B, 3, H, W) in [0, 1], with the budget of the tokenizer's options where it takes one."""
    takes_budget = tokenizer.takes_budget and tokenizer.card.knob
    each = list(seeds) if seeds is not None else seeds_for(len(images))
    if not takes_budget:
        return tokenizer.encode(images, each)
    return tokenizer.encode(images, each, tokenizer.options[tokenizer.card.knob or ""])


def _served(system: ModelSystem, images: torch.Tensor) -> Output:
    output = system.produce(images, seeds_for(len(images)), [])
    if output.failed:
        raise VtbenchError(f"{system.card.name} gave no image: {next(iter(output.failed.values()))}", code=1)
    return output


def output(system: ModelSystem, side: int) -> Verdict:
    """Does an image come back, finite and of its size?"""
    image = photo(side, side)
    back = _served(system, image)
    if back.no_pixels is not None:
        return "passed", f"finite features of {side} x {side}, and no pixels: {back.no_pixels}"
    return "passed", f"finite, {side} x {side}, PSNR {psnr(image, back.images):.1f} dB on a photograph"


# -- ranges and channels ---------------------------------------------------------------------------------------------


def conventions(system: ModelSystem, side: int, trained: bool) -> Verdict:
    """3 value ranges x 6 channel orders, on the way in, on the way out and on both: the declared one must be best."""
    if not trained:
        return "not checked", "without trained weights no value range is better than another"
    if system.card.no_pixels is not None:
        return "not checked", "no pixels come back, by which one value range would be better than another"
    declared, others = _psnr_by_convention(system, photo(side, side))
    best = max(others, key=lambda k: others[k])
    if others[best] <= declared + SLACK_DB:
        count = len(others)
        return (
            "passed",
            f"RGB in [0, 1] gives {declared:.1f} dB, the best of {count} other conventions {others[best]:.1f} dB",
        )
    where, value_range, letters = best
    advice = []
    if value_range != "[0, 1]":
        advice.append(f"the network wants {value_range}")
    if letters != "RGB":
        advice.append(f"the channel order is {letters}")
    return "failed", (
        f"{others[best]:.1f} dB with {value_range} {letters} in {where}, {declared:.1f} dB as declared: "
        f"{' and '.join(advice)}; convert in {where}"
    )


def _psnr_by_convention(system: ModelSystem, image: torch.Tensor) -> tuple[float, dict[tuple[str, str, str], float]]:
    """dB of the declared convention, and of {(where, value range, channel letters)}."""
    import torch

    every: list[Convention] = list(itertools.product(RANGES, itertools.permutations(range(3))))
    plain = every[0]
    scores: dict[tuple[str, str, str], float] = {}

    def note(where: str, convention: Convention, out: torch.Tensor) -> None:
        letters = "".join("RGB"[c] for c in convention[1])
        scores[where, convention[0], letters] = psnr(image, out) if bool(torch.isfinite(out).all()) else -math.inf

    for convention in every:
        try:
            out = _unserved(system, _apply(image, convention))
        except Exception:
            # An adapter may well refuse what is not in [0, 1] (its codes may even leave their alphabet): no rival then.
            if convention == plain:
                raise
            continue
        if convention == plain:
            for other in every:
                note("decode" if other != plain else "declared", other, _undo(out, other))
        else:
            note("encode", convention, out)
            note("encode and decode", convention, _undo(out, convention))
    return scores.pop(("declared", plain[0], "RGB")), scores


def _apply(image: torch.Tensor, convention: Convention) -> torch.Tensor:
    """A picture of RGB in [0, 1] in another convention."""
    import torch

    affine = RANGES[convention[0]]
    if affine is None:
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in IMAGENET)
        return ((image - mean) / std)[:, list(convention[1])]
    return (image * affine[0] + affine[1])[:, list(convention[1])]


def _undo(out: torch.Tensor, convention: Convention) -> torch.Tensor:
    """The inverse of `_apply`."""
    import torch

    out = out[:, [convention[1].index(c) for c in range(3)]]
    affine = RANGES[convention[0]]
    if affine is None:
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in IMAGENET)
        return out * std + mean
    return (out - affine[1]) / affine[0]


def _unserved(system: ModelSystem, image: torch.Tensor) -> torch.Tensor:
    """The model without the runner's refusals, since the wrong conventions must be tried too."""
    model = system.model
    if isinstance(model, ClosedSystem):
        out = model.reconstruct(image, seeds_for(1))[0]
        if isinstance(out, str):
            raise VtbenchError(f"{model.card.name} gave no image: {out}", code=1)
        return out[None]
    tokens = encode(model, image)
    return model.decode(tokens, seeds_for(1)).detach().to("cpu").float()


# -- sizes, batches, seeds -------------------------------------------------------------------------------------------


def sizes(system: ModelSystem) -> Verdict:
    """Do odd and wide images come back in their size?"""
    accepted = system.card.sizes
    first = (64, 64) if isinstance(accepted, Multiple) else (accepted.size, accepted.size)
    shapes = [first, (67, 61), (48, 160)]
    for height, width in shapes:
        back = _served(system, photo(height, width))
        if tuple(back.images.shape[2:]) != (height, width):
            return "failed", f"{height} x {width} came back as {tuple(back.images.shape[2:])}"
    return "passed", "even, odd and wide: " + ", ".join(f"{h} x {w}" for h, w in shapes)


def batch(tokenizer: Tokenizer, side: int) -> Verdict:
    """Is a batch of four the same as four batches of one?"""
    import torch

    images, seeds = four(side), seeds_for(4)
    together = encode(tokenizer, images, seeds)
    out = tokenizer.decode(together, seeds).float()
    worst = 0.0
    for i in range(4):
        alone = encode(tokenizer, images[i : i + 1], seeds[i : i + 1])
        differs = _differs_in_batch(alone, together, i)
        if differs is not None:
            return "failed", differs
        again = tokenizer.decode(together[i], seeds[i : i + 1]).float()
        if again.shape[1:] != out.shape[1:]:
            return "failed", f"image {i} decodes to {tuple(again.shape)} alone and {tuple(out.shape)} in a batch of 4"
        worst = max(worst, float((again[0] - out[i]).abs().max()))
    if worst > EQUAL or not bool(torch.isfinite(out).all()):
        return (
            "failed",
            f"a batch of 4 decodes differently from 4 of 1 (by {worst:.2g}): something depends on the batch",
        )
    return "passed", f"a batch of 4 equals four batches of 1 (images to {worst:.1g})"


def _differs_in_batch(alone: Tokens, together: Tokens, i: int) -> str | None:
    """What is wrong with the tokens of image `i` in a batch, beside those of it alone; None if nothing is."""
    if isinstance(alone, Latents) and isinstance(together, Latents):
        one, many = alone.values.float(), together.values[i : i + 1].float()
        scale = max(1e-6, float(one.abs().max()))
        if one.shape != many.shape or float((one - many).abs().max()) > LATENT_SHARE * scale:
            return f"image {i} has other latents in a batch of 4 than alone: something averages over the batch"
    elif not _same(alone, together[i]):
        share = _share(alone, together[i])
        return f"image {i} has other tokens in a batch of 4 than alone{share}: something depends on the batch"
    return None


def _body(tokens: Tokens) -> bytes:
    return b"".join(tokens.pack())


def _same(a: Tokens, b: Tokens) -> bool:
    if isinstance(a, Codes) and isinstance(b, Codes):
        # Padding to the longest of a batch is no difference.
        short = min(a.indices.shape[1], b.indices.shape[1])
        tails = (a.indices[:, short:] >= 0).any() or (b.indices[:, short:] >= 0).any()
        return bool((a.indices[:, :short] == b.indices[:, :short]).all()) and not bool(tails)
    return _body(a) == _body(b)


def _share(a: Tokens, b: Tokens) -> str:
    if isinstance(a, Codes) and isinstance(b, Codes) and a.indices.shape == b.indices.shape:
        return f" ({100 * float((a.indices == b.indices).float().mean()):.1f} % equal)"
    return ""


def repeatable(tokenizer: Tokenizer, side: int) -> Verdict:
    """Do the same image, tokens and seeds give the same tokens and image a second time?"""
    image, seeds = photo(side, side), seeds_for(1)
    first, second = encode(tokenizer, image, seeds), encode(tokenizer, image, seeds)
    if _body(first) != _body(second):
        return "failed", "the same image and seed gave other tokens the second time: draw all noise from the seed"
    a, b = tokenizer.decode(first, seeds), tokenizer.decode(first, seeds)
    if not bool((a == b).all()):
        return "failed", "the same tokens and seed gave another image the second time: draw all noise from the seed"
    return "passed", "the same seeds give the same bytes"


# -- the card --------------------------------------------------------------------------------------------------------


def facts(tokenizer: Tokenizer, side: int) -> Verdict:
    """Does the card say what the tokens are?"""
    card, tokens = tokenizer.card, encode(tokenizer, photo(side, side))
    kinds = {"codec": Bitstream, "discrete": Codes, "continuous": Latents}
    problems = []
    stated = tokenizer.stated if isinstance(tokenizer, TrainingLoopModel) else True
    kind = card.kind if stated else kind_of(tokens) or card.kind
    wanted = kinds.get(kind)
    if wanted is not None and not isinstance(tokens, wanted):
        problems.append(f"the card says {card.kind}, encode gave {type(tokens).__name__}")
    more, grid = _counts(card, tokens, side)
    problems += more
    if card.downsample and grid is not None and grid != (side // card.downsample,) * 2:
        problems.append(
            f"the card says one position for {card.downsample} x {card.downsample} pixels, "
            f"{side} x {side} became {grid[0]} x {grid[1]}"
        )
    if tokens.size != (side, side):
        problems.append(f"tokens.size is {tokens.size} for an image of {side} x {side}")
    if not card.stochastic and _moves_with_seed(tokenizer, tokens, side):
        problems.append("the card does not say stochastic, another seed gave another result")
    if problems:
        return "failed", "; ".join(problems)
    return "passed", f"{kind}, {tokens.positions[0]} positions, {_rate(tokens, side)}"


def _rate(tokens: Tokens, side: int) -> str:
    """Bits a pixel of the first image; of a code without order beside what its sequence would cost."""
    text = f"{float(tokens.bits()[0]) / side**2:.4g} bits a pixel"
    if isinstance(tokens, Codes) and tokens.unordered:
        text += f" as a multiset ({float(tokens.ordered_bits()[0]) / side**2:.4g} as a sequence)"
    return text


def _counts(card: Card, tokens: Tokens, side: int) -> tuple[list[str], tuple[int, ...] | None]:
    """What the card says wrongly of alphabets, channels and positions, and the one grid of the tokens, if any."""
    # What the card says of 256 x 256 holds at the model's own size where it has one.
    at_256 = card.tokens_at_256 if side == 256 or isinstance(card.sizes, Fixed) else None
    problems, grid = [], None
    if isinstance(tokens, Codes):
        if card.alphabets and tuple(card.alphabets) != tuple(tokens.alphabets):
            problems.append(
                f"the card's alphabets are {_short(card.alphabets)}, the tokens' {_short(tokens.alphabets)}"
            )
        if at_256 is not None and not tokens.variable and tokens.positions[0] != at_256:
            problems.append(f"the card says {at_256} tokens at 256, there are {tokens.positions[0]}")
        grid = tokens.grids[0] if len(tokens.grids) == 1 else None
        if grid is not None and not tokens.variable and grid[0] * grid[1] != tokens.indices.shape[1]:
            problems.append(f"tokens.grids says {grid[0]} x {grid[1]}, there are {tokens.indices.shape[1]} positions")
            grid = None
    if isinstance(tokens, Latents):
        channels = int(tokens.values.shape[tokens.channel_axis])
        if card.latent_channels is not None and channels != card.latent_channels:
            problems.append(f"the card says {card.latent_channels} latent channels, there are {channels}")
        if at_256 is not None and tokens.positions[0] != at_256:
            problems.append(f"the card says {at_256} positions at 256, there are {tokens.positions[0]}")
        if tokens.values.ndim == 4 and tokens.channel_axis == 1:
            height, width = tokens.values.shape[2:]
            grid = (int(height), int(width))
    return problems, grid


def _moves_with_seed(tokenizer: Tokenizer, tokens: Tokens, side: int) -> bool:
    seed = seeds_for(1)[0]
    if not _same(encode(tokenizer, photo(side, side), [seed + 1]), tokens):
        return True
    a, b = (tokenizer.decode(tokens, [s]) for s in (seed, seed + 1))
    return not bool((a == b).all())


def _short(alphabets: Sequence[int]) -> str:
    return f"{len(alphabets)} x {alphabets[0]}" if len(set(alphabets)) == 1 else str(tuple(alphabets))


def alphabet(tokenizer: Tokenizer, side: int) -> Verdict:
    """The indices of four images, whose ends are shown for the reader."""
    tokens = encode(tokenizer, four(side))
    if not isinstance(tokens, Codes):
        return "passed", f"{type(tokens).__name__} have no indices"
    # Codes refuses an index outside its alphabet when it is built.
    top = int(tokens.indices.max())
    return "passed", f"indices from {int(tokens.indices.min())} to {top}, alphabets {_short(tokens.alphabets)}"
