"""Measures of sets against torch-fidelity, SciPy, and formulas written out again here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from feature_sets import features, fid_by_sqrtm, pictures
from torch_fidelity import metric_fid, metric_isc, metric_kid, metric_prc

from vtbench.metrics import dinov2, frechet, inception_score, kid, moments, prdc
from vtbench.types.errors import VtbenchError


def test_frechet_equals_scipys_root() -> None:
    a, b = features(600, 48, 1), features(500, 48, 2, 0.1)
    wanted = fid_by_sqrtm(a, b)
    assert frechet.frechet(a, b) == pytest.approx(wanted, rel=1e-6)
    assert frechet.distance(moments.of(a), moments.of(b)) == pytest.approx(wanted, rel=1e-6)


def test_low_rank_form_equals_torch_fidelity_where_images_are_fewer_than_features() -> None:
    """torch-fidelity takes roots of eigenvalues that are rounding errors: 5e-5 is its own noise at this rank."""
    a, b = features(80, 256, 3), features(90, 256, 4, 0.1)
    stats = [metric_fid.fid_features_to_statistics(torch.from_numpy(x.astype(np.float64))) for x in (a, b)]
    wanted = metric_fid.fid_statistics_to_metric(stats[0], stats[1], False)["frechet_inception_distance"]
    assert frechet.frechet(a, b) == pytest.approx(wanted, rel=5e-5)


def test_low_rank_form_equals_the_limit_of_the_full_form() -> None:
    """Independent truth at low rank: coordinates within the joint span of both sets, where SciPy's root is exact."""
    rng = np.random.default_rng(0)
    small_a, small_b = rng.normal(0, 1, (40, 12)), rng.normal(0.2, 1.3, (50, 12))
    basis = np.linalg.qr(rng.normal(0, 1, (300, 12)))[0]
    wanted = fid_by_sqrtm(small_a, small_b)
    assert frechet.distance_low_rank(small_a @ basis.T, small_b @ basis.T) == pytest.approx(wanted, rel=1e-9)


def test_a_set_against_itself_is_at_distance_zero() -> None:
    a = features(300, 512, 5)
    scale = float(np.trace(np.cov(a, rowvar=False)))
    assert frechet.frechet(a, a) <= 1e-12 * scale
    same = moments.of(features(900, 64, 5))
    assert frechet.distance(same, same) <= 1e-9 * float(np.trace(same.covariance))


def test_three_shards_merge_to_one_pass() -> None:
    a = features(1000, 64, 6) + np.float32(50)  # far from zero, where naive sums of squares lose digits
    whole = moments.of(a)
    parts = [moments.Moments(64).add(p) for p in (a[:100], a[100:101], a[101:])]
    merged = parts[0].merge(parts[1]).merge(parts[2])
    assert merged.n == 1000
    np.testing.assert_allclose(merged.statistics().covariance, whole.covariance, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(whole.covariance, np.cov(a.astype(np.float64), rowvar=False), rtol=1e-10, atol=1e-12)
    left = moments.Moments(64).add(a).without(moments.Moments(64).add(a[:300])).statistics()
    np.testing.assert_allclose(left.covariance, np.cov(a[300:].astype(np.float64), rowvar=False), rtol=1e-8, atol=1e-10)
    b = moments.of(features(800, 64, 7) + np.float32(50))
    one, two = frechet.distance(b, whole), frechet.distance(b, merged.statistics())
    assert one == pytest.approx(two, rel=1e-10)


def test_known_answer_of_gaussians_that_differ_by_shift_and_scale() -> None:
    """Diagonal covariances: d = |m|^2 + sum (s1 - s2)^2."""
    s1, s2, step = np.array([1.0, 4.0, 9.0]), np.array([4.0, 4.0, 1.0]), np.array([3.0, 0.0, 4.0])
    a = moments.Statistics(np.zeros(3), np.diag(s1))
    b = moments.Statistics(step, np.diag(s2))
    assert frechet.distance(a, b) == pytest.approx(25 + (1 - 2) ** 2 + 0 + (3 - 1) ** 2, rel=1e-12)


def test_statistics_are_read_from_adm_batches_and_from_torch_fidelity(tmp_path: Path) -> None:
    a = features(50, 16, 8).astype(np.float64)
    mu, sigma = a.mean(0), np.cov(a, rowvar=False)
    np.savez(tmp_path / "adm.npz", mu=mu, sigma=sigma, mu_s=mu[:4], sigma_s=sigma[:4, :4], arr_0=np.zeros((1, 2, 2, 3)))
    pool = moments.load(tmp_path / "adm.npz")
    spatial = moments.load(tmp_path / "adm.npz", "spatial")
    assert np.array_equal(pool.mean, mu)
    assert np.array_equal(pool.covariance, sigma)
    assert np.array_equal(spatial.covariance, sigma[:4, :4])
    torch.save(metric_fid.fid_features_to_statistics(torch.from_numpy(a)), tmp_path / "cache.pt")
    assert np.array_equal(moments.load(tmp_path / "cache.pt").covariance, sigma)
    moments.of(a).save(tmp_path / "ours.npz")
    assert moments.load(tmp_path / "ours.npz").n == 50


def test_damaged_and_wrong_statistics_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", arr_0=np.zeros(3))
    with pytest.raises(VtbenchError, match="no mu"):
        moments.load(tmp_path / "other.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "other.npz").read_bytes()[:40])
    with pytest.raises(VtbenchError, match=r"truncated|damaged"):
        moments.load(tmp_path / "cut.npz")

    class Evil:
        def __reduce__(self) -> object:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"mu": Evil(), "sigma": 0}, tmp_path / "evil.pt")
    with pytest.raises(VtbenchError, match="not a statistics cache"):
        moments.load(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()
    np.savez(tmp_path / "nan.npz", mu=np.full(2, np.nan), sigma=np.eye(2))
    with pytest.raises(VtbenchError, match="NaN"):
        moments.load(tmp_path / "nan.npz")


def test_jackknife_interval_holds_the_spread_of_new_samples() -> None:
    """The interval is for this n: its width must match the spread over independently drawn sets within a factor 2."""
    rng = np.random.default_rng(0)
    reference = moments.of(rng.normal(0, 1, (4000, 8)))
    drawn = [rng.normal(0.2, 1, (400, 8)) for _ in range(40)]
    values = [frechet.distance(reference, moments.of(x)) for x in drawn]
    widths = []
    for x in drawn[:10]:
        interval = frechet.interval(reference, x, paired=False)
        assert interval is not None
        assert interval.low is not None
        assert interval.high is not None
        widths.append(interval.high - interval.low)
    assert 0.5 < np.mean(widths) / (2 * 2.26 * np.std(values)) < 2  # t with 9 degrees: 2.26
    pair = frechet.interval(drawn[0], drawn[0] + 0.01, paired=True)
    assert pair is not None
    assert pair.value == pytest.approx(8e-4, rel=1e-6)
    assert pair.high == pytest.approx(8e-4, rel=1e-3)
    assert frechet.interval(reference, drawn[0][:50], paired=False) is None


@pytest.mark.parametrize(("n", "few"), [(9_999, True), (10_000, False), (None, False)])
def test_few_images_are_said_to_be_few(n: int | None, few: bool) -> None:
    reference = moments.Statistics(np.zeros(3), np.eye(3), 50_000)
    value = frechet.fid().finish(reference, moments.Statistics(np.full(3, 0.5), np.eye(3), n))
    assert value.value == pytest.approx(0.75)
    assert ("too few" in (value.warning or "")) == few
    assert value.low is None


def test_a_score_has_the_ends_of_its_jackknife_and_none_below_zero() -> None:
    """120 images of a near set: the jackknife's lower end is negative, and no distance is."""
    a, b = features(120, 6, 30), features(120, 6, 30) + np.float32(0.001)
    spread = frechet.interval(a, b, paired=True)
    value = frechet.rfid().finish(a, b)
    assert spread is not None
    assert spread.low is not None
    assert (value.low, value.high) == (pytest.approx(max(0.0, spread.low)), pytest.approx(spread.high))
    far = frechet.rfid().finish(a, features(120, 6, 31, 3.0))
    assert far.low is not None
    assert far.low > 0


def test_paired_jackknife_by_moments_equals_the_low_rank_one(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = features(300, 24, 9), features(300, 24, 10, 0.05)
    one = frechet.interval(a, b, paired=True)
    monkeypatch.setattr(frechet, "LOW_RANK", 10)
    two = frechet.interval(a, b, paired=True)
    assert one is not None
    assert two is not None
    assert (one.low, one.high) == pytest.approx((two.low, two.high), rel=1e-6)


def test_sets_of_different_sizes_have_no_pairs() -> None:
    """rfid over `score --set`: 120 images against 150 others; only the candidate's are then left out."""
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(120, 8)), rng.normal(0.1, 1, (150, 8))
    assert frechet.interval(real, fake, paired=True) == frechet.interval(real, fake, paired=False)
    assert frechet.interval(fake, real, paired=True) == frechet.interval(fake, real, paired=False)


def test_extrapolation_removes_the_bias_of_few_images() -> None:
    """Equal distributions have distance 0: at n = 800 the estimate is far above, the extrapolation is near."""
    rng = np.random.default_rng(1)
    reference = moments.of(rng.normal(0, 1, (20_000, 32)))
    x = rng.normal(0, 1, (800, 32))
    plain = frechet.frechet(reference, x)
    infinite = frechet.extrapolate(reference, x)
    assert infinite is not None
    assert abs(infinite[0]) < 0.25 * plain


def test_kid_is_the_unbiased_sum_written_out() -> None:
    a, b = features(60, 32, 11).astype(np.float64), features(70, 32, 12, 0.1).astype(np.float64)

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / 32 + 1) ** 3)

    xx = sum(kernel(a[i], a[j]) for i in range(60) for j in range(60) if i != j) / (60 * 59)
    yy = sum(kernel(b[i], b[j]) for i in range(70) for j in range(70) if i != j) / (70 * 69)
    xy = sum(kernel(x, y) for x in a for y in b) / (60 * 70)
    assert kid.kid(a, b) == pytest.approx(xx + yy - 2 * xy, rel=1e-9)


def test_kid_in_blocks_equals_kid_in_one_and_its_jackknife_leaves_groups_out(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = features(150, 16, 13), features(130, 16, 14, 0.1)
    whole, interval = kid.kid_interval(a, b)
    monkeypatch.setattr(kid, "_BLOCK", 37)
    assert kid.kid(a, b) == pytest.approx(whole, rel=1e-9)
    left = [kid.kid(np.delete(a, slice(g, None, 10), 0), np.delete(b, slice(g, None, 10), 0)) for g in range(10)]
    error = np.sqrt(9 / 10 * ((np.array(left) - np.mean(left)) ** 2).sum())
    assert interval.high - interval.low == pytest.approx(2 * 2.2621571628 * error, rel=1e-6)


def test_kid_by_subsets_equals_torch_fidelity() -> None:
    """Same draws; float32 kernels there, float64 here: 1e-4 of the value."""
    a, b = features(300, 64, 15), features(280, 64, 16, 0.1)
    wanted = metric_kid.kid_features_to_metric(
        torch.from_numpy(b), torch.from_numpy(a), kid_subsets=10, kid_subset_size=100, verbose=False
    )
    mean, deviation = kid.kid_subsets(a, b, 10, 100)
    assert mean == pytest.approx(wanted["kernel_inception_distance_mean"], rel=1e-4)
    assert deviation == pytest.approx(wanted["kernel_inception_distance_std"], rel=1e-3)
    few = kid.kid_torch_fidelity().finish(a, b)
    assert few.value is None
    assert "1000" in (few.why or "")


def test_inception_score_equals_torch_fidelity_and_its_limits() -> None:
    logits = torch.from_numpy(np.random.default_rng(0).normal(0, 2, (230, 20)).astype(np.float32))
    wanted = metric_isc.isc_features_to_metric(logits, 10, True, 2020)
    parts = inception_score.shuffled(logits.numpy())
    assert np.mean(parts) == pytest.approx(wanted["inception_score_mean"], rel=1e-9)
    assert np.std(parts) == pytest.approx(wanted["inception_score_std"], rel=1e-6)
    certain = np.eye(8).repeat(10, axis=0) * 1000
    assert inception_score.score_of_split(inception_score.probabilities(certain)) == pytest.approx(8.0)
    assert inception_score.score_of_split(inception_score.probabilities(np.zeros((50, 8)))) == pytest.approx(1.0)


def test_fewer_images_than_the_protocols_are_not_comparable() -> None:
    logits = np.random.default_rng(4).normal(size=(50_000, 3)).astype(np.float32)
    whole, fewer = (inception_score.inception_score().finish(None, x) for x in (logits, logits[:-1]))
    assert "not comparable" not in (whole.warning or "")
    assert "not comparable: 49999 images" in (fewer.warning or "")


def test_inception_score_in_file_order_sees_the_order() -> None:
    certain = np.eye(10).repeat(20, axis=0) * 1000
    assert np.mean(inception_score.in_order(certain, 20)) == pytest.approx(1.0)
    mixed = certain[np.random.default_rng(0).permutation(200)]
    assert np.mean(inception_score.in_order(mixed, 100)) > 8
    assert len(inception_score.in_order(certain, 150)) == 2


def test_precision_and_recall_equal_torch_fidelity() -> None:
    """float64 products here, cdist in float32 there: at most one point of 300 may fall on the other side of a ball."""
    real, fake = features(300, 16, 20), features(280, 16, 21, 0.15)
    wanted = metric_prc.prc_features_to_metric(
        torch.from_numpy(fake).double(), torch.from_numpy(real).double(), prc_neighborhood=3, verbose=False
    )
    measures = prdc.manifold(real, fake, 3, strict=False)
    assert measures.precision == pytest.approx(wanted["precision"], abs=1e-4)
    assert measures.recall == pytest.approx(wanted["recall"], abs=1e-4)
    assert 0.2 < measures.precision < 1


def prdc_written_out(real: np.ndarray, fake: np.ndarray, k: int) -> tuple[float, float, float, float]:
    """Naeem et al. 2020, equations 3 to 6, with SciPy's distances and full sorting."""
    from scipy.spatial.distance import cdist

    rr, ff, rf = cdist(real, real), cdist(fake, fake), cdist(real, fake)
    real_radius, fake_radius = np.sort(rr, axis=1)[:, k], np.sort(ff, axis=1)[:, k]
    precision = (rf < real_radius[:, None]).any(axis=0).mean()
    recall = (rf < fake_radius[None]).any(axis=1).mean()
    density = (rf < real_radius[:, None]).sum(axis=0).mean() / k
    coverage = (rf.min(axis=1) < real_radius).mean()
    return precision, recall, density, coverage


@pytest.mark.parametrize("block", [2048, 61])
def test_prdc_equals_the_formulas_written_out(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prdc, "_BLOCK", block)
    real, fake = features(200, 16, 22).astype(np.float64) + 30, features(170, 16, 23, 0.15).astype(np.float64) + 30
    measures = prdc.manifold(real, fake, 5, strict=True)
    got = (measures.precision, measures.recall, measures.density, measures.coverage)
    assert got == pytest.approx(prdc_written_out(real, fake, 5), abs=1e-4)


def test_neighbour_metrics_share_one_computation_and_refuse_moments() -> None:
    real, fake = features(60, 8, 24), features(50, 8, 25)
    by_name = {m().card.name: m().finish(real, fake) for m in prdc.METRICS}
    assert set(by_name) == {"precision-k3", "recall-k3", "precision-k5", "recall-k5", "density-k5", "coverage-k5"}
    assert len(prdc._last) == 2
    assert by_name["density-k5"].value == pytest.approx(prdc_written_out(real, fake, 5)[2])
    assert prdc.METRICS[0]().finish(moments.of(real), fake).value is None
    assert prdc.METRICS[0]().finish(real[:3], fake).value is None


def test_prdc_reads_memory_maps(tmp_path: Path) -> None:
    real, fake = features(120, 8, 26), features(90, 8, 27)
    for name, x in (("real", real), ("fake", fake)):
        np.memmap(tmp_path / name, np.float32, "w+", shape=x.shape)[:] = x
    maps = [np.memmap(tmp_path / n, np.float32, "r", shape=x.shape) for n, x in (("real", real), ("fake", fake))]
    assert prdc.manifold(maps[0], maps[1], 3, strict=False) == prdc.manifold(real, fake, 3, strict=False)
    assert kid.kid(maps[0], maps[1]) == kid.kid(real, fake)
    assert frechet.frechet(maps[0], maps[1]) == frechet.frechet(real, fake)


def test_dinov2_through_timm_loads_given_weights_and_says_unverified(tmp_path: Path) -> None:
    """A one-layer-wide sibling of the same class stands in for ViT-L: the path from file to features is what runs."""
    import timm

    name = "vit_small_patch14_dinov2.lvd142m"
    net = timm.create_model(name, pretrained=False, num_classes=0, img_size=224)
    torch.save(net.state_dict(), tmp_path / "dino.pth")
    extractor = dinov2.DinoFeatures(tmp_path / "dino.pth", name)
    extractor.load()
    images = pictures(2, 48, 5)
    with torch.inference_mode():
        wanted = net.eval()(dinov2.prepare(images)).numpy()
    np.testing.assert_allclose(extractor.extract(images), wanted, atol=1e-5)
    assert "unverified" in (extractor.unverified() or "")


@pytest.mark.parametrize("module", [frechet, kid, inception_score, prdc, dinov2])
def test_cards_are_complete(module: object) -> None:
    for factory in module.METRICS:  # type: ignore[attr-defined]
        card = factory().card
        assert card.kind == "set"
        assert card.source
        assert card.needs
