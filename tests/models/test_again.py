"""A finished run's system again: what it kept, its model, and the refusal of originals or weights that have changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import vtbench
from vtbench.explaining.explain import explain
from vtbench.explaining.runs import explain_runs
from vtbench.models.again import again, originals
from vtbench.models.arch import with_options
from vtbench.models.load import load
from vtbench.models.made_weights import fill_
from vtbench.models.network import build_network
from vtbench.models.pictures import SavedPictures
from vtbench.models.saved_tokens import SavedTokens
from vtbench.models.system import ModelSystem
from vtbench.proving.pictures import photograph
from vtbench.registry import family
from vtbench.results.record import Run, read_run
from vtbench.running.rescore import add_metrics
from vtbench.types.errors import VtbenchError

OPTIONS = {"encoder_ch_mult": "1:1", "decoder_ch_mult": "1:1", "z_channels": "16", "codebook_size": "64"}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        cut = photograph()[61 * number :, 97 * number :][:64, :64]
        Image.fromarray(np.ascontiguousarray(cut)).save(folder / f"{number}.png")
    return folder


def evaluated(spec: str, images: Path, out: Path, **more: Any) -> Run:
    return vtbench.evaluate(spec, images=images, view="64", tasks=["compression"], out=out, **more).runs[0]


def tiny(path: Path, scale: float = 1.0) -> Path:
    """A LlamaGen of OPTIONS in a file, with weights made from names times `scale`."""
    one = family("llamagen")
    arch = one.cards[0].arch
    assert arch is not None
    network = fill_(build_network(one, with_options(arch, OPTIONS)))
    torch.save({n: t * scale for n, t in network.state_dict().items()}, path)
    return path


def items_and_pixels(run: Run) -> tuple[Any, torch.Tensor]:
    suite = originals(run)
    pixels = np.stack([suite.load(item) for item in suite.items])
    return suite.items, torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255


def test_what_was_kept_comes_before_the_model(images: Path, tmp_path: Path) -> None:
    pictures = evaluated("jpeg", images, tmp_path / "p", save=["images", "tokens"])
    tokens = evaluated("jpeg", images, tmp_path / "t", save=["tokens"])
    assert isinstance(again(pictures).system, SavedPictures)
    assert isinstance(again(tokens).system, SavedTokens)
    assert isinstance(again(pictures, from_model=True).system, ModelSystem)
    items, pixels = items_and_pixels(pictures)
    asked = [
        again(run, from_model=model).system.produce(pixels, [0] * len(items), items).images
        for run, model in ((pictures, False), (tokens, False), (tokens, True))
    ]
    as_bytes = [(a if a.dtype == torch.uint8 else (a.clamp(0, 1) * 255).round().to(torch.uint8)) for a in asked]
    assert torch.equal(as_bytes[0], as_bytes[1])
    assert torch.equal(as_bytes[0], as_bytes[2])
    nothing = evaluated("jpeg", images, tmp_path / "n")
    with pytest.raises(VtbenchError, match="kept neither images nor tokens"):
        again(nothing)


@pytest.mark.parametrize("save", ["images", "tokens"])
def test_originals_that_have_changed_are_refused_everywhere_in_one_sentence(
    save: str, images: Path, tmp_path: Path
) -> None:
    run = evaluated("jpeg", images, tmp_path / "out", save=[save])
    other = evaluated("jpeg", images, tmp_path / "out", save=[save], protocol="magvit2")
    assert explain(str(run.path), {"psnr": 30.0}).n == 3
    assert explain_runs(run.path, other.path, ["bpp"]).n == 3
    Image.fromarray(photograph()[:80, :80]).save(images / "1.png")
    asked = (
        lambda: add_metrics(run.path, ["psnr"]),
        lambda: explain(str(run.path), {"psnr": 30.0}),
        lambda: explain(str(run.path), {"psnr": 30.0}, images=str(images)),
        lambda: explain_runs(run.path, other.path, ["bpp"]),
    )
    said = set()
    for ask in asked:
        with pytest.raises(VtbenchError, match="no longer what") as refused:
            ask()
        said.add(str(refused.value))
    assert len(said) == 1


def test_a_run_of_another_identity_rule_is_read_and_not_continued(images: Path, tmp_path: Path) -> None:
    """Its hash of the suite is of names, sizes and times, so it says nothing of contents."""
    run = evaluated("jpeg", images, tmp_path / "out", save=["images"])
    record = json.loads((run.path / "run.json").read_text())
    del record["identity_rule"]
    (run.path / "run.json").write_text(json.dumps(record))
    with pytest.raises(VtbenchError, match="by rule 1 and this vtbench by rule 2"):
        again(read_run(run.path))


def test_an_own_configuration_is_built_again_with_its_arch(images: Path, tmp_path: Path) -> None:
    """The arch options stand in the run's name, not among its options; both are needed to load the file again."""
    file = tiny(tmp_path / "mine.pt")
    run = evaluated("family:llamagen", images, tmp_path / "out", options=OPTIONS, checkpoint=file, save=["tokens"])
    loaded = again(run)
    assert loaded.identity["name"] == run.name
    assert loaded.system.card.alphabets == (64,)
    whole = vtbench.evaluate(
        "family:llamagen",
        images=images,
        view="64",
        tasks=["reconstruction"],
        options=OPTIONS,
        checkpoint=file,
        out=tmp_path / "whole",
    ).runs[0]
    psnr = {row["item"]: row["values"]["psnr"] for row in whole.rows()}
    added = {row["item"]: row["values"]["psnr"] for row in add_metrics(run.path, ["psnr"]).rows()}
    # Tokens are decoded one image at a time, which orders float32 sums otherwise than a batch does.
    assert added == pytest.approx(psnr, rel=1e-5)


def test_weights_that_have_changed_are_refused(images: Path, tmp_path: Path) -> None:
    file = tiny(tmp_path / "mine.pt")
    run = evaluated("family:llamagen", images, tmp_path / "out", options=OPTIONS, checkpoint=file, save=["tokens"])
    tiny(file, scale=0.5)
    for from_model in (False, True):
        with pytest.raises(VtbenchError, match=r"are not those of .*: give the same files"):
            again(run, from_model=from_model)


def test_an_object_that_is_gone_is_not_made_up(images: Path, tmp_path: Path) -> None:
    model = load("jpeg").model
    run = vtbench.evaluate(
        model, images=images, view="64", tasks=["compression"], out=tmp_path / "out", save=["images", "tokens"]
    ).runs[0]
    assert isinstance(again(run).system, SavedPictures)
    with pytest.raises(VtbenchError, match="an object that is gone"):
        again(run, from_model=True)


def test_pictures_that_somebody_has_are_no_model(images: Path, tmp_path: Path) -> None:
    run = evaluated(f"folder:{images}", images, tmp_path / "out")
    with pytest.raises(VtbenchError, match="another needs the model"):
        again(run, from_model=True)


def test_a_generation_run_finds_the_pictures_that_it_drew(images: Path, tmp_path: Path) -> None:
    run = vtbench.evaluate(
        "ngram-kmeans",
        images=images,
        view="64",
        tasks=["generation"],
        options={"size": "64"},
        prompts="classes:2",
        per_prompt=2,
        out=tmp_path / "out",
    ).runs[0]
    loaded = again(run)
    assert loaded.drawn == run.path / "generated"
    assert isinstance(loaded.system, SavedPictures)
    assert sorted(loaded.system.items) == sorted(row["item"] for row in run.rows())
    assert len(loaded.system.items) == 4
