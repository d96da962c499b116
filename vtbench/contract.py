"""The checks that every adapter must pass; `vtbench check` and the tests both call them.

Each failure names the mistake that it usually means. What cannot be checked here says so: it is never a pass.
"""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vtbench import registry
from vtbench.models.build import build
from vtbench.models.build import load_random as load_random
from vtbench.models.load import load
from vtbench.models.objects import TrainingLoopModel
from vtbench.models.outputs import Output as Produced
from vtbench.models.outputs import kind_of
from vtbench.models.system import ModelSystem as ModelSubject
from vtbench.types.adapter import ClosedSystem, Generator, Tokenizer
from vtbench.types.cards import Fixed, Multiple
from vtbench.types.errors import Unavailable, VtbenchError
from vtbench.types.tokens import Bitstream, Codes, Latents, Tokens

if TYPE_CHECKING:
    import numpy as np
    import torch

RANGES = {"[0, 1]": (1.0, 0.0), "[-1, 1]": (2.0, -1.0), "ImageNet mean and deviation": None}
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SLACK_DB = 0.5
"""How far another convention may be ahead before it counts as the better one: codecs treat channels unequally, and a
linear tokenizer gives nearly the same picture in every range."""
EQUAL = 1e-4
"""Largest difference of images between batch of 4 and 4 of 1: float32 sums are ordered by batch size."""


@dataclass(frozen=True)
class Check:
    name: str
    status: Literal["passed", "failed", "not checked"]
    said: str

    def as_dict(self) -> dict[str, str]:
        return {"name": self.name, "status": self.status, "said": self.said}


def photograph() -> np.ndarray[Any, Any]:
    """A real, colourful photograph, uint8 (512, 512, 3): scikit-image's astronaut."""
    from skimage import data

    image: np.ndarray[Any, Any] = data.astronaut()  # type: ignore[no-untyped-call]
    return image


def photo(height: int, width: int, at: int = 0) -> torch.Tensor:
    """A cut of the photograph (or the photograph enlarged), float32 (1, 3, H, W) in [0, 1]."""
    import torch
    from PIL import Image

    whole = Image.fromarray(photograph())
    if height > whole.height or width > whole.width:
        scale = max(height / whole.height, width / whole.width)
        whole = whole.resize(
            (math.ceil(whole.width * scale), math.ceil(whole.height * scale)), Image.Resampling.BICUBIC
        )
    left, top = at % (whole.width - width + 1), (at * 7) % (whole.height - height + 1)
    cut = whole.crop((left, top, left + width, top + height))
    import numpy as np

    return torch.from_numpy(np.asarray(cut).copy()).permute(2, 0, 1)[None].float() / 255


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    """dB over all samples of images in [0, 1], rounded to uint8 first; 99 for identical ones."""
    x, y = ((t.clamp(0, 1) * 255).round().double() for t in (a, b))
    error = float(((x - y) ** 2).mean())
    return 99.0 if error == 0 else 10 * math.log10(255**2 / error)


def test_side(card: Any) -> int:
    """A side that the model takes as it is, near 256."""
    if isinstance(card.sizes, Fixed):
        return int(card.sizes.size)
    return int(max(card.sizes.at_least, -(-256 // card.sizes.of) * card.sizes.of))


def check(
    model: Any,
    *,
    options: Mapping[str, str] | None = None,
    checkpoint: Path | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    say: Callable[[Check], None] | None = None,
) -> list[Check]:
    """Runs the contract on a model's name, `file.py@name`, or a loaded tokenizer object; returns every check."""
    from vtbench import honesty

    out: list[Check] = []
    environment, began = dict(os.environ), time.time()

    def report(name: str, status: Any, said: str) -> None:
        out.append(Check(name, status, said))
        if say is not None:
            say(out[-1])

    spec, made, trained = _load(model, dict(options or {}), checkpoint, device, dtype, report)
    if made is None:
        return out
    if isinstance(made, Generator):
        report("interface", "failed", f"{made.card.name} is a generator: this contract is for tokenizers")
        return out
    subject = ModelSubject(made, "resize")
    side = test_side(made.card)

    def guarded(name: str, mistake: str, run: Callable[[], tuple[Any, str]]) -> None:
        try:
            status, said = run()
        except VtbenchError as bad:
            status, said = "failed", str(bad)
        except Exception as bad:
            # An adapter may raise anything; the newcomer gets the sentence, the other checks go on.
            status, said = "failed", f"raised {type(bad).__name__}: {bad}; this usually means {mistake}"
        report(name, status, said)

    guarded("output", "a shape or dtype that encode or decode did not expect", lambda: _output(subject, side))
    guarded("range and channels", "a wrong value range or channel order", lambda: _conventions(subject, side, trained))
    guarded("sizes", "a size that is fixed in the code but not on the card", lambda: _sizes(subject))
    if isinstance(made, ClosedSystem):
        report("tokens", "not checked", "a closed system sends no tokens, so there is nothing to pack or count")
        return out
    guarded("batch", "an average over the batch, or noise that is drawn once a batch", lambda: _batch(made, side))
    guarded("seeds", "noise that does not come from the seeds", lambda: _seeds(made, side))
    guarded("state", "something that encode leaves on the adapter and decode reads", lambda: honesty.state(made, side))
    guarded("fresh process", "features that pass the decoder by another way than the tokens",
            lambda: honesty.fresh(made, spec, side, device, dtype, environment, began))  # fmt: skip
    guarded("facts", "a card copied from another model", lambda: _facts(made, side))
    guarded("alphabet", "an alphabet on the card that is not the codebook's size", lambda: _alphabet(made, side))
    guarded("hidden bits", "information beside the indices", lambda: honesty.hidden(made, side))
    if made.takes_budget:
        guarded(
            "budget", "an encoder that takes the budget and does not look at it", lambda: honesty.budget(made, side)
        )
    return out


def _load(model: Any, options: dict[str, str], checkpoint: Path | None, device: str, dtype: str,
          report: Callable[[str, Any, str], None]) -> tuple[dict[str, Any] | None, Any, bool]:  # fmt: skip
    """(how a fresh process builds it again, the loaded model, whether its weights are trained)."""
    if not isinstance(model, str):
        ready = load(model)
        report("loads", "passed", "an object that is loaded already")
        return None, ready.model, True
    spec = {"model": model, "options": options, "checkpoint": str(checkpoint.resolve()) if checkpoint else None}
    # A wrong name or option is a wrong question, not a failure of an adapter.
    entry = registry.model(model)
    if entry.inner is not None:
        registry.split_options(entry, options)
    elif not model.startswith("family:"):
        registry.parse_options(entry.card, options)
    try:
        built = build(model, options, checkpoint, device, dtype)
    except Unavailable as bad:
        made = load_random(model, options, device, dtype)
        if made is None:
            report("loads", "not checked", f"{bad}")
            return None, None, False
        report("loads", "not checked", f"{bad}; the other checks use numbers made from the parameter names")
        return {**spec, "random": True}, made, False
    except VtbenchError as bad:
        report("loads", "failed", str(bad))
        return None, None, False
    except Exception as bad:
        report("loads", "failed", f"load raised {type(bad).__name__}: {bad}; this usually means a wrong file or option")
        return None, None, False
    report("loads", "passed", f"weights: {built.files.status}")
    return spec, built.model, built.files.status != "unverified"


def seeds_for(n: int) -> list[int]:
    return [1000 + i for i in range(n)]


def _through(subject: ModelSubject, images: torch.Tensor) -> Produced:
    made = subject.produce(images, seeds_for(len(images)), [])
    if made.failed:
        raise VtbenchError(f"{subject.card.name} gave no image: {next(iter(made.failed.values()))}", code=1)
    return made


def _output(subject: ModelSubject, side: int) -> tuple[Any, str]:
    image = photo(side, side)
    made = _through(subject, image)
    return "passed", f"finite, {side} x {side}, PSNR {psnr(image, made.images):.1f} dB on a photograph"


def _conventions(subject: ModelSubject, side: int, trained: bool) -> tuple[Any, str]:
    """3 value ranges x 6 channel orders, on the way in, on the way out and on both: the declared one must be best."""
    import torch

    if not trained:
        return "not checked", "without trained weights no value range is better than another"
    image = photo(side, side)
    conventions = list(itertools.product(RANGES, itertools.permutations(range(3))))
    plain = conventions[0]
    scores: dict[tuple[str, str, str], float] = {}

    def note(where: str, convention: tuple[str, tuple[int, ...]], out: torch.Tensor) -> None:
        score = psnr(image, out) if bool(torch.isfinite(out).all()) else -math.inf
        scores[where, convention[0], _letters(convention[1])] = score

    for convention in conventions:
        try:
            out = _raw(subject, _apply(image, convention))
        except Exception:
            # An adapter may well refuse what is not in [0, 1] (its codes may even leave their alphabet): no rival then.
            if convention == plain:
                raise
            continue
        if convention == plain:
            for other in conventions:
                note("decode" if other != plain else "declared", other, _undo(out, other))
        else:
            note("encode", convention, out)
            note("encode and decode", convention, _undo(out, convention))
    own = scores.pop(("declared", plain[0], "RGB"))
    best = max(scores, key=lambda k: scores[k])
    if scores[best] <= own + SLACK_DB:
        return (
            "passed",
            f"RGB in [0, 1] gives {own:.1f} dB, the best of {len(scores)} other conventions {scores[best]:.1f} dB",
        )
    where, name, letters = best
    what = []
    if name != plain[0]:
        what.append(f"the network wants {name}")
    if letters != "RGB":
        what.append(f"the channel order is {letters}")
    return "failed", (
        f"{scores[best]:.1f} dB with {name} {letters} in {where}, {own:.1f} dB as declared: "
        f"{' and '.join(what)}; convert in {where}"
    )


def _apply(image: torch.Tensor, convention: tuple[str, tuple[int, ...]]) -> torch.Tensor:
    """A picture of RGB in [0, 1] in another convention."""
    import torch

    affine = RANGES[convention[0]]
    if affine is None:
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in IMAGENET)
        return ((image - mean) / std)[:, list(convention[1])]
    return (image * affine[0] + affine[1])[:, list(convention[1])]


def _undo(out: torch.Tensor, convention: tuple[str, tuple[int, ...]]) -> torch.Tensor:
    """The inverse of `_apply`."""
    import torch

    out = out[:, [convention[1].index(c) for c in range(3)]]
    affine = RANGES[convention[0]]
    if affine is None:
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in IMAGENET)
        return out * std + mean
    return (out - affine[1]) / affine[0]


def _letters(order: Sequence[int]) -> str:
    return "".join("RGB"[c] for c in order)


def _raw(subject: ModelSubject, given: torch.Tensor) -> torch.Tensor:
    """The model without the runner's refusals, since the wrong conventions must be tried too."""
    made = subject.model
    if isinstance(made, ClosedSystem):
        out = made.reconstruct(given, seeds_for(1))[0]
        if isinstance(out, str):
            raise VtbenchError(f"{made.card.name} gave no image: {out}", code=1)
        return out[None]
    tokens = encode(made, given)
    return made.decode(tokens, seeds_for(1)).detach().to("cpu").float()


def encode(made: Tokenizer, images: torch.Tensor, seeds: Sequence[int] | None = None) -> Tokens:
    budget = made.options[made.card.knob] if made.takes_budget and made.card.knob else None
    many = list(seeds) if seeds is not None else seeds_for(len(images))
    return made.encode(images, many) if budget is None else made.encode(images, many, budget)


def _sizes(subject: ModelSubject) -> tuple[Any, str]:
    sizes = subject.card.sizes
    tried = (
        [(64, 64), (67, 61), (48, 160)]
        if isinstance(sizes, Multiple)
        else [(sizes.size, sizes.size), (67, 61), (48, 160)]
    )
    for height, width in tried:
        made = _through(subject, photo(height, width))
        if tuple(made.images.shape[2:]) != (height, width):
            return "failed", f"{height} x {width} came back as {tuple(made.images.shape[2:])}"
    return "passed", "even, odd and wide: " + ", ".join(f"{h} x {w}" for h, w in tried)


def four(side: int) -> torch.Tensor:
    import torch

    return torch.cat([photo(side, side, at=37 * i) for i in range(4)])


def _batch(made: Tokenizer, side: int) -> tuple[Any, str]:
    import torch

    images, seeds = four(side), seeds_for(4)
    together = encode(made, images, seeds)
    out = made.decode(together, seeds).float()
    worst = 0.0
    for i in range(4):
        alone = encode(made, images[i : i + 1], seeds[i : i + 1])
        if isinstance(alone, Latents) and isinstance(together, Latents):
            one, many = alone.values.float(), together.values[i : i + 1].float()
            scale = max(1e-6, float(one.abs().max()))
            if one.shape != many.shape or float((one - many).abs().max()) > 0.01 * scale:
                return (
                    "failed",
                    f"image {i} has other latents in a batch of 4 than alone: something averages over the batch",
                )
        elif not _same(alone, together[i]):
            share = _share(alone, together[i])
            return (
                "failed",
                f"image {i} has other tokens in a batch of 4 than alone{share}: something depends on the batch",
            )
        again = made.decode(together[i], seeds[i : i + 1]).float()
        if again.shape[1:] != out.shape[1:]:
            return "failed", f"image {i} decodes to {tuple(again.shape)} alone and {tuple(out.shape)} in a batch of 4"
        worst = max(worst, float((again[0] - out[i]).abs().max()))
    if worst > EQUAL or not bool(torch.isfinite(out).all()):
        return (
            "failed",
            f"a batch of 4 decodes differently from 4 of 1 (by {worst:.2g}): something depends on the batch",
        )
    return "passed", f"a batch of 4 equals four batches of 1 (images to {worst:.1g})"


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


def _seeds(made: Tokenizer, side: int) -> tuple[Any, str]:
    image, seeds = photo(side, side), seeds_for(1)
    first, second = encode(made, image, seeds), encode(made, image, seeds)
    if _body(first) != _body(second):
        return "failed", "the same image and seed gave other tokens the second time: draw all noise from the seed"
    a, b = made.decode(first, seeds), made.decode(first, seeds)
    if not bool((a == b).all()):
        return "failed", "the same tokens and seed gave another image the second time: draw all noise from the seed"
    return "passed", "the same seeds give the same bytes"


def _facts(made: Tokenizer, side: int) -> tuple[Any, str]:
    card = made.card
    image = photo(side, side)
    tokens = encode(made, image)
    kinds = {"codec": Bitstream, "discrete": Codes, "continuous": Latents}
    problems = []
    stated = made.stated if isinstance(made, TrainingLoopModel) else True
    kind = card.kind if stated else kind_of(tokens) or card.kind
    wanted = kinds.get(kind)
    if wanted is not None and not isinstance(tokens, wanted):
        problems.append(f"the card says {card.kind}, encode gave {type(tokens).__name__}")
    # What the card says of 256 x 256 holds at the model's own size where it has one.
    at_256 = card.tokens_at_256 if side == 256 or isinstance(card.sizes, Fixed) else None
    grid: tuple[int, ...] | None = None
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
            grid = tuple(int(n) for n in tokens.values.shape[2:])
    if card.downsample and grid is not None and grid != (side // card.downsample,) * 2:
        problems.append(
            f"the card says one position for {card.downsample} x {card.downsample} pixels, "
            f"{side} x {side} became {grid[0]} x {grid[1]}"
        )
    if tokens.size != (side, side):
        problems.append(f"tokens.size is {tokens.size} for an image of {side} x {side}")
    if not card.stochastic:
        seed = seeds_for(1)[0]
        moved = not _same(encode(made, image, [seed + 1]), tokens)
        if not moved:
            a, b = (made.decode(tokens, [s]) for s in (seed, seed + 1))
            moved = not bool((a == b).all())
        if moved:
            problems.append("the card does not say stochastic, another seed gave another result")
    if problems:
        return "failed", "; ".join(problems)
    return (
        "passed",
        f"{kind}, {tokens.positions[0]} positions, {float(tokens.bits()[0]) / side**2:.4g} bits a pixel",
    )


def _short(alphabets: Sequence[int]) -> str:
    return f"{len(alphabets)} x {alphabets[0]}" if len(set(alphabets)) == 1 else str(tuple(alphabets))


def _alphabet(made: Tokenizer, side: int) -> tuple[Any, str]:
    tokens = encode(made, four(side))
    if not isinstance(tokens, Codes):
        return "passed", f"{type(tokens).__name__} have no indices"
    # Codes refuses an index outside its alphabet when it is made; the ends are shown for the reader.
    top = int(tokens.indices.max())
    return "passed", f"indices from {int(tokens.indices.min())} to {top}, alphabets {_short(tokens.alphabets)}"
