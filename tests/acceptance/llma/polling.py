"""Waiting for a condition."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tests.patience import within

T = TypeVar("T")
INTERVAL = 0.05


def until(condition: Callable[[], T], what: str, seconds: float = 60) -> T:
    """The first true value of the condition; AssertionError when the time is over."""
    value = within(seconds, condition, interval=INTERVAL)
    assert value, f"not within {seconds} s: {what}"
    return value
