"""`vtbench doctor` in 80 columns: what is here, and one command for what is missing."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import pytest
from support import command

from vtbench.cli.diagnosis import WIDTH
from vtbench.metrics import weights


@pytest.fixture
def nothing_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for variable, folder in (("VTBENCH_CACHE", "home/cache"), ("TORCH_HOME", "torch"), ("HOME", "home")):
        monkeypatch.setenv(variable, str(tmp_path / folder))
    monkeypatch.delenv(weights.VARIABLE, raising=False)
    return tmp_path


def test_it_fits_and_names_the_command_once(nothing_here: Path) -> None:
    code, out, _ = command("doctor")
    assert code == 0
    assert max(map(len, out.splitlines())) <= WIDTH
    assert out.count("vtbench fetch --metrics") == 1
    assert platform.python_version() in out
    assert "cpu" in out
    assert " threads of " in out
    assert "~/cache" in out
    assert "curl" not in out
    for one in weights.TABLE.values():
        assert one.name in out


def test_a_wrong_file_is_named(nothing_here: Path) -> None:
    place = weights.own_folder() / weights.TABLE["alexnet"].file
    place.parent.mkdir(parents=True)
    place.write_bytes(b"no AlexNet")
    out = " ".join(command("doctor")[1].split())
    assert "~/cache/metrics/alexnet-owt-7be5be79.pth is not the released alexnet: delete it" in out


def test_json_holds_what_the_table_leaves_out(nothing_here: Path) -> None:
    report = json.loads(command("doctor", "--json")[1])
    by_hand = [w for w in report["metric_weights"] if w["state"] == "missing" and not w["comes_by_itself"]]
    assert all("https://" in w["how"] or "pip install" in w["how"] for w in by_hand)
    assert report["machine"]["devices"][0] == "cpu"
    assert report["machine"]["threads"] >= 1


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"VTBENCH_OFFLINE": "1"}, "VTBENCH_OFFLINE is set: nothing is downloaded · cache"),
        ({}, "downloads are allowed · cache"),
        ({"HTTPS_PROXY": "http://me:secret@proxy.example:3128"}, "allowed by the proxy proxy.example:3128 · cache"),
        ({"HTTPS_PROXY": "proxy.example:3128", "NO_PROXY": "huggingface.co"}, "downloads are allowed · cache"),
        ({"HF_ENDPOINT": "https://me:secret@mirror.example/"}, "allowed, the hub's from mirror.example · cache"),
    ],
)
def test_it_says_how_downloads_come(variables: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from vtbench.cli.catalogue import doctor
    from vtbench.cli.diagnosis import diagnosis

    for name in ("VTBENCH_OFFLINE", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    text = diagnosis(doctor())
    assert said in " ".join(text.split())
    assert "secret" not in text
