"""What a decoder can read is counted or refused: eighteen ways past the bit count, none of which may stay free.

The truth is arithmetic: pictures whose means differ come back told apart, so at least one bit an image was sent.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from vtbench.models.load import load
from vtbench.models.system import ModelSystem
from vtbench.proving import honesty
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Bitstream, Codes, Latents, counted

FILE = Path(__file__).parents[1] / "side_channels.py"


def _names() -> list[str]:
    spec = importlib.util.spec_from_file_location("side_channels_of_tests", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return list(module.CLASSES)


def carrier(name: str) -> Any:
    return load(f"{FILE}@{name}").model


COUNTED = {"note", "own-bits", "afterwards"}
"""Those whose message is paid for; every other is refused."""
LEVELS = (0.1, 0.35, 0.62, 0.9)


def pictures(levels: tuple[float, ...] = LEVELS, side: int = 16) -> torch.Tensor:
    return torch.stack([torch.full((3, side, side), level) for level in levels])


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("name", _names())
def test_a_run_counts_or_refuses(name: str, together: bool) -> None:
    system = ModelSystem(carrier(name), "resize")
    images = pictures()
    batches = [images] if together else [images[i : i + 1] for i in range(len(images))]
    try:
        outputs = [system.produce(batch, [0] * len(batch), []) for batch in batches]
    except (VtbenchError, AttributeError, RuntimeError):
        # The pipeline makes a sentence of what an adapter raises when its decoder lacks what it was to read.
        outputs = []
    if not outputs:
        assert name not in COUNTED
        return
    bits = sum(float(o.tokens.bits().sum()) for o in outputs if o.tokens is not None)
    shades = {round(float(image.mean()), 3) for o in outputs for image in o.images}
    if len(shades) == 1:
        return  # The message did not get through.
    assert name in COUNTED
    assert bits >= 8 * len(images)


@pytest.mark.parametrize("name", ["absent-books", "absent-books-variable", "note", "grids", "subclass"])
def test_check_refuses(name: str) -> None:
    """By the check for hidden bits of `vtbench check`."""
    try:
        status, _ = honesty.hidden(carrier(name), 16)
    except VtbenchError:
        status = "failed"  # As `check` shows it.
    assert status == "failed"


def test_a_single_picture_cannot_choose_its_layout() -> None:
    """With one image there is none to compare with: the grey one is asked first."""
    system = ModelSystem(carrier("grids"), "resize")
    with pytest.raises(VtbenchError, match="grids of the tokens differs"):
        system.produce(pictures((0.9,)), [0], [])


def test_what_rode_on_tokens_is_left_behind() -> None:
    codes = Codes(torch.zeros(2, 3, 1, dtype=torch.int64), (4,), (8, 8))
    codes.secret = 1  # type: ignore[attr-defined]
    for tokens in (codes, Latents(torch.zeros(1, 2, 3), (8, 8)), Bitstream([b"ab"], (8, 8), "n")):
        again: Any = counted(tokens)
        assert vars(again).keys() == vars(type(again)(*vars(again).values())).keys()
        assert not hasattr(again, "secret")
        assert again.pack() == tokens.pack()
        assert again.layout() == tokens.layout()
    part = Latents(torch.arange(12.0).reshape(1, 3, 4)[:, :, :1], (8, 8))
    assert counted(part).values.untyped_storage().nbytes() == 12  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: Codes(torch.tensor([[[0, -1]]]), (1, 1), (8, 8)), "fixed length"),
        (lambda: Codes(torch.tensor([[[0, -1]]]), (1, 1), (8, 8), variable=True), "some books of a position"),
        (lambda: Codes(torch.tensor([[-1, 0]]), (1,), (8, 8), variable=True), "in the middle of a code"),
        (lambda: Codes(torch.zeros(1, 5, 0, dtype=torch.int64), (), (8, 8)), "at least one book"),
        (lambda: Codes(torch.zeros(1, 5, dtype=torch.int64), (0,), (8, 8)), "at least 1"),
        (lambda: Codes(torch.zeros(1, 5, dtype=torch.int64), (2.5,), (8, 8)), "whole numbers"),
        (lambda: Codes(torch.zeros(1, 5, dtype=torch.int64), (2,), (8, 8), ((5, 0),)), "at least 1"),
        (lambda: Codes(torch.zeros(1, 5, dtype=torch.int64), (2,), (8, 8, 9)), "height, width"),
        (lambda: Latents(torch.zeros(3, 4), (8, 8), channel_axis=0), "no channels"),
        (lambda: Latents(torch.zeros(3, 0), (8, 8)), "no channels"),
        (lambda: Latents(torch.zeros(1, 2, 3, 4), (8, 8), variable=True), "one length is paid for"),
        (lambda: Bitstream(["text"], (8, 8)), "holds str"),
        (lambda: Bitstream([b""], (8, 8), note=b"x"), "holds bytes"),
    ],
)
def test_what_nobody_counts_is_refused(wrong: Any, words: str) -> None:
    with pytest.raises(VtbenchError, match=words):
        wrong()


def test_a_note_costs_its_bytes() -> None:
    assert list(Bitstream([b"abc", b""], (8, 8), "é").bits()) == [8 * 5, 8 * 2]


def test_padding_tells_nothing() -> None:
    codes = Codes(torch.tensor([[1, -1, -1, -1], [2, 3, -1, -1]]), (4,), (8, 8), variable=True)
    assert codes.indices.shape == (2, 2, 1)


def test_parts_of_two_layouts_are_no_batch() -> None:
    a, b = (Codes(torch.zeros(1, 4, dtype=torch.int64), (2,), (8, 8), (grid,)) for grid in ((2, 2), (1, 4)))
    with pytest.raises(VtbenchError, match="two layouts"):
        Codes.join([a, b])
    with pytest.raises(VtbenchError, match="two layouts"):
        Bitstream.join([Bitstream([b""], (8, 8), "x"), Bitstream([b""], (8, 8))])


def test_the_grey_image_moves_no_random_numbers() -> None:
    """An encoder that draws from torch's generator gives what it gave without the question about the layout."""

    class Draws(torch.nn.Module):
        def encode(self, x: Any) -> Any:
            values = x.mean(dim=1, keepdim=True) + torch.rand(len(x), 1, *x.shape[2:])
            return Latents(values.half(), (int(x.shape[2]), int(x.shape[3])))

        def decode(self, tokens: Any) -> Any:
            return tokens.values.float().expand(-1, 3, -1, -1) / 2

    system = ModelSystem(load(Draws()).model, "resize")
    images = pictures()
    torch.manual_seed(7)
    wanted = torch.rand(4, 1, 16, 16)
    torch.manual_seed(7)
    out = system.produce(images, [0] * 4, []).images
    assert torch.allclose(out[:, :1], (images[:, :1] + wanted) / 2, atol=2e-3)
