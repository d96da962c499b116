"""Explain and check with one copy of several weights, and explain beside a cache that is damaged."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny_features
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio
from support import command, cuts

import vtbench
from vtbench import registry
from vtbench.explaining import choices, measure, systems
from vtbench.explaining.explain import explain
from vtbench.explaining.kept import Folders
from vtbench.explaining.references import OtherReference
from vtbench.images.views import View
from vtbench.models.arch import with_options
from vtbench.models.files import place_in_cache
from vtbench.models.made_weights import fill_
from vtbench.models.network import build_network
from vtbench.proving import contract
from vtbench.scoring.references import open_reference
from vtbench.types.cards import Weights
from vtbench.types.errors import VtbenchError

OPTIONS = {
    "encoder_ch_mult": "1:1:1:1:1",
    "decoder_ch_mult": "1:1:1:1:1",
    "z_channels": "16",
    "codebook_size": "64",
    "embed_dim": "4",
    "ch": "32",
    "num_res_blocks": "1",
}
TINY = [word for key, value in OPTIONS.items() for word in ("-o", f"{key}={value}")]
SIDE = 32


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cuts(tmp_path_factory.mktemp("images"), 2, ((SIDE, SIDE),))


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of one network: raw.pth, averaged.pth, both.pth with both, broken.pth whose averaged copy is NaN."""
    family = registry.family("llamagen")
    assert family.cards[0].arch is not None
    state = fill_(build_network(family, with_options(family.cards[0].arch, OPTIONS), random=False)).state_dict()
    raw = {n: t.clone() for n, t in state.items()}
    averaged = {n: t * 0.5 if t.is_floating_point() and t.ndim > 1 else t.clone() for n, t in raw.items()}
    broken = {n: torch.full_like(t, torch.nan) if t.is_floating_point() else t.clone() for n, t in raw.items()}
    folder = tmp_path_factory.mktemp("copies")
    for name, content in {
        "raw": raw,
        "averaged": averaged,
        "both": {"params": raw, "params_ema": averaged},
        "broken": {"params": raw, "params_ema": broken},
    }.items():
        torch.save(content, folder / f"{name}.pth")
    return folder


@pytest.fixture
def two_views(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default and the pictures as they are: the others take time, and say nothing of weights."""
    few = {name: systems.PROTOCOLS[name] for name in ("vtbench", "native")}
    monkeypatch.setattr(systems, "PROTOCOLS", few)
    monkeypatch.setattr(choices, "PROTOCOLS", few)


def native(file: Path, images: Path, prefix: str | None = None) -> float:
    """Explain's PSNR at the pictures' own size."""
    answer = explain(
        "family:llamagen", {"psnr": 10}, images=str(images), checkpoint=file, prefix=prefix, options=OPTIONS
    )
    moves = {(m.dimension, m.choice): m for m in answer.claims[0].moves}
    value = moves["view", "native"].value
    assert value is not None
    return value


@pytest.mark.usefixtures("two_views")
def test_explain_is_of_the_copy_that_prefix_names(copies: Path, images: Path, tmp_path: Path) -> None:
    """Its number is that which evaluate has of a file that holds this copy alone."""
    wanted = {}
    for name in ("raw", "averaged"):
        result = vtbench.evaluate(
            "family:llamagen",
            options=OPTIONS,
            checkpoint=copies / f"{name}.pth",
            images=images,
            view="native",
            tasks=["reconstruction"],
            out=tmp_path / name,
        )
        score = result.runs[0].score("psnr")
        assert score is not None
        wanted[name] = score.value
    assert wanted["raw"] != wanted["averaged"]
    assert native(copies / "both.pth", images, "params") == pytest.approx(wanted["raw"], abs=1e-9)
    assert native(copies / "both.pth", images) == pytest.approx(wanted["averaged"], abs=1e-9)


@pytest.mark.usefixtures("two_views")
def test_the_command_says_which_copy_was_explained_and_refuses_one_that_is_not_there(
    copies: Path, images: Path
) -> None:
    words = ["explain", "family:llamagen", *TINY, "--checkpoint", copies / "both.pth", "--images", images]
    words += ["--claim", "PSNR=10", "--limit", "1"]
    code, out, said = command(*words, "--prefix", "params")
    assert code == 0, said
    assert "read from params. (raw; --prefix)" in out
    code, _, said = command(*words, "--prefix", "nothing")
    assert code == 2
    assert "no weights of this model under --prefix 'nothing'" in said


@pytest.mark.parametrize("spec", ["run", "folder", "two runs"])
def test_explain_takes_prefix_only_where_weights_are_loaded(spec: str, images: Path, tmp_path: Path) -> None:
    run = vtbench.evaluate("jpeg", images=images, view="native", tasks=["compression"], save=["images"], out=tmp_path)
    path = run.runs[0].path
    models = {"run": [path], "folder": [f"folder:{images}"], "two runs": [path, path]}[spec]
    claims = [] if spec == "two runs" else ["--claim", "psnr=30", "--images", images]
    code, _, said = command("explain", *models, *claims, "--prefix", "ema")
    assert code == 2
    assert "--prefix" in said


def test_check_is_of_the_copy_that_prefix_names(copies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The averaged copy is NaN: chosen by the rule it fails, and the raw one passes, in the fresh process too."""
    # Small pictures; what range a network wants cannot be told of one whose weights are made.
    monkeypatch.setattr(contract, "side_near_256", lambda card: SIDE)
    monkeypatch.setattr(contract.checks, "conventions", lambda *_: ("not checked", "made weights"))
    monkeypatch.setattr(contract.checks, "sizes", lambda *_: ("not checked", "slow"))
    file = copies / "broken.pth"
    by_rule = contract.check("family:llamagen", options=OPTIONS, checkpoint=file)
    assert any(c.status == "failed" for c in by_rule)
    by_prefix = {
        c.name: c for c in contract.check("family:llamagen", options=OPTIONS, checkpoint=file, prefix="params")
    }
    assert [c for c in by_prefix.values() if c.status == "failed"] == []
    assert by_prefix["fresh process"].status == "passed"


def test_check_says_that_there_is_no_such_copy(copies: Path) -> None:
    (loads,) = contract.check("family:llamagen", options=OPTIONS, checkpoint=copies / "both.pth", prefix="nothing")
    assert loads.status == "failed"
    assert "no weights of this model under --prefix 'nothing'" in loads.said


# -- caches ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VTBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_damaged_network_of_a_metric_is_a_reason_and_the_other_claims_go_on(
    pair: tuple[Path, Path], cache: Path
) -> None:
    (cache / "metrics").mkdir(parents=True)
    for name in ("alexnet-owt-7be5be79.pth", "vgg16-397923af.pth", "pt_inception-2015-12-05-6726825d.pth"):
        (cache / "metrics" / name).write_bytes(b"\0" * 1000)
    claims = {"LPIPS": 0.2, "psnr": "25.43"}
    lpips, psnr = explain(f"folder:{pair[1]}", claims, images=str(pair[0])).claims
    assert lpips.value is None
    assert "has sha256" in str(lpips.why)
    assert "none of these could be measured here" in lpips.verdict
    pictures = [[np.asarray(Image.open(p)) for p in sorted(folder.glob("*.png"))] for folder in pair]
    wanted = np.mean([peak_signal_noise_ratio(a, b, data_range=255) for a, b in zip(*pictures, strict=True)])
    assert psnr.value == pytest.approx(float(wanted), abs=1e-9)


@pytest.fixture(scope="module")
def distance(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Frechet distance of features that cost nothing."""
    folder = tmp_path_factory.mktemp("features")
    tiny_features.task(folder, tag="explained")
    return f"{folder / 'metrics_of_explained.py'}@explained-fid"


@pytest.fixture
def few_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "FID_IMAGES", 4)


@pytest.mark.parametrize("damage", ["a file in its place", "a folder in its place", "features of noise"])
@pytest.mark.usefixtures("few_are_enough")
def test_a_damaged_cache_moves_no_number(
    damage: str, pair: tuple[Path, Path], cache: Path, distance: str, tmp_path: Path
) -> None:
    """Explain keeps nothing of its own there: with a cache that cannot be one, its numbers are those without."""
    claims = {"psnr": "25.43", distance: "2.19"}
    whole = explain(f"folder:{pair[1]}", claims, images=str(pair[0]))
    assert whole.claims[1].value is not None
    shutil.rmtree(cache, ignore_errors=True)
    if damage == "a file in its place":
        cache.write_bytes(b"no folder")
    elif damage == "a folder in its place":
        (cache / "features" / "x.f32").mkdir(parents=True)
    else:
        task = tiny_features.task(tmp_path, tag="kept")
        vtbench.evaluate("jpeg", images=pair[0], view="native", tasks=[task], out=tmp_path / "out")
        kept = [path for path in (cache / "features").rglob("*") if path.is_file()]
        assert kept
        for path in kept:
            path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size))
    assert explain(f"folder:{pair[1]}", claims, images=str(pair[0])) == whole


ADAPTER = """
from vtbench import Card, Family, Latents, Tokenizer, Weights
from vtbench.models import checkpoint

CARD = Card(
    name="kept", family="kept", kind="continuous", title="Scaled", latent_channels=3, licence="MIT", code="here",
    weights=(Weights(file="scale.pth", url="https://example.org/scale.pth", sha256="{sha256}", licence="MIT"),),
)


class Kept(Tokenizer):
    def load(self, files, device, dtype):
        self.scale = checkpoint.read(files["model"])["scale"]

    def encode(self, images, seeds, budget=None):
        return Latents(images, tuple(images.shape[2:]))

    def decode(self, tokens, seeds):
        return tokens.values * self.scale


FAMILY = Family("kept", "Kept", (CARD,), Kept)
"""


@pytest.mark.parametrize("damage", ["other numbers", "cut short", "nothing"])
def test_a_damaged_file_of_a_models_weights_is_said(damage: str, images: Path, cache: Path, tmp_path: Path) -> None:
    """An earlier download that is not what the card states: refused, or named as unverified; never taken for it."""
    adapter = tmp_path / "kept.py"
    adapter.write_text(ADAPTER.format(sha256="ab" * 32))
    kept = place_in_cache(Weights(file="scale.pth", url="https://example.org/scale.pth"))
    kept.parent.mkdir(parents=True)
    torch.save({"scale": torch.tensor(0.5)}, kept)
    body = kept.read_bytes()
    kept.write_bytes({"other numbers": body, "cut short": body[: len(body) // 2], "nothing": b""}[damage])
    if damage == "other numbers":
        notes = explain(f"{adapter}@kept", {"psnr": 30}, images=str(images)).notes
        assert any(note.startswith("unverified weights") for note in notes)
        return
    with pytest.raises(VtbenchError, match=r"scale\.pth"):
        explain(f"{adapter}@kept", {"psnr": 30}, images=str(images))


# -- another reference set -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("few_are_enough")
def test_a_claim_against_another_reference_set_is_explained_by_that_set(
    pair: tuple[Path, Path], tmp_path: Path, distance: str
) -> None:
    """The training set in place of the originals; its pictures are cut by the view as the originals are."""
    training = cuts(tmp_path / "training", 16, ((128, 128),))
    both = (np.stack([np.asarray(Image.open(p)) for p in sorted(f.glob("*.png"))]) for f in (training, pair[1]))
    wanted = tiny_features.frechet_by_numpy(*map(tiny_features.features, both))
    question = {"images": str(pair[0]), "reference": training}
    (claim,) = explain(f"folder:{pair[1]}", {distance: f"{wanted:.1f}"}, **question).claims
    assert claim.moves[0].dimension == "reference set"
    assert claim.moves[0].value == pytest.approx(wanted, rel=1e-3)
    assert claim.verdict.startswith("reference set: ")
    assert claim.value != pytest.approx(wanted, rel=0.1)


def test_saved_statistics_are_a_reference_too(tmp_path: Path) -> None:
    """Of an .npz of mu and sigma; one that states too few images is a reason."""
    metric = registry.metric("rfid")
    for n in (10, 50_000):
        np.savez(tmp_path / f"{n}.npz", mu=np.zeros(2048), sigma=np.eye(2048), n=n)
    folders = Folders(contextlib.ExitStack(), tmp_path)
    few, enough = (OtherReference(open_reference(tmp_path / f"{n}.npz"), folders, 4) for n in (10, 50_000))
    side, why = enough.side(metric, View.parse("256"), 10_000)
    assert why is None
    assert (side.n, side.dim) == (50_000, 2048)
    assert few.side(metric, View.parse("256"), 10_000) == (None, "10.npz is of 10 images: 10,000 are needed")
    _, why = enough.side(registry.metric("kid"), View.parse("256"), 10_000)
    assert "holds statistics only, and kid needs its images" in str(why)


@pytest.mark.usefixtures("few_are_enough")
def test_a_reference_of_too_few_images_is_a_reason(pair: tuple[Path, Path], tmp_path: Path, distance: str) -> None:
    few = cuts(tmp_path / "few", 3, ((128, 128),))
    (claim,) = explain(f"folder:{pair[1]}", {distance: 2}, images=str(pair[0]), reference=few).claims
    (move,) = [m for m in claim.moves if m.dimension == "reference set"]
    assert move.value is None
    assert "holds 3 images: 4 are needed" in str(move.why)


def test_a_reference_without_a_distance_of_sets_is_refused(pair: tuple[Path, Path]) -> None:
    with pytest.raises(VtbenchError, match="--reference is a set for distances of sets, and psnr is none"):
        explain(f"folder:{pair[1]}", {"psnr": 20}, images=str(pair[0]), reference=pair[0])
