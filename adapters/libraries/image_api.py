"""Closed systems behind an images API: the picture goes in with a prompt, a picture comes back; no tokens, no rate.

Speaks the images edit endpoint of the OpenAI API (`POST {base_url}/images/edits`, multipart form with `model`, `image`
and `prompt`, answered by JSON with `data[0].b64_json` or `data[0].url`), which other servers speak too.
The key comes from the environment (`OPENAI_API_KEY`) and is never stored or shown. Standard library only.
"""

from __future__ import annotations

import base64
import http.client
import ipaddress
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench.images.rounding import to_uint8
from vtbench.types.adapter import ClosedSystem
from vtbench.types.cards import Card, Family, Fixed, Multiple
from vtbench.types.environment import offline
from vtbench.types.errors import Unavailable, VtbenchError

if TYPE_CHECKING:
    import torch

KEY = "OPENAI_API_KEY"
AGAIN = (408, 409, 429, 500, 502, 503, 504)
"""Answers after which asking again makes sense."""
LARGEST = 64 << 20
"""Bytes of an answer that are read at most: a picture of 4096 x 4096 is less."""


def is_loopback(url: str) -> bool:
    """True if the URL's host is this machine."""
    host = urllib.parse.urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Refused(Exception):
    """One try that failed: why, and whether another one may help (after `wait` seconds, where the server says so)."""

    def __init__(self, why: str, *, again: bool = False, wait: float | None = None) -> None:
        super().__init__(why)
        self.again, self.wait = again, wait


class ImageAPI(ClosedSystem):
    """Reconstruction by an image API.

    Options: `model`, `prompt`, `base_url`, `size` (empty: the server's choice), `timeout` (seconds a try), `tries`,
    `pause` (seconds before the second try, doubled each time; a Retry-After header wins).
    An image without an answer gives its reason, which the record keeps; none is dropped.
    """

    def __init__(self, card: Card, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(card, options)
        url = str(self.options["base_url"])
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise VtbenchError(f"base_url={url!r} is no address: give http://... or https://...")
        if urllib.parse.urlsplit(url).scheme == "http" and not is_loopback(url):
            raise VtbenchError(f"base_url={url!r} would send the key unencrypted: give https://...")
        if int(self.options["tries"]) < 1 or not float(self.options["timeout"]) > 0:
            raise VtbenchError("tries must be 1 or more, and timeout above 0 seconds")

    def load(self, files: Mapping[str, Path], device: str = "cpu", dtype: str = "float32") -> None:
        """Nothing to load; says at once, before any image, what would make every call fail."""
        if offline() and not is_loopback(str(self.options["base_url"])):
            raise Unavailable(
                f"{self.card.name} calls {self.options['base_url']}, and VTBENCH_OFFLINE forbids the network: unset it"
            )
        if not os.environ.get(KEY):
            raise Unavailable(f"{self.card.name} needs a key: set the environment variable {KEY}")

    def reconstruct(self, images: torch.Tensor, seeds: Sequence[int]) -> list[torch.Tensor | str]:
        """Calls once an image; the API takes no seed, so two runs may differ (the card says stochastic)."""
        return [self._one(image) for image in images]

    def _one(self, image: torch.Tensor) -> torch.Tensor | str:
        size = (int(image.shape[1]), int(image.shape[2]))
        body, kind = form({**self._fields()}, png(image))
        pause, tries = float(self.options["pause"]), int(self.options["tries"])
        why = ""
        for k in range(1, tries + 1):
            try:
                return picture(self._ask(body, kind), size)
            except Refused as bad:
                why = str(bad)
                if not bad.again or k == tries:
                    break
                time.sleep(bad.wait if bad.wait is not None else pause * 2 ** (k - 1))
        return f"{why} (after {k} {'try' if k == 1 else 'tries'})"

    def _fields(self) -> dict[str, str]:
        fields = {"model": str(self.options["model"]), "prompt": str(self.options["prompt"]), "n": "1"}
        return {**fields, "size": str(self.options["size"])} if self.options["size"] else fields

    def _ask(self, body: bytes, kind: str) -> bytes:
        """The picture's bytes out of one call."""
        request = urllib.request.Request(
            f"{str(self.options['base_url']).rstrip('/')}/images/edits",
            data=body,
            headers={"Authorization": f"Bearer {os.environ.get(KEY, '')}", "Content-Type": kind},
        )
        answer = self._open(request)
        try:
            first = json.loads(answer)["data"][0]
            if first.get("b64_json"):
                return base64.b64decode(first["b64_json"], validate=True)
            url = str(first["url"])
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as bad:
            raise Refused(f"the answer is malformed ({type(bad).__name__}): {answer[:80]!r}") from bad
        # The URL comes from the server: only http and https are followed.
        away = urllib.parse.urlsplit(url).scheme not in ("http", "https")
        if away or (offline() and not is_loopback(url)):
            raise Refused(f"the answer points to {url[:80]}, which is not fetched")
        return self._open(urllib.request.Request(url))

    def _open(self, request: urllib.request.Request) -> bytes:
        try:
            with urllib.request.urlopen(request, timeout=float(self.options["timeout"])) as answer:
                data: bytes = answer.read(LARGEST + 1)
        except urllib.error.HTTPError as bad:
            with bad:
                text = _message(bad)
            stated = bad.headers.get("Retry-After", "")
            wait = min(float(stated), 60.0) if stated.isdigit() else None
            raise Refused(f"HTTP {bad.code}: {text}", again=bad.code in AGAIN, wait=wait) from bad
        except TimeoutError as bad:
            raise Refused(f"no answer within {self.options['timeout']} s", again=True) from bad
        except (urllib.error.URLError, http.client.HTTPException, OSError) as bad:
            cause = getattr(bad, "reason", bad)
            if isinstance(cause, TimeoutError):
                raise Refused(f"no answer within {self.options['timeout']} s", again=True) from bad
            raise Refused(f"no connection ({type(cause).__name__}: {cause})", again=True) from bad
        if len(data) > LARGEST:
            raise Refused(f"the answer is longer than {LARGEST} bytes")
        return data


def _message(bad: urllib.error.HTTPError) -> str:
    """What the server says about its refusal, one line."""
    try:
        text = bad.read(2000).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return str(bad.reason)
    try:
        text = str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        text = text or str(bad.reason)
    return " ".join(text.split())[:200]


def png(image: torch.Tensor) -> bytes:
    """float32 (3, H, W) in [0, 1] -> PNG."""
    from PIL import Image

    out = BytesIO()
    Image.fromarray(to_uint8(image[None])[0].permute(1, 2, 0).cpu().numpy()).save(out, "PNG")
    return out.getvalue()


def form(fields: Mapping[str, str], image: bytes) -> tuple[bytes, str]:
    """(body, content type) of a multipart form with the fields and the PNG under `image`."""
    line = uuid.uuid4().hex
    head = [
        f'--{line}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    head.append(
        f'--{line}\r\nContent-Disposition: form-data; name="image"; filename="image.png"\r\n'
        "Content-Type: image/png\r\n\r\n".encode()
    )
    return b"".join([*head, image, f"\r\n--{line}--\r\n".encode()]), f"multipart/form-data; boundary={line}"


def picture(data: bytes, size: tuple[int, int]) -> torch.Tensor:
    """float32 (3, H, W) in [0, 1]; a picture of another size than (H, W) is no reconstruction of it."""
    import numpy as np
    import torch
    from PIL import Image

    try:
        opened = Image.open(BytesIO(data))
        pixels = np.asarray(opened.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as bad:
        raise Refused(f"the answer's picture cannot be read ({type(bad).__name__})") from bad
    if pixels.shape[:2] != size:
        raise Refused(f"the answer is {pixels.shape[1]} x {pixels.shape[0]} pixels, asked were {size[1]} x {size[0]}")
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255


CARDS = (
    Card(
        name="gpt-image-1",
        family="image-api",
        kind="closed",
        title="GPT-4o image (gpt-image-1), asked to repeat the picture",
        sizes=Fixed(1024),
        code="https://platform.openai.com/docs/api-reference/images",
        stochastic=True,
        options={
            "model": "gpt-image-1",
            "prompt": "Reproduce this image exactly as it is, without any change.",
            "base_url": "https://api.openai.com/v1",
            "size": "1024x1024",
            "timeout": 180.0,
            "tries": 4,
            "pause": 2.0,
        },
        environment=(KEY,),
        note="Its rate is unknown; needs OPENAI_API_KEY, and each image is a paid call.",
    ),
    Card(
        name="image-api",
        family="image-api",
        kind="closed",
        title="Any server that speaks the images edit endpoint (--option base_url=...)",
        sizes=Multiple(1),
        code="https://platform.openai.com/docs/api-reference/images",
        stochastic=True,
        environment=(KEY,),
        options={
            "model": "default",
            "prompt": "Reproduce this image exactly as it is, without any change.",
            "base_url": "http://localhost:8000/v1",
            "size": "",
            "timeout": 180.0,
            "tries": 4,
            "pause": 2.0,
        },
        note="Its rate is unknown. The answer must have the size of the picture that was sent.",
    ),
)

FAMILY = Family("image-api", "Closed systems behind an images API", CARDS, ImageAPI)
