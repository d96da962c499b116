"""A server of the images edit endpoint on this machine, which answers as it is told to, and the model that asks it."""

from __future__ import annotations

import base64
import email
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch

from vtbench import registry
from vtbench.adapters.libraries.image_api import ImageAPI

Answer = tuple[int, dict[str, str], bytes | Iterable[bytes]]
"""Status, headers, body. A body in pieces is sent as they come, without a length unless the headers state one."""
Parts = dict[str, bytes]
SECRET = "sk-proj-Zx91-abcdefghijklmnop_QRSTUVWXYZ0123456789"
"""A key as long as real ones, of which parts may be looked for."""
ONE_IMAGE = torch.randint(0, 256, (1, 3, 6, 8), generator=torch.Generator().manual_seed(0)).float() / 255
"""float32 (1, 3, 6, 8) in [0, 1], of whole grey levels."""


class Fake:
    """Answers in turn, the last one for ever; each makes its answer from the parts of the form. `asked`: the forms;
    `headers`: of every request, with its path."""

    def __init__(self) -> None:
        self.answers: list[Callable[[Parts], Answer]] = []
        self.asked: list[Parts] = []
        self.headers: list[dict[str, str]] = []
        self.get: Callable[[str], Answer] = lambda _: (200, {}, self.asked[-1]["image"])
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                sent = self.rfile.read(int(self.headers["Content-Length"]))
                whole = email.message_from_bytes(
                    b"Content-Type: " + self.headers["Content-Type"].encode() + b"\r\n\r\n" + sent
                )
                fake.asked.append(
                    {
                        str(part.get_param("name", header="content-disposition")): part.get_payload(decode=True)
                        for part in whole.get_payload()
                    }  # type: ignore[union-attr]
                )
                fake.headers.append({**self.headers, "path": self.path})
                answer = fake.answers.pop(0) if len(fake.answers) > 1 else fake.answers[0]
                self._send(*answer(fake.asked[-1]))

            def do_GET(self) -> None:
                fake.headers.append({**self.headers, "path": self.path})
                self._send(*fake.get(self.path))

            def _send(self, status: int, headers: dict[str, str], body: bytes | Iterable[bytes]) -> None:
                whole = isinstance(body, bytes)
                length = {"Content-Length": str(len(body))} if isinstance(body, bytes) else {}
                try:
                    self.send_response(status)
                    for name, value in {**length, **headers}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    for piece in [body] if whole else body:
                        self.wfile.write(piece)
                except (BrokenPipeError, ConnectionResetError):
                    fake.headers.append({"broken": "the client has gone"})

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def echo(parts: Parts) -> Answer:
    """The very picture that was sent."""
    return picture(parts["image"])


def picture(data: bytes) -> Answer:
    return 200, {}, json.dumps({"data": [{"b64_json": base64.b64encode(data).decode()}]}).encode()


def refuse(status: int, text: str = "no", **headers: str) -> Callable[[Parts], Answer]:
    return lambda _: (status, headers, json.dumps({"error": {"message": text}}).encode())


def raw(body: bytes) -> Callable[[Parts], Answer]:
    return lambda _: (200, {}, body)


def dripping(pause: float = 0.1) -> Iterator[bytes]:
    """A byte at a time, for ever: no wait for one is long."""
    while True:
        yield b" "
        time.sleep(pause)


def system(fake: Fake, **options: Any) -> ImageAPI:
    """The model of the built-in adapter that asks this server."""
    entry = registry.model("image-api")
    api = registry.build(entry, {**entry.card.options, "base_url": fake.url, "pause": 0.0, "timeout": 5.0, **options})
    api.load({})
    return api  # type: ignore[no-any-return]


def reason(fake: Fake, **options: Any) -> str:
    """Why the server's answer to one picture is none."""
    (out,) = system(fake, **{"tries": 2, **options}).reconstruct(ONE_IMAGE, [0])
    assert isinstance(out, str), "no reason, but a picture"
    return out
