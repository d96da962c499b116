"""Work done ahead by threads: results come in order, and only a bounded number of them waits in memory."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
THREADS = 2


def read_ahead(
    read: Callable[[T], R], items: Iterable[T], *, most: int, threads: int = THREADS, name: str = "read"
) -> Iterator[R]:
    """`read(item)` of every item, in their order, by `threads` threads; at most `most` results are begun and not yet
    taken. An exception of `read` is raised where its result is taken; what was begun and not taken is then dropped."""
    rest = iter(items)
    pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
    waiting: deque[Future[R]] = deque()
    try:
        while True:
            for item in itertools.islice(rest, most - len(waiting)):
                waiting.append(pool.submit(read, item))
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def in_batches(results: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` results, the last one shorter."""
    rest = iter(results)
    while batch := list(itertools.islice(rest, size)):
        yield batch
