"""Text metrics: string arithmetic by hand, readings on the shipped pages, the fitted curve against known curves."""

from __future__ import annotations

import json
import math
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vtbench import registry
from vtbench.metrics import _strings, legibility, ocr, text
from vtbench.types.item import Item
from vtbench.types.metric import Batch, Reference, Value

SUITES = Path(__file__).resolve().parents[2] / "tasks" / "suites"


class Fixed(ocr.Engine):
    """A reader for tests that answers from a list, whatever the picture."""

    name = "fixed"
    scripts = frozenset({"latin", "han"})

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked = 0
        # Its readings are nobody else's.
        self.id = f"fixed-{uuid.uuid4()}"

    def load(self, device: str) -> None:
        return

    def lines(self, image: Any, boxes: Any) -> list[str]:
        self.asked += 1
        return self.answers.pop(0)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VTBENCH_CACHE", str(tmp_path / "cache"))


def page(*truths: str, script: str = "latin", height: int = 10) -> Item:
    lines = [{"text": t, "box": [0, 20 * k, 90, 20 * k + height], "x_height": 5 + k} for k, t in enumerate(truths)]
    return Item("page", None, None, "same", {"script": script, "lines": lines})


def batch_of(*items: Item, sha256: str = "same") -> Batch:
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (2 * len(items), 3, 200, 100), dtype=np.uint8))
    n = len(items)
    return Batch(Reference(images[:n], items, [sha256] * n), images[n:])


def values_of(name: str, batch: Batch, *answers: list[str]) -> list[Value]:
    metric = registry.metric(name)
    metric._reader = Fixed(*answers)
    return list(metric.measure(batch))


@pytest.mark.parametrize(
    ("truth", "reading", "chars", "words", "kept", "ned"),
    [
        # edits of characters, edits of words, true words kept, 1-NED: counted by hand
        ("kitten", "sitting", 3, 1, 0, 1 - 3 / 7),
        ("the cat sat", "the cat sat", 0, 0, 3, 1.0),
        ("the cat sat", "the bat sat", 1, 1, 2, 1 - 1 / 11),
        ("the cat sat", "", 11, 3, 0, 0.0),
        ("a b", "b a", 2, 2, 1, 1 - 2 / 3),
        ("one two", "one x two", 2, 1, 2, 1 - 2 / 9),
        ("I am", "I am I am I am", 10, 4, 2, 1 - 10 / 14),
    ],
)
def test_string_arithmetic(truth: str, reading: str, chars: int, words: int, kept: int, ned: float) -> None:
    assert _strings.edits(truth, reading) == chars
    assert _strings.edits(truth.split(), reading.split()) == words
    assert _strings.words_kept(truth, reading) == kept
    assert _strings.ned(truth, reading) == pytest.approx(ned, abs=1e-12)


def test_levenshtein_against_the_recurrence() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        a, b = ("".join(rng.choice(list("abc "), rng.integers(0, 9))) for _ in range(2))
        table = np.zeros((len(a) + 1, len(b) + 1), int)
        table[:, 0], table[0] = range(len(a) + 1), range(len(b) + 1)
        for i, c in enumerate(a):
            for j, d in enumerate(b):
                table[i + 1, j + 1] = min(table[i, j + 1] + 1, table[i + 1, j] + 1, table[i, j] + (c != d))
        assert _strings.edits(a, b) == table[-1, -1]


def test_normaliser() -> None:
    assert _strings.normalise("  ﬁve\u00a0 fifty\n№ ２ ") == "five fifty No 2"


def test_micro_average() -> None:
    """Two pages, three lines: 1 + 0 of 8 characters, 4 of 4: (1 + 0 + 4) / 12; a mean of images would give 0.5625."""
    items = (page("abcd", "efgh"), page("ijkl"))
    first, second = values_of("cer", batch_of(*items), ["abXd", "efgh"], [""])
    assert (first.value, first.weight) == (1 / 8, 8)
    assert (second.value, second.weight) == (1, 4)
    assert [v.value for v in values_of("ocr-empty", batch_of(*items), ["abXd", "efgh"], [""])] == [0, 1]
    # Two words of truth; one reading of 13 characters for 4, and 12 is the limit.
    long = values_of("ocr-overlong", batch_of(page("abcd", "efgh")), ["a" * 13, "b" * 12])[0]
    assert (long.value, long.weight) == (0.5, 2)
    words = values_of("word-accuracy", batch_of(page("the cat sat", "on it")), ["the bat sat", "on it"])[0]
    assert (words.value, words.weight) == (4 / 5, 5)
    wer = values_of("wer", batch_of(page("the cat", "on it")), ["the big fat cat", "on it"])[0]
    assert (wer.value, wer.weight) == (2 / 4, 4)


def test_empty_truth_is_excluded_never_perfect() -> None:
    value = values_of("cer", batch_of(page("", "abcd")), ["ghost", "abcd"])[0]
    assert (value.value, value.weight) == (0, 4)
    nothing = values_of("cer", batch_of(page(" ")), ["ghost"])[0]
    assert nothing.value is None
    assert nothing.why == "no line has true text"
    assert values_of("cer", batch_of(Item("photo", None)))[0] == Value(None, why=text.NO_TEXT)


def test_what_cannot_be_read() -> None:
    assert values_of("cer", batch_of(page("abc"), sha256="resized"))[0] == Value(None, why=text.MOVED)
    han = page("一二三", script="han")
    wer = values_of("wer", batch_of(han), ["一二三"])[0]
    assert wer.value is None
    assert "without spaces" in (wer.why or "")
    assert values_of("cer", batch_of(han), ["一二四"])[0].value == pytest.approx(1 / 3)
    thai = values_of("cer", batch_of(page("ก", script="thai")))[0]
    assert "this text is thai" in (thai.why or "")
    outside = page("abc", height=300)
    assert "outside the image" in (values_of("cer", batch_of(outside))[0].why or "")


def test_ceiling_and_self() -> None:
    items = (page("abcdefgh"),)
    assert values_of("cer-ceiling", batch_of(*items), ["abcdefgX"])[0].value == 1 / 8
    # The candidate is read first, then the original, whose reading becomes the truth.
    mine = values_of("cer-self", batch_of(*items), ["abcd"], ["abcX"])[0]
    assert (mine.value, mine.weight) == (1 / 4, 4)
    assert values_of("cer-self", batch_of(*items), ["abcd"], [""])[0].why == "the original is read as empty"


def test_height_buckets() -> None:
    """Boxes of 10 px on 200: 5 %, the third bucket; the mean is over lines, not characters."""
    items = (page("ab", "abcdefgh"),)
    value = values_of("cer-h4-6", batch_of(*items), ["aX", "abcdefgh"])[0]
    assert (value.value, value.weight) == (0.25, 2)
    assert values_of("cer-h3-4", batch_of(*items), ["aX", "abcdefgh"])[0].value is None


def test_lines_are_noted_for_legibility() -> None:
    batch = batch_of(page("abcd", "efgh"), Item("photo", None))
    values_of("cer", batch, ["abXd", "zzzzzzzzz"])
    values_of("cer-ceiling", batch, ["abcd", "efgX"])
    assert batch.kept["lines"] == [
        [
            {
                "x_height": 5,
                "chars": 4,
                "read": "abXd",
                "read_right": 3,
                "original_read": "abcd",
                "original_read_right": 4,
            },
            {
                "x_height": 6,
                "chars": 4,
                "read": "zzzzzzzzz",
                "read_right": 0,
                "original_read": "efgX",
                "original_read_right": 3,
            },
        ],
        [],
    ]


def test_readings_are_kept_by_content() -> None:
    reader = Fixed(["one"], ["two"], ["three"])
    image = np.zeros((20, 30, 3), np.uint8)
    assert ocr.read_lines(reader, image, [(0, 0, 9, 9)]) == ["one"]
    assert ocr.read_lines(reader, image, [(0, 0, 9, 9)]) == ["one"]
    assert ocr.read_lines(reader, image, [(0, 0, 9, 8)]) == ["two"]
    image[0, 0, 0] = 1
    assert ocr.read_lines(reader, image, [(0, 0, 9, 9)]) == ["three"]
    assert reader.asked == 3


def test_reading_order() -> None:
    boxes = [((50, 0, 90, 10), "b"), ((0, 2, 40, 12), "a"), ((0, 20, 90, 30), "c"), ((60, 18, 80, 26), "d")]
    assert [t for _, t in ocr.reading_order(boxes)] == ["a", "b", "c", "d"]


@pytest.fixture(scope="module")
def ladder() -> tuple[Item, Any]:
    line = (SUITES / "starter-text.jsonl").read_text().splitlines()[1]
    facts = json.loads(line)
    image = np.array(Image.open(SUITES / facts["file"]).convert("RGB"))
    facts["meta"]["lines"] = [k for k in facts["meta"]["lines"] if k["x_height"] in (3, 9, 14, 24)]
    return Item(facts["item"], None, None, facts["sha256_rgb"], facts["meta"]), image


def test_easyocr_reads_what_it_reads_through_its_own_reader(ladder: tuple[Item, Any]) -> None:
    """Our loading (tensors only, no unpickling) against easyocr.Reader's, on the same boxes."""
    import warnings

    item, image = ladder
    boxes = [tuple(k["box"]) for k in item.meta["lines"]]
    ours = ocr.engine("easyocr").lines(image, boxes)  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import easyocr
        import easyocr_en_models

        folder = easyocr_en_models.model_dir()
        off = dict.fromkeys(("gpu", "detector", "download_enabled", "quantize", "verbose"), False)
        reader = easyocr.Reader(["en"], **off, model_storage_directory=folder, user_network_directory=folder)
        upright = [[a, c, b, d] for a, b, c, d in boxes]
        pieces = reader.recognize(
            np.array(Image.fromarray(image).convert("L")), horizontal_list=upright, free_list=[], decoder="greedy"
        )
    assert ours == [t for _, t, _ in pieces]
    assert [_strings.normalise(t) for t in ours[1:]] == [k["text"] for k in item.meta["lines"]][1:]


def test_both_engines_on_a_page(ladder: tuple[Item, Any]) -> None:
    """Large lines are read without error by both; blurred until nothing is left, they are not."""
    from scipy.ndimage import gaussian_filter

    item, image = ladder
    blurred = gaussian_filter(image, (9, 9, 0))
    pictures = torch.from_numpy(np.stack([image, blurred])).permute(0, 3, 1, 2).contiguous()
    batch = Batch(Reference(pictures[:1], [item], [str(item.sha256_rgb)]), pictures[1:])
    for engine in ("", "-rapidocr"):
        ceiling = registry.metric(f"cer{engine}-ceiling").measure(batch)[0]
        broken = registry.metric(f"cer{engine}").measure(batch)[0]
        # The four lines hold 61 + 37 + 26 + 19 characters; the 3-px line may go wrong, the others may not.
        assert ceiling.weight == broken.weight == sum(len(k["text"]) for k in item.meta["lines"])
        assert ceiling.value < 61 / 143
        assert broken.value > 0.7


def test_curve_is_recovered() -> None:
    """Lines drawn from known curves: the fit finds the x-height of one half, and its interval holds it."""
    rng = np.random.default_rng(3)
    inside = 0
    for middle, slope, lapse in ((9.2, 6.0, 0.0), (6.0, 10.0, 0.03), (14.0, 4.0, 0.1), (7.5, 8.0, 0.05)):
        truth = legibility.half(math.log(middle), slope, lapse)
        rows = []
        for height in (3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 17, 20, 24):
            p = (1 - lapse) / (1 + math.exp(-slope * (math.log(height) - math.log(middle))))
            lines = [{"x_height": height, "chars": 30, "read_right": int(rng.binomial(30, p))} for _ in range(4)]
            rows.append({"lines": lines})
        fitted = legibility.Legibility().finish(rows, [])
        assert fitted.value == pytest.approx(truth, rel=0.06)
        assert fitted.low is not None
        assert fitted.high is not None
        inside += fitted.low <= truth <= fitted.high
        assert fitted.details["lapse"] == pytest.approx(lapse, abs=0.06)
    assert inside >= 3


def test_half_is_where_the_curve_is_one_half() -> None:
    for lapse in (0.0, 0.1, 0.2):
        h = legibility.half(math.log(8), 5.0, lapse)
        assert (1 - lapse) / (1 + math.exp(-5 * (math.log(h) - math.log(8)))) == pytest.approx(0.5, abs=1e-12)


def test_no_bracket_no_value() -> None:
    def rows(shares: dict[int, float]) -> list[dict[str, Any]]:
        return [{"lines": [{"x_height": h, "chars": 20, "read_right": int(20 * s)}] * 3} for h, s in shares.items()]

    below = legibility.Legibility().finish(rows({4: 0.9, 8: 1.0}), [])
    assert below.value is None
    assert "from 4 px: the limit lies below" in (below.why or "")
    assert [p["x_height"] for p in below.details["curve"]] == [4, 8]
    above = legibility.Legibility().finish(rows({4: 0.0, 8: 0.2}), [])
    assert "up to 8 px: the limit lies above" in (above.why or "")
    few = legibility.Legibility().finish([{"values": {}}], [])
    assert few.value is None
    assert few.n == 0


@pytest.mark.parametrize(
    "shares",
    [
        {4: 0.95, 6: 0.8, 8: 0.55, 12: 0.3, 16: 0.1, 24: 0.05},  # falls
        {4: 0.9, 6: 0.2, 8: 0.1, 12: 0.15, 16: 0.2, 24: 0.9},  # falls and rises
        {4: 0.1, 6: 0.9, 8: 0.1, 12: 0.9, 16: 0.1, 24: 0.9},  # wavers
        {4: 0.1, 6: 0.5, 8: 0.95, 12: 0.5, 16: 0.1, 24: 0.05},  # large print is lost
    ],
)
def test_a_curve_that_does_not_describe_the_points_has_no_limit(shares: dict[int, float]) -> None:
    rows = [{"lines": [{"x_height": h, "chars": 20, "read_right": round(20 * s)}] * 4} for h, s in shares.items()]
    fitted = legibility.Legibility().finish(rows, [])
    assert fitted.value is None
    assert "does not rise with the x-height" in (fitted.why or "")
    assert len(fitted.details["curve"]) == 6


@pytest.mark.parametrize("ceiling", [1.0, 0.75])
def test_a_rising_curve_keeps_its_limit_however_its_lines_scatter(ceiling: float) -> None:
    """Lines that err together: shares of a line from a beta distribution around the curve's, 20 draws."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        heights = np.repeat([4.0, 6, 8, 12, 16, 24], 4)
        truth = ceiling / (1 + np.exp(-5 * (np.log(heights) - math.log(8))))
        right = rng.binomial(20, rng.beta(4 * truth + 0.05, 4 * (1 - truth) + 0.05)).astype(float)
        chars = np.full(24, 20.0)
        share = legibility.explained(heights, right, chars, legibility.fit(heights, right, chars))
        assert share is not None
        assert share > legibility.EXPLAINED
