"""The images API adapter against a server on this machine: every answer, good and bad, leaves a picture or a reason."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from image_server import Fake, echo, raw, refuse, system
from PIL import Image

from vtbench import registry
from vtbench.adapters.libraries.image_api import KEY
from vtbench.images.web import is_loopback
from vtbench.types import secrets
from vtbench.types.errors import Unavailable, VtbenchError


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    monkeypatch.setenv(KEY, "secret-key")
    monkeypatch.setattr(secrets, "_hidden", {})
    monkeypatch.setenv("VTBENCH_OFFLINE", "1")
    endpoint = Fake()
    yield endpoint
    endpoint.close()


X = torch.randint(0, 256, (2, 3, 6, 8), generator=torch.Generator().manual_seed(0)).float() / 255


def test_success(fake: Fake) -> None:
    fake.answers = [echo]
    out = system(fake, model="some-model", prompt="same again", size="8x6").reconstruct(X, [0, 1])
    assert all(isinstance(o, torch.Tensor) and torch.equal(o, x) for o, x in zip(out, X, strict=True))
    assert [fake.asked[0][n] for n in ("model", "prompt", "size", "n")] == [b"some-model", b"same again", b"8x6", b"1"]
    sent = np.asarray(Image.open(BytesIO(fake.asked[1]["image"])))
    assert np.array_equal(sent, (X[1] * 255).round().byte().permute(1, 2, 0).numpy())
    assert fake.headers[0]["path"] == "/v1/images/edits"
    assert fake.headers[0]["Authorization"] == "Bearer secret-key"


def test_a_picture_behind_an_address_is_fetched_without_the_key(fake: Fake) -> None:
    fake.answers = [raw(json.dumps({"data": [{"url": fake.url + "/picture"}]}).encode())]
    assert torch.equal(system(fake).reconstruct(X[:1], [0])[0], X[0])  # type: ignore[arg-type]
    assert "Authorization" not in fake.headers[-1]


def test_it_asks_again_after_429_and_500(fake: Fake) -> None:
    fake.answers = [refuse(429, **{"Retry-After": "0"}), refuse(500), echo]
    assert isinstance(system(fake).reconstruct(X[:1], [0])[0], torch.Tensor)
    assert len(fake.asked) == 3


@pytest.mark.parametrize(
    ("answer", "said", "calls"),
    [
        (refuse(429, "slow down"), "HTTP 429: slow down (after 3 tries)", 3),
        (refuse(500, "broken"), "HTTP 500: broken (after 3 tries)", 3),
        (refuse(401, "bad key"), "HTTP 401: bad key (after 1 try)", 1),
        (refuse(400, "safety system"), "HTTP 400: safety system (after 1 try)", 1),
        (raw(b"{not json"), "the answer is malformed", 1),
        (raw(b'{"data": []}'), "the answer is malformed (IndexError)", 1),
        (raw(b"[1]"), "the answer is malformed (TypeError)", 1),
        (raw(b'{"data": [{"b64_json": "@@@"}]}'), "the answer is malformed", 1),
        (raw(b'{"data": [{"b64_json": "aGVsbG8="}]}'), "picture cannot be read", 1),
        (raw(b'{"data": [{"url": "file:///etc/hostname"}]}'), "which is not fetched", 1),
        (raw(b'{"data": [{"url": "https://example.org/x.png"}]}'), "which is not fetched", 1),
    ],
)
def test_failures_have_reasons(fake: Fake, answer: Any, said: str, calls: int) -> None:
    fake.answers = [answer]
    out = system(fake, tries=3).reconstruct(X[:1], [0])
    assert isinstance(out[0], str)
    assert said in out[0]
    assert "secret-key" not in out[0]
    assert len(fake.asked) == calls


def test_a_picture_of_another_size_is_a_failure(fake: Fake) -> None:
    small = BytesIO()
    Image.new("RGB", (4, 4)).save(small, "PNG")
    fake.answers = [
        raw(json.dumps({"data": [{"b64_json": base64.b64encode(small.getvalue()).decode()}]}).encode()),
        echo,
    ]
    out = system(fake).reconstruct(X, [0, 1])
    assert out[0] == "the answer is 4 x 4 pixels, asked were 8 x 6 (after 1 try)"
    assert isinstance(out[1], torch.Tensor), "one failure does not take the others down"


def test_timeout(fake: Fake) -> None:
    def slow(parts: dict[str, bytes]) -> tuple[int, dict[str, str], bytes]:
        time.sleep(0.5)
        return echo(parts)

    fake.answers = [slow]
    out = system(fake, timeout=0.05, tries=2).reconstruct(X[:1], [0])
    assert out == ["no answer within 0.05 s (after 2 tries)"]


def test_no_server(fake: Fake) -> None:
    api = system(fake, tries=2, base_url="http://127.0.0.1:9/v1")
    assert "no connection" in str(api.reconstruct(X[:1], [0])[0])


def test_refusals_before_any_call(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = registry.model("gpt-image-1")
    monkeypatch.setenv("VTBENCH_OFFLINE", "1")
    with pytest.raises(Unavailable, match="VTBENCH_OFFLINE"):
        registry.build(entry, dict(entry.card.options)).load({})
    monkeypatch.setenv("VTBENCH_OFFLINE", "0")
    monkeypatch.delenv(KEY, raising=False)
    with pytest.raises(Unavailable, match=KEY):
        registry.build(entry, dict(entry.card.options)).load({})
    for wrong in ({"base_url": "ftp://x"}, {"base_url": "http://example.org/v1"}, {"tries": 0}, {"timeout": 0.0}):
        with pytest.raises(VtbenchError):
            registry.build(entry, {**entry.card.options, **wrong})


def test_loopback() -> None:
    yes = ("http://localhost:1/x", "http://127.0.0.1", "http://[::1]:80/")
    no = ("http://localhost.example.org", "https://api.openai.com", "http://10.0.0.1", "http://127.0.0.1.example.org")
    assert all(map(is_loopback, yes))
    assert not any(map(is_loopback, no))


def test_the_list_says_that_a_key_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    from vtbench import registry
    from vtbench.cli import catalogue

    card = registry.model("gpt-image-1").card
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert catalogue.state(card) == ("needs key", "set OPENAI_API_KEY in the environment")
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    assert catalogue.state(card)[0] == "ready"
