"""An iterator that works one item ahead, in a thread of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

T = TypeVar("T")


def read_ahead(items: Iterator[T], pool: ThreadPoolExecutor | None = None) -> Generator[T, None, None]:
    """Yield what `items` yields (which is never None); the next item is made while the last one is worked on.

    So two of them are in memory. Errors come where the item would have come. When this ends, or is closed, nothing is at
    work on `items` any more. With a `pool`, a thread of that is used, which stays.
    """
    with contextlib.ExitStack() as ending:
        if pool is None:
            pool = ending.enter_context(ThreadPoolExecutor(1, thread_name_prefix="bourne-ahead"))
        coming = pool.submit(next, items, None)
        try:
            while (item := coming.result()) is not None:
                coming = pool.submit(next, items, None)
                yield item
        finally:
            wait([coming])
