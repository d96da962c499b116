"""The one way to a server: https, or http on this machine; one origin, a limit on bytes, a limit on the time in all.

No client's `timeout=` is a total: a server that sends a byte a second holds it for ever. Here the whole exchange runs
under one deadline. What refuses or fails is `Refused`, whose sentence shows no secret.
"""

from __future__ import annotations

import datetime
import email.utils
import functools
import ipaddress
import json
import re
import time
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

from vtbench.results.files import disk_error
from vtbench.types.secrets import redacted

AGAIN = (408, 409, 425, 429, 500, 502, 503, 504)
"""Answers after which asking again makes sense."""
HOPS = 5
"""Redirects that are followed."""
LONGEST_WAIT = 60.0
"""Seconds that a server's Retry-After is obeyed at most."""
SHOWN = 200
"""Characters of what a server says that a sentence holds."""
CHUNK = 1 << 16
"""Bytes. A download that brings fewer within its `stall` seconds is given up."""


class Refused(Exception):
    """An exchange that failed: why, and whether another try may help (after `wait` seconds, where the server says so).
    status: the answer's, where there was one."""

    def __init__(self, why: str, *, again: bool = False, wait: float | None = None, status: int | None = None) -> None:
        super().__init__(redacted(why))
        self.again, self.wait, self.status = again, wait, status


class OutOfTime(Refused):
    """What was asked did not come in time; another try may help."""


class Origin(NamedTuple):
    """Whom a secret may be shown to."""

    scheme: str
    host: str
    port: int | None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + (f":{self.port}" if self.port is not None else "")


def origin(url: str) -> Origin:
    """Scheme, host and port, the usual port as none. Raises Refused for what is no address that may be asked."""
    try:
        # What two readers of addresses may read as two hosts.
        if re.search(r"[\s\\\x00-\x1f\x7f]", url):
            raise ValueError(url)
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise Refused("the address cannot be read: give https://HOST/PATH") from None
    if parts.scheme not in ("http", "https") or not host:
        raise Refused(f"{_shown(url)} is no address of the web: give https://HOST/PATH")
    if parts.username is not None or parts.password is not None:
        raise Refused(f"the address of {host} holds a user's name or password, which would be recorded: leave it out")
    if parts.scheme == "http" and not _names_loopback(host):
        raise Refused(f"{_shown(url)} would be asked unencrypted: give https://...")
    return Origin(parts.scheme, host, None if port == {"http": 80, "https": 443}[parts.scheme] else port)


def is_loopback(url: str) -> bool:
    """True if the URL's host is this machine."""
    try:
        return _names_loopback(urllib.parse.urlsplit(url).hostname or "")
    except ValueError:
        return False


def is_private(url: str) -> bool:
    """True if the URL's host is this machine, or is written as an address inside somebody's own network."""
    host = urllib.parse.urlsplit(url).hostname or ""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return _names_loopback(host)


def _names_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _shown(url: str) -> str:
    """An address for a sentence: without what may be a secret in it (query, user)."""
    scheme, _, rest = redacted(url).partition("://")
    return f"{scheme}://{re.split('[?#]', rest.rpartition('@')[2])[0]}"[:SHOWN] if rest else scheme[:SHOWN]


def retry_after(stated: str | None, now: float | None = None) -> float | None:
    """Seconds to wait that a Retry-After header asks for (RFC 9110, 10.2.3: whole seconds, or a date), at most
    LONGEST_WAIT; None where it says nothing that can be read. now: seconds since 1970."""
    text = (stated or "").strip()
    if re.fullmatch(r"[0-9]+", text):
        return float(min(int(text[:9]), LONGEST_WAIT)) if len(text) < 10 else LONGEST_WAIT
    try:
        date = email.utils.parsedate_to_datetime(text)
        if date.tzinfo is None:
            date = date.replace(tzinfo=datetime.UTC)
        wait = date.timestamp() - (time.time() if now is None else now)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return max(0.0, min(wait, LONGEST_WAIT))


@dataclass(frozen=True)
class Question:
    """A request. fields and files ({name: (file's name, bytes, media type)}) are sent as a multipart form, by POST.

    elsewhere: whether another origin may be redirected to; never where a header holds a secret.
    """

    url: str
    headers: Mapping[str, str] | None = None
    fields: Mapping[str, str] | None = None
    files: Mapping[str, tuple[str, bytes, str]] | None = None
    elsewhere: bool = False

    @property
    def method(self) -> str:
        return "GET" if self.files is None else "POST"

    def redirected(self, status: int, location: str) -> Question:
        """The request that an answer leads to. Raises Refused where it may not be followed."""
        url = urllib.parse.urljoin(self.url, location)
        if self.method == "POST" and status not in (307, 308):
            raise Refused(f"the server redirects the request ({status}), which would lose it: give the final address")
        old, new = origin(self.url), origin(url)
        if new != old and not (self.elsewhere and new.scheme == "https" and not is_private(url)):
            raise Refused(f"{old} redirects to {new}, another origin, which is not followed")
        return Question(url, self.headers, self.fields, self.files, self.elsewhere)


def fetch(question: Question, *, seconds: float, most: int) -> bytes:
    """The body of a good answer. seconds: of the whole exchange, redirects included. most: bytes.

    Raises Refused: no connection, out of time, too long, a status that is not 2xx, a redirect that is not followed.
    """

    async def exchange() -> bytes:
        body = bytearray()

        async def take(answer: Any) -> None:
            _refuse_longer(answer, most)
            async for chunk in answer.aiter_raw():
                body.extend(chunk)
                if len(body) > most:
                    raise Refused(f"the answer is longer than {most} bytes")

        await _within(seconds, _exchange, question, take, seconds)
        return bytes(body)

    return bytes(_run(exchange))


def download(
    url: str,
    part: Path,
    have: int,
    *,
    begin: float,
    stall: float,
    most: int,
    begins: Callable[[int, int | None], Callable[[int], None]],
) -> None:
    """Appends the rest of a file to `part`, which holds `have` bytes of it. begin: seconds until an answer
    begins. stall: seconds in which CHUNK bytes or the end must come. begins: gets the bytes that are there and those in
    all, and gives what is told of every chunk.

    Raises Refused, also where the body ends before what was announced.
    """
    headers = {"Range": f"bytes={have}-"} if have else None

    async def exchange() -> None:
        async def take(answer: Any) -> None:
            kept = have if answer.status_code == 206 else 0
            length = _refuse_longer(answer, most - kept)
            total = None if length is None else kept + length
            tell = begins(kept, total)
            with part.open("ab" if kept else "wb") as out:
                chunks = answer.aiter_raw(CHUNK)
                while chunk := await _within(stall, anext, chunks, b""):
                    kept += len(chunk)
                    if kept > most:
                        raise Refused(f"{_shown(url)} is longer than {most} bytes")
                    _keep(out, chunk)
                    tell(len(chunk))
            if total is not None and kept < total:
                raise Refused(f"the download of {_shown(url)} broke off", again=True)

        await _exchange(Question(url, headers, elsewhere=True), take, begin)

    _run(exchange)


def _keep(out: IO[bytes], chunk: bytes) -> None:
    """Writes a piece of a download; a full disk is no fault of the server's."""
    try:
        out.write(chunk)
        out.flush()
    except OSError as bad:
        raise disk_error(bad, Path(out.name)) from bad


async def _within(seconds: float, call: Callable[..., Any], *words: Any) -> Any:
    import anyio

    try:
        with anyio.fail_after(seconds):
            return await call(*words)
    except TimeoutError as bad:
        raise OutOfTime(f"no answer within {seconds:g} s", again=True) from bad


async def _exchange(question: Question, take: Callable[[Any], Any], seconds: float) -> None:
    """Sends the question, follows what may be followed, and hands the good answer, its body still to come, to `take`.
    seconds: until an answer begins, and for what a bad one says."""
    import httpx2

    # A body that is packed could be of any size.
    headers = {**(question.headers or {}), "Accept-Encoding": "identity"}
    for _ in range(HOPS):
        origin(question.url)
        # A proxy of the environment would see what is sent unencrypted to this machine.
        async with httpx2.AsyncClient(timeout=None, trust_env=not is_loopback(question.url)) as client:
            request = client.build_request(
                question.method, question.url, headers=headers, data=question.fields, files=question.files
            )
            try:
                answer = await _within(seconds, functools.partial(client.send, request, stream=True))
            except (httpx2.ProxyError, httpx2.ConnectError) as bad:
                why = f"{type(bad).__name__}: {one_line(str(bad))}"
                raise Refused(f"no connection{by_proxy(question.url)} ({why})", again=True) from bad
            try:
                if not answer.has_redirect_location:
                    await _within(seconds, _refuse_bad, answer)
                    await take(answer)
                    return
                question = question.redirected(answer.status_code, answer.headers["Location"])
            finally:
                await answer.aclose()
    raise Refused(f"the server redirects more than {HOPS} times")


def by_proxy(url: str) -> str:
    """A clause that names the proxy by which the environment has this address asked, without a password; or nothing."""
    import urllib.request

    parts, proxies = urllib.parse.urlsplit(url), urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if proxy is None or is_loopback(url) or urllib.request.proxy_bypass(parts.hostname or ""):
        return ""
    try:
        place = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}").netloc.rpartition("@")[2]
    except ValueError:
        place = "of the environment"
    return f" by the proxy {place}"


async def _refuse_bad(answer: Any) -> None:
    """Raises Refused for every answer that is none of success, with what it says."""
    if answer.headers.get("Content-Encoding", "identity").lower() not in ("", "identity"):
        raise Refused("the answer is compressed, though none was asked for")
    if answer.is_success:
        return
    said = bytearray()
    async for chunk in answer.aiter_raw():
        said.extend(chunk)
        if len(said) > CHUNK:
            break
    raise Refused(
        f"HTTP {answer.status_code}: {_message(bytes(said[:CHUNK])) or one_line(answer.reason_phrase)}",
        again=answer.status_code in AGAIN,
        wait=retry_after(answer.headers.get("Retry-After")),
        status=answer.status_code,
    )


def _message(said: bytes) -> str:
    """What a server says of its refusal: the message of a JSON error, or the text itself."""
    try:
        text = str(json.loads(said)["error"]["message"])
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        text = said.decode(errors="replace")
    return one_line(text)


def one_line(text: str) -> str:
    """What somebody else says, for a sentence of ours: no secret, one line, cut only afterwards."""
    return " ".join(redacted(text).split())[:SHOWN]


def _refuse_longer(answer: Any, most: int) -> int | None:
    """The length that the answer announces, if it does."""
    stated = answer.headers.get("Content-Length", "")
    length = int(stated) if re.fullmatch(r"[0-9]{1,18}", stated) else None
    if length is not None and length > most:
        raise Refused(f"the answer is longer than {most} bytes ({length})")
    return length


def _run(exchange: Callable[[], Any]) -> Any:
    """Runs an exchange in a thread with a loop of its own: a notebook's is running already. Ctrl-C ends it."""
    import httpx2
    from anyio.from_thread import start_blocking_portal

    try:
        with start_blocking_portal() as portal:
            return portal.call(exchange)
    except Refused:
        raise
    except ImportError as bad:
        raise Refused(f"the proxy of the environment cannot be used ({one_line(str(bad))})") from bad
    except (httpx2.TransportError, OSError) as bad:
        raise Refused(f"no connection ({type(bad).__name__}: {one_line(str(bad))})", again=True) from bad
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as bad:
        raise Refused(f"the server cannot be asked ({type(bad).__name__}: {one_line(str(bad))})") from bad
