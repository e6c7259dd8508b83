"""A worker that dies between an effect and its commit.

    python -m tests.log.kafka_worker BOOTSTRAP TOPIC RECORDS

Commits its first records, saying "committed NUMBER …", has the effect of the next, saying
"had NUMBER …" and then "effect", and waits to be killed.
"""

from __future__ import annotations

import sys
import threading

from nilometer.log.kafka import Membership
from tests.log.kafka_logs import open_kafka_log
from tests.log.logs import numbers, read


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def main() -> None:
    bootstrap, topic, count = sys.argv[1:]
    log = open_kafka_log(bootstrap, topic, membership=Membership(session_timeout=6))
    consumer = log.consumer("workers")
    first = read(consumer, int(count))
    consumer.commit(first)
    say("committed", *numbers(first))
    say("had", *numbers(read(consumer, int(count))))
    say("effect")
    threading.Event().wait()


if __name__ == "__main__":
    main()
