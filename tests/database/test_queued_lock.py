"""Whoever waits for longest is next, and nobody waits for ever."""

import threading
from concurrent.futures import ThreadPoolExecutor

from nilometer.database.queued_lock import QueuedLock
from tests.running import wait_until


def test_it_is_handed_over_in_the_order_of_asking_even_if_the_holder_asks_again():
    lock, order = QueuedLock(), []
    assert lock.acquire(1)
    threads = []

    def take(name):
        assert lock.acquire(30)
        order.append(name)
        lock.release()

    for at in range(5):
        threads.append(threading.Thread(target=take, args=(at,)))
        threads[-1].start()
        wait_until(lambda at=at: len(lock._waiting) == at + 1)
    lock.release()
    take("again")
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2, 3, 4, "again"]


def test_who_gives_up_does_not_keep_the_next_waiting():
    lock = QueuedLock()
    assert lock.acquire(1)
    assert not lock.acquire(0.01)
    lock.release()
    assert lock.acquire(0)
    lock.release()


def test_one_at_a_time_has_it_and_everybody_in_the_end():
    lock, inside, most, count = QueuedLock(), [0], [0], [0]

    def work(_):
        for _ in range(200):
            if lock.acquire(0.0005):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                count[0] += 1
                inside[0] -= 1
                lock.release()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    assert most == [1]
    assert count[0] > 0
    assert lock.acquire(0), "nobody has it"
