"""Handles are lent to one thread at a time, kept for the next, and closed in the end."""

import threading
from itertools import count

import pytest

from nilometer.clickhouse.pool import Pool


class Handles:
    """Counts what a pool makes and closes."""

    def __init__(self) -> None:
        self.closed: list[int] = []
        numbers = count()
        self.pool = Pool(lambda: next(numbers), self.closed.append, keep=2)


def test_the_last_handle_returned_is_lent_again():
    handles = Handles()
    with handles.pool.lend() as first:
        pass
    with handles.pool.lend() as second:
        assert second == first
    assert handles.closed == []


def test_two_borrowers_never_share_a_handle():
    handles = Handles()
    with handles.pool.lend() as one, handles.pool.lend() as other:
        assert one != other


def test_no_more_idle_handles_are_kept_than_asked():
    handles = Handles()
    with handles.pool.lend(), handles.pool.lend(), handles.pool.lend():
        pass
    assert len(handles.closed) == 1


def test_a_handle_is_thrown_away_after_an_error():
    handles = Handles()
    with pytest.raises(KeyError), handles.pool.lend() as first:
        raise KeyError
    assert handles.closed == [first]
    with handles.pool.lend() as second:
        assert second != first


def test_closing_closes_what_is_idle_now_and_what_is_lent_when_it_returns():
    handles = Handles()
    with handles.pool.lend() as idle:
        pass
    with handles.pool.lend() as lent:
        assert lent == idle
        with handles.pool.lend() as other:
            pass
        handles.pool.close()
        assert handles.closed == [other]
    assert handles.closed == [other, lent]


def test_threads_get_handles_of_their_own():
    handles = Handles()
    together = threading.Barrier(8)
    seen: list[int] = []

    def work() -> None:
        with handles.pool.lend() as handle:
            together.wait(10)
            seen.append(handle)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == list(range(8))
