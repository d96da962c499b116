"""The models that VTBench runs, by its own names, are all here."""

from __future__ import annotations

import json
import re
from pathlib import Path

from vtbench import registry
from vtbench.cli import catalogue

OURS = {
    "anole": "anole-7b-v0.1-vqgan",
    "chameleon": "chameleon-vqgan",
    "llamagen-ds8": "llamagen-vq-ds8-c2i",
    "llamagen-ds16": "llamagen-vq-ds16-c2i",
    "llamagen-ds16-t2i": "llamagen-vq-ds16-t2i",
    "janus_pro_1b": "janus-pro-1b-vq16",
    "janus_pro_7b": "janus-pro-7b-vq16",
    "open_magvit2": "open-magvit2-256-262144",
    "maskbit_16bit": "maskbit-16bit",
    "maskbit_18bit": "maskbit-18bit",
    "var_256": "var-vae-256",
    "var_512": "var-vae-512",
    "infinity_d32": "infinity-vae-d32",
    "infinity_d64": "infinity-vae-d64",
    "bsqvit": "bsqvit-vtbench",
    "titok_l32": "titok-l32",
    "titok_b64": "titok-b64",
    "titok_s128": "titok-s128",
    "titok_bl64": "titok-bl64",
    "titok_bl128": "titok-bl128",
    "titok_sl256": "titok-sl256",
    "flowmo_lo": "flowmo-lo",
    "flowmo_hi": "flowmo-hi",
    "SD3.5m": "sd35-vae",
    "FLUX.1-dev": "flux1-vae",
    "SD-VAE": "sd-vae-ft-mse",
    "DC-AE": "dc-ae-f32c32-in-1.0",
    "VA-VAE": "va-vae-f16d32",
    "E2E-VAE": "e2e-va-vae-f16d32",
    "gpt4o": "gpt-image-1",
}


def _spelled_out(cell: str) -> list[str]:
    """The names that a cell of the table abbreviates: `x_{a,b}`, `x-a / -b`, `x_1a/2a`, `a, b`."""
    if braces := re.fullmatch(r"(\S+)\{(.+)\}", cell):
        return [braces[1] + part for part in braces[2].split(",")]
    if ", " in cell:
        return cell.split(", ")
    first, *others = re.split(r"\s*/\s*", cell)
    family = re.split(r"[-_]", first)[0]
    stem = first[: first.rfind("_") + 1]
    return [first, *(o if o.startswith(family) else family + o if o.startswith("-") else stem + o for o in others)]


def _names(text: str) -> list[str]:
    """Those of section 0."""
    section = text.split("## 0.")[1].split("\n## ")[0]
    rows = [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("|")]
    return [name for cell in rows if cell != "VTBench name" and set(cell) != {"-"} for name in _spelled_out(cell)]


def test_abbreviated_names_are_spelled_out() -> None:
    assert _spelled_out("llamagen-ds8 / -ds16 / -ds16-t2i") == ["llamagen-ds8", "llamagen-ds16", "llamagen-ds16-t2i"]
    assert _spelled_out("janus_pro_1b/7b") == ["janus_pro_1b", "janus_pro_7b"]
    assert _spelled_out("var_256 / var_512") == ["var_256", "var_512"]
    assert _spelled_out("titok_{l32,b64}") == ["titok_l32", "titok_b64"]


def test_every_model_of_vtbench_is_listed(shared: Path) -> None:
    names = _names((shared / "families.md").read_text())
    assert len(names) >= 24
    assert set(names) == set(OURS), "a name that VTBench has and this table has not, or the other way round"
    listed = {line["name"] for line in json.loads(json.dumps(catalogue.models()))}
    missing = {theirs: ours for theirs, ours in OURS.items() if ours not in listed}
    assert not missing
    assert all(registry.model(ours).card.name == ours for ours in OURS.values())
