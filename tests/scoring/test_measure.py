"""THE place where metrics are called: what they may answer, and what becomes of everything else."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vtbench.scoring.measure import empty_row, extract, finish, measure, measure_all, one_of, put
from vtbench.types.errors import Unavailable, VtbenchError
from vtbench.types.item import Item
from vtbench.types.metric import Batch, Extractor, ImageMetric, MetricCard, Reference, SetValue, Value
from vtbench.types.tokens import Bitstream, Codes

NAMES = ("a.png", "b.png", "c.png", "d.png")


def batch(n: int = 4, tokens: Any = None) -> Batch:
    """`n` grey images, the k-th of level k."""
    images = torch.stack([torch.full((3, 8, 9), k, dtype=torch.uint8) for k in range(n)])
    reference = Reference(images, [Item(name, Path(name)) for name in NAMES[:n]], [f"sha-{name}" for name in NAMES[:n]])
    return Batch(reference, images.clone(), tokens, np.arange(n, dtype=float), "the system", list(range(n)))


class Says(ImageMetric):
    """Answers what a function makes of a batch."""

    def __init__(self, answer: Callable[[Batch], Any], min_size: int = 1) -> None:
        self.card = MetricCard("said", "Said", 1, "", "higher", "test", min_size=min_size)
        self.answer = answer

    def measure(self, batch: Batch) -> Sequence[Value]:
        return self.answer(batch)


def level(image: torch.Tensor) -> float:
    return float(image.double().mean())


def test_one_value_an_image_in_order() -> None:
    metric = Says(lambda b: (Value(level(i), weight=2.0) for i in b.candidate))
    assert measure("said", metric, batch()) == [Value(float(k), 2.0) for k in range(4)]
    assert measure_all({"x": metric, "y": metric}, batch(2))["y"] == [Value(0.0, 2.0), Value(1.0, 2.0)]


@pytest.mark.parametrize("number", [np.float32(0.5), torch.tensor(0.5), 1, True, np.int64(3)])
def test_numbers_of_other_libraries_become_pythons(number: Any) -> None:
    (value,) = measure("said", Says(lambda _: [Value(number)]), batch(1))
    assert type(value.value) is float
    assert value.value == float(number)


@pytest.mark.parametrize(
    ("number", "weight", "why"),
    [
        (math.nan, 1.0, "said came out as nan"),
        (math.inf, 1.0, "said came out as inf"),
        (-math.inf, 1.0, "said came out as -inf"),
        (torch.tensor(math.nan), 1.0, "said came out as nan"),
        (1.0, math.nan, "the weight of said came out as nan"),
        (1.0, math.inf, "the weight of said came out as inf"),
        (1.0, -0.5, "the weight of said came out as -0.5"),
        (None, 1.0, "not measured"),
    ],
)
def test_what_is_no_number_is_null_with_a_reason(number: Any, weight: float, why: str) -> None:
    good = Value(7.0)
    values = measure("said", Says(lambda _: [good, Value(number, weight), good, good]), batch())
    assert values[0] == values[2] == values[3] == good
    assert (values[1].value, values[1].why) == (None, why)


def test_an_image_under_the_least_size_never_arrives() -> None:
    def never(_: Batch) -> Any:
        raise AssertionError("it was asked")

    values = measure("said", Says(never, min_size=9), batch())
    assert values == [Value(None, why="said needs images of at least 9 px, this one has 8")] * 4


def test_the_least_size_and_no_weight_are_allowed() -> None:
    """The batch is 8 x 9: a metric of at least 8 px gets it; an image of weight 0 has its value."""
    (value,) = measure("said", Says(lambda _: [Value(0.5, weight=0.0)], min_size=8), batch(1))
    assert value == Value(0.5, 0.0)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ([1.0], "TypeError on a.png: it gave a float; wanted one vtbench.Value an image"),
        ([Value("7")], "TypeError on a.png: its value is '7'; wanted a number"),
        ([Value([1.0, 2.0])], "TypeError on a.png"),
        ([Value(torch.zeros(2))], "on a.png"),
        (None, "TypeError on a.png"),
    ],
)
def test_an_answer_of_another_kind_is_named(answer: Any, words: str) -> None:
    with pytest.raises(VtbenchError) as caught:
        measure("said", Says(lambda _: answer), batch(1))
    assert caught.value.code == 1
    assert words in str(caught.value)
    assert str(caught.value).startswith("the metric said raised")


@pytest.mark.parametrize("count", [3, 5, 0, 1])
def test_answers_of_another_number_are_refused(count: int) -> None:
    """Right for one image, wrong for a batch: no image is to blame alone."""
    metric = Says(lambda b: [Value(1.0)] * (count if len(b) > 1 else 1))
    with pytest.raises(VtbenchError, match=rf"a\.png and 3 more, together: it gave {count} results for 4 images"):
        measure("said", metric, batch())


def test_a_metric_that_raises_is_named_with_its_image() -> None:
    def third(b: Batch) -> list[Value]:
        for image in b.candidate:
            if level(image) == 2:
                raise ZeroDivisionError("nothing to divide by")
        return [Value(1.0)] * len(b)

    with pytest.raises(VtbenchError) as caught:
        measure("said", Says(third), batch())
    assert str(caught.value) == "the metric said raised ZeroDivisionError on c.png: nothing to divide by"
    assert caught.value.code == 1
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_generator_that_raises_half_way_is_named_too() -> None:
    def lazy(b: Batch) -> Any:
        for image in b.candidate:
            yield Value(1 / (1 - level(image)))

    with pytest.raises(VtbenchError, match=r"ZeroDivisionError on b\.png"):
        measure("said", Says(lazy), batch())


def test_a_refusal_keeps_its_own_sentence() -> None:
    def refuses(_: Batch) -> Any:
        raise VtbenchError("this metric wants prompts: give a folder that has some")

    with pytest.raises(VtbenchError, match=r"^this metric wants prompts"):
        measure("said", Says(refuses), batch())


def test_one_image_of_a_batch_is_all_of_that_image() -> None:
    whole = batch(3, Bitstream([b"0", b"11", b"222"], (8, 9)))
    whole.reference.once("kept", lambda: "of all")
    part = one_of(whole, 1)
    assert [i.id for i in part.reference.items] == ["b.png"]
    assert part.reference.sha256 == ["sha-b.png"]
    assert torch.equal(part.candidate, whole.candidate[1:2])
    assert torch.equal(part.reference.images, whole.reference.images[1:2])
    assert (part.bits is not None and part.bits.tolist(), part.seeds, part.subject) == ([1.0], [1], "the system")
    assert isinstance(part.tokens, Bitstream)
    assert part.tokens.data == [b"11"]
    assert part.reference.kept == {}


def test_the_tiles_of_an_image_stay_together() -> None:
    codes = Codes(torch.arange(6).reshape(6, 1, 1), (6,), (4, 4))
    part = one_of(batch(3, codes), 2)
    assert isinstance(part.tokens, Codes)
    assert part.tokens.indices.flatten().tolist() == [4, 5]


def test_a_number_over_a_set() -> None:
    whole = SetValue(1.5, 1.0, 2.0, n=3, details={"a": 1}, per_image=[1.0, None, 2.0])
    assert finish("said", lambda: whole) == whole


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_set_that_gives_no_number_is_null_with_a_reason(number: float) -> None:
    value = finish("said", lambda: SetValue(number, number, number, n=4, warning="few", details={"x": number}))
    assert value == SetValue(None, n=4, why=f"said came out as {number}", warning="few")


def test_what_stands_beside_a_number_never_spoils_it() -> None:
    details = {"curve": [1.0, math.nan], "more": {"array": np.array([math.inf, 2.0])}, "text": "nan", "n": 3}
    value = finish("said", lambda: SetValue(1.0, math.nan, math.inf, details=details, per_image=[math.nan, 1.0]))
    assert value == SetValue(
        1.0,
        None,
        None,
        details={"curve": [1.0, None], "more": {"array": [None, 2.0]}, "text": "nan", "n": 3},
        per_image=[None, 1.0],
    )


def test_a_set_metric_that_raises_or_answers_otherwise_is_named() -> None:
    def raises() -> SetValue:
        raise ValueError("no root")

    with pytest.raises(VtbenchError, match="the metric said raised ValueError on the whole set: no root"):
        finish("said", raises)
    with pytest.raises(VtbenchError, match=r"TypeError on the whole set: it gave a float; wanted a vtbench\.SetValue"):
        finish("said", lambda: 1.0)  # type: ignore[arg-type,return-value]

    def missing() -> SetValue:
        raise Unavailable("its network is not here")

    assert finish("said", missing) == SetValue(None, why="its network is not here")


class Network(Extractor):
    id, dim = "some/network", 2

    def load(self, device: str = "cpu") -> None: ...

    def extract(self, images: torch.Tensor) -> Any:
        raise RuntimeError("out of memory")


def test_a_feature_network_that_raises_is_named() -> None:
    with pytest.raises(VtbenchError, match=r"the feature network some/network raised RuntimeError on a\.png: out of"):
        extract(Network(), batch().candidate, NAMES)


def test_what_a_row_keeps() -> None:
    row = empty_row("a.png")
    columns = {"psnr": [Value(20.0)], "cer": [Value(0.5, weight=7.0)], "ms-ssim": [Value(None, why="too small")]}
    put(row, columns, 0)
    assert row["values"] == {"psnr": 20.0, "cer": 0.5}
    assert row["weights"] == {"cer": 7.0}
    assert row["why"] == {"ms-ssim": "too small"}
    assert empty_row("b.png", "cannot be read")["why"] == {"*": "cannot be read"}
