"""A process that appends to a log until it is killed or its disk fails.

    python -m tests.log.appending DIRECTORY FIRST_NUMBER [CALL ERRNO]

Writes "NUMBER OFFSET" for each acknowledged record. With CALL (several joined by `+`), those system
calls begin to fail after 20 records; then "full NUMBER" or "refused NUMBER" follows for each record
that is refused, and after 5 of those the process ends.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from nilometer.log.port import LogFull, LogUnavailable
from nilometer.log.sqlite import SqliteLog
from tests.log.faults import fail_calls
from tests.log.logs import envelope, open_log

SENDERS = 20


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def append_for_ever(log: SqliteLog, first: int) -> None:
    numbers = iter(range(first, first + 10_000_000))

    async def sender() -> None:
        for number in numbers:
            position = await log.append(envelope(number, size=500 + number % 4000))
            say(f"{number} {position.offset}")

    await asyncio.gather(*(sender() for _ in range(SENDERS)))


def append_on_a_failing_disk(log: SqliteLog, first: int, calls: str, error: int) -> None:
    for number in range(first, first + 20):
        say(f"{number} {log.append_blocking(envelope(number)).offset}")
    fail_calls(*calls.split("+"), error=error)
    outcomes: list[str] = []
    for number in range(first + 20, first + 25):
        try:
            log.append_blocking(envelope(number))
            outcomes.append("acknowledged")
        except LogFull:
            outcomes.append("full")
        except LogUnavailable:
            outcomes.append("refused")
    # Writing may be what fails, so the outcome is the exit status.
    sys.exit({("full",) * 5: 10, ("refused",) * 5: 11}.get(tuple(outcomes), 12))


def main() -> None:
    directory, first, *fault = sys.argv[1:]
    log = open_log(Path(directory), segment_bytes=300_000)
    if fault:
        append_on_a_failing_disk(log, int(first), fault[0], int(fault[1]))
    else:
        asyncio.run(append_for_ever(log, int(first)))


if __name__ == "__main__":
    main()
