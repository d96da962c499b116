"""Learned codecs through CompressAI: its own strings and pictures, the files it releases, and files that are none.

The networks are upstream's classes at small widths with random numbers in them, saved to disk.
"""

from __future__ import annotations

import shutil
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from builtin_models import cat
from torch.nn.functional import pad

from vtbench import registry
from vtbench.adapters.libraries import learned_codecs
from vtbench.images import web
from vtbench.models import weights
from vtbench.models.build import build
from vtbench.models.files import sha256_file
from vtbench.types.errors import Unavailable, VtbenchError
from vtbench.types.tokens import Bitstream, unpack

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from compressai.ops import compute_padding
    from compressai.zoo import image as zoo

NAMES = [card.name for card in learned_codecs.CARDS]
Save = Callable[..., Path]


def network(name: str) -> Any:
    """Upstream's class, small, with numbers that code more than zeros."""
    torch.manual_seed(0)
    sizes = (8,) if name.startswith("cheng") else (8, 8)
    model = zoo.model_architectures[name](*sizes).eval()
    with torch.no_grad():
        for parameter in model.g_a.parameters():
            if parameter.ndim == 4:
                parameter *= 2.5
    return model


@pytest.fixture
def saved(tmp_path: Path) -> Save:
    """A file of a network's state, as trainers of CompressAI save it."""

    def save(name: str, change: Callable[[dict[str, torch.Tensor]], object] = lambda _: None) -> Path:
        state = dict(network(name).state_dict())
        change(state)
        torch.save({"epoch": 3, "state_dict": state, "loss": 1.0}, tmp_path / "checkpoint.pth.tar")
        return tmp_path / "checkpoint.pth.tar"

    return save


@pytest.mark.parametrize("name", NAMES)
def test_strings_and_pictures_are_upstreams(name: str, saved: Save) -> None:
    """Padded as its eval_model pads, at sizes that are no multiples of 64; every byte of its strings is counted."""
    theirs = network(name)
    theirs.update()
    built = build(name, {}, saved(name))
    again = build(name, {}, saved(name)).model
    assert built.files.status == "unverified"
    coded = 0
    for height, width in ((70, 41), (1, 1)):
        image = cat(height, width)
        around, back = compute_padding(height, width, min_div=64)
        with torch.no_grad():
            wanted = theirs.compress(pad(image, around))
            picture = pad(theirs.decompress(wanted["strings"], wanted["shape"])["x_hat"], back)
        tokens = built.model.encode(torch.cat([image, image.flip(2)]), [0, 0])
        strings = [string for (string,) in wanted["strings"]]
        assert tokens.data[0].endswith(strings[0])
        assert all(string in tokens.data[0] for string in strings)
        # Two strings need to be told apart.
        assert len(tokens.data[0]) == sum(map(len, strings)) + (len(strings) - 1)
        assert float(tokens.bits()[0]) == 8 * len(tokens.data[0])
        decoded = again.decode(unpack(tokens.pack()[0]), [0])
        assert torch.equal(decoded, picture)
        assert decoded.shape == image.shape
        assert tokens.data[1] == built.model.encode(image.flip(2), [0]).data[0], "a batch is its images"
        coded = max(coded, len(strings[0]))
    assert coded > 30, "nothing but zeros was coded"


def test_long_strings_are_told_apart() -> None:
    for words in (1, 127, 128, 20_000):
        y, z = b"y" * 8, b"z" * (4 * words)
        data = learned_codecs._joined([y, z])
        assert len(data) - len(y) - len(z) == (1 if words < 128 else 2 if words < 128**2 else 3)
        assert learned_codecs._split(data, 2) == [y, z]


@pytest.mark.parametrize("name", NAMES)
def test_the_files_are_those_of_upstreams_zoo(name: str) -> None:
    card = registry.model(name).card
    ours = {(w.when["metric"], w.when["quality"]): w.url for w in card.weights}
    assert ours == {(m, q): url for m, urls in zoo.model_urls[name].items() for q, url in urls.items()}
    assert card.knob_values == tuple(zoo.cfgs[name])
    (curve,) = card.curves
    assert len(curve.points) == len(card.knob_values)


def test_a_downloaded_file_is_verified_by_what_its_name_says(
    saved: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight digits of its sha256: a download that has them is official, a user's file is not, another is deleted."""
    monkeypatch.setenv("VTBENCH_CACHE", str(tmp_path / "cache"))
    file = saved("bmshj2018-factorized")
    card = registry.model("bmshj2018-factorized").card
    released = replace(card.weights[0], sha256_begins=sha256_file(file)[:8])
    monkeypatch.setattr(web, "download", lambda url, part, have, **_: shutil.copy(file, part))
    own = replace(card, weights=(released,))
    monkeypatch.setenv("VTBENCH_OFFLINE", "1")
    with pytest.raises(Unavailable, match="VTBENCH_OFFLINE forbids the network"):
        weights.find(own)
    monkeypatch.delenv("VTBENCH_OFFLINE")
    other = replace(card, weights=(replace(released, sha256_begins="00000000"),))
    with pytest.raises(VtbenchError, match="wanted 00000000: the file was deleted"):
        weights.find(other)
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file() and p.suffix != ".lock"]
    assert weights.find(own).status == "official"
    assert weights.find(own, file).status == "unverified"
    why = weights.find(own, file).why or ""
    assert why.startswith(f"upstream states only {released.sha256_begins}… of the sha256 of {released.file}")
    assert weights.find(other).status == "unverified", "what lies in the cache by now is not believed either"


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        (
            "cheng2020-attn",
            {"quality": "7"},
            "for metric=mse, quality=7: give one of metric: mse, ms-ssim; quality: 1, 2",
        ),
        ("mbt2018", {"metric": "psnr"}, "no weights were released for metric=psnr, quality=4"),
        ("mbt2018", {"quality": "best"}, "quality"),
    ],
)
def test_what_was_not_released(name: str, options: dict[str, str], says: str) -> None:
    with pytest.raises(VtbenchError) as refused:
        build(name, options)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("mbt2018-mean", lambda s: s.pop("h_a.0.weight"), "holds no mbt2018-mean of CompressAI"),
        ("mbt2018-mean", lambda s: s["g_s.0.bias"].fill_(float("nan")), "not finite"),
        ("mbt2018-mean", lambda s: s["entropy_bottleneck.quantiles"].mul_(1e6), "where 65536 can be coded"),
        ("mbt2018-mean", lambda s: s.clear(), "holds no"),
        (
            "mbt2018-mean",
            lambda s: s.update({"g_a.0.weight": torch.zeros(1).expand(10**5, 3, 5, 5)}),
            "states 100000 channels, and 1024 are read at most",
        ),
    ],
)
def test_a_file_of_no_codec(name: str, change: Any, says: str, saved: Save) -> None:
    with pytest.raises(VtbenchError, match=says):
        build(name, {}, saved(name, change))


def test_a_file_of_another_quality_is_refused_by_its_name(saved: Save, tmp_path: Path) -> None:
    """A run would say a quality that it has not."""
    name = "bmshj2018-factorized-prior-2-87279a02.pth.tar"
    saved("bmshj2018-factorized").rename(tmp_path / name)
    with pytest.raises(VtbenchError, match=f"{name} is the file .* give --option metric=mse --option quality=2"):
        build("bmshj2018-factorized", {"quality": "3"}, tmp_path / name)
    with pytest.raises(VtbenchError, match="does not hold bmshj2018-factorized-prior-3-5c6f152b"):
        build("bmshj2018-factorized", {"quality": "3"}, tmp_path)
    assert build("bmshj2018-factorized", {"quality": "2"}, tmp_path).files.status == "unverified"


def test_tables_of_a_file_are_not_believed(saved: Save) -> None:
    """A table decides where the coder reads: one that is older than the parameters, or made up, is made anew."""
    image = cat(64, 64)
    wanted = build("bmshj2018-factorized", {}, saved("bmshj2018-factorized")).model.encode(image, [0])

    def made_up(state: dict[str, torch.Tensor]) -> None:
        state["entropy_bottleneck._quantized_cdf"] = torch.full((8, 30), 2**30, dtype=torch.int32)
        state["entropy_bottleneck._cdf_length"] = torch.full((8,), 10**6, dtype=torch.int32)
        state["entropy_bottleneck._offset"] = torch.full((8,), -(10**6), dtype=torch.int32)

    assert build("bmshj2018-factorized", {}, saved("bmshj2018-factorized", made_up)).model.encode(image, [0]) == wanted


def test_what_cannot_be_decoded(saved: Save) -> None:
    file = saved("bmshj2018-hyperprior")
    model = build("bmshj2018-hyperprior", {}, file).model
    (data,) = model.encode(cat(64, 64), [0]).data
    for damaged in (b"", data[:-1], b"\xff" * 40, data[:1]):
        with pytest.raises(VtbenchError, match="does not hold 2 strings"):
            model.decode(Bitstream([damaged], (64, 64)), [0])
    with pytest.raises(VtbenchError, match="give --dtype float32"):
        build("bmshj2018-hyperprior", {}, file, dtype="bfloat16")


def test_without_the_package(saved: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    file = saved("mbt2018-mean")
    for module in [name for name in sys.modules if name.partition(".")[0] == "compressai"]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(VtbenchError) as refused:
        build("mbt2018-mean", {}, file)
    assert "pip install '.[compressai]' && pip install --no-deps 'compressai>=1.2.8'" in str(refused.value)
