"""Fits the built-in patch tokenizers, once, on scikit-learn's two sample photographs, which are never scored.

    python -m vtbench.adapters.fits.make_fits

Writes the .safetensors files beside this file and prints their sha256, which stand on the cards. The fits on PCA
latents and on VQ tokens read back what was written first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from sklearn.cluster import MiniBatchKMeans
from sklearn.datasets import load_sample_images

from vtbench.adapters.networks.parts.byte_pairs import merged, train
from vtbench.adapters.networks.parts.patches import cut, nearest

HERE = Path(__file__).resolve().parent
SIDE = 8
CODEBOOKS = (256, 1024, 4096)
DEPTH, LEVEL = 8, 256
DIMS, BOOKS, CODES = 64, (2, 4, 8), 256
LEVELS = (5, 6, 7, 8)
FSQ_DIMS, FSQ_BOUND = 6, 1.5
"""FSQ_BOUND: where tanh begins to bend, in deviations; with 1 or less the outer levels swallow what more would add."""
SIGN_BITS = 64
MERGES, BPE_CODEBOOK = 1024, 256
LEAF, LEAF_CODES, LEAF_SIDES = 4, 1023, (4, 8, 16, 32)


def photographs() -> list[torch.Tensor]:
    """The two photographs at full and half size, float32 (1, 3, H, W) in [0, 1]."""
    out = []
    for image in load_sample_images().images:
        whole = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
        out += [
            whole,
            torch.nn.functional.interpolate(whole, scale_factor=0.5, mode="bicubic", antialias=True).clamp(0, 1),
        ]
    return out


def patches(stride: int) -> np.ndarray:
    """(n, 192) float32: 8 x 8 patches at every `stride` pixels, as they are and mirrored."""
    rows = []
    for image in photographs():
        for turned in (image, image.flip(3)):
            rows.append(torch.nn.functional.unfold(turned, SIDE, stride=stride)[0].T)
    return torch.cat(rows).numpy()


def kmeans(rows: np.ndarray, k: int, seed: int) -> np.ndarray:
    """float32 (k, D): centres of the clusters of `rows` (n, D)."""
    settings = {"batch_size": 8192, "n_init": 1, "max_iter": 60, "reassignment_ratio": 0.01}
    return MiniBatchKMeans(k, random_state=seed, **settings).fit(rows).cluster_centers_.astype(np.float32)


def save(name: str, tensors: dict[str, np.ndarray]) -> None:
    path = HERE / f"{name}.safetensors"
    save_file({k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in tensors.items()}, path)
    # Some releases of safetensors write files that only their owner may read; a wheel would keep that.
    path.chmod(0o644)
    print(name, hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)


def patch_fits() -> None:
    """PCA, k-means and residual k-means of 8 x 8 patches."""
    rows = patches(4)
    mean = rows.mean(axis=0, dtype=np.float64)
    values, vectors = np.linalg.eigh(np.cov(rows.T.astype(np.float64)))
    components = vectors[:, np.argsort(values)[::-1]].T
    # An eigenvector's sign is arbitrary: the largest entry is made positive, so that a new fit gives the same file.
    components *= np.sign(components[np.arange(len(components)), np.abs(components).argmax(axis=1)])[:, None]
    save("pca", {"mean": mean.astype(np.float32), "components": components[:64].astype(np.float32)})
    save("kmeans_vq", {f"codebook_{k}": kmeans(rows, k, 0).astype(np.float16) for k in CODEBOOKS})
    books, rest = [], rows - rows.mean(axis=0)
    for level in range(DEPTH):
        book = kmeans(rest, LEVEL, level)
        books.append(book)
        for part in np.array_split(np.arange(len(rest)), 32):
            distance = (book**2).sum(axis=1) - 2 * rest[part] @ book.T
            rest[part] -= book[distance.argmin(axis=1)]
    save("residual_vq", {"mean": rows.mean(axis=0).astype(np.float32), "codebooks": np.stack(books).astype(np.float16)})


def balanced(variances: np.ndarray, books: int) -> np.ndarray:
    """(books, dims / books): dimensions dealt out so that the products of variances are about equal.

    The greedy eigenvalue allocation of optimized product quantization (Ge et al., CVPR 2013, section 3.2.2).
    """
    dealt: list[list[int]] = [[] for _ in range(books)]
    logs = np.zeros(books)
    for dim in np.argsort(variances)[::-1]:
        open_books = [b for b in range(books) if len(dealt[b]) < len(variances) // books]
        book = min(open_books, key=lambda b: (logs[b], b))
        dealt[book].append(int(dim))
        # Relative to the least variance, so that every logarithm is positive and an empty book is the smallest.
        logs[book] += np.log(variances[dim] / variances.min()) + 1e-9
    return np.array(dealt)


def product_quant(latents: np.ndarray, fit: dict[str, torch.Tensor]) -> None:
    tensors = {"mean": fit["mean"].numpy(), "components": fit["components"].numpy()[:DIMS]}
    for books in BOOKS:
        dims = balanced(latents.var(axis=0), books)
        tensors[f"dims_{books}"] = dims.astype(np.int64)
        tensors[f"codebooks_{books}"] = np.stack(
            [kmeans(np.ascontiguousarray(latents[:, d]), CODES, b) for b, d in enumerate(dims)]
        ).astype(np.float16)
    save("product_quant", tensors)


def pca_codes(latents: np.ndarray, fit: dict[str, torch.Tensor]) -> None:
    """For FSQ the bound of every component and the mean of every bin; for signs, which component each bit refines.

    A bit goes to the component with the most squared error left, and is worth the mean magnitude of what is left there.
    """
    bound = FSQ_BOUND * latents.std(axis=0, dtype=np.float64)
    tensors = {
        "mean": fit["mean"].numpy(),
        "components": fit["components"].numpy()[:DIMS],
        "bound": bound.astype(np.float32),
    }
    rest, chosen, worth = latents.astype(np.float64), [], []
    energy = (rest**2).mean(axis=0)
    for _ in range(SIGN_BITS):
        dim = int(energy.argmax())
        step = np.abs(rest[:, dim]).mean()
        rest[:, dim] -= np.where(rest[:, dim] > 0, step, -step)
        energy[dim] = (rest[:, dim] ** 2).mean()
        chosen.append(dim)
        worth.append(step)
    tensors |= {"sign_dims": np.array(chosen, np.int64), "sign_worth": np.array(worth, np.float32)}
    for levels in LEVELS:
        values = np.zeros((FSQ_DIMS, levels), np.float32)
        for dim in range(FSQ_DIMS):
            z = latents[:, dim].astype(np.float64)
            index = np.floor((np.tanh(z / bound[dim]) + 1) / 2 * levels).clip(0, levels - 1).astype(int)
            total, count = np.bincount(index, z, levels), np.bincount(index, minlength=levels)
            # A level that no sample reaches (darker than black) has no mean: its value is the edge that can be reached.
            edges = bound[dim] * np.arctanh(np.linspace(-1, 1, levels + 1)[1:-1])
            inner = np.where(np.arange(levels) < levels // 2, np.r_[edges, edges[-1]], np.r_[edges[0], edges])
            values[dim] = np.where(count > 0, total / np.maximum(count, 1), inner)
        tensors[f"values_{levels}"] = values
    save("pca_codes", tensors)


def grids() -> Iterator[np.ndarray]:
    """VQ tokens of the photographs, int64 (h, w), on 16 positions of the grid, mirrored too."""
    book = load_file(HERE / "kmeans_vq.safetensors")[f"codebook_{BPE_CODEBOOK}"].float()
    for image in photographs():
        for turned in (image, image.flip(3)):
            for top in range(0, SIDE, 2):
                for left in range(0, SIDE, 2):
                    part = turned[:, :, top:, left:]
                    height, width = (int(n) // SIDE * SIDE for n in part.shape[2:])
                    rows = cut(part[:, :, :height, :width], SIDE)[0]
                    yield nearest(rows, book).numpy().reshape(height // SIDE, width // SIDE)


def bpe_vq() -> None:
    """Pairs by frequency over rasters of VQ tokens; none across images."""
    parts = [np.append(grid.flatten(), -1) for grid in grids()]
    tokens = np.concatenate(parts)
    merges = np.zeros((MERGES, 2), np.int64)
    for rank in range(MERGES):
        size = BPE_CODEBOOK + rank
        a, b = tokens[:-1], tokens[1:]
        keys, counts = np.unique((a * size + b)[(a >= 0) & (b >= 0)], return_counts=True)
        key = int(keys[counts.argmax()])
        merges[rank] = key // size, key % size
        tokens = merged(tokens, int(merges[rank, 0]), int(merges[rank, 1]), size)
    save("bpe_vq", {"merges": merges})


def being_vl_bpe() -> None:
    """The pairs of both rules of Being-VL over the same tokens."""
    images = list(grids())
    save(
        "being_vl_bpe",
        {
            "merges_1d": train([grid.flatten() for grid in images], BPE_CODEBOOK, MERGES)[0],
            "merges_2d": train(images, BPE_CODEBOOK, MERGES)[0],
        },
    )


def quadtree() -> None:
    """One codebook for leaves of all sides, each averaged to 4 x 4."""
    rows = []
    for image in photographs():
        for turned in (image, image.flip(3)):
            for side in LEAF_SIDES:
                small = torch.nn.functional.avg_pool2d(turned, side // LEAF) if side > LEAF else turned
                stride = {4: 4, 8: 2, 16: 1, 32: 1}[side]
                rows.append(torch.nn.functional.unfold(small, LEAF, stride=stride)[0].T)
    save("quadtree", {"codebook": kmeans(torch.cat(rows).numpy(), LEAF_CODES, 0).astype(np.float16)})


def main() -> None:
    patch_fits()
    fit = load_file(HERE / "pca.safetensors")
    latents = (patches(4) - fit["mean"].numpy()) @ fit["components"].numpy()[:DIMS].T
    product_quant(latents, fit)
    pca_codes(latents, fit)
    quadtree()
    bpe_vq()
    being_vl_bpe()


if __name__ == "__main__":
    main()
