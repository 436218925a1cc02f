import threading
import time
from collections.abc import Iterator

import pytest

from edgepress.data.prefetch import prefetch


def _threads() -> int:
    return sum(thread.name.startswith("edgepress-prefetch") for thread in threading.enumerate())


@pytest.mark.parametrize("depth", [1, 2, 50])
def test_items_come_in_order_and_the_thread_ends(depth: int) -> None:
    assert list(prefetch(iter(range(20)), depth)) == list(range(20))
    assert _threads() == 0


def test_no_more_than_depth_items_are_prepared_ahead() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    ahead = prefetch(items(), 3)
    assert next(ahead) == 0
    deadline = time.monotonic() + 5
    while len(made) < 4 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.02)
    assert made == [0, 1, 2, 3]
    ahead.close()  # type: ignore[attr-defined]


def test_an_error_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("the disk went away")

    seen: list[int] = []
    with pytest.raises(OSError, match="went away"):
        seen.extend(prefetch(items(), 4))
    assert _threads() == 0


def test_a_consumer_that_leaves_stops_the_thread_and_closes_the_source() -> None:
    closed: list[bool] = []

    def items() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    with pytest.raises(KeyError):
        for _ in prefetch(items(), 2):
            raise KeyError("the consumer fails")
    deadline = time.monotonic() + 5
    while _threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert closed == [True] and _threads() == 0


def test_a_depth_below_one_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        prefetch(iter([1]), 0)
