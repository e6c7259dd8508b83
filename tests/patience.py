"""How long tests wait: so long as what they wait for takes on a busy machine, and then `PATIENCE`
times as long.

Continuous integration runs where the host may take half of the processors away for minutes. What
comes late there says nothing of Nilometer, and what never comes fails all the same.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

VARIABLE = "NILOMETER_TEST_PATIENCE"
PATIENCE = float(os.environ.get(VARIABLE, "3"))


def within(seconds: float, condition: Callable[[], T], *, interval: float = 0.02) -> T:
    """The first true value of the condition, or its last, false one when the time is over."""
    deadline = time.monotonic() + seconds * PATIENCE
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(interval)
    return value
