"""Objects of a training loop: the number is the same whatever surrounds the call and however the object is held, and
the object is left as it was."""

from __future__ import annotations

import functools
import types
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from object_models import Convolution, Plain, alike, numbers
from torch import nn

import vtbench
from vtbench.types.tokens import Latents

METRIC = '''
"""A metric whose network is a convolution, as that of DISTS or LPIPS: under autocast it gives other numbers."""
import torch
from vtbench import ImageMetric, MetricCard, Value
class Net(ImageMetric):
    card = MetricCard(name="around", title="net", version=1, unit="", better="lower", source="a test")
    def measure(self, batch):
        net = torch.nn.Conv2d(3, 32, 5)
        with torch.no_grad():
            net.weight.copy_(torch.linspace(-1, 1, net.weight.numel()).view_as(net.weight))
            x, y = (net(side.float() / 255) for side in (batch.reference.images, batch.candidate))
        return [Value(float(v)) for v in (x - y).double().square().flatten(1).mean(dim=1)]
METRICS = (Net,)
'''
TASK = """
from vtbench import Task
TASK = Task(name="nets", title="nets", version=1, suites=(), view="native", metrics=("psnr", "bits", "METRIC@around"))
"""


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("task")
    (folder / "net.py").write_text(METRIC)
    (folder / "nets.py").write_text(TASK.replace("METRIC", str(folder / "net.py")))
    return f"{folder / 'nets.py'}@nets"


def _matmul() -> Any:
    class Context:
        def __enter__(self) -> None:
            self.before = torch.get_float32_matmul_precision()
            torch.set_float32_matmul_precision("medium")

        def __exit__(self, *_: Any) -> None:
            assert torch.get_float32_matmul_precision() == "medium"
            torch.set_float32_matmul_precision(self.before)

    return Context()


def _default(dtype: torch.dtype) -> Any:
    class Context:
        def __enter__(self) -> None:
            torch.set_default_dtype(dtype)

        def __exit__(self, *_: Any) -> None:
            after = torch.get_default_dtype()
            torch.set_default_dtype(torch.float32)
            assert after == dtype

    return Context()


CONTEXTS: dict[str, Callable[[], Any]] = {
    "autocast to bfloat16": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "autocast to float16": lambda: torch.autocast("cpu", dtype=torch.float16),
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "another default dtype": lambda: _default(torch.float64),
    "a default device": lambda: torch.device("meta"),
    "quick products": _matmul,
}


@pytest.mark.parametrize("context", CONTEXTS)
def test_what_surrounds_the_call_moves_no_number(context: str, images: Path, task: str, tmp_path: Path) -> None:
    model = Convolution()
    plain = numbers(model, images, task)
    assert plain["dtype"] == "float32"
    with CONTEXTS[context]():
        assert numbers(model, images, task) == alike(plain)
        named = numbers(model, images, task, out=tmp_path, identity="step 1")
    # What the same folder says outside was not result under anything else.
    assert named == alike(plain)
    assert numbers(model, images, task, out=tmp_path, identity="step 1") == named


def test_autocast_reaches_no_other_verb(images: Path, tmp_path: Path, task: str) -> None:
    metric = f"{Path(task.rpartition('@')[0]).with_name('net.py')}@around"
    half = tmp_path / "half"
    half.mkdir()
    from PIL import Image

    for path in sorted(images.iterdir())[:3]:
        picture = Image.open(path)
        picture.resize((picture.width // 2, picture.height // 2)).resize(picture.size).save(half / path.name)
    originals = tmp_path / "originals"
    originals.mkdir()
    for path in half.iterdir():
        (originals / path.name).write_bytes((images / path.name).read_bytes())

    def value() -> float | None:
        scored = vtbench.score(originals, half, [metric])
        return scored.candidates[0].scores[0].value

    def checked() -> list[tuple[str, str]]:
        return [(c.name, c.status) for c in vtbench.check(Convolution())]

    plain = value(), checked()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        # Rounding in bfloat16 moves the third digit; where arrays lie in memory moves the eighth.
        assert value() == pytest.approx(plain[0], rel=1e-6)
        assert checked() == plain[1]
        assert torch.is_autocast_enabled("cpu")


# -- train mode ------------------------------------------------------------------------------------------------------


class Slots:
    __slots__ = ("inside",)


HELD: dict[str, Any] = {}
"""A global that the model's own code names."""


def _holders(net: nn.Module) -> dict[str, Any]:
    """{how: an object whose `net()` is the network}."""
    trainer, slots = Plain(), Slots()
    trainer.model = net  # type: ignore[attr-defined]
    slots.inside = net
    HELD["net"] = net

    def closure() -> nn.Module:
        return net

    class OfClass:
        shared = net

    deep = {"a": [({"b": types.SimpleNamespace(c=[net])},)]}
    return {
        "an attribute of an object": lambda: trainer.model,  # type: ignore[attr-defined]
        "slots": (slots, lambda held: held.inside),
        "a dict of lists of tuples": (deep, lambda held: held["a"][0][0]["b"].c[0]),
        "a closure": (closure, lambda held: held()),
        "a partial": (functools.partial(lambda inner: inner, net), lambda held: held()),
        "a bound method": (net.forward, lambda held: held.__self__),
        "a weak reference": (weakref.ref(net), lambda held: held()),
        "a class attribute": (OfClass(), lambda held: held.shared),
        "a global": (None, lambda held: HELD["net"]),
    }


HOWS = [
    "an attribute of an object",
    "slots",
    "a dict of lists of tuples",
    "a closure",
    "a partial",
    "a bound method",
    "a weak reference",
    "a class attribute",
    "a global",
]


class Holder:
    """A wrapper that somebody wrote around a trainer."""

    def __init__(self, held: Any, net: Callable[[Any], nn.Module]) -> None:
        self._held, self._net = held, net

    def encode(self, x: torch.Tensor) -> Latents:
        return Latents(self._net(self._held)(x), (int(x.shape[2]), int(x.shape[3])))

    def decode(self, tokens: Latents) -> torch.Tensor:
        return tokens.values.sigmoid()


@pytest.mark.parametrize("how", HOWS)
def test_networks_are_measured_in_eval_mode_and_left_alone(how: str, images: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Sequential(nn.BatchNorm2d(3).eval()))
    true = numbers(Holder(net, lambda held: held.eval()), images)
    net.train()
    net[2].eval()
    pair = _holders(net)[how]
    model = Holder(*pair) if isinstance(pair, tuple) else Holder(pair, lambda held: held())
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    modes = [part.training for part in net.modules()]
    assert numbers(model, images) == true
    assert [part.training for part in net.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_a_model_that_raises_is_left_as_it_was_too(images: Path) -> None:
    net = nn.Dropout(0.5).train()

    class Raises(Holder):
        def decode(self, tokens: Latents) -> torch.Tensor:
            raise RuntimeError("no decoder yet")

    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = vtbench.evaluate(
            Raises(net, lambda held: held), images=images, view="64", limit=1, tasks=["compression"]
        )
        assert torch.is_autocast_enabled("cpu")
    assert "no decoder yet" in next(iter(result.failures.values()))
    assert net.training
