"""The key of an image server is sent to its own origin alone and stands in no sentence, file or page."""

from __future__ import annotations

import base64
import json
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import made_runs
import pytest
import torch
from image_server import ONE_IMAGE, SECRET, Fake, echo, raw, reason, refuse, system

import vtbench
from vtbench import leaderboard, registry
from vtbench.adapters.libraries.image_api import KEY
from vtbench.images import web
from vtbench.types.errors import VtbenchError


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
    assert torch.equal(system(asked).reconstruct(ONE_IMAGE, [0])[0], ONE_IMAGE[0])  # type: ignore[arg-type]
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
