"""Python runs this at its start where the folder is on its path: the process's clock is then
`NILOMETER_TEST_CLOCK` seconds ahead. What measures durations is right, as on a real machine, and so
is the system's own clock, by which requests to S3 are signed.
"""

import os
import time
from datetime import UTC, datetime, timedelta

from nilometer.domain import clock

_AHEAD = int(os.environ["NILOMETER_TEST_CLOCK"])
_time, _time_ns = time.time, time.time_ns

time.time = lambda: _time() + _AHEAD
time.time_ns = lambda: _time_ns() + _AHEAD * 1_000_000_000
clock.now = lambda: datetime.now(UTC) + timedelta(seconds=_AHEAD)
