"""Work in the background of a host's process, in turns with its own threads."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def in_turns(items: Iterable[T]) -> Iterator[T]:
    """The items, and after each a chance for another thread to run.

    A loop that takes no such break keeps the interpreter for `sys.getswitchinterval()`, 5 ms, from
    a call that has its answer. Each item should take well under a millisecond.
    """
    for item in items:
        yield item
        time.sleep(0)
