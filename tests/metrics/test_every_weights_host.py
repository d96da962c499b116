"""The first use of metrics' networks on a machine that reaches the web by a proxy: they come, and nothing is typed."""

from __future__ import annotations

import hashlib
import json
import urllib.parse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from backbones import random_backbone
from every_host import EveryHost
from support import command, noise

from vtbench.metrics import weights

NETWORKS = ("inception-2015-12-05", "alexnet")
METRICS = ("psnr", "lpips-alex", "rfid")
TASK = f"""
from vtbench import Task

TASK = Task("three", "Three", 1, (), "native", {METRICS})
"""


@pytest.fixture
def web(tmp_path: Path, seeded_inception: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EveryHost]:
    """Every host of the table, at its own addresses, with seeded networks in place of the released ones."""
    for variable, folder in (("VTBENCH_CACHE", "cache"), ("TORCH_HOME", "torch"), ("HOME", "home")):
        monkeypatch.setenv(variable, str(tmp_path / folder))
    monkeypatch.delenv("VTBENCH_OFFLINE", raising=False)
    monkeypatch.delenv(weights.VARIABLE, raising=False)
    monkeypatch.setattr(weights, "_failed", {})
    monkeypatch.chdir(tmp_path)
    served = {NETWORKS[0]: seeded_inception, NETWORKS[1]: random_backbone("alex", tmp_path)}
    files = {}
    for name, path in served.items():
        one, content = weights.TABLE[name], path.read_bytes()
        files[urllib.parse.urlsplit(one.url).path] = content
        monkeypatch.setitem(weights.TABLE, name, replace(one, sha256=hashlib.sha256(content).hexdigest()))
    hosts = sorted({urllib.parse.urlsplit(one.url).hostname or "" for one in weights.TABLE.values()})
    made = EveryHost(hosts, files, tmp_path)
    made.stand_for_the_web(monkeypatch)
    yield made
    made.close()


def scores(*words: object) -> tuple[dict[str, float | None], str]:
    """({metric: value} of the task's own, what was said beside)."""
    code, out, err = command(*words, "--json")
    assert code == 0, err
    (run,) = json.loads(out)["runs"]
    return {name: score["value"] for name, score in run["scores"].items() if name in METRICS}, err


def test_psnr_lpips_and_rfid_come_out_without_a_manual_step(web: EveryHost) -> None:
    noise(Path("a"))
    Path("three.py").write_text(TASK)
    words = ("evaluate", "jpeg", "--images", "a", "--task", "three.py@three")
    measured, said = scores(*words, "--out", "out")
    assert set(measured) == {*METRICS}
    assert None not in measured.values()
    for name in NETWORKS:
        one = weights.TABLE[name]
        assert one.file in said, "a bar for each"
        assert f"{urllib.parse.urlsplit(one.url).hostname}:443" in web.proxy.through
        assert (weights.own_folder() / one.file).is_file()
    assert len(web.files.asked) == len(NETWORKS)
