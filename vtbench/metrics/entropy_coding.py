"""What the tokens of a run cost in written bytes: each image alone, by constriction's range coder, read back again.

The model is static, of order 0: the counts of the other fold's images, add 1/2. Bits are divided by the pixels of the
scored image.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vtbench.metrics._codes import (
    CodesMetric,
    Table,
    alphabets,
    codes_card,
    folds,
    indices,
    mean_bits_per_pixel,
)
from vtbench.types.metric import SetValue
from vtbench.types.tokens import Tokens

if TYPE_CHECKING:
    from vtbench.metrics._codes import Ints


class Coded(CodesMetric):
    """Bytes of a range coder, each image alone, under a static order-0 model of the other fold; decoded and compared.

    The model (the other fold's counts + 1/2) is what a decoder would have to own: its size, packed by zlib, is in the
    details and not in the rate. Header bytes (the length of a variable-length code) are in the rate.
    """

    card = codes_card(
        "coded-bpp",
        "Written bits per pixel",
        "bit/px",
        "lower",
        "bytes written by constriction's range coder (32-bit words), order-0 model of the other fold's images",
    )

    def count(self, tokens: Sequence[Tokens], sizes: Sequence[tuple[int, int]]) -> SetValue:
        import numpy as np

        fold = folds(tokens)
        if len(set(fold)) < 2:
            return SetValue(None, n=len(tokens), why="all images have the same tokens: no other to make a model of")
        sets = alphabets(tokens)
        counts = _counts(tokens, fold, sets)
        models = [[_model(c) if size > 1 else None for c, size in zip(books, sets, strict=True)] for books in counts]
        variable = bool(getattr(tokens[0], "variable", False))
        body, header = [], []
        for f, x in zip(fold, indices(tokens), strict=True):
            words, head = write(x, models[1 - f], variable)
            back = read(words, head, x.shape, models[1 - f])
            if not np.array_equal(back, x):
                return SetValue(None, n=len(tokens), why="the range coder did not return what was written")
            body.append(4 * len(words))
            header.append(len(head))
        total = np.array(body, dtype=np.float64) + np.array(header)
        model_bytes = [len(zlib.compress(np.concatenate(books).astype("<u4").tobytes(), 9)) for books in counts]
        details = {
            "bytes_per_image": float(total.mean()),
            "header_bytes_per_image": float(np.mean(header)),
            "model_bytes": int(max(model_bytes)),
            "decoded_and_compared": len(tokens),
            "model_is_counted": False,
        }
        return mean_bits_per_pixel(8 * total, sizes, details)


def _counts(tokens: Sequence[Tokens], fold: Sequence[int], sets: Sequence[int]) -> list[list[Ints]]:
    """For each fold the histogram of every book."""
    tables = [[Table(size) for size in sets] for _ in range(2)]
    for f, x in zip(fold, indices(tokens), strict=True):
        for book, table in enumerate(tables[f]):
            column = x[:, book]
            table.add(column[column >= 0])
    return [[table.flush() for table in books] for books in tables]


def _model(counts: Ints) -> Any:
    import constriction
    import numpy as np

    weights = counts.astype(np.float64) + 0.5
    return constriction.stream.model.Categorical((weights / weights.sum()).astype(np.float64), perfect=False)


def varint(value: int) -> bytes:
    """Seven bits a byte, low bits first, the top bit set on all but the last byte (LEB128)."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def write(x: Ints, models: Sequence[Any], variable: bool) -> tuple[Any, bytes]:
    """(uint32 words, header) of one image's (positions, books).

    The header is empty where the length is fixed; else a byte 1 and the number of positions.
    """
    import constriction
    import numpy as np

    encoder = constriction.stream.queue.RangeEncoder()
    present = x >= 0
    for book, model in enumerate(models):
        column = x[present[:, book], book]
        if model is not None and len(column):
            encoder.encode(np.ascontiguousarray(column, dtype=np.int32), model)
    head = b"\x01" + varint(int(present[:, 0].sum())) if variable else b""
    return encoder.get_compressed(), head


def read(words: Any, head: bytes, shape: tuple[int, ...], models: Sequence[Any]) -> Ints:
    """The image's (positions, books) from words, header and models alone."""
    import constriction
    import numpy as np

    decoder = constriction.stream.queue.RangeDecoder(words)
    present = np.ones(shape, dtype=bool)
    if head[:1] == b"\x01":
        present[sum((byte & 127) << 7 * i for i, byte in enumerate(head[1:])) :] = False
    out = np.full(shape, -1, dtype=np.int64)
    for book, model in enumerate(models):
        number = int(present[:, book].sum())
        if number:
            out[present[:, book], book] = 0 if model is None else decoder.decode(model, number)
    return out


METRICS = (Coded,)
