"""Records come twice, are poison, or meet a bad release; workers come and go under load."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
from confluent_kafka import Producer

from nilometer.log.envelope import Envelope
from tests.faults.deployment import Deployment, Loading, Project, one
from tests.running import NO_TLS, Server, wait_until


def test_what_is_delivered_twice_and_sent_often_is_there_once(deployment: Deployment) -> None:
    project = deployment.project()
    identifiers = [str(uuid.uuid4()) for _ in range(60)]
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda each: one(deployment.capture.url, project, each), identifiers * 4)
        assert {answer.status_code for answer in answers} == {200}
    acknowledged = dict.fromkeys(identifiers)
    with deployment.process("worker"):
        deployment.count(project, acknowledged)
    begun = deployment.readers.records()
    assert begun >= 4 * len(identifiers)
    deployment.readers.start_over()
    assert deployment.readers.lag() == begun
    with deployment.process("worker"), deployment.process("worker"):
        deployment.count(project, acknowledged)
    assert deployment.readers.records() == begun


def test_poison_is_put_aside_and_what_is_beside_it_goes_through(
    deployment: Deployment, loading: Loading
) -> None:
    project = deployment.project()
    load = loading(deployment.capture.url, project, pause=0.01)
    load.more(10)
    unowned = len(unowned_letters(deployment))
    with deployment.process("worker"):
        poison(deployment, project, 5)
        load.more(100)
        poison(deployment, project, 5)
        load.more(50)
        acknowledged = load.stop()
        deployment.count(project, acknowledged, letters=20)
    reasons = {letter["reason"] for letter in deployment.dead_letters(project)}
    assert reasons == {"record_broken", "unknown_door"}
    assert len(unowned_letters(deployment)) == unowned + 20
    assert load.refused == []


def poison(deployment: Deployment, project: Project, times: int) -> None:
    """So many messages of each kind that no release of ours writes; two kinds name the project."""
    producer = Producer({"bootstrap.servers": deployment.settings["KAFKA_BOOTSTRAP_SERVERS"]})
    for _ in range(times):
        for headers, payload in (
            (None, b"no header"),
            (b"\xff{", b"a broken header"),
            (header(project, "ai"), b"\x00 no payload of its door"),
            (header(project, "a door of nobody"), b"{}"),
        ):
            named: list[tuple[str, Any]] = [("nilometer", headers)] if headers else []
            producer.produce(deployment.settings["KAFKA_TOPIC"], payload, headers=named)
    assert producer.flush(20) == 0


def header(project: Project, door: str) -> bytes:
    return Envelope(
        project_id=project.id,
        uuid=str(uuid.uuid4()),
        door=door,
        door_version=1,
        accepted_at=time.time_ns() // 1000,
        config_version=1,
        payload=b"",
    ).headers()


def unowned_letters(deployment: Deployment) -> list[Any]:
    with deployment.api.client() as client:
        return client.get("/api/dead_letters/?state=open&limit=500").json()["results"]


def test_a_bad_release_stops_at_its_share_and_a_mended_one_loses_nothing(
    deployment: Deployment, loading: Loading
) -> None:
    project = deployment.project()
    load = loading(deployment.capture.url, project)
    load.more(60)
    bad = {"FAILPOINTS": "map=error", "DEAD_LETTER_WINDOW": 20, "DEAD_LETTER_SHARE": 0.5}
    with deployment.process("worker", **bad) as worker:

        def stopped() -> bool:
            told = httpx.get(
                f"{worker.url}/_readiness",
                params={"role": "worker"},
                verify=NO_TLS,
                timeout=60,
            )
            return told.status_code == 503 and "bad release" in told.text

        wait_until(stopped, what="the worker stops and says why")
        load.more(50)  # capture goes on
        letters = deployment.dead_letters(project)
        assert len(letters) == 10
        assert deployment.stored(project) == 0
        assert deployment.readers.lag() > 0
    with deployment.process("worker"):
        acknowledged = load.stop()
        good = len(acknowledged) - len(letters)
        wait_until(lambda: deployment.stored(project) == good, what="the mended release reads on")
        with deployment.api.client() as client:
            for letter in letters:
                path = f"/api/projects/{project.id}/dead_letters/{letter['id']}/replay/"
                assert client.post(path).status_code == 200
        deployment.count(project, acknowledged)
    assert load.refused == []


def test_slow_workers_that_come_go_and_die_under_load_lose_and_repeat_nothing(
    deployment: Deployment, loading: Loading
) -> None:
    """Each batch takes seconds: several operations of the store, half a second longer each."""
    project = deployment.project()
    load = loading(deployment.capture.url, project, clients=2, pause=0.1)
    slow = {"FAILPOINTS": "store=slow"}
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(deployment.process("worker", **slow))
        wait_until(lambda: deployment.stored(project) > 0, what="the first works")
        second, third = (
            stack.enter_context(deployment.process("worker", **slow)) for _ in range(2)
        )
        wait_until(lambda: works(second) and works(third), what="all of them work")
        stopping = threading.Thread(target=first.stop)
        stopping.start()
        seen = deployment.stored(project)
        wait_until(lambda: deployment.stored(project) > seen, what="the others go on")
        second.kill()
        load.more(20)
        stopping.join()
        acknowledged = load.stop()
        deployment.count(project, acknowledged)
    assert load.refused == []


def works(worker: Server) -> bool:
    """Whether it has stored events."""
    text = httpx.get(f"{worker.url}/metrics", timeout=30, verify=NO_TLS).text
    return 'nilometer_pipeline_events_total{outcome="stored"}' in text
