"""The tokens that a run kept, decoded again by its model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vtbench.images.serving import serve
from vtbench.models.files import sha256_file
from vtbench.models.outputs import Output
from vtbench.models.system import ModelSystem, System, marked
from vtbench.results.record import Run
from vtbench.results.stores import TokenFile
from vtbench.types.adapter import Tokenizer
from vtbench.types.errors import VtbenchError
from vtbench.types.item import Item
from vtbench.types.opened import noting
from vtbench.types.tokens import Tokens

if TYPE_CHECKING:
    import torch


class SavedTokens(System):
    """A run's tokens by item; those that it did not keep are named in `Output.failed`."""

    def __init__(self, run: Run, inner: ModelSystem) -> None:
        """inner: the run's model, loaded and served as it was."""
        if not isinstance(inner.model, Tokenizer):
            raise VtbenchError(f"{inner.card.name} has no tokens to decode: run evaluate with --save images")
        self.inner, self.tokenizer = inner, inner.model
        self.card, self.options, self.opened = inner.card, inner.options, inner.opened
        self.tokens = TokenFile(run.path)
        self.position = {row["item"]: index for index, row in enumerate(run.rows())}

    def facts(self, items: Sequence[Item]) -> dict[str, str]:
        names = hashlib.sha256("\n".join(self.position).encode(errors="surrogateescape")).hexdigest()
        packed = [sha256_file(path) for path in (self.tokens.data, self.tokens.ends)]
        return {**self.inner.facts(items), "tokens": " ".join([names, *packed])}

    def produce(
        self, images: torch.Tensor, seeds: Sequence[int], items: Sequence[Item], *, count_macs: bool = False
    ) -> Output:
        import torch

        service = serve(self.card.sizes, int(images.shape[2]), int(images.shape[3]), self.inner.fit)
        decoded: list[torch.Tensor] = []
        parts: list[Tokens] = []
        failed: dict[int, str] = {}
        for position, (item, seed) in enumerate(zip(items, seeds, strict=True)):
            tokens = self.tokens[self.position[item.id]] if item.id in self.position else None
            if tokens is None:
                failed[position] = f"the run kept no tokens of {item.id}"
                decoded.append(torch.zeros_like(images[position]))
                continue
            parts.append(tokens)
            if self.card.no_pixels is not None:
                decoded.append(torch.zeros_like(images[position]))
                continue
            with torch.no_grad(), noting(self.opened):
                image = self.tokenizer.decode(tokens, [seed])
            decoded.append(service.from_model(image.detach().to("cpu", torch.float32))[0])
        joined = type(parts[0]).join(parts) if parts and not failed else None
        return Output(
            torch.stack(decoded),
            joined,
            failed=failed,
            kind=self.card.kind,
            record=marked({}, self.card.no_pixels),
            no_pixels=self.card.no_pixels,
        )
