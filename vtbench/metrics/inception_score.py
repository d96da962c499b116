"""Inception Score: exp of the mean KL of p(y|x) to p(y) (Salimans et al. 2016, arXiv:1606.03498).

The 1,008 logits are those without the bias, as in ADM's evaluator and in torch-fidelity. The score is a mean over
splits, so the order of images matters where they come sorted by class: `is` shuffles with a seed (torch-fidelity:
RandomState(2020), 10 splits), `is-adm` keeps file order in splits of 5,000 (guided-diffusion, evaluations/evaluator.py,
the last split shorter).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench.metrics.inception import WEIGHTS, InceptionFeatures
from vtbench.metrics.moments import Statistics
from vtbench.types.metric import Extractor, MetricCard, SetMetric, SetValue

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


SPLITS, SEED, ADM_SPLIT, PROTOCOL = 10, 2020, 5000, 50_000


def probabilities(logits: Any) -> Floats:
    """Softmax over the last axis in float64."""
    import numpy as np

    x = np.asarray(logits, dtype=np.float64)
    x = np.exp(x - x.max(axis=1, keepdims=True))
    total: Floats = x / x.sum(axis=1, keepdims=True)
    return total


def score_of_split(p: Floats) -> float:
    """exp(mean KL(p(y|x) || p(y))) of one split, p (n, classes); 0 log 0 counts 0."""
    import numpy as np

    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * (np.log(p) - np.log(p.mean(axis=0, keepdims=True))), 0.0)
    return float(np.exp(terms.sum(axis=1).mean()))


def shuffled(logits: Any, splits: int = SPLITS, seed: int = SEED) -> list[float]:
    """Scores of `splits` nearly equal parts of the shuffled set."""
    import numpy as np

    n = len(logits)
    order = np.random.RandomState(seed).permutation(n)
    parts = [np.sort(order[i * n // splits : (i + 1) * n // splits]) for i in range(splits)]
    return [score_of_split(probabilities(logits[part])) for part in parts]


def in_order(logits: Any, split: int = ADM_SPLIT) -> list[float]:
    """Scores of consecutive parts of `split` images."""
    return [score_of_split(probabilities(logits[i : i + split])) for i in range(0, len(logits), split)]


class InceptionScore(SetMetric):
    """A property of the candidate alone; the reference is not looked at."""

    needs_reference = False

    def __init__(self, card: MetricCard, *, file_order: bool = False, path: Path | None = None) -> None:
        self.card = card
        self._extractor = InceptionFeatures("logits", "tf1", path)
        self._file_order = file_order

    def extractor(self) -> Extractor:
        return self._extractor

    def load(self, device: str = "cpu") -> None:
        self._extractor.load(device)

    def finish(self, reference: Any, candidate: Any) -> SetValue:
        import numpy as np

        if isinstance(candidate, Statistics):
            return SetValue(None, why="the Inception Score needs the candidate's logits, not moments")
        n = len(candidate)
        if not self._file_order and n < SPLITS:
            return SetValue(None, n=n, why=f"{n} images cannot be split into {SPLITS} parts")
        if n == 0:
            return SetValue(None, n=0, why="no image was scored")
        parts = in_order(candidate) if self._file_order else shuffled(candidate)
        warnings = [w for w in (self._extractor.unverified(),) if w]
        if n < PROTOCOL:
            warnings.append(f"not comparable: {n} images, the protocol wants {PROTOCOL}")
        details = {
            "extractor": self._extractor.id,
            "splits": len(parts),
            "std_over_splits": float(np.std(parts)),
            "order": "file order, splits of 5,000" if self._file_order else f"shuffled, seed {SEED}",
        }
        return SetValue(float(np.mean(parts)), n=n, warning="; ".join(warnings) or None, details=details)


def _card(name: str, title: str, source: str, of: str | None) -> MetricCard:
    return MetricCard(
        name=name,
        title=title,
        version=1,
        unit="",
        better="higher",
        source=source,
        bounds=(1.0, 1008.0),
        kind="set",
        needs=(WEIGHTS,),
        convention_of=of,
        reduction="mean over splits",
        paired=False,
    )


def inception_score() -> InceptionScore:
    """Shuffled with seed 2020, 10 splits."""
    return InceptionScore(_card("is", "Inception Score", "Salimans et al. 2016; torch-fidelity's port, shuffled", None))


def inception_score_adm() -> InceptionScore:
    """File order, splits of 5,000."""
    source = "guided-diffusion evaluations/evaluator.py: file order, splits of 5,000; torch-fidelity's port"
    return InceptionScore(_card("is-adm", "Inception Score, file order", source, "is"), file_order=True)


METRICS = (inception_score, inception_score_adm)
