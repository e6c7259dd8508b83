"""What was redacted is told by records, and stays with each event: alone, stored, mapped again."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest

from nilometer.clickhouse.store import Store
from nilometer.domain import ai_record, litellm_record, otlp_record, posthog_record
from nilometer.domain.ai_record import AiRecord, RecordBroken
from nilometer.domain.litellm_record import LiteLLMItem, LiteLLMRecord
from nilometer.domain.otlp_record import OtlpRecord
from nilometer.domain.posthog_record import PostHogEvent, PostHogRecord
from nilometer.log.envelope import Envelope
from nilometer.pipeline import mapping
from nilometer.pipeline.mapping import Rows
from nilometer.pipeline.pipeline import Pipeline
from nilometer.pipeline.rewriting import stored_events
from tests.capture import otlp
from tests.pipeline.records import MemoryLog

MARKS: list[dict[str, int]] = [{}, {"email": 2, "key:password": 1}, {"content": 3}]
EVENT = b'{"event":"$ai_generation","distinct_id":"d","properties":{"$ai_model":"m"}}'
_UUID = "00000000-0000-4000-8000-0000000000{}"


def envelope(project_id: int, record: Any, door: Any, place: int = 99) -> Envelope:
    accepted_at = 1_751_371_200_000_000
    uuid = _UUID.format(place)
    return Envelope(project_id, uuid, door.DOOR, door.DOOR_VERSION, accepted_at, 1, record.encode())


def posthog() -> Any:
    events = [PostHogEvent(_UUID.format(10 + n), EVENT, redacted=m) for n, m in enumerate(MARKS)]
    return PostHogRecord(
        events=tuple(events), protocol="v0", sent_at=None, ip="127.0.0.1", retention_days=30
    )


def litellm() -> Any:
    texts = [b'{"litellm_call_id":"call-%d","call_type":"completion"}' % n for n in range(3)]
    items = [LiteLLMItem(text, redacted=m) for text, m in zip(texts, MARKS, strict=True)]
    return LiteLLMRecord(items=tuple(items), ip="127.0.0.1", retention_days=30)


def spans() -> Any:
    request = otlp.body(*(otlp.span() for _ in MARKS))
    marks = {place: mark for place, mark in enumerate(MARKS) if mark}
    return OtlpRecord(
        request=request, protocol="http", ip="127.0.0.1", retention_days=30, redacted=marks
    )


BATCHES = [(posthog, posthog_record), (litellm, litellm_record), (spans, otlp_record)]


def redacted(envelope: Envelope) -> list[dict[str, int]]:
    found = []
    for mapped in mapping.map_record(envelope):
        assert isinstance(mapped, Rows)
        found.append(orjson.loads(orjson.loads(mapped.event).get("redacted", "{}")))
    return found


@pytest.mark.parametrize(("make", "door"), BATCHES)
def test_each_event_of_a_batch_has_its_own_counts_also_alone(make: Any, door: Any):
    record = make()
    assert door.decode(record.encode()) == record
    whole = envelope(1, record, door)
    assert redacted(whole) == MARKS
    assert [redacted(mapping.excerpt(whole, place)) for place in range(3)] == [[m] for m in MARKS]


def test_a_single_event_has_its_counts():
    record = AiRecord(EVENT, None, (), "127.0.0.1", 30, MARKS[1])
    assert ai_record.decode(record.encode()) == record
    assert redacted(envelope(1, record, ai_record)) == [MARKS[1]]


@pytest.mark.parametrize(("make", "door"), BATCHES)
def test_a_record_without_redaction_is_as_it_always_was(make: Any, door: Any):
    line = make().encode().partition(b"\n")[0]
    head = orjson.loads(line)
    assert head["redacted"] == {"1": MARKS[1], "2": MARKS[2]}
    del head["redacted"]
    before = orjson.dumps(head) + b"\n" + make().encode().partition(b"\n")[2]
    decoded = door.decode(before)
    assert decoded.encode() == before
    assert redacted(replace(envelope(1, make(), door), payload=before)) == [{}, {}, {}]


@pytest.mark.parametrize("told", [3, [], {"x": {}}, {"0": 3}, {"0": {"email": "many"}}])
def test_counts_that_no_door_writes_break_the_record(told: Any):
    line, _, texts = posthog().encode().partition(b"\n")
    broken = orjson.dumps(orjson.loads(line) | {"redacted": told}) + b"\n" + texts
    with pytest.raises(RecordBroken):
        posthog_record.decode(broken)


@pytest.mark.parametrize(("make", "door"), BATCHES)
def test_stored_counts_stay_when_an_event_is_mapped_again(
    store: Store, project_id: int, make_pipeline: Callable[..., Pipeline], make: Any, door: Any
):
    log = MemoryLog([envelope(project_id, make(), door)])
    assert make_pipeline(log).run_once(1) == 1
    stored = store.query(
        "SELECT * FROM events WHERE project_id = {p:Int64}", {"p": project_id}
    ).dicts()
    again = [dict(stored_events.canonical(row).redacted) for row in stored]
    assert sorted(map(str, again)) == sorted(map(str, MARKS))
