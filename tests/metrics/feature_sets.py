"""Seeded features and pictures for the metrics of sets, and their distance by scipy's root of a matrix."""

from __future__ import annotations

import numpy as np
import scipy.linalg
import torch


def features(n: int, d: int, seed: int, shift: float = 0.0) -> np.ndarray:
    """Correlated, skewed, float32, as pooled activations are."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(0, 1, (d, d)) / np.sqrt(d)
    return (np.maximum(rng.normal(shift, 1, (n, d)) @ mixing, 0) + shift).astype(np.float32)


def fid_by_sqrtm(a: np.ndarray, b: np.ndarray) -> float:
    """The textbook formula in float64 with SciPy's matrix square root."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    s1, s2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(s1 @ s2)
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s1) + np.trace(s2) - 2 * np.trace(root).real)


def pictures(n: int, size: int, seed: int) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.integers(0, 256, (n, 3, 8, 8)).astype(np.float32))
    return torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 255).round().to(torch.uint8)
