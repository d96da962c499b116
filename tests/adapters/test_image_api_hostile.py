"""Servers of images that are hostile or broken: no file, no program, no memory and no time of ours for them."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest
import torch
from image_server import ONE_IMAGE, Answer, Fake, Parts, dripping, echo, picture, raw, reason, refuse, system
from PIL import EpsImagePlugin, Image

from vtbench.adapters.libraries import image_api
from vtbench.images import web

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
    assert isinstance(system(asked).reconstruct(ONE_IMAGE, [0])[0], torch.Tensor)


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
    assert torch.equal(system(asked).reconstruct(ONE_IMAGE, [0])[0], torch.ones(3, 6, 8))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'{"data": ' * 50_000, b'{"data": [{"url": 5}]}', b"1" * 6000, b"\xff\xfe"]
)
def test_answers_that_are_no_json_of_ours(servers: tuple[Fake, Fake], body: bytes) -> None:
    asked, _ = servers
    asked.answers = [raw(body)]
    assert "malformed" in (why := reason(asked)) or "not fetched" in why
    assert len(why) < 300
    assert why.isprintable()
