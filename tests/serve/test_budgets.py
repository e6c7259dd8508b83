"""Budgets of a running server: who is told, and that calls stop, whatever happens meanwhile."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import httpx

from tests.notifications.receivers import Receiver, receiving
from tests.running import KEY, Server, running, wait_until

CALLERS = 50
LIMIT = 100
PROJECT = "/api/projects/1"
NETWORKS = {"NOTIFICATION_NETWORKS": "127.0.0.0/8"}


def test_three_alerts_under_fifty_callers_and_a_kill_and_only_calls_in_flight_pass(tmp_path: Path):
    with receiving() as receiver:
        with running(tmp_path, **NETWORKS) as server:
            with server.client() as client:
                _configure(client, receiver)
            first = _spend(server, most=60)
            assert first == 60
            wait_until(lambda: _thresholds(receiver) == ["50"], what="told of the first threshold")
            # Killed before that is noted, it would be sent again when its lease of a minute ends.
            with server.client() as client:
                wait_until(lambda: _delivered(client) == 1, what="noted")
            server.kill()
        with running(tmp_path, **NETWORKS) as server:
            second = _spend(server, most=1000)
            wait_until(lambda: len(receiver.received) >= 3, what="told of all thresholds")
            server.stop()
        # Those under way when the last of the limit was stored, that one not among them.
        assert LIMIT <= first + second <= LIMIT + CALLERS - 1
        with running(tmp_path, **NETWORKS) as server, server.client() as client:
            wait_until(lambda: _evaluations(client) > 0, what="swept")
            alerts = client.get(f"{PROJECT}/budget_alerts/").json()["results"]
            status = client.get(f"{PROJECT}/budgets/").json()["results"][0]["status"]
        assert sorted(each["threshold"] for each in alerts) == [50, 80, 100]
        assert sorted(_thresholds(receiver), key=int) == ["50", "80", "100"]
        assert len(set(receiver.ids)) == 3
        assert (status["spent_usd"], status["stopped"]) == (str(first + second), True)


def _configure(client: httpx.Client, receiver: Receiver) -> None:
    channel = {"name": "hook", "kind": "webhook", "config": {"url": receiver.url}}
    answer = client.post(f"{PROJECT}/notification_channels/", json=channel)
    assert answer.is_success, answer.text
    budget = {"name": "all", "amount_usd": str(LIMIT), "period": "year", "hard_stop": True}
    answer = client.post(f"{PROJECT}/budgets/", json=budget)
    assert answer.is_success, answer.text


class Readable:
    """Whose calls can be read, asked by one thread for all callers."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._changed = threading.Condition()
        self._uuids: set[str] = set()
        self._stopping = threading.Event()

    def wait(self, uuid: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: uuid in self._uuids, 60), "stored"

    def run(self) -> None:
        with self._server.client() as client:
            wait_until(lambda: self._read(client) and self._stopping.is_set(), seconds=100)

    def stop(self) -> None:
        self._stopping.set()

    def _read(self, client: httpx.Client) -> bool:
        query = {"kind": "HogQLQuery", "query": "SELECT event_uuid FROM calls LIMIT 1000"}
        answer = client.post(f"{PROJECT}/query/", json={"query": query})
        with self._changed:
            self._uuids |= {row[0] for row in answer.json().get("results", [])}
            self._changed.notify_all()
        return True


def _spend(server: Server, most: int) -> int:
    """Have many callers spend a dollar a call until they are stopped, or made so many calls in
    all; how many they made. A call has ended once its usage can be read."""
    places, readable = threading.Semaphore(most), Readable(server)

    def call(_: int) -> int:
        made = 0
        with server.client() as client:
            while _allowed(client) and places.acquire(blocking=False):
                readable.wait(_call(client))
                made += 1
        return made

    reader = threading.Thread(target=readable.run)
    reader.start()
    try:
        with ThreadPoolExecutor(CALLERS) as pool:
            return sum(pool.map(call, range(CALLERS)))
    finally:
        readable.stop()
        reader.join()


def _allowed(client: httpx.Client) -> bool:
    answer = client.post(f"{PROJECT}/budgets/check/", json={"service": "acme"})
    assert answer.is_success, answer.text
    return answer.json()["allowed"]


def _call(client: httpx.Client) -> str:
    uuid = str(uuid4())
    properties = {"$ai_provider": "acme", "$ai_model": "m", "$ai_total_cost_usd": 1}
    event = {"event": "$ai_generation", "uuid": uuid, "distinct_id": "d", "properties": properties}
    client.post("/batch/", json={"api_key": KEY, "batch": [event]}).raise_for_status()
    return uuid


def _thresholds(receiver: Receiver) -> list[str]:
    return [json.loads(each.body)["data"]["facts"]["threshold"] for each in receiver.received]


def _delivered(client: httpx.Client) -> int:
    deliveries = client.get(f"{PROJECT}/notification_deliveries/").json()["results"]
    return [each["state"] for each in deliveries].count("delivered")


def _evaluations(client: httpx.Client) -> float:
    """How often budgets were evaluated since the process started."""
    text = client.get("/metrics").text
    name = 'nilometer_budget_evaluations_total{outcome="ok"} '
    return sum(float(line.removeprefix(name)) for line in text.splitlines() if name in line)
