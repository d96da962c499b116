"""Closed systems behind an images API: the picture goes in with a prompt, a picture comes back; no tokens, no rate.

Speaks the images edit endpoint of the OpenAI API (`POST {base_url}/images/edits`, multipart form with `model`, `image`
and `prompt`, answered by JSON with `data[0].b64_json` or `data[0].url`), which other servers speak too.
The key comes from the environment (`OPENAI_API_KEY`), goes to that origin alone, and is never stored or shown.
"""

from __future__ import annotations

import base64
import json
import math
import time
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench.images import web
from vtbench.images.limits import BadImage
from vtbench.images.reading import decode
from vtbench.images.rounding import to_uint8
from vtbench.types.adapter import ClosedSystem
from vtbench.types.cards import Card, Family, Fixed, Multiple
from vtbench.types.environment import offline
from vtbench.types.errors import Unavailable, VtbenchError
from vtbench.types.secrets import redacted, secret

if TYPE_CHECKING:
    import torch

KEY = "OPENAI_API_KEY"
LARGEST = 64 << 20
"""Bytes of an answer that are read at most: a picture of 4096 x 4096 is less."""


class ImageAPI(ClosedSystem):
    """Reconstruction by an image API.

    Options: `model`, `prompt`, `base_url`, `size` (empty: the server's choice), `timeout` (seconds of a try in all),
    `tries`, `pause` (seconds before the second try, doubled each time; a Retry-After header wins).
    An image without an answer gives its reason, which the record keeps; none is dropped.
    """

    def __init__(self, card: Card, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(card, options)
        # Before anything is said of the options, which may hold it.
        secret(KEY)
        try:
            url = str(self.options["base_url"])
            web.origin(url)
            if "?" in url or "#" in url:
                raise web.Refused("it holds a query, which would be recorded: leave it out")
        except web.Refused as bad:
            raise VtbenchError(f"base_url is not taken: {bad}") from bad
        if int(self.options["tries"]) < 1 or not 0 < float(self.options["timeout"]) < math.inf:
            raise VtbenchError("tries must be 1 or more, and timeout above 0 seconds")
        if not 0 <= float(self.options["pause"]) <= web.LONGEST_WAIT:
            raise VtbenchError(f"pause must be from 0 to {web.LONGEST_WAIT:g} seconds")

    def load(self, files: Mapping[str, Path], device: str = "cpu", dtype: str = "float32") -> None:
        """Nothing to load; says at once, before any image, what would make every call fail."""
        if offline() and not web.is_loopback(str(self.options["base_url"])):
            raise Unavailable(
                f"{self.card.name} calls {self.options['base_url']}, and VTBENCH_OFFLINE forbids the network: unset it"
            )
        key = secret(KEY)
        if key is None:
            raise Unavailable(f"{self.card.name} needs a key: set the environment variable {KEY}")
        if not (key.isascii() and key.isprintable() and " " not in key):
            raise Unavailable(f"{KEY} holds characters that no key has (spaces, line breaks, accents): set it again")

    def reconstruct(self, images: torch.Tensor, seeds: Sequence[int]) -> list[torch.Tensor | str]:
        """Calls once an image; the API takes no seed, so two runs may differ (the card says stochastic)."""
        return [self._one(image) for image in images]

    def _one(self, image: torch.Tensor) -> torch.Tensor | str:
        size = (int(image.shape[1]), int(image.shape[2]))
        sent = png(image)
        pause, tries = float(self.options["pause"]), int(self.options["tries"])
        why = ""
        for k in range(1, tries + 1):
            try:
                return picture(self._ask(sent), size)
            except web.Refused as bad:
                why = str(bad)
                if not bad.again or k == tries:
                    break
                time.sleep(bad.wait if bad.wait is not None else min(pause * 2 ** (k - 1), web.LONGEST_WAIT))
        return f"{why} (after {k} {'try' if k == 1 else 'tries'})"

    def _fields(self) -> dict[str, str]:
        fields = {"model": str(self.options["model"]), "prompt": str(self.options["prompt"]), "n": "1"}
        return {**fields, "size": str(self.options["size"])} if self.options["size"] else fields

    def _ask(self, image: bytes) -> bytes:
        """The picture's bytes out of one call; `timeout` is for all of it."""
        base, limit = str(self.options["base_url"]).rstrip("/"), time.monotonic() + float(self.options["timeout"])
        question = web.Question(
            f"{base}/images/edits",
            headers={"Authorization": f"Bearer {secret(KEY) or ''}"},
            fields=self._fields(),
            files={"image": ("image.png", image, "image/png")},
        )
        answer = self._fetch(question, limit)
        try:
            first = json.loads(answer)["data"][0]
            if first.get("b64_json"):
                return base64.b64decode(first["b64_json"], validate=True)
            url = str(first["url"])
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as bad:
            # Cut only when no part of the key is left in it.
            said = redacted(answer[:4096].decode(errors="backslashreplace"))[:80]
            raise web.Refused(f"the answer is malformed ({type(bad).__name__}): {said!r}") from bad
        return self._fetch(self._picture_at(url, base), limit)

    def _picture_at(self, url: str, base: str) -> web.Question:
        """The request for a picture whose address the server gave: nobody's own network, unless it is the server's."""
        ours = web.origin(base)
        try:
            theirs = web.origin(url)
            away = theirs != ours and web.is_private(url) and not web.is_loopback(base)
        except web.Refused as bad:
            raise web.Refused(f"the answer points to an address which is not fetched: {bad}") from bad
        if away or (offline() and not web.is_loopback(url)):
            raise web.Refused(f"the answer points to {theirs}, which is not fetched")
        return web.Question(url)

    def _fetch(self, question: web.Question, limit: float) -> bytes:
        """limit: when the call has taken too long, by the monotonic clock."""
        try:
            return web.fetch(question, seconds=max(0.0, limit - time.monotonic()), most=LARGEST)
        except web.OutOfTime as bad:
            raise web.Refused(f"no answer within {self.options['timeout']} s", again=True) from bad


def png(image: torch.Tensor) -> bytes:
    """float32 (3, H, W) in [0, 1] -> PNG."""
    from PIL import Image

    out = BytesIO()
    Image.fromarray(to_uint8(image[None])[0].permute(1, 2, 0).cpu().numpy()).save(out, "PNG")
    return out.getvalue()


def picture(data: bytes, size: tuple[int, int]) -> torch.Tensor:
    """float32 (3, H, W) in [0, 1], read as every image is; one of another size than (H, W) is no reconstruction."""
    import torch

    try:
        pixels = decode(data, "the file")
    except BadImage as bad:
        raise web.Refused(f"the answer's picture cannot be read ({bad})") from bad
    if pixels.shape[:2] != size:
        raise web.Refused(
            f"the answer is {pixels.shape[1]} x {pixels.shape[0]} pixels, asked were {size[1]} x {size[0]}"
        )
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


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
