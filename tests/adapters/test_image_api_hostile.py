"""Servers that want the key, the time, the memory or a program of this machine: each gets a reason and no more."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import time
import urllib.parse
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import made_runs
import pytest
import torch
from image_server import Answer, Fake, Parts, dripping, echo, picture, raw, refuse
from PIL import EpsImagePlugin, Image

import vtbench
from vtbench import leaderboard, registry
from vtbench.adapters.libraries import image_api
from vtbench.adapters.libraries.image_api import KEY, ImageAPI
from vtbench.images import web
from vtbench.types import secrets
from vtbench.types.errors import VtbenchError

SECRET = "sk-proj-Zx91-abcdefghijklmnop_QRSTUVWXYZ0123456789"
X = torch.randint(0, 256, (1, 3, 6, 8), generator=torch.Generator().manual_seed(0)).float() / 255


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Fake, Fake]]:
    """The one that is asked, and one of another origin."""
    monkeypatch.setattr(secrets, "_hidden", {})
    monkeypatch.setenv(KEY, SECRET)
    monkeypatch.setenv("VTBENCH_OFFLINE", "1")
    both = Fake(), Fake()
    yield both
    for server in both:
        server.close()


def system(fake: Fake, **options: Any) -> ImageAPI:
    entry = registry.model("image-api")
    api = registry.build(entry, {**entry.card.options, "base_url": fake.url, "pause": 0.0, "timeout": 5.0, **options})
    api.load({})
    return api  # type: ignore[no-any-return]


def reason(fake: Fake, **options: Any) -> str:
    (out,) = system(fake, **{"tries": 2, **options}).reconstruct(X, [0])
    assert isinstance(out, str), "no reason, but a picture"
    return out


# -- the key -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("where", ["other", "other by name", "no scheme", "http elsewhere", "file"])
def test_no_redirect_to_another_origin(servers: tuple[Fake, Fake], status: int, where: str) -> None:
    asked, other = servers
    address = {
        "other": other.url,
        "other by name": other.url.replace("127.0.0.1", "localhost"),
        "no scheme": other.url.removeprefix("http:"),
        "http elsewhere": "http://example.org/",
        "file": "file:///etc/hostname",
    }[where]
    other.answers, asked.answers = [echo], [lambda _: (status, {"Location": address}, b"")]
    assert "redirects" in (why := reason(asked)) or "would be asked unencrypted" in why or "no address" in why
    assert other.headers == [], "another origin was asked"


def test_a_redirect_within_the_origin_is_followed_with_the_key(servers: tuple[Fake, Fake]) -> None:
    asked, _ = servers
    asked.answers = [lambda _: (308, {"Location": "/v2/images/edits"}, b""), echo]
    assert torch.equal(system(asked).reconstruct(X, [0])[0], X[0])  # type: ignore[arg-type]
    assert [h["path"] for h in asked.headers] == ["/v1/images/edits", "/v2/images/edits"]
    assert asked.headers[1]["Authorization"] == f"Bearer {SECRET}"


def test_redirects_in_a_circle_end(servers: tuple[Fake, Fake]) -> None:
    asked, _ = servers
    asked.answers = [lambda _: (307, {"Location": "/v1/images/edits"}, b"")]
    assert "redirects more than" in reason(asked)
    assert len(asked.asked) <= web.HOPS


def test_the_picture_is_fetched_without_the_key_and_its_redirects_stay(servers: tuple[Fake, Fake]) -> None:
    asked, other = servers
    asked.answers = [raw(json.dumps({"data": [{"url": f"{other.url}/picture"}]}).encode())]
    other.get = lambda _: (302, {"Location": asked.url}, b"")
    assert "redirects to" in reason(asked)
    assert all("Authorization" not in headers for headers in other.headers)


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1/x", "https://169.254.169.254/x", "https://10.0.0.1/", "https://[::1]/"]
)
def test_a_server_elsewhere_sends_nobody_into_this_network(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, SECRET)
    monkeypatch.delenv("VTBENCH_OFFLINE", raising=False)
    api = registry.build(entry := registry.model("gpt-image-1"), dict(entry.card.options))
    with pytest.raises(web.Refused, match="which is not fetched"):
        api._picture_at(url, "https://api.openai.com/v1")


QUOTED: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "cut at the end": lambda key: "x" * 180 + key,
    "its second half": lambda key: key[len(key) // 2 :],
    "all but three characters": lambda key: key[3:],
    "lower": str.lower,
    "upper": str.upper,
    "reversed": lambda key: key[::-1],
    "percent": lambda key: urllib.parse.quote(f"Bearer {key}", safe=""),
    "base64": lambda key: base64.b64encode(f"Bearer {key}".encode()).decode(),
    "base64 of another place": lambda key: base64.urlsafe_b64encode(f"user:{key}".encode()).decode(),
    "hex": lambda key: key.encode().hex(),
    "in escapes": lambda key: "".join(f"\\u{ord(c):04x}" for c in key),
    "over two lines": lambda key: f"{key[:25]}\n{key[25:]}",
}


def leaks(text: str) -> list[str]:
    """Parts of 15 characters of the key, in any of the forms above, that stand in the text."""
    forms = [SECRET, SECRET.lower(), SECRET.upper(), SECRET[::-1], SECRET.encode().hex()]
    forms += [base64.b64encode(b"0" * n + SECRET.encode()).decode()[4:-4] for n in range(3)]
    return [form[i : i + 15] for form in forms for i in range(len(form) - 14) if form[i : i + 15] in text]


@pytest.mark.parametrize("status", [200, 401, 302])
@pytest.mark.parametrize("form", QUOTED)
def test_the_key_stands_in_no_reason(servers: tuple[Fake, Fake], form: str, status: int) -> None:
    asked, _ = servers
    said = QUOTED[form](SECRET)
    body = f'{{"error": {{"message": "{said}"}}}}' if form == "in escapes" else json.dumps({"error": {"message": said}})
    location = {"Location": f"http://example.org/{urllib.parse.quote(said)}"} if status == 302 else {}
    asked.answers = [lambda _: (status, location, body.encode())]
    why = reason(asked)
    assert leaks(why) == []
    if status == 401:
        assert KEY in why, "that the server quoted the key is worth a word"


@pytest.mark.parametrize(
    "url", [f"https://{SECRET}@h/", f"https://u:{SECRET}@h/", f"https://h/?key={SECRET}", f"ftp://h/{SECRET}"]
)
def test_no_key_in_the_address(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be recorded as an option of the run, whether it is the environment's or another."""
    entry = registry.model("image-api")
    for value in (SECRET, "another-key-of-somebody"):
        monkeypatch.setenv(KEY, value)
        with pytest.raises(VtbenchError, match="base_url") as caught:
            registry.build(entry, {**entry.card.options, "base_url": url})
        assert leaks(str(caught.value)) == []


def test_a_key_that_is_none_is_refused_unseen(monkeypatch: pytest.MonkeyPatch, servers: tuple[Fake, Fake]) -> None:
    for value in (f"{SECRET}\nX-Other: 1", f"Bearer {SECRET}", f"{SECRET}é"):
        monkeypatch.setenv(KEY, value)
        with pytest.raises(VtbenchError, match="characters that no key has") as caught:
            system(servers[0])
        assert leaks(str(caught.value)) == []


def test_nothing_of_a_run_or_of_its_page_holds_the_key(
    servers: tuple[Fake, Fake], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every file of the run's folder and of the site, and what is printed."""
    asked, _ = servers
    made_runs.picture(tmp_path / "in" / "a.png")
    made_runs.picture(tmp_path / "in" / "b.png")
    asked.answers = [refuse(401, f"the key {SECRET} is wrong"), echo, refuse(401, f"cut {SECRET[:30]}")]
    run = vtbench.evaluate(
        "image-api",
        images=tmp_path / "in",
        view="native",
        tasks=["compression"],
        options={"base_url": asked.url, "pause": "0", "prompt": f"repeat {SECRET}"},
        out=tmp_path / "out",
    ).runs[0]
    leaderboard.build([tmp_path / "out"], tmp_path / "site")
    print(run.info, [row for row in run.rows()] if hasattr(run, "rows") else "")
    written = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert {p.name for p in written} >= {"run.json", "rows.jsonl", "scores.jsonl", "index.html"}
    assert KEY in (run.path / "rows.jsonl").read_text()
    assert {p.name: leaks(p.read_text(errors="replace")) for p in written if leaks(p.read_text(errors="replace"))} == {}
    said = capsys.readouterr()
    assert leaks(said.out + said.err) == []


# -- time and size -----------------------------------------------------------------------------------------------------


def slow_body(_: Parts) -> Answer:
    return 200, {}, dripping()


def slow_refusal(_: Parts) -> Answer:
    return 500, {}, dripping()


def slow_picture(fake: Fake) -> Callable[[Parts], Answer]:
    fake.get = lambda _: (200, {}, dripping())
    return raw(json.dumps({"data": [{"url": f"{fake.url}/picture"}]}).encode())


@pytest.mark.parametrize("kind", ["body", "refusal", "picture", "silence"])
def test_a_server_that_drips_is_left_in_time(servers: tuple[Fake, Fake], kind: str) -> None:
    asked, _ = servers

    def silent(_: Parts) -> Answer:
        time.sleep(2)
        return 200, {}, b""

    answers = {"body": slow_body, "refusal": slow_refusal, "picture": slow_picture(asked), "silence": silent}
    asked.answers = [answers[kind]]
    began = time.monotonic()
    assert reason(asked, timeout=0.4, tries=1) == "no answer within 0.4 s (after 1 try)"
    assert time.monotonic() - began < 1.5


@pytest.mark.parametrize("stated", [True, False])
@pytest.mark.parametrize("place", ["answer", "picture"])
def test_a_huge_answer_is_not_read(
    servers: tuple[Fake, Fake], stated: bool, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_api, "LARGEST", 1 << 16)
    asked, _ = servers
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 1 << 28:
            sent += 1 << 16
            yield b"x" * (1 << 16)

    huge: Answer = (200, {"Content-Length": str(1 << 40)} if stated else {}, endless())
    asked.get = lambda _: huge
    asked.answers = [
        (lambda _: huge) if place == "answer" else raw(json.dumps({"data": [{"url": asked.url}]}).encode())
    ]
    assert "longer than 65536 bytes" in reason(asked)
    assert sent < 1 << 26, "it was read on"


def test_a_packed_answer_is_not_unpacked(servers: tuple[Fake, Fake]) -> None:
    import gzip

    asked, _ = servers
    asked.answers = [lambda _: (200, {"Content-Encoding": "gzip"}, gzip.compress(b" " * (1 << 20)))]
    assert "the answer is compressed" in reason(asked)


@pytest.mark.parametrize(
    ("stated", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        ("61", 60.0),
        ("9" * 5000, 60.0),
        ("Sun, 06 Nov 1994 08:49:47 GMT", 10.0),
        ("Sunday, 06-Nov-94 08:49:47 GMT", 10.0),
        ("Sun Nov  6 08:49:47 1994", 10.0),
        ("Sun, 06 Nov 1994 08:00:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 60.0),
        *(
            (garbage, None)
            for garbage in ("", "-1", "1.5", "1e3", "nan", "inf", "²", "٣", "soon", "1, 2", "\0", "0x10")
        ),
        ("Sun, 99 Nov 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 99999999999 08:49:37 GMT", None),
    ],
)
def test_retry_after(stated: str, seconds: float | None) -> None:
    """Against RFC 9110, 10.2.3 and 5.6.7 (its own example date, in its three forms), asked ten seconds before."""
    assert web.retry_after(stated, now=784111777.0) == seconds


@pytest.mark.parametrize("stated", ["garbage", "-5", "²", "Thu, 01 Jan 1970 00:00:00 GMT", "0"])
def test_garbage_in_retry_after_ends_nothing(servers: tuple[Fake, Fake], stated: str) -> None:
    asked, _ = servers
    quoted = stated.encode().decode("latin-1")
    asked.answers = [refuse(429, **{"Retry-After": quoted}), echo]
    assert isinstance(system(asked).reconstruct(X, [0])[0], torch.Tensor)


# -- what it says is a picture -----------------------------------------------------------------------------------------

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 6\n%%EndComments\n(canary) print\n%%EOF\n"
DOS_EPS = b"\xc5\xd0\xd3\xc6" + (30).to_bytes(4, "little") + len(EPS).to_bytes(4, "little") + bytes(18) + EPS
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="8" height="6"><image href="file:///etc/hostname"/></svg>'


@pytest.mark.parametrize(
    "data",
    [
        EPS,
        DOS_EPS,
        b"%PDF-1.7\n",
        SVG,
        b"\xd7\xcd\xc6\x9a" + bytes(80),
        b"SIMPLE  =                    T",
        b"",
        b"GIF89a",
    ],
    ids=["eps", "eps of DOS", "pdf", "svg", "wmf", "fits", "empty", "cut gif"],
)
@pytest.mark.parametrize("place", ["answer", "address"])
def test_no_program_is_started_for_an_answer(
    servers: tuple[Fake, Fake], data: bytes, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A canary stands where Pillow looks for Ghostscript."""
    canary = tmp_path / "started"
    for name in ("gs", "gswin64c", "gswin32c", "inkscape"):
        (tmp_path / name).write_text(f"#!/bin/sh\ntouch {canary}\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    if data is EPS:
        # The canary sings: Pillow itself would start it.
        with contextlib.suppress(Exception):
            Image.open(BytesIO(data)).load()
        assert canary.exists()
        canary.unlink()
    asked, _ = servers
    asked.get = lambda _: (200, {"Content-Type": "image/png"}, data)
    url = json.dumps({"data": [{"url": f"{asked.url}/x.png"}]}).encode()
    asked.answers = [(lambda _: picture(data)) if place == "answer" and data else raw(url)]
    assert "the answer's picture cannot be read" in reason(asked)
    assert not canary.exists()


def test_an_answer_is_read_by_the_rule_of_all_images(servers: tuple[Fake, Fake]) -> None:
    """Alpha on white, as everywhere; another kind of file is the same picture."""
    asked, _ = servers
    image = Image.new("RGBA", (8, 6), (255, 0, 0, 0))
    image.putpixel((0, 0), (255, 255, 255, 255))
    out = BytesIO()
    image.save(out, "PNG")
    asked.answers = [lambda _: picture(out.getvalue())]
    assert torch.equal(system(asked).reconstruct(X, [0])[0], torch.ones(3, 6, 8))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'{"data": ' * 50_000, b'{"data": [{"url": 5}]}', b"1" * 6000, b"\xff\xfe"]
)
def test_answers_that_are_no_json_of_ours(servers: tuple[Fake, Fake], body: bytes) -> None:
    asked, _ = servers
    asked.answers = [raw(body)]
    assert "malformed" in (why := reason(asked)) or "not fetched" in why
    assert len(why) < 300
    assert why.isprintable()
