"""Reading ahead: a background thread prepares the next items while the consumer works on this one."""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

T = TypeVar("T")


class _End:
    """What stands behind the last item."""


_END: Final = _End()


def prefetch(items: Iterator[T], depth: int = 2) -> Iterator[T]:
    """Yield `items` in order, up to `depth` of them prepared ahead by one background thread.

    An exception raised by `items` is raised here, after the items before it. When the consumer leaves (break, an
    exception, closing the iterator), the thread ends after the item in progress, and a generator is closed.
    """
    if depth < 1:
        raise ValueError(f"depth must be at least 1, got {depth}")
    return _ahead(items, depth)


def _ahead(items: Iterator[T], depth: int) -> Iterator[T]:
    pool = ThreadPoolExecutor(1, thread_name_prefix="edgepress-prefetch")
    waiting: deque[Future[T | _End]] = deque()
    try:
        while True:
            while len(waiting) < depth:
                waiting.append(pool.submit(next, items, _END))
            item = waiting.popleft().result()
            if isinstance(item, _End):
                return
            waiting.append(pool.submit(next, items, _END))  # before the consumer sees its item, not after
            yield item
    finally:
        pool.shutdown(cancel_futures=True)
        if isinstance(items, Generator):
            items.close()
