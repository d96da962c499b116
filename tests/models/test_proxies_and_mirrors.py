"""Downloads by the proxy and the mirror that the environment names; what the hub states of a file is checked, deleted
where it is not that, and recorded."""

from __future__ import annotations

import errno
import hashlib
import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import huggingface_hub.file_download
import pytest
from every_host import COMMIT, EveryHost, Files, hub_files
from support import noise, python

from vtbench.models import files, weights
from vtbench.models.hub_files import stated
from vtbench.models.load import load
from vtbench.results.record import WeightsRecord
from vtbench.types.cards import Card, Fixed, Weights
from vtbench.types.errors import Unavailable, VtbenchError

CONTENT = bytes(range(256)) * 64
SHA256 = hashlib.sha256(CONTENT).hexdigest()
REPOSITORY = "somebody/tokenizer"
CONFIG = b'{"width": 8}'
HUB = hub_files(REPOSITORY, {"model.safetensors": CONTENT})
HOSTS = ["weights.example", "huggingface.co", "localhost"]


@pytest.fixture(autouse=True)
def new_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("VTBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.delenv("VTBENCH_OFFLINE", raising=False)
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    # Its client is made once a process, and reads the environment then.
    huggingface_hub.close_session()
    yield
    huggingface_hub.close_session()


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EveryHost]:
    made = EveryHost(HOSTS, {"/model.pt": CONTENT, **HUB}, tmp_path_factory.mktemp("web"))
    yield made
    made.close()


@pytest.fixture
def proxied(web: EveryHost, monkeypatch: pytest.MonkeyPatch) -> EveryHost:
    web.stand_for_the_web(monkeypatch)
    web.proxy.through.clear()
    web.files.asked.clear()
    return web


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Files]:
    made = Files(HUB)
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{made.port}/")
    yield made
    made.close()


def card(weight: Weights) -> Card:
    return Card("m", "m", "discrete", "M", sizes=Fixed(256), weights=(weight,), licence="MIT")


BY_URL = card(Weights(file="model.pt", url="https://weights.example/model.pt", sha256=SHA256))
BY_HUB = card(Weights(file="model.safetensors", hub=REPOSITORY))


def fetch(of: Card) -> Path:
    return files.download(of, of.weights[0])


# -- proxies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of", "through"), [(BY_URL, "weights.example:443"), (BY_HUB, "huggingface.co:443")], ids=["url", "hub"]
)
def test_a_file_comes_by_the_proxy(proxied: EveryHost, of: Card, through: str) -> None:
    assert fetch(of).read_bytes() == CONTENT
    assert set(proxied.proxy.through) == {through}
    # What is here asks nobody.
    count = len(proxied.files.asked)
    assert fetch(of).read_bytes() == CONTENT
    assert len(proxied.files.asked) == count


def test_no_proxy_is_asked_for_the_hosts_that_it_excepts(proxied: EveryHost, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **more: ours("127.0.0.1", *rest, **more))
    monkeypatch.setenv("NO_PROXY", "elsewhere.example, weights.example")
    url = f"https://weights.example:{proxied.files.port}/model.pt"
    assert fetch(card(replace(BY_URL.weights[0], url=url))).read_bytes() == CONTENT
    assert proxied.proxy.through == []


@pytest.mark.parametrize(
    ("proxy", "said"),
    [
        ("http://127.0.0.1:9", "no connection by the proxy 127.0.0.1:9 "),
        ("http://somebody:secret-word-0123@127.0.0.1:9", "no connection by the proxy 127.0.0.1:9 "),
        ("banana://127.0.0.1", "the server cannot be asked"),
        ("http://[", "no connection by the proxy|the server cannot be asked"),
        ("socks5://127.0.0.1:9", "socksio|no connection"),
    ],
)
def test_a_proxy_that_does_not_work_is_one_sentence(
    proxied: EveryHost, proxy: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(Unavailable, match=said) as refused:
        fetch(BY_URL)
    assert "secret-word" not in str(refused.value)
    assert proxied.files.asked == []


# -- the hub and its mirrors -------------------------------------------------------------------------------------------


def test_a_file_comes_by_the_mirror_and_is_what_the_hub_states(mirror: Files) -> None:
    found = weights.find(BY_HUB)
    assert found.files["model"].read_bytes() == CONTENT
    assert found.status == "official"
    assert [dict(one) for one in found.hashes] == [
        {"file": "model.safetensors", "role": "model", "sha256": SHA256, "stated_by": "hub"}
    ]
    assert {path for _, _, path in mirror.asked} <= set(HUB)
    count = len(mirror.asked)
    assert weights.find(BY_HUB) == found
    assert len(mirror.asked) == count, "what is here asks nobody"


def test_a_record_says_who_states_the_digest() -> None:
    for name, by in (("kmeans-vq", "card"), ("jpeg", None)):
        files_of = WeightsRecord.model_validate(load(name).weights).files
        assert [one.stated_by for one in files_of] == ([by] if by else [])


def test_another_file_than_the_hub_states_is_refused_and_deleted(mirror: Files, tmp_path: Path) -> None:
    for path in HUB:
        mirror.stated[path] = "0" * 64
    with pytest.raises(VtbenchError, match=r"the hub states 0000.*the file was deleted"):
        weights.find(BY_HUB)
    assert [p for p in (tmp_path / "hub").rglob("*") if p.is_file() and p.stat().st_size == len(CONTENT)] == []
    mirror.stated.clear()
    assert weights.find(BY_HUB).status == "official"


def test_a_file_of_the_cache_that_was_damaged_later_is_refused(mirror: Files) -> None:
    blob = weights.find(BY_HUB).files["model"].resolve()
    blob.write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(VtbenchError, match=f"delete {blob}"):
        weights.find(BY_HUB)
    blob.unlink()
    assert weights.find(BY_HUB).status == "official"


def test_a_store_that_repositories_share_hides_no_digest(mirror: Files, tmp_path: Path) -> None:
    """huggingface_hub 2 keeps blobs as links to files that are named by another digest."""
    path = weights.find(BY_HUB).files["model"]
    blob = path.resolve()
    store = tmp_path / "hub" / "shared" / "ff" / ("f" * 64)
    store.parent.mkdir(parents=True)
    blob.rename(store)
    blob.symlink_to(store)
    assert stated(path) == SHA256
    assert weights.find(BY_HUB).status == "official"


@pytest.mark.parametrize("etag", ["", "5f3a-61b", "d41d8cd98f00b204e9800998ecf8427e", "a" * 40])
def test_a_mirror_that_states_no_sha256_leaves_it_unverified(mirror: Files, etag: str) -> None:
    for path in HUB:
        mirror.stated[path] = etag or "W"
    found = weights.find(BY_HUB)
    assert found.status == "unverified"
    assert found.hashes[0]["stated_by"] is None


def test_a_folder_of_the_hub_is_verified_file_by_file(mirror: Files) -> None:
    small = hashlib.sha1(b"blob %d\0" % len(CONFIG) + CONFIG).hexdigest()
    mirror.files.update(hub_files(REPOSITORY, {"config.json": CONFIG}))
    for at in ("main", COMMIT):
        mirror.stated[f"/{REPOSITORY}/resolve/{at}/config.json"] = small
        tree = [
            {"type": "file", "path": "config.json", "size": len(CONFIG), "oid": small},
            {
                "type": "file",
                "path": "model.safetensors",
                "size": len(CONTENT),
                "oid": "0" * 40,
                "lfs": {"oid": SHA256, "sha256": SHA256, "size": len(CONTENT), "pointerSize": 1},
            },
        ]
        siblings = [{"rfilename": one["path"]} for one in tree]
        about = {"id": REPOSITORY, "sha": COMMIT, "siblings": siblings}
        mirror.files[f"/api/models/{REPOSITORY}/revision/{at}"] = json.dumps(about).encode()
        mirror.files[f"/api/models/{REPOSITORY}/tree/{at}"] = json.dumps(tree).encode()
    whole = card(Weights(file="model", role="folder", hub=REPOSITORY))
    found = weights.find(whole)
    assert {p.name for p in found.files["folder"].iterdir()} == {"config.json", "model.safetensors"}
    assert (found.status, found.hashes[0]["stated_by"]) == ("official", "hub")


def test_images_of_the_hub_come_by_the_mirror(mirror: Files, tmp_path: Path) -> None:
    """In a process of its own: the data sets' library reads the environment when it is imported."""
    import datasets

    name, part = "somebody/pictures", "data/test-00000-of-00001.parquet"
    noise(tmp_path / "a", 3)
    cells = [{"image": {"bytes": path.read_bytes(), "path": None}} for path in sorted((tmp_path / "a").iterdir())]
    datasets.Dataset.from_list(cells).to_parquet(tmp_path / "test.parquet")
    content = (tmp_path / "test.parquet").read_bytes()
    lfs = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 1}
    file = {"type": "file", "path": part, "size": len(content), "oid": "0" * 40, "lfs": lfs}
    for at in ("main", COMMIT):
        about = {"id": name, "sha": COMMIT, "siblings": [{"rfilename": part}]}
        mirror.files[f"/api/datasets/{name}/revision/{at}"] = json.dumps(about).encode()
        folder = {"type": "directory", "path": "data", "size": 0, "oid": "1" * 40}
        mirror.files[f"/api/datasets/{name}/tree/{at}"] = json.dumps([folder, file]).encode()
        mirror.files[f"/api/datasets/{name}/tree/{at}/data"] = json.dumps([file]).encode()
        mirror.files[f"/datasets/{name}/resolve/{at}/{part}"] = content
    said = python(
        "from vtbench.images.opening import open_suite\n"
        f"suite = open_suite('hf:{name}@main')\n"
        "print(len(suite.items), suite.version)",
        VTBENCH_OFFLINE="",
        HF_HOME=str(tmp_path / "home"),
        # Whoever is asked beside the mirror does not answer.
        HTTPS_PROXY="http://127.0.0.1:9",
    )
    assert said.split() == ["3", COMMIT]
    assert ("GET", f"127.0.0.1:{mirror.port}", f"/datasets/{name}/resolve/{COMMIT}/{part}") in mirror.asked


def test_a_web_page_in_place_of_a_file_is_refused(proxied: EveryHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a host of shared files gives whoever has not clicked: kept, it would be taken for the weights ever after."""
    monkeypatch.setitem(proxied.files.files, "/model.pt", b"\n<!DOCTYPE html><html>Are you sure?</html>")
    unhashed = card(replace(BY_URL.weights[0], sha256=None))
    with pytest.raises(Unavailable, match=r"gave a web page in place of model\.pt"):
        fetch(unhashed)
    assert not files.place_in_cache(unhashed.weights[0]).exists()
    monkeypatch.setitem(proxied.files.files, "/model.pt", CONTENT)
    assert fetch(unhashed).read_bytes() == CONTENT


# -- disks -------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="NOT TESTED: a full disk needs /dev/full")
def test_a_full_disk_is_one_sentence(proxied: EveryHost) -> None:
    place = files.place_in_cache(BY_URL.weights[0])
    place.parent.mkdir(parents=True)
    place.with_name("model.pt.part").symlink_to("/dev/full")
    with pytest.raises(VtbenchError, match=r"the disk is full.*free space and run the same command again"):
        fetch(BY_URL)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_full_or_readonly_cache_of_the_hub_is_one_sentence(
    mirror: Files, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any, **__: Any) -> None:
        raise OSError(number, "No space left on device")

    monkeypatch.setattr(huggingface_hub.file_download, "http_get", failing)
    with pytest.raises(VtbenchError, match=r"could not be written to the hub's cache.*HF_HOME"):
        fetch(BY_HUB)


def test_a_cache_of_the_hub_that_is_a_file_is_one_sentence(mirror: Files, tmp_path: Path) -> None:
    (tmp_path / "hub").write_text("a file")
    with pytest.raises(VtbenchError, match="could not be written to the hub's cache"):
        fetch(BY_HUB)
