"""score --set: sets of images and references of every kind, what each refuses, and metrics of one image and a prompt.

The Inception is random: numbers mean nothing here but equality.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vtbench import registry
from vtbench.metrics import frechet, moments
from vtbench.metrics.inception import InceptionFeatures
from vtbench.running import sets
from vtbench.types.errors import VtbenchError
from vtbench.types.metric import Batch, ImageMetric, MetricCard, Value


@pytest.fixture(scope="module", autouse=True)
def random_inception(seeded_inception: Path) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VTBENCH_METRIC_WEIGHTS", f"inception-2015-12-05={seeded_inception}")
        yield


def images(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (n, 32, 32, 3), dtype=np.uint8)


def folder(path: Path, pixels: np.ndarray) -> Path:
    path.mkdir(parents=True)
    for k, rgb in enumerate(pixels):
        Image.fromarray(rgb).save(path / f"{k:03d}.png")
    return path


def scored(reference: Path, candidate: Path, *names: str) -> dict[str, Any]:
    found = sets.score(reference, [candidate], names)
    return {s.metric: s for s in found.candidates[0].scores}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which moments are compared is what is tested here; the root of a 2048 x 2048 covariance takes ten seconds."""

    def distance(a: Any, b: Any) -> float:
        a, b = (s if isinstance(s, moments.Statistics) else moments.of(s) for s in (a, b))
        return float(((a.mean - b.mean) ** 2).sum() + ((a.covariance - b.covariance) ** 2).sum())

    monkeypatch.setattr(frechet, "frechet", distance)


def test_a_folder_a_tar_and_an_npz_are_one_set(tmp_path: Path) -> None:
    import tarfile

    pixels, other = images(5), folder(tmp_path / "other", images(5, 1))
    made = folder(tmp_path / "made", pixels)
    np.savez(tmp_path / "made.npz", pixels)
    with tarfile.open(tmp_path / "made.tar", "w") as shard:
        for file in sorted(made.iterdir()):
            shard.add(file, file.name)
    found = [scored(other, tmp_path / n, "fid")["fid"].value for n in ("made", "made.npz", "made.tar")]
    assert found[0] == found[1] == found[2] > 0


@pytest.mark.usefixtures("quick")
def test_adms_statistics_are_read_back_exactly(tmp_path: Path) -> None:
    """FID and sFID against mu, sigma, mu_s, sigma_s of a file equal those against the images they were made of."""
    real, made = images(5, 1), folder(tmp_path / "made", images(5))
    batch = torch.from_numpy(real).permute(0, 3, 1, 2).contiguous()
    pool, spatial = (InceptionFeatures(o).extract(batch).astype(np.float64) for o in ("pool3", "spatial"))
    np.savez(
        tmp_path / "adm.npz",
        arr_0=real,
        mu=pool.mean(0),
        sigma=np.cov(pool.T),
        mu_s=spatial.mean(0),
        sigma_s=np.cov(spatial.T),
    )
    read = moments.load(tmp_path / "adm.npz", "spatial")
    assert np.array_equal(read.mean, spatial.mean(0))
    assert np.array_equal(read.covariance, np.cov(spatial.T))
    names = ("fid", "sfid", "precision", "kid")
    by_file = scored(tmp_path / "adm.npz", made, *names)
    by_image = scored(folder(tmp_path / "real", real), made, *names)
    for name in ("fid", "sfid"):
        assert by_file[name].value == pytest.approx(by_image[name].value, rel=1e-9)
        assert "does not say whose features" in (by_file[name].warning or "")
    for name in ("precision-k3", "kid"):
        assert by_file[name].value == by_image[name].value


@pytest.mark.parametrize("metric", ["fid", "sfid"])
@pytest.mark.usefixtures("quick")
def test_our_own_statistics_name_their_network(tmp_path: Path, metric: str) -> None:
    real, made = folder(tmp_path / "real", images(5, 1)), folder(tmp_path / "made", images(5))
    sets.statistics(real, tmp_path / "kept.npz", metric=metric)
    found = scored(tmp_path / "kept.npz", made, "fid", "sfid", "kid")
    assert found[metric].value == pytest.approx(scored(real, made, metric)[metric].value, rel=1e-9)
    assert "does not say" not in (found[metric].warning or "")
    other = "sfid" if metric == "fid" else "fid"
    assert found[other].value is None
    assert f"kept.npz holds statistics of {2048 if metric == 'fid' else 2023} features" in found[other].why
    assert "holds statistics only" in found["kid"].why


@pytest.mark.usefixtures("quick")
def test_statistics_of_another_resize_are_no_reference(tmp_path: Path) -> None:
    real, made = folder(tmp_path / "real", images(5, 1)), folder(tmp_path / "made", images(5))
    sets.statistics(real, tmp_path / "kept.npz", metric="rfid-clean")
    found = scored(tmp_path / "kept.npz", made, "fid")["fid"]
    assert found.value is None
    assert "/clean/pool3" in found.why
    assert "/tf1/pool3" in found.why


def test_a_short_set_and_uneven_classes_are_not_comparable(tmp_path: Path) -> None:
    real = folder(tmp_path / "real", images(4, 1))
    for name, labels in (("even", [0, 1] * 2), ("uneven", [0] * 3 + [1])):
        np.savez(tmp_path / f"{name}.npz", images(4), np.array(labels))
        told = scored(real, tmp_path / f"{name}.npz", "fid")["fid"].warning
        assert "not comparable: 4 images, the protocol wants 50000" in told
        assert ("not balanced (1 to 3 images a class)" in told) == (name == "uneven")


class Pickled:
    def __reduce__(self) -> tuple[Any, ...]:
        raise AssertionError("a pickle ran")


def _spoil(path: Path, what: str) -> Path:
    good = images(6)
    if what == "objects":
        with zipfile.ZipFile(path, "w") as z:
            held = io.BytesIO()
            np.lib.format.write_array_header_1_0(held, {"descr": "|O", "fortran_order": False, "shape": (6, 4, 4, 3)})
            z.writestr("arr_0.npy", held.getvalue() + b"cbuiltins\nprint\n(S'ran'\ntR.")
        return path
    arrays: dict[str, dict[str, Any]] = {
        "float": {"arr_0": good / 255.0},
        "grey": {"arr_0": good[..., 0]},
        "grey1": {"arr_0": good[..., :1]},
        "rgba": {"arr_0": np.concatenate([good, good[..., :1]], -1)},
        "nchw": {"arr_0": good.transpose(0, 3, 1, 2)},
        "other": {"images": good},
        "fortran": {"arr_0": np.asfortranarray(good)},
        "labels": {"arr_0": good, "arr_1": np.arange(5)},
    }
    np.savez(path, **arrays.get(what, {"arr_0": good}))
    if what == "half":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    if what == "empty":
        path.write_bytes(b"")
    return path


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("float", "arr_0 is float64: wanted uint8"),
        ("grey", r"arr_0 is grey \(6, 32, 32\)"),
        ("grey1", "arr_0 is grey"),
        ("rgba", "arr_0 is RGBA"),
        ("nchw", "arr_0 is of another shape"),
        ("other", "has no arr_0"),
        ("fortran", "Fortran order"),
        ("labels", "has 5 labels .* for 6 images"),
        ("objects", "holds Python objects, which are never unpickled"),
        ("half", "truncated or damaged"),
        ("empty", "truncated or damaged"),
    ],
)
@pytest.mark.parametrize("side", ["reference", "candidate"])
def test_what_an_npz_may_not_be(tmp_path: Path, what: str, sentence: str, side: str) -> None:
    bad, good = _spoil(tmp_path / "bad.npz", what), folder(tmp_path / "good", images(3))
    pair = (bad, good) if side == "reference" else (good, bad)
    if side == "reference" and what == "other":
        sentence = "holds neither statistics"
    with pytest.raises(VtbenchError, match=sentence) as refused:
        sets.score(pair[0], [pair[1]], ["fid"])
    assert refused.value.code == 2


def test_grey_and_black_and_torn_files(tmp_path: Path) -> None:
    made = folder(tmp_path / "made", images(6))
    Image.fromarray(images(1)[0]).convert("L").save(made / "grey.png")
    Image.new("RGB", (32, 32)).save(made / "black.png")
    (made / "torn.png").write_bytes((made / "000.png").read_bytes()[:99])
    found = sets.score(folder(tmp_path / "real", images(6, 1)), [made], ["fid"])
    fid = found.candidates[0].scores[0]
    assert (fid.n, fid.missing) == (8, 1)
    assert "torn.png" in found.bad["torn.png"]
    assert "1 images are all black (a safety checker?): black.png" in (fid.warning or "")


class Named(ImageMetric):
    """The length of the prompt, for a metric of one image and its text."""

    card = MetricCard("length", "Length", 1, "", "higher", "test", paired=False)

    def measure(self, batch: Batch) -> Sequence[Value]:
        prompts = [(item.meta or {}).get("prompt") for item in batch.reference.items]
        return [Value(float(len(p))) if p else Value(None, why="this image was drawn from no text") for p in prompts]


def test_prompts_come_from_what_was_generated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.metrics()._entries, "length", Named)  # type: ignore[attr-defined]
    made, real = tmp_path / "made", folder(tmp_path / "real", images(4, 1))
    folder(made / "images", images(4))
    lines = [{"file": f"images/{k:03d}.png", "text": "a" * k, "label": None} for k in (1, 2, 3, 9)]
    (made / "samples.jsonl").write_text("".join(json.dumps(r) + "\n" for r in lines))
    for given in (made, made / "images"):
        found = scored(real, given, "length", "fid")
        assert (found["length"].value, found["length"].n, found["length"].missing) == (2.0, 3, 1)
        assert "1 images stand in no line of samples.jsonl" in found["fid"].warning
        assert "1 images of samples.jsonl are missing: 009.png" in found["fid"].warning
    np.savez(tmp_path / "made.npz", images(4))
    alone = scored(real, tmp_path / "made.npz", "length")["length"]
    assert alone.value is None
    assert "keeps no prompts" in alone.why
    with pytest.raises(VtbenchError, match="psnr compares pairs of images"):
        sets.score(real, [made], ["psnr"])
