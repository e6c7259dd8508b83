"""A client that got no answer sends again: two records, which two workers have, are one event."""

from __future__ import annotations

import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.faults.deployment import deployed, one, servers
from tests.running import wait_until
from tests.services import KafkaService, PostgresService, S3Service


def test_what_is_sent_again_is_one_event_whichever_workers_store_the_records(
    kafka: KafkaService, postgres: PostgresService, s3: S3Service, tmp_path: Path
) -> None:
    """The workers take their time between looking up and storing. The events have no timestamp, so
    that theirs is the time of acceptance, another of each record."""
    with servers(kafka, postgres, s3, tmp_path) as settings, deployed(settings, tmp_path) as found:
        project = found.project()
        sent = [str(uuid.uuid4()) for _ in range(50)]
        slow = {"FAILPOINTS": "store=slow"}
        with found.process("worker", **slow) as first, found.process("worker", **slow) as second:
            for worker in (first, second):
                worker.wait_ready("worker")
            with ThreadPoolExecutor(8) as pool:
                answers = pool.map(lambda each: one(found.capture.url, project, each), sent * 3)
                assert {answer.status_code for answer in answers} == {200}
            wait_until(lambda: found.stored(project) >= len(sent), seconds=60)
            wait_until(lambda: found.readers.lag() == 0, seconds=60)
        assert Counter(found.uuids(project)) == Counter(sent)
