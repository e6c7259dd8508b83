"""Reads what is stored, through the API and from Kafka: while servers die, and to count at last."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from decimal import Decimal
from typing import Any

import httpx
from confluent_kafka import Consumer, TopicPartition

from tests.running import KEY, wait_until
from tests.soak.load import Broken, Load, digest

_PAGE = 20_000


class Reader:
    """Asks one API process, as the holder of project 1's key."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {KEY}"}, timeout=60
        )

    def get(self, path: str, **params: str) -> httpx.Response:
        """Any page, which must be there."""
        answer = self._client.get(path, params=params or None)
        assert answer.status_code == 200, answer.text
        return answer

    def ask(self, query: str) -> httpx.Response:
        """The answer to one query, whatever it is."""
        body = {"query": {"kind": "HogQLQuery", "query": query}}
        return self._client.post("/api/projects/1/query/", json=body)

    def rows(self, query: str) -> list[list[Any]]:
        """The rows of a query."""
        answer = self.ask(query)
        assert answer.status_code == 200, answer.text
        return answer.json()["results"]

    def pairs(self, table: str, key: str, value: str) -> Iterator[tuple[str, Any]]:
        """A uuid column and another value of every row where that is not null, page by page."""
        last = ""
        while True:
            page = self.rows(
                f"SELECT toString({key}) AS k, {value} AS v FROM {table} "
                f"WHERE k > '{last}' AND v IS NOT NULL ORDER BY k LIMIT {_PAGE}"
            )
            yield from ((row[0], row[1]) for row in page)
            if len(page) < _PAGE:
                return
            last = page[-1][0]

    def close(self) -> None:
        self._client.close()


class Watch:
    """A reader that asks all the time: no event may be seen twice, or not any more."""

    def __init__(self, reader: Reader, interval: float = 1) -> None:
        self.statuses: Counter[int] = Counter()
        self.broken: list[Broken] = []
        self.unexpected: list[str] = []
        self._reader = reader
        self._interval = interval
        self._seen = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def start(self) -> Watch:
        """Begin."""
        self._thread.start()
        return self

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(120)
        assert not self._thread.is_alive()

    def _watch(self) -> None:
        while not self._stopping.wait(self._interval):
            began = time.monotonic()
            try:
                answer = self._reader.ask("SELECT count(), uniqExact(uuid) FROM events")
            except httpx.HTTPError as error:
                ended = time.monotonic()
                self.broken.append(Broken(self._reader.url, began, ended, type(error).__name__))
                continue
            self.statuses[answer.status_code] += 1
            if answer.status_code == 200:
                self._check(*answer.json()["results"][0])
            elif answer.status_code != 503:
                self.unexpected.append(f"{answer.status_code} {answer.text[:300]}")

    def _check(self, events: int, different: int) -> None:
        if events != different:
            self.unexpected.append(f"{events} events of {different} uuids")
        if different < self._seen:
            self.unexpected.append(f"{different} events, after {self._seen} were there")
        self._seen = different


def check_everything(reader: Reader, load: Load, seconds: float = 120) -> None:
    """Every acknowledged event is there once and nothing else: the event, its call and its cost,
    its trace, its blob and its packed value; and there is no dead letter."""
    sent = load.sent
    wait_until(
        lambda: reader.rows("SELECT count() FROM events")[0][0] >= len(sent),
        seconds=seconds,
        what=f"{len(sent)} events are queryable",
    )
    assert sorted(_listed(reader)) == sorted(sent)
    assert list(reader.pairs("events", "uuid", "1")) == [(each, 1) for each in sorted(sent)]
    costs = [
        (uuid, Decimal(cost)) for uuid, cost in reader.pairs("calls", "event_uuid", "cost_total")
    ]
    assert costs == [(uuid, sent[uuid].cost) for uuid in sorted(sent)]
    ((traces, events, calls, cost),) = reader.rows(
        "SELECT count(), sum(event_count), sum(call_count), sum(total_cost_usd) FROM traces"
    )
    assert (traces, events, calls, Decimal(cost)) == (
        len({each.trace for each in sent.values()}),
        len(sent),
        len(sent),
        sum((each.cost for each in sent.values()), Decimal(0)),
    )
    _check_blobs(reader, load)
    _check_packed(reader, load)
    for path in ("/api/projects/1/dead_letters/", "/api/dead_letters/"):
        assert reader.get(path).json()["results"] == []


def _listed(reader: Reader) -> Iterator[str]:
    """The uuid of every event that the project's pages hold, as often as they hold it."""
    path = "/api/projects/1/events/?limit=500"
    while path:
        page = reader.get(path).json()
        yield from (event["uuid"] for event in page["results"])
        path = page["next"]


def _check_blobs(reader: Reader, load: Load) -> None:
    expected = {uuid: each.blob for uuid, each in load.sent.items() if each.blob}
    urls = dict(reader.pairs("events", "uuid", "properties.$blob"))

    def found(uuid: str) -> bytes | None:
        return digest(reader.get("/api/projects/1/blobs/", url=urls[uuid]).content)

    assert urls.keys() == expected.keys()
    _check_all(found, expected)


def _check_packed(reader: Reader, load: Load) -> None:
    expected = {uuid: each.note for uuid, each in load.sent.items() if each.note}

    def found(uuid: str) -> bytes | None:
        event = reader.get(f"/api/projects/1/events/{uuid}/").json()
        assert [each["property"] for each in event["packed"]] == ["note"]
        return digest(event["properties"]["note"].encode())

    _check_all(found, expected)


def _check_all(found: Any, expected: dict[str, bytes | None]) -> None:
    with ThreadPoolExecutor(4) as pool:
        wrong = [
            uuid
            for uuid, value in zip(expected, pool.map(found, expected), strict=True)
            if value != expected[uuid]
        ]
    assert wrong == []


def uncommitted(bootstrap: str, topic: str, group: str) -> int:
    """Records of the topic that the group has not committed, by the brokers' own word."""
    options = {"bootstrap.servers": bootstrap, "group.id": group, "enable.auto.commit": False}
    with closing(Consumer(options)) as consumer:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        places = [TopicPartition(topic, number) for number in partitions]
        missing = 0
        for place in consumer.committed(places, timeout=10):
            low, high = consumer.get_watermark_offsets(
                TopicPartition(topic, place.partition), timeout=10
            )
            missing += high - (place.offset if place.offset >= 0 else low)
        return missing
