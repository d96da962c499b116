"""Stability of tokenizers whose behaviour is known: a quantizer that is idempotent, and one that drifts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from vtbench.metrics import stability
from vtbench.models.system import ModelSystem as ModelSubject
from vtbench.types.adapter import Tokenizer
from vtbench.types.cards import Card
from vtbench.types.tokens import Bitstream, Codes, Latents, Tokens


class Steps(Tokenizer):
    """One token a pixel and channel: the grey level in steps of 16; `decay` darkens every decoding."""

    decay = 0.0

    def encode(self, images: torch.Tensor, seeds: Sequence[int], budget: float | None = None) -> Tokens:
        levels = (images * 255).round().long() // 16
        return Codes(levels.flatten(1)[..., None], (16,), tuple(images.shape[2:]))

    def decode(self, tokens: Tokens, seeds: Sequence[int]) -> torch.Tensor:
        assert isinstance(tokens, Codes)
        flat = (tokens.indices[..., 0] * 16 + 8) / 255 - self.decay
        return flat.reshape(len(tokens), 3, *tokens.size).float()


class Darker(Steps):
    decay = 16 / 255


def subject(kind: type[Steps]) -> ModelSubject:
    return ModelSubject(kind(Card(name="steps", family="t", kind="discrete", title="Steps")), "resize")


@pytest.fixture
def images() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(64, 192, (2, 3, 16, 24), dtype=np.uint8))


def test_an_idempotent_tokenizer_does_not_drift(images: torch.Tensor) -> None:
    values = stability.measure_stability(subject(Steps), images, [1, 2]).values
    psnr = [[v.value for v in values[f"drift-psnr-{n}"]] for n in (1, 2, 5)]
    assert psnr[0] == psnr[1] == psnr[2]
    assert [v.value for v in values["drift-tokens-5"]] == [0.0, 0.0]
    error = ((images // 16 * 16 + 8).double() - images.double()).square().mean(dim=(1, 2, 3))
    assert psnr[0] == pytest.approx((10 * torch.log10(255**2 / error)).tolist(), rel=1e-9)


def test_a_tokenizer_that_darkens_drifts_by_one_step_a_cycle(images: torch.Tensor) -> None:
    values = stability.measure_stability(subject(Darker), images, [1, 2], cycles=(1, 3)).values
    first, third = (values[f"drift-psnr-{n}"][0].value or 0 for n in (1, 3))
    assert third < first
    assert values["drift-tokens-3"][0].value == 1.0


def test_shares_equal_a_count_written_out(images: torch.Tensor) -> None:
    values = stability.measure_stability(subject(Steps), images, [1, 2], cycles=(1,)).values
    moved = torch.roll(images, 1, dims=-1)
    moved[..., 0] = images[..., 0]
    share = (moved // 16 != images // 16).double().mean(dim=(1, 2, 3)).tolist()
    assert [v.value for v in values["shift-tokens"]] == pytest.approx(share, rel=1e-12)
    other = stability.noisy(images, [1, 2])
    share = (other // 16 != images // 16).double().mean(dim=(1, 2, 3)).tolist()
    assert [v.value for v in values["noise2-tokens"]] == pytest.approx(share, rel=1e-12)


def test_disturbances_are_mild_and_seeded(images: torch.Tensor) -> None:
    noise = stability.noisy(images, [3, 3]).double() - images.double()
    assert float(noise.std()) == pytest.approx(2.0, rel=0.05)
    assert torch.equal(stability.noisy(images, [5, 6])[1], stability.noisy(images[1:], [6])[0])
    flat = torch.full((1, 3, 16, 16), 100, dtype=torch.uint8)
    assert int((stability.jpeg(flat).int() - 100).abs().max()) <= 1
    assert torch.equal(stability.shifted(images)[..., 1:], images[..., :-1])


def test_latents_change_relatively_and_bitstreams_not_at_all() -> None:
    a = Latents(torch.ones(1, 4, 2, 2), (16, 16))
    b = Latents(torch.ones(1, 4, 2, 2) * 1.1, (16, 16))
    assert stability.changed(a, b).value == pytest.approx(0.1, rel=1e-6)
    stream = Bitstream([b"x"], (16, 16))
    assert stability.changed(stream, stream).why == stability.NO_TOKENS
    long, short = (Codes(torch.zeros(1, n, 1, dtype=torch.int64), (4,), (8, 8)) for n in (4, 3))
    assert stability.changed(long, short).value is None
    gone = Codes(torch.tensor([[[0], [0], [-1], [-1]]]), (4,), (8, 8), variable=True)
    assert stability.changed(long, gone).why == stability.OTHER_LENGTH
