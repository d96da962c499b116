"""Names as papers write them, and what the digits of a printed number say."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support import command

from vtbench import evaluate
from vtbench.explaining.claims import Printed, claimed_numbers
from vtbench.explaining.conventions import CONVENTIONS, card_of, conventions, metric_named
from vtbench.explaining.runs import explain_runs
from vtbench.types.conditions import Conditions
from vtbench.types.errors import VtbenchError, near


@pytest.mark.parametrize(
    ("written", "metric"),
    [
        ("SSIM", "ssim"),
        ("ssim", "ssim"),
        ("Psnr", "psnr"),
        (" PSNR ", "psnr"),
        ("rFID", "rfid"),
        ("FID", "rfid"),
        ("LPIPS", "lpips-alex"),
        ("LPIPS-VGG", "lpips-vgg"),
        ("MS-SSIM", "ms-ssim"),
        ("ms_ssim", "ms-ssim"),
        ("PSNR pooled", "psnr-pooled"),
        ("SSIM_Range2", "ssim-range2"),
        ("psnr-RANGE2", "psnr-range2"),
        ("PSNR (dB)", "psnr"),
        ("rFID↓", "rfid"),
        ("SSIM ↑", "ssim"),
        (r"LPIPS $\downarrow$", "lpips-alex"),
    ],
)
def test_a_name_is_taken_in_any_case(written: str, metric: str) -> None:
    assert metric_named(written) == metric


@pytest.mark.parametrize(("written", "offered"), [("SSSIM", "ssim"), ("PNSR", "psnr"), ("sssim", "ssim")])
def test_a_name_that_is_none_is_answered_with_near_ones_in_any_case(written: str, offered: str) -> None:
    with pytest.raises(VtbenchError, match=f"did you mean .*{offered}"):
        metric_named(written)
    assert near("LLAMAGEN", ["llamagen", "titok"]) == " (did you mean llamagen?)"


def test_the_field_case_is_answered(shared: Path, tmp_path: Path) -> None:
    """field/images/claim-upper-case: 1d-tokenizer and VTBench write SSIM in capitals."""
    case = Path(shutil.copytree(shared / "field" / "images" / "claim-upper-case", tmp_path / "case"))
    code, out, said = command(
        "explain", f"folder:{case / 'cand'}", "--images", case / "ref", "--claim", "SSIM=0.67", "--claim", "rFID=2.1"
    )
    assert code == 0, said
    assert "ssim: claimed 0.67" in out
    assert "rfid: claimed 2.1" in out
    assert "none of these closes the gap" in out
    assert "ssim-range2" in out.split("none of these closes")[1]


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"SSIM": 0.5, "ssim": 0.6}, "ssim twice"),
        ({"lpips": 0.5, "LPIPS-Alex": 0.5}, "lpips-alex twice"),
        ({"SSIM": "high"}, "give a number"),
        ({"SSIM": "1e999"}, "number"),
        ({"SSIM": ""}, "give a number"),
        ({"psnr": "inf"}, "finite"),
    ],
)
def test_wrong_claims_are_refused(claims: dict[str, str | float], said: str) -> None:
    with pytest.raises(VtbenchError, match=said):
        claimed_numbers(claims)


@pytest.mark.parametrize(
    "words",
    [
        ["--claim", "psnr=20", "--claim", "psnr=21"],
        ["--claim", "PSNR=20", "--claim", "psnr=21"],
        ["--claim", "psnr"],
    ],
)
def test_the_command_refuses_two_numbers_of_one_metric_and_no_number(words: list[str], pair: tuple[Path, Path]) -> None:
    code, _, said = command("explain", f"folder:{pair[1]}", "--images", pair[0], *words)
    assert code == 2
    assert "--claim" in said


@pytest.mark.parametrize(
    ("printed", "met", "not_met"),
    [
        ("24.4", [24.36, 24.35, 24.4499], [24.34, 24.46]),
        ("0.675", [0.6754, 0.6746], [0.6756, 0.6744]),
        ("25", [24.6, 25.4], [24.4]),
        (24.4, [24.36], [24.3]),
        ("2e1", [16.0, 24.0], [26.0]),
        ("0.30", [0.304], [0.306]),
    ],
)
def test_a_number_says_as_much_as_its_digits(printed: str | float, met: list[float], not_met: list[float]) -> None:
    number = Printed.of(printed)
    assert all(number.is_met_by(value) for value in met)
    assert not any(number.is_met_by(value) for value in not_met)


def test_two_runs_are_asked_by_names_in_any_case(pair: tuple[Path, Path], tmp_path: Path) -> None:
    runs = [
        evaluate("jpeg", tasks=["reconstruction"], images=pair[0], view="64", protocol=p, out=tmp_path / p).runs[0].path
        for p in ("vtbench", "magvit2")
    ]
    (claim,) = explain_runs(runs[0], runs[1], ["PSNR"]).claims
    assert claim.metric == "psnr"
    assert claim.verdict.startswith("view: 64 magvit2, as the second run closes the gap")
    (same,) = explain_runs(runs[0], runs[0], ["Ssim"]).claims
    assert "nothing to explain" in same.verdict


def test_a_convention_says_what_it_decides_in_fields_of_conditions() -> None:
    """By which a claim that states them closes the others."""
    fields = set(Conditions.__dataclass_fields__)
    for metric in ("psnr", "ssim", "lpips-alex", "rfid"):
        cards = [card_of(name) for name in conventions(metric)]
        assert all(card.conventions and set(card.conventions) <= fields for card in cards)
        if metric != "ssim":
            distinct = {tuple(sorted(card.conventions.items())) for card in cards}
            assert len(distinct) == len(cards)
    assert set(CONVENTIONS) <= {name for metric in ("psnr", "ssim") for name in conventions(metric)}
