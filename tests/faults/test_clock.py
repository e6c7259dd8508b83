"""Processes whose clocks are days apart: what they accept is there, once, and in its order."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from itertools import cycle

from tests.faults.clocks import off_by
from tests.faults.deployment import Deployment, Loading, one

DAY = 24 * 3600
AHEAD, BEHIND = 2 * DAY, -40 * DAY


def test_captures_and_workers_with_wrong_clocks_lose_and_repeat_nothing(
    deployment: Deployment, loading: Loading
) -> None:
    project = deployment.project()
    with (
        deployment.process("capture", prefix=off_by(AHEAD)) as ahead,
        deployment.process("capture", prefix=off_by(BEHIND)) as behind,
    ):
        right = deployment.capture
        loads = [loading(each.url, project, clients=2) for each in (ahead, behind, right)]
        for load in loads:
            load.more(30)
        acknowledged: dict[str, bytes | None] = {}
        for load in loads:
            acknowledged |= load.stop()
            assert load.refused == []

        # Sent to each in turn, as a client that is balanced between them repeats: one event.
        repeated = [str(uuid.uuid4()) for _ in range(9)]
        doors = cycle((ahead, right, behind, ahead, behind))
        for _ in range(5):
            for identifier in repeated:
                assert one(next(doors).url, project, identifier).status_code == 200
        acknowledged |= dict.fromkeys(repeated)
        with (
            deployment.process("worker", prefix=off_by(BEHIND)),
            deployment.process("worker", prefix=off_by(AHEAD)),
        ):
            deployment.count(project, acknowledged)

    # Accepted by the clock of who accepted it, which nobody hides.
    days = "SELECT toDate(accepted_at) AS day, count() FROM events GROUP BY day ORDER BY day"
    counts = {row[0]: row[1] for row in deployment.sql(project, days)}
    today = datetime.now(UTC)
    for load, seconds in zip(loads, (AHEAD, BEHIND, 0), strict=True):
        day = (today + timedelta(seconds=seconds)).date()
        around = [(day + timedelta(days=n)).isoformat() for n in (-1, 0, 1)]
        assert sum(counts.get(each, 0) for each in around) >= len(load.acknowledged)
