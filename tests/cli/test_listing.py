"""`vtbench list` in a pipe and on terminals of several widths, its filters, and names that are nearly right."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from typer.testing import CliRunner

from vtbench import registry
from vtbench.cli.catalogue import LISTS
from vtbench.cli.listing import listing
from vtbench.cli.main import app
from vtbench.types.errors import VtbenchError


def said(*words: str) -> str:
    done = CliRunner().invoke(app, ["list", *words], catch_exceptions=True)
    if isinstance(done.exception, VtbenchError):
        raise done.exception
    return done.stdout


def names(*words: str) -> set[str]:
    return {entry["name"] for entry in json.loads(said(*words, "--json"))}


@pytest.fixture(scope="module")
def entries() -> dict[str, list[dict[str, Any]]]:
    return {what: make() for what, make in LISTS.items()}


@pytest.mark.parametrize("width", [40, 80, 120, 200])
@pytest.mark.parametrize("what", LISTS)
def test_a_table_fits_its_terminal_and_names_everything(
    what: str, width: int, entries: dict[str, list[dict[str, Any]]]
) -> None:
    text = listing(what, entries[what], width)
    longest = max(len(e["name"]) for e in entries[what]) + len("  ")
    assert max(map(len, text.splitlines())) <= max(width, longest)
    words = set(text.split())
    assert not [e["name"] for e in entries[what] if e["name"] not in words]
    assert "\x1b" not in text


def test_models_stand_under_their_families(entries: dict[str, list[dict[str, Any]]]) -> None:
    family = ""
    of = {e["name"]: e["family"] for e in entries["models"]}
    seen = 0
    for line in listing("models", entries["models"], 100).splitlines()[1:-2]:
        if not line.startswith("  "):
            family = line
            continue
        assert of[line.split()[0]] == family
        seen += 1
    assert seen == len(of)


def test_in_a_pipe_every_line_is_whole() -> None:
    lines = said("models").splitlines()
    assert len(lines) == len(registry.entries()) + 3
    assert {"family", "needs"} <= set(lines[0].split())
    assert "…" not in said("suites")


def test_rates_are_those_of_plain_indices() -> None:
    facts = {e["name"]: e for e in json.loads(said("models", "--json"))}
    # 256 tokens of 14 bit; 32 of 12 bit, both over 256 x 256.
    assert facts["llamagen-vq-ds16-c2i"]["bits_per_pixel"] == 256 * 14 / 256**2
    assert facts["titok-l32"]["bits_per_pixel"] == 32 * 12 / 256**2
    assert facts["sd-vae-ft-mse"]["bits_per_pixel"] is None
    assert re.search(r"titok-l32 +discrete +32 +0\.00586", said("models", "titok-l32"))


def test_filters_leave_what_they_name(entries: dict[str, list[dict[str, Any]]]) -> None:
    every = entries["models"]
    assert names("models", "TITOK") == {
        e["name"]
        for e in every
        if any("titok" in str(t).lower() for t in (e["name"], e["family"], e["title"], *(e.get("aliases") or ())))
    }
    assert names("models", "titok-?32") == {"titok-l32"}
    assert names("models", "--kind", "codec") == {"jpeg", "webp", "jpeg2000", "avif", "png"} | {
        e["name"] for e in every if e["kind"] == "codec"
    }
    assert names("models", "--family", "titok", "--kind", "continuous") == {
        e["name"] for e in every if e["family"] == "titok" and e["kind"] == "continuous"
    }
    assert names("models", "--ready") == {e["name"] for e in every if e["state"] == "ready"} >= {"jpeg", "kmeans-vq"}
    assert names("metrics", "lpips") == {e["name"] for e in entries["metrics"] if "lpips" in e["name"]}
    assert said("models", "no-model-has-this").startswith(f"0 of {len(every)} models")


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("titok",), "vtbench list models titok"),
        (("models", "--kind", "discretes"), "discrete"),
        (("models", "--kind", ""), "codec"),
        (("models", "--family", "titoc"), "titok"),
        (("suites", "--kind", "codec"), "--kind"),
    ],
)
def test_a_wrong_filter_is_one_sentence(words: tuple[str, ...], wanted: str) -> None:
    with pytest.raises(VtbenchError, match=re.escape(wanted)) as refused:
        said(*words)
    assert refused.value.code == 2


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("JPEG", "did you mean jpeg"),
        ("LLAMAGEN_VQ_DS16_C2I", "llamagen-vq-ds16-c2i"),
        ("llamagen", "llamagen-vq-ds16-c2i, llamagen-vq-ds8-c2i"),
        ("TiTok", "titok-l32"),
        ("Image codecs", "jpeg, webp"),
    ],
)
def test_a_name_that_is_nearly_right_is_answered_with_the_right_one(name: str, wanted: str) -> None:
    with pytest.raises(VtbenchError, match=re.escape(wanted)):
        registry.model(name)


@pytest.mark.parametrize(
    ("word", "dtype"),
    [("fp16", "float16"), ("half", "float16"), ("BF16", "bfloat16"), ("torch.float32", "float32"), ("fp32", "float32")],
)
def test_a_dtype_is_recorded_by_its_one_name(word: str, dtype: str) -> None:
    from vtbench.models.load import load

    assert load("png", dtype=word).dtype == dtype


def test_a_dtype_that_is_none_is_refused() -> None:
    from vtbench.models.load import load

    with pytest.raises(VtbenchError, match="int8"):
        load("png", dtype="int8")
