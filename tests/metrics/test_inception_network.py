"""The network of FID: its features are torch-fidelity's, its resizes what they say, its weights named and checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from feature_sets import features, fid_by_sqrtm, pictures
from torch_fidelity import metric_fid

from vtbench.metrics import frechet, inception, kid
from vtbench.types.errors import Unavailable, VtbenchError


@pytest.fixture(scope="module")
def weights(seeded_inception: Path) -> Path:
    return seeded_inception


def test_inception_equals_torch_fidelitys_extractor(weights: Path) -> None:
    """Same float32 network in another memory format: 1e-5 of the largest feature."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    images = pictures(4, 96, 0)
    reference = FeatureExtractorInceptionV3("x", ["2048", "logits_unbiased"], str(weights))
    pool3, logits = (x.numpy() for x in reference(images))
    ours = inception.InceptionFeatures("pool3", path=weights)
    np.testing.assert_allclose(ours.extract(images), pool3, atol=1e-5 * np.abs(pool3).max())
    other = inception.InceptionFeatures("logits", path=weights)
    np.testing.assert_allclose(other.extract(images), logits, atol=1e-5 * np.abs(logits).max())
    seen = []
    reference.Mixed_6d.branch1x1.register_forward_hook(lambda m, i, o: seen.append(o))
    reference(images)
    spatial = inception.InceptionFeatures("spatial", path=weights).extract(images)
    wanted = seen[0][:, :7].permute(0, 2, 3, 1).reshape(4, -1).numpy()
    assert spatial.shape == (4, 2023)
    np.testing.assert_allclose(spatial, wanted, atol=1e-5 * np.abs(wanted).max())
    alone = np.concatenate([ours.extract(images[i : i + 1]) for i in range(4)])
    np.testing.assert_allclose(alone, pool3, atol=1e-5 * np.abs(pool3).max())


def test_the_resizes_differ_and_are_what_they_say(weights: Path) -> None:
    """Pillow and F.interpolate called here directly, at a size where nothing is resampled and at one where all is."""
    from PIL import Image

    same = pictures(1, 299, 1)
    for resize, scale in (("tf1", lambda x: (x - 128) / 128), ("clean", lambda x: (x - 128) / 128)):
        got = inception.prepare(same, resize)  # type: ignore[arg-type]
        np.testing.assert_allclose(got.numpy(), scale(same.float()).numpy(), atol=1e-6)
    images = pictures(1, 64, 2)
    plane = Image.fromarray(images[0, 1].numpy().astype(np.float32)).resize((299, 299), Image.Resampling.BICUBIC)
    wanted = (np.clip(np.asarray(plane), 0, 255) - 128) / 128
    np.testing.assert_allclose(inception.prepare(images, "clean")[0, 1].numpy(), wanted, atol=1e-6)
    unit = torch.nn.functional.interpolate(images / 255.0, (299, 299), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(inception.prepare(images, "bilinear").numpy(), (unit * 2 - 1).numpy(), atol=1e-6)


@pytest.mark.parametrize("shape", [(256, 256), (64, 100), (299, 299), (700, 512)])
def test_tf1_resize_equals_torch_fidelity_bit_for_bit(shape: tuple[int, int]) -> None:
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

    x = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, *shape)).astype(np.float32))
    wanted = interpolate_bilinear_2d_like_tensorflow1x(x, (299, 299), align_corners=False)
    assert torch.equal(inception.tf1_bilinear(x, 299), wanted)


def test_rfid_with_given_weights_is_marked_unverified_and_agrees_with_float64(weights: Path) -> None:
    images = pictures(12, 64, 3)
    noisy = (images.float() + torch.randn(images.shape, generator=torch.Generator().manual_seed(0)) * 20).clamp(0, 255)
    metric = frechet.Frechet(frechet.rfid().card, path=weights)
    metric.load()
    a, b = metric.extractor().extract(images), metric.extractor().extract(noisy.to(torch.uint8))
    score = metric.finish(a, b)
    stats = [metric_fid.fid_features_to_statistics(torch.from_numpy(x.astype(np.float64))) for x in (a, b)]
    span = np.linalg.qr(np.concatenate([a, b]).astype(np.float64).T)[0]  # exact coordinates of all 24 features
    assert score.value == pytest.approx(fid_by_sqrtm(a @ span, b @ span), rel=1e-6)
    wanted = metric_fid.fid_statistics_to_metric(stats[0], stats[1], False)["frechet_inception_distance"]
    assert score.value == pytest.approx(wanted, rel=5e-5)
    assert "unverified" in (score.warning or "")
    assert "too few" in (score.warning or "")
    assert score.details["kid"] == pytest.approx(kid.kid(a, b))
    assert "unverified" in metric.extractor().id


def test_an_unverified_file_in_the_hub_cache_is_refused_by_name_and_hash(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same file is refused where it only lies, and taken where it is named."""
    place = tmp_path / "hub" / "checkpoints" / "weights-inception-2015-12-05-6726825d.pth"
    place.parent.mkdir(parents=True)
    place.symlink_to(weights)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("VTBENCH_CACHE", str(tmp_path / "none"))
    with pytest.raises(Unavailable, match=r"weights-inception-2015-12-05-6726825d\.pth has sha256"):
        frechet.rfid().load()
    monkeypatch.setenv("VTBENCH_METRIC_WEIGHTS", f"inception-2015-12-05={weights}")
    metric = frechet.rfid()
    metric.load()
    assert "unverified" in metric.extractor().id
    score = metric.finish(features(20, 8, 0), features(20, 8, 1))
    assert "unverified weights" in (score.warning or "")


def test_a_file_that_is_no_inception_is_refused(tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.zeros(3, 3)}, tmp_path / "other.pth")
    with pytest.raises(VtbenchError, match="not a state dict of Inception"):
        inception.InceptionFeatures(path=tmp_path / "other.pth").load()
    with pytest.raises(VtbenchError, match="does not exist"):
        inception.InceptionFeatures(path=tmp_path / "none.pth").load()
