"""Every process and server of a deployment is killed and restarted in turn, under load; then
everything is counted.

`make test` kills one of each kind once. `make soak` goes on for NILOMETER_SOAK_SECONDS, with Kafka
on three brokers.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from contextlib import closing
from itertools import chain
from pathlib import Path

import pytest

from tests.running import wait_until
from tests.soak.deployment import TOPIC, deployed
from tests.soak.load import Load
from tests.soak.reader import Reader, Watch, check_everything, uncommitted
from tests.soak.script import Script, unexcused

SECONDS = float(os.environ.get("NILOMETER_SOAK_SECONDS", "0"))

# One of each kind.
SHORT = ("capture-1", "worker-1", "kafka-1", "postgres", "s3", "clickhouse", "api-1")


@pytest.mark.soak
@pytest.mark.timeout(600 + 2 * SECONDS)
def test_nothing_is_lost_or_repeated_while_everything_is_killed_in_turn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"KAFKA_SESSION_TIMEOUT": 6, "KAFKA_DELIVERY_TIMEOUT": 5} if not SECONDS else {}
    with (
        deployed(tmp_path, brokers=3 if SECONDS else 1, **settings) as deployment,
        closing(Reader(deployment.urls("api")[0])) as reader,
        deployment.telling(),
    ):
        load = Load(deployment.urls("capture"))
        watch = Watch(reader)
        script = Script(load, longest_away=5 if SECONDS else 0.5)
        load.start()
        watch.start()
        try:
            load.more(100)
            for name in () if SECONDS else SHORT:
                script.step(deployment.targets[name], "kill")
            script.turns(list(deployment.targets.values()), SECONDS)
        finally:
            load.stop()
            watch.stop()
        with capsys.disabled():
            sys.stdout.write(_told(load, watch, script) if SECONDS else "")
        assert load.unexpected == []
        assert watch.unexpected == []
        broken = chain(load.broken, watch.broken)
        assert unexcused(broken, list(deployment.targets.values())) == []
        check_everything(reader, load)
        wait_until(
            lambda: uncommitted(deployment.bootstrap, TOPIC, f"{TOPIC}.store") == 0,
            what="everything is committed",
        )


def _told(load: Load, watch: Watch, script: Script) -> str:
    """What happened, in a few lines."""
    ends = Counter((step.target, step.end) for step in script.steps)
    recovery = {step.target: 0.0 for step in script.steps}
    for step in script.steps:
        recovery[step.target] = max(recovery[step.target], step.recovery)
    lines = [
        f"{len(load.sent)} events acknowledged; answers {dict(load.statuses)}, "
        f"{len(load.broken)} broken connections",
        f"{sum(watch.statuses.values())} queries beside it: {dict(watch.statuses)}, "
        f"{len(watch.broken)} broken connections",
        *(
            f"{name}: killed {ends[name, 'kill']} times, ended {ends[name, 'stop']} times; "
            f"events acknowledged again at most {seconds:.1f} s after its start"
            for name, seconds in recovery.items()
        ),
    ]
    return "\n" + "\n".join(lines) + "\n"
