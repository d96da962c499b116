"""What survives when a real tower's tokens are dropped: scikit-learn's digits and the built-in photographs, into
docs/understanding.md.

    python -m benchmarks.understanding DINOV2_S --out out/understanding [--images 300] [--write]

DINOV2_S: the folder that `python -m benchmarks.dinov2_of_onnx` writes, for 112 pixels (64 tokens), and beside it
DINOV2_S-224 for 224 pixels (256 tokens). Digits are enlarged from 8 x 8 to 112 pixels, so that a token is a pixel of
theirs. `--write` writes the tables between the page's marks from the runs that lie in `--out`.
"""

from __future__ import annotations

import argparse
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vtbench.results.record import Run, find_runs, read_run
from vtbench.running.launch import evaluate
from vtbench.running.request import Request
from vtbench.statistics.intervals import mean_interval

PAGE = Path(__file__).resolve().parents[1] / "docs" / "understanding.md"
METHODS = ("fastervlm", "divprune")
SIDE = 112
FITTED = 1000
CODECS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    *((f"JPEG, quality {q}", "JPEG", {"quality": q}) for q in (30, 10, 5, 1)),
    *((f"WebP, quality {q}", "WEBP", {"quality": q}) for q in (30, 10, 0)),
)
NAMES = {"random": "random (5 draws)", "adaptive-pooling": "average pooling", "resize": "input resized"}


def write_digits(folder: Path, count: int) -> Path:
    """Pictures of the first `count` digits in folders by class."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    for number in range(count):
        path = folder / str(digits.target[number]) / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        grey = np.round(digits.images[number] * (255 / 16)).astype(np.uint8)
        Image.fromarray(grey).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path)
    return folder


def measure(tower: str, images: str | Path, keep: Sequence[int], out: Path, block: int) -> None:
    """All methods and baselines before one block, each in a run; the input resized has no block."""
    asked = {"tower": tower, "images": images, "out": out, "batch_size": 10, "baselines": False}
    draws: dict[str, Any] = {"draw": ["0", "1", "2", "3", "4"]}
    for reducers, counts, options in (
        (("full",), (), {}),
        (("resize",), keep, {}),
        ((*METHODS, "uniform", "adaptive-pooling"), keep, {"block": block}),
        (("random",), keep, {"block": block, **draws}),
    ):
        result = evaluate(Request([], reducers=reducers, keep=tuple(counts), options=options, **asked))
        if result.failures:
            raise SystemExit(f"failed: {result.failures}")


# -- tables ------------------------------------------------------------------------------------------------------------


def groups(runs: Sequence[Run]) -> dict[tuple[str, int | None], list[Run]]:
    """Runs by method and tokens kept; the draws of random tokens together."""
    out: dict[tuple[str, int | None], list[Run]] = {}
    for run in runs:
        out.setdefault((run.name, run.info.model.options.get("keep")), []).append(run)
    return out


def cell(runs: Sequence[Run], metric: str) -> str:
    """A value with its 95 % interval; of several draws their mean and range."""
    scores = [run.score(metric) for run in runs]
    values = [s.value for s in scores if s is not None and s.value is not None]
    if not values:
        return "–"
    if len(runs) > 1:
        return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"
    (score,) = scores
    assert score is not None
    interval = "" if score.low is None or score.high is None else f" [{score.low:.3f}, {score.high:.3f}]"
    return f"{score.value:.3f}{interval}"


def table(runs: Sequence[Run], metrics: Sequence[tuple[str, str]]) -> str:
    """Markdown; the most tokens first, methods by name, the full model on top."""
    lines = [
        "| kept | tokens | method | " + " | ".join(title for _, title in metrics) + " |",
        "|---|---|---|" + "---|" * len(metrics),
    ]
    every = groups(runs)
    for name, keep in sorted(every, key=lambda key: (-(key[1] or 10**6), key[0])):
        of = every[name, keep]
        tokens = of[0].score("visual-tokens")
        counted = "–" if tokens is None or tokens.value is None else f"{tokens.value:g}"
        cells = " | ".join(cell(of, metric) for metric, _ in metrics)
        lines.append(f"| {keep or 'all'} | {counted} | {NAMES.get(name, name)} | {cells} |")
    return "\n".join(lines) + "\n"


def put(mark: str, text: str) -> None:
    """Writes what stands between the page's marks."""
    page = PAGE.read_text()
    pattern = rf"(<!-- {mark} -->\n).*?(<!-- end -->)"
    PAGE.write_text(re.sub(pattern, lambda marks: marks[1] + text + marks[2], page, flags=re.DOTALL))


def pixels_table() -> str:
    """Accuracy of classifiers of pixels on digits that went through a codec, with 95 % intervals; needs no weights."""
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import SVC

    data = load_digits()
    fitted, rest = slice(0, FITTED), slice(FITTED, None)
    models = {"SVM": SVC(), "5-NN": KNeighborsClassifier(5), "logistic regression": LogisticRegression(max_iter=5000)}
    for model in models.values():
        model.fit(data.images[fitted].reshape(FITTED, -1), data.target[fitted])
    lines = ["| codec | bits a digit | " + " | ".join(models) + " |", "|---|---|" + "---|" * len(models)]
    truth = data.target[rest]
    for name, codec, options in (("none", None, {}), *CODECS):
        through = [_through(image, codec, options) for image in data.images[rest]]
        pictures = np.stack([image for image, _ in through]).reshape(len(truth), -1)
        cells = [f"{np.mean([bits for _, bits in through]):.0f}"]
        for model in models.values():
            right = model.predict(pictures) == truth
            interval = mean_interval([float(x) for x in right], bounds=(0.0, 1.0))
            assert interval is not None
            cells.append(f"{np.mean(right):.3f} [{interval.low:.3f}, {interval.high:.3f}]")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _through(image: Any, codec: str | None, options: dict[str, Any]) -> tuple[Any, float]:
    """(8 x 8 values from 0 to 16, bits, those of the header too) of a digit through a codec."""
    if codec is None:
        return image, 4.0 * image.size
    file = io.BytesIO()
    Image.fromarray(np.round(image * (255 / 16)).astype(np.uint8)).save(file, codec, **options)
    return np.asarray(Image.open(file).convert("L")) * (16 / 255), 8.0 * file.getbuffer().nbytes


KNN = (
    ("knn-transfer", "5-NN, full gallery"),
    ("knn-refit", "5-NN, reduced gallery"),
    ("centred-cosine", "centred cosine"),
)
FEATURES = (
    ("centred-cosine", "centred cosine"),
    ("dense-correlation", "dense correlation"),
    ("dense-nearest", "dense nearest"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tower", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--only", choices=("digits", "photographs", "pixels"))
    asked = parser.parse_args()
    digits = asked.out / "pictures"
    parts: list[tuple[str, Callable[[], None], Sequence[tuple[str, str]]]] = [
        (
            "digits",
            lambda: measure(
                str(asked.tower), write_digits(digits, asked.images), (36, 16), asked.out / "digits", block=4
            ),
            KNN,
        ),
        (
            "photographs",
            lambda: measure(f"{asked.tower}-224", "starter-natural", (64,), asked.out / "photographs", 4),
            FEATURES,
        ),
    ]
    if asked.only in (None, "pixels"):
        print(text := pixels_table())
        if asked.write:
            put("pixels", text)
    for name, run, metrics in parts:
        if asked.only not in (None, name):
            continue
        if not asked.write:
            run()
        text = table([read_run(path) for path in find_runs([asked.out / name])], metrics)
        print(text)
        if asked.write:
            put(name, text)


if __name__ == "__main__":
    main()
