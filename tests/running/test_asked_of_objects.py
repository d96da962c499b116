"""What is asked of an object is applied or refused; what training wraps around a model is looked through."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from object_models import Convolution, Plain, Steps, numbers
from torch import nn

import vtbench
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Latents


class Lazy(Steps):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.LazyConv2d(8, 3)

    def steps(self) -> float:
        return 7.0


@pytest.mark.parametrize(
    ("model", "more", "words"),
    [
        (Convolution, {}, "Convolution is a class: give an object of it"),
        (Plain, {}, "Plain is a class"),
        (lambda: [Convolution], {}, "Convolution is a class"),
        (lambda: Convolution(), {"checkpoint": "ema.pt"}, "is loaded already: it takes no --checkpoint"),
        (lambda: Convolution(), {"options": {"steps": 3}}, "it takes no --option; set steps on the object"),
        (lambda: Convolution(), {"dtype": "bfloat16"}, "computes in float32: convert it to bfloat16 yourself"),
        (lambda: Convolution().bfloat16(), {"dtype": "float32"}, "computes in bfloat16"),
        (lambda: Convolution(), {"device": "cuda:7"}, "cuda:7"),
        (lambda: Convolution(), {"device": "tpu"}, "'tpu' is not known"),
        (lambda: Convolution(), {"device": "mps"}, "mps"),
        (lambda: Convolution(), {"dtype": "float8"}, "float8"),
        (Lazy, {"object": True}, "is lazy, first.weight has no shape yet"),
        (lambda: Convolution().to("meta"), {}, "lies on the meta device"),
        (lambda: Convolution(), {"identity": " "}, "names nothing"),
        (lambda: Convolution(), {"identity": 3}, "identity=3 names nothing"),
        (lambda: [Convolution(), Convolution()], {"identity": "a"}, "several objects need a call each"),
        (lambda: Convolution(), {"shard": (1, 2)}, "joined by its identity"),
        (lambda: None, {}, "is no tokenizer"),
    ],
)
def test_what_cannot_be_applied_to_an_object_is_refused(
    model: Any, more: dict[str, Any], words: str, images: Path, tmp_path: Path
) -> None:
    more = dict(more)
    built = model() if isinstance(model, types.LambdaType) or more.pop("object", False) else model
    try:
        failures = vtbench.evaluate(
            built, images=images, view="64", tasks=["compression"], limit=1, out=tmp_path, **more
        ).failures
        sentence = next(iter(failures.values()))
    except VtbenchError as refused:
        sentence = str(refused)
    assert words in sentence
    assert "\n" not in sentence
    assert list(tmp_path.glob("*/run.json")) == []


def test_an_objects_own_dtype_is_recorded(images: Path) -> None:
    class Half(Convolution):
        def encode(self, x: torch.Tensor) -> Latents:
            return super().encode(x.bfloat16())

        def decode(self, tokens: Latents) -> torch.Tensor:
            return super().decode(tokens).float()

    half = Half().bfloat16()
    plain = numbers(half, images)
    assert plain["dtype"] == "bfloat16"
    assert numbers(half, images, dtype="bfloat16", device="cpu") == plain


class Trained(Convolution):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.decode(self.encode(x))


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def _sharded(model: nn.Module) -> nn.Module:
    from torch.distributed.fsdp import fully_shard

    fully_shard(model.e)  # type: ignore[attr-defined]
    fully_shard(model)
    return model


WRAPPED: dict[str, Callable[[nn.Module], Any]] = {
    "DDP": lambda m: nn.parallel.DistributedDataParallel(m),
    "DataParallel": nn.DataParallel,
    "compiled": lambda m: torch.compile(m, backend="eager"),
    "compiled DDP": lambda m: torch.compile(nn.parallel.DistributedDataParallel(m), backend="eager"),
    "an average": torch.optim.swa_utils.AveragedModel,
    "FSDP2": _sharded,
    "in a list of a trainer": lambda m: Trainer(nn.parallel.DistributedDataParallel(m)),
}


class Trainer:
    """Keeps the wrapped model in a list and calls it by its inner methods."""

    def __init__(self, model: Any) -> None:
        self.models = [model]

    def encode(self, x: torch.Tensor) -> Latents:
        return self.models[0].module.encode(x)

    def decode(self, tokens: Latents) -> torch.Tensor:
        return self.models[0].module.decode(tokens)


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("how", WRAPPED)
def test_what_training_wraps_around_a_model_is_looked_through(how: str, images: Path) -> None:
    true = numbers(Trained(), images)
    wrapped = WRAPPED[how](Trained().train())
    assert numbers(wrapped, images) == true
    if isinstance(wrapped, nn.Module):
        assert wrapped.training
        assert not {"encode", "decode"} & vars(wrapped).keys()
