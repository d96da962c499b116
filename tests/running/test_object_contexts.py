"""Objects of a training loop: the number is that of the object as it is now, whatever surrounds the call and however it
is held, and the object is left as it was."""

from __future__ import annotations

import functools
import types
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import vtbench
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Codes, Latents

METRIC = '''
"""A metric whose network is a convolution, as that of DISTS or LPIPS: under autocast it gives other numbers."""
import torch
from vtbench import ImageMetric, MetricCard, Value
class Net(ImageMetric):
    card = MetricCard(name="net", title="net", version=1, unit="", better="lower", source="a test")
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
TASK = Task(name="nets", title="nets", version=1, suites=(), view="native", metrics=("psnr", "bits", "METRIC@net"))
"""


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("task")
    (folder / "net.py").write_text(METRIC)
    (folder / "nets.py").write_text(TASK.replace("METRIC", str(folder / "net.py")))
    return f"{folder / 'nets.py'}@nets"


class Convolution(nn.Module):
    """Its latents are counted in the dtype that its convolution gives."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.e, self.d = nn.Conv2d(3, 48, 4, 4), nn.ConvTranspose2d(48, 3, 4, 4)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(0.1 * torch.randn(p.shape, generator=generator))

    def encode(self, x: torch.Tensor) -> Latents:
        return Latents(self.e(x * 2 - 1), (int(x.shape[2]), int(x.shape[3])))

    def decode(self, tokens: Latents) -> torch.Tensor:
        return (self.d(tokens.values) + 1) / 2


def numbers(model: Any, images: Path, task: str = "compression", **more: Any) -> dict[str, float | None]:
    """The metrics of a run of two images, those of its costs aside."""
    made = vtbench.evaluate(model, images=images, view="64", tasks=[task], limit=2, **more)
    assert made.failures == {}
    costs = {"peak-memory", "parameters", "macs", "images-per-second"}
    run = made.runs[0]
    return {s.metric: s.value for s in run.scores if s.metric not in costs and "seconds" not in s.metric} | {
        "dtype": run.info.dtype  # type: ignore[dict-item]
    }


def alike(values: dict[str, Any]) -> dict[str, Any]:
    """Equal but for the eighth digit, which hangs on where arrays lie in memory; bfloat16 moves the third."""
    return {name: pytest.approx(v, rel=1e-6) if isinstance(v, float) else v for name, v in values.items()}


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
    # What the same folder says outside was not made under anything else.
    assert named == alike(plain)
    assert numbers(model, images, task, out=tmp_path, identity="step 1") == named


def test_autocast_reaches_no_other_verb(images: Path, tmp_path: Path, task: str) -> None:
    metric = f"{Path(task.rpartition('@')[0]).with_name('net.py')}@net"
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


class Plain:
    """Something that holds something."""


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
        made = vtbench.evaluate(
            Raises(net, lambda held: held), images=images, view="64", limit=1, tasks=["compression"]
        )
        assert torch.is_autocast_enabled("cpu")
    assert "no decoder yet" in next(iter(made.failures.values()))
    assert net.training


# -- another object in the same folder -------------------------------------------------------------------------------

GLOBAL = 7.0


class Steps(nn.Module):
    """Rounds every sample to so many steps; where the number stands is what the cases change."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(1))

    def steps(self) -> float:
        raise NotImplementedError

    def encode(self, x: torch.Tensor) -> Codes:
        return Codes((x * self.steps()).round().long().flatten(1), (256,), (int(x.shape[2]), int(x.shape[3])))

    def decode(self, tokens: Any) -> torch.Tensor:
        return tokens.indices.reshape(len(tokens), 3, *tokens.size) / self.steps()


def _nested(n: float) -> Steps:
    class Quantizer(nn.Module):
        levels = 0.0

    class Mine(Steps):
        def __init__(self) -> None:
            super().__init__()
            self.q = Quantizer()
            self.q.levels = n

        def steps(self) -> float:
            return self.q.levels

    return Mine()


def _private(n: float) -> Steps:
    class Mine(Steps):
        _levels = 0.0

        def steps(self) -> float:
            return self._levels

    mine = Mine()
    mine._levels = n
    return mine


def _config(n: float, config: Callable[[float], Any], read: Callable[[Any], float]) -> Steps:
    class Mine(Steps):
        config: Any = None

        def steps(self) -> float:
            return read(self.config)

    mine = Mine()
    mine.config = config(n)
    return mine


def _buffer(n: float) -> Steps:
    class Mine(Steps):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("levels", torch.tensor(n), persistent=False)

        def steps(self) -> float:
            return float(self.levels)  # type: ignore[arg-type]

    return Mine()


def _code(n: float) -> Steps:
    if n == 7:

        class Mine(Steps):
            def steps(self) -> float:
                return 7.0
    else:

        class Mine(Steps):  # type: ignore[no-redef]
            def steps(self) -> float:
                return 1.0

    return Mine()


def _closure(n: float) -> Steps:
    class Mine(Steps):
        def steps(self) -> float:
            return n

    return Mine()


def _global(n: float) -> Steps:
    global GLOBAL
    GLOBAL = n

    class Mine(Steps):
        def steps(self) -> float:
            return GLOBAL

    return Mine()


CHANGED: dict[str, Callable[[float], Steps]] = {
    "a nested attribute": _nested,
    "a private attribute": _private,
    "a dict of settings": lambda n: _config(n, lambda v: {"a": {"levels": v}}, lambda c: c["a"]["levels"]),
    "a namespace": lambda n: _config(n, lambda v: types.SimpleNamespace(levels=v), lambda c: c.levels),
    "a buffer that is not kept": _buffer,
    "the code of its class": _code,
    "a closure": _closure,
    "a global": _global,
}


@pytest.mark.parametrize("how", CHANGED)
def test_a_changed_object_gives_its_own_number(how: str, images: Path, tmp_path: Path) -> None:
    first = numbers(CHANGED[how](7.0), images, "reconstruction", out=tmp_path / "same")
    second = numbers(CHANGED[how](1.0), images, "reconstruction", out=tmp_path / "same")
    assert second == numbers(CHANGED[how](1.0), images, "reconstruction", out=tmp_path / "fresh")
    assert first["psnr"] is not None
    assert second["psnr"] is not None
    assert first["psnr"] > second["psnr"] + 3


def test_an_identity_is_vouched_for_and_weights_still_count(images: Path, tmp_path: Path) -> None:
    model = Convolution()

    def runs() -> int:
        return len(list(tmp_path.glob("*/run.json")))

    more: dict[str, Any] = {"out": tmp_path, "identity": "step 1000"}
    first = numbers(model, images, **more)
    assert numbers(model, images, **more) == first
    assert runs() == 1
    with torch.no_grad():
        model.d.weight.mul_(2)
    numbers(model, images, **more)
    assert runs() == 2
    numbers(model, images, out=tmp_path)
    assert runs() == 3


# -- what is asked of an object --------------------------------------------------------------------------------------


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


# -- wrappers of training --------------------------------------------------------------------------------------------


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
    "in a list of a trainer": lambda m: Holder2(nn.parallel.DistributedDataParallel(m)),
}


class Holder2:
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
