"""Adapters that make one mistake each, as strangers do; used by tests as `bad_adapters.py@name`."""

from __future__ import annotations

import os
import time
from typing import Any

from vtbench.types.adapter import Tokenizer
from vtbench.types.cards import Card, Family, Multiple
from vtbench.types.tokens import Bitstream, Codes


class Blocks(Tokenizer):
    """Right: 4 x 4 blocks of 16 levels a channel, as three books."""

    def encode(self, images: Any, seeds: Any, budget: Any = None) -> Any:
        import torch.nn.functional as F

        level = (F.avg_pool2d(self.prepared(images), 4) * 15).round().clamp(0, 15).long()
        height, width = images.shape[2:]
        return Codes(level.flatten(2).transpose(1, 2), (16,) * 3, (height, width), grids=((height // 4, width // 4),))

    def decode(self, tokens: Any, seeds: Any) -> Any:
        import torch.nn.functional as F

        level = tokens.indices.transpose(1, 2).reshape(len(tokens), 3, *tokens.grids[0]).float() / 15
        return F.interpolate(self.finished(level), size=tokens.size, mode="nearest")

    def prepared(self, images: Any) -> Any:
        return images

    def finished(self, images: Any) -> Any:
        return images


class Slow(Blocks):
    """Right, with noise from the seeds, and slow enough to be killed in the middle."""

    def encode(self, images: Any, seeds: Any, budget: Any = None) -> Any:
        import torch

        time.sleep(float(os.environ.get("SLOW", "0")))
        noise = [
            torch.rand(i.shape, generator=torch.Generator().manual_seed(s)) for i, s in zip(images, seeds, strict=True)
        ]
        return super().encode((images + 0.05 * (torch.stack(noise) - 0.5)).clamp(0, 1), seeds)


class WrongRange(Blocks):
    def finished(self, images: Any) -> Any:
        return images * 2 - 1


class Bytes255(Blocks):
    def finished(self, images: Any) -> Any:
        return images * 255


class WantsSigned(Blocks):
    """Its network wants [-1, 1] on both sides and nobody converted."""

    def prepared(self, images: Any) -> Any:
        return ((images + 1) / 2).clamp(0, 1)

    def finished(self, images: Any) -> Any:
        return images * 2 - 1


class SwappedIn(Blocks):
    """Blue first on the way in, red first on the way out."""

    def prepared(self, images: Any) -> Any:
        return images.flip(1)


class Smuggler(Blocks):
    """Keeps the picture and sends empty tokens."""

    def encode(self, images: Any, seeds: Any, budget: Any = None) -> Any:
        self.kept = images.clone()
        return super().encode(images, seeds)

    def decode(self, tokens: Any, seeds: Any) -> Any:
        kept = getattr(self, "kept", None)
        return super().decode(tokens, seeds) if kept is None or len(kept) != len(tokens) else kept


class BatchMean(Blocks):
    def prepared(self, images: Any) -> Any:
        return (images - images.mean() + 0.5).clamp(0, 1)


class Unseeded(Blocks):
    def prepared(self, images: Any) -> Any:
        import torch

        return (images + 0.3 * (torch.rand_like(images) - 0.5)).clamp(0, 1)


class NotANumber(Blocks):
    def finished(self, images: Any) -> Any:
        return images * float("nan")


class WrongSize(Blocks):
    def decode(self, tokens: Any, seeds: Any) -> Any:
        return super().decode(tokens, seeds)[:, :, 4:]


class WrongType(Blocks):
    def decode(self, tokens: Any, seeds: Any) -> Any:
        import torch

        return (super().decode(tokens, seeds) * 255).to(torch.uint8)


class Raises(Blocks):
    """In mid-run: on the third call."""

    calls = 0

    def encode(self, images: Any, seeds: Any, budget: Any = None) -> Any:
        self.calls += 1
        if self.calls == 3:
            raise RuntimeError("out of something")
        return super().encode(images, seeds)


class TooSmallAlphabet(Blocks):
    def encode(self, images: Any, seeds: Any, budget: Any = None) -> Any:
        codes = super().encode(images, seeds)
        return Codes(codes.indices, (8,) * 3, codes.size, codes.grids)


class NotTokens(Blocks):
    def encode(self, images: Any, seeds: Any, budget: Any = None) -> Any:
        return images


class Remembers(Blocks):
    """The decoder takes the size that the encoder saw last."""

    seen = (256, 256)

    def encode(self, images: Any, seeds: Any, budget: Any = None) -> Any:
        self.seen = tuple(images.shape[2:])
        return super().encode(images, seeds)

    def decode(self, tokens: Any, seeds: Any) -> Any:
        height, width = self.seen
        return super().decode(Codes(tokens.indices, (16,) * 3, self.seen, ((height // 4, width // 4),)), seeds)


class ByFile(Blocks):
    """Keeps every picture in a file that is named by its tokens."""

    def path(self, tokens: Any) -> str:
        import hashlib
        import tempfile

        name = hashlib.sha256(tokens.indices.numpy().tobytes()).hexdigest()
        return os.path.join(os.environ.get("SMUGGLE", tempfile.gettempdir()), f"{name}.pt")

    def encode(self, images: Any, seeds: Any, budget: Any = None) -> Any:
        import torch

        tokens = super().encode(images, seeds)
        for i in range(len(images)):
            torch.save(images[i : i + 1].clone(), self.path(tokens[i]))
        return tokens

    def decode(self, tokens: Any, seeds: Any) -> Any:
        import torch

        return torch.cat([torch.load(self.path(tokens[i]), weights_only=True) for i in range(len(tokens))])


class ByNote(Blocks):
    """One byte of data, and the picture in the note."""

    def encode(self, images: Any, seeds: Any, budget: Any = None) -> Any:
        return Bitstream([b"x"] * len(images), tuple(images.shape[2:]), note=str(float(images.mean())))

    def decode(self, tokens: Any, seeds: Any) -> Any:
        import torch

        return torch.full((len(tokens), 3, *tokens.size), float(tokens.note))


class Cut(Blocks):
    """As many tokens as the picture is bright, and nobody pays for the length."""

    def encode(self, images: Any, seeds: Any, budget: Any = None) -> Any:
        codes = super().encode(images, seeds)
        for i, image in enumerate(images):
            self.drop(codes.indices[i], image)
        return Codes(codes.indices, codes.alphabets, codes.size, codes.grids, variable=self.paid)

    paid = False

    def drop(self, indices: Any, image: Any) -> None:
        indices[int(len(indices) * float(image.mean())) :] = -1

    def decode(self, tokens: Any, seeds: Any) -> Any:
        return Blocks.decode(self, Codes(tokens.indices.clamp(min=0), (16,) * 3, tokens.size, tokens.grids), seeds)


class Holes(Cut):
    """Dark blocks are left out, and where they were is not paid for."""

    paid = True

    def drop(self, indices: Any, image: Any) -> None:
        indices[indices.sum(dim=1) < 6] = -1


class Spender(Blocks):
    """Takes a budget and does not look at it."""

    takes_budget = True


class Noisy(Blocks):
    """Noise from the seeds, and a card that does not say so."""

    def decode(self, tokens: Any, seeds: Any) -> Any:
        import torch

        out = super().decode(tokens, seeds)
        return out + torch.stack([
            0.01 * torch.randn(o.shape, generator=torch.Generator().manual_seed(s))
            for o, s in zip(out, seeds, strict=True)
        ])  # fmt: skip


CLASSES = {
    "right": Blocks, "slow": Slow, "wrong-range": WrongRange, "bytes": Bytes255, "wants-signed": WantsSigned,
    "swapped": SwappedIn, "smuggler": Smuggler, "batch-mean": BatchMean, "unseeded": Unseeded, "nan": NotANumber,
    "wrong-size": WrongSize, "wrong-type": WrongType, "raises": Raises, "alphabet": TooSmallAlphabet,
    "not-tokens": NotTokens, "wrong-facts": Blocks, "remembers": Remembers, "by-file": ByFile, "by-note": ByNote,
    "cut": Cut, "holes": Holes, "spender": Spender, "noisy": Noisy, "wrong-grid": Blocks,
}  # fmt: skip
CARDS = tuple(
    Card(
        name=name, family="bad", kind="discrete", title=name, sizes=Multiple(4),
        tokens_at_256=1024 if name == "wrong-facts" else 4096, alphabets=(16,) * 3,
        downsample=8 if name == "wrong-grid" else 4,
        options={"budget": 2.0} if name == "spender" else {}, knob="budget" if name == "spender" else None,
    )
    for name in CLASSES
)  # fmt: skip
FAMILY = Family("bad", "Adapters with mistakes", CARDS, lambda card, options: CLASSES[card.name](card, options))
