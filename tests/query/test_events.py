import threading
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nilometer.clickhouse.errors import StatementTooCostly
from nilometer.clickhouse.store import StoreUnavailable
from nilometer.domain import clock
from nilometer.errors import InvalidInput, NotFound
from nilometer.query import events as module
from nilometer.query import reader
from nilometer.query.events import EventFilters, Events
from tests.projects import new_project_id
from tests.query.rows import NOON, event_row, insert

NOON_US = clock.to_micros(NOON)
TEXTS = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from("'\"\\\n\t\x00{}%_`$;"), max_size=20
)


def uuids(page):
    return [event.uuid for event in page.rows]


def follow(events, project_id, filters, limit, cursor=None):
    """Every page from the cursor on, by `next`."""
    pages = []
    while True:
        pages.append(events.list(project_id, filters, limit=limit, cursor=cursor))
        cursor = pages[-1].next
        if cursor is None:
            return pages


def newest_first(rows):
    # ClickHouse orders UUIDs by their second half first.
    def key(row):
        number = UUID(row["uuid"]).int
        return row["timestamp"], number & (2**64 - 1), number >> 64

    return [row["uuid"] for row in sorted(rows, key=key, reverse=True)]


def test_events_come_newest_first(store, project_id):
    rows = [event_row(project_id, at=at) for at in (3, 1, 2, 2, 2)]
    insert(store, rows)
    assert uuids(Events(store).list(project_id)) == newest_first(rows)


def test_an_event_has_its_fields_and_the_exact_text_of_its_properties(store, project_id):
    text = '{"a": 1.10, "b":123456789012345678901, "c":"\\u0000", "d" : null}'
    row = event_row(project_id, at=7, properties=text, trace_id="t", span_id="s", session_id="x")
    insert(store, [row])
    event = Events(store).get(project_id, row["uuid"])
    assert event.properties == text
    assert (event.timestamp, event.accepted_at) == (NOON_US + 7, NOON_US)
    assert event.expires_at == NOON_US + 30 * 86400 * 10**6
    assert (event.trace_id, event.span_id, event.parent_id) == ("t", "s", None)
    assert (event.session_id, event.project_id) == ("x", project_id)
    assert Events(store).list(project_id).rows == (event,)


def test_each_filter_narrows_the_list(store, project_id):
    rows = [
        event_row(project_id, at=0, event="$ai_span", trace_id="t1"),
        event_row(project_id, at=1, distinct_id="bob", trace_id="t2", session_id="s2"),
        event_row(project_id, at=2, trace_id="t1", session_id="s1"),
    ]
    insert(store, rows)
    events = Events(store)

    def found(**filters):
        shown = uuids(events.list(project_id, EventFilters(**filters)))
        return [index for index, row in enumerate(rows) if row["uuid"] in shown]

    assert found(event="$ai_span") == [0]
    assert found(distinct_id="bob") == [1]
    assert found(trace_id="t1") == [0, 2]
    assert found(session_id="s1") == [2]
    assert found(trace_id="t1", event="$ai_generation") == [2]
    assert found(trace_id="") == []
    assert found(after=NOON_US + 1) == [1, 2]
    assert found(before=NOON_US + 1) == [0]
    assert found(after=NOON_US + 1, before=NOON_US + 2) == [1]


@settings(max_examples=25)
@given(st.lists(TEXTS, unique=True, max_size=4), TEXTS)
def test_a_hostile_filter_value_is_only_ever_compared(store, kept, asked):
    project_id = new_project_id()
    rows = [event_row(project_id, distinct_id=text, trace_id=text) for text in kept]
    insert(store, rows)
    for name in ("distinct_id", "trace_id"):
        shown = uuids(Events(store).list(project_id, EventFilters(**{name: asked})))
        assert shown == [row["uuid"] for row in rows if row[name] == asked]


@settings(max_examples=15)
@given(st.lists(st.integers(0, 3), max_size=12), st.integers(1, 5), st.data())
def test_pages_give_each_event_once_while_others_arrive(store, moments, limit, data):
    project_id = new_project_id()
    rows = [event_row(project_id, at=at) for at in moments]
    insert(store, rows)
    events = Events(store)
    seen, cursor = [], None
    while True:
        page = events.list(project_id, limit=limit, cursor=cursor)
        seen += uuids(page)
        cursor = page.next
        if cursor is None:
            break
        late = data.draw(st.lists(st.integers(0, 3), max_size=2))
        insert(store, [event_row(project_id, at=at) for at in late])
    assert len(seen) == len(set(seen))
    there = newest_first(rows)
    assert [uuid for uuid in seen if uuid in there] == there


@settings(max_examples=15)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(1, 5))
def test_previous_leads_back_through_the_same_events(store, moments, limit):
    project_id = new_project_id()
    rows = [event_row(project_id, at=at) for at in moments]
    insert(store, rows)
    events = Events(store)
    pages = follow(events, project_id, EventFilters(), limit)
    back = uuids(pages[-1])
    previous = pages[-1].previous
    while previous is not None:
        page = events.list(project_id, limit=limit, cursor=previous)
        back = uuids(page) + back
        previous = page.previous
    assert back == newest_first(rows)


def test_previous_shows_what_arrived_since(store, project_id):
    events = Events(store)
    insert(store, [event_row(project_id, at=at) for at in range(3)])
    second = follow(events, project_id, EventFilters(), 2)[1]
    new = event_row(project_id, at=9)
    insert(store, [new])
    page = events.list(project_id, limit=3, cursor=second.previous)
    assert page.rows[0].uuid == new["uuid"]
    assert page.previous is None


def test_a_cursor_of_another_project_or_filter_is_refused(store, project_id):
    events = Events(store)
    insert(store, [event_row(project_id, at=at) for at in range(3)])
    cursor = events.list(project_id, limit=1).next
    for wrong in ((project_id + 10**9, EventFilters()), (project_id, EventFilters(event="x"))):
        with pytest.raises(InvalidInput) as refused:
            events.list(*wrong, limit=1, cursor=cursor)
        assert refused.value.attr == "cursor"


def test_a_page_ends_before_its_properties_grow_too_large(store, project_id, monkeypatch):
    monkeypatch.setattr(module, "MAX_PAGE_BYTES", 250)
    rows = [event_row(project_id, at=at, properties=f'{{"a":"{"x" * 92}"}}') for at in range(5)]
    rows.append(event_row(project_id, at=2, properties=f'{{"a":"{"x" * 1000}"}}'))
    insert(store, rows)
    pages = follow(Events(store), project_id, EventFilters(), 500)
    assert [uuid for page in pages for uuid in uuids(page)] == newest_first(rows)
    assert all(
        len(page.rows) == 1 or sum(len(event.properties) for event in page.rows) <= 250
        for page in pages
    )
    assert len(pages) > 2


def test_a_redelivered_event_is_there_once(store, project_id):
    row = event_row(project_id)
    insert(store, [row])
    insert(store, [row])
    events = Events(store)
    assert uuids(events.list(project_id)) == [row["uuid"]]
    assert events.get(project_id, row["uuid"]).uuid == row["uuid"]


def test_one_event_is_found_by_any_form_of_its_uuid(store, project_id):
    row = event_row(project_id)
    insert(store, [row])
    for text in (row["uuid"], row["uuid"].upper(), row["uuid"].replace("-", "")):
        assert Events(store).get(project_id, text).uuid == row["uuid"]


@pytest.mark.parametrize("uuid", ["", "x", "' OR 1=1 --", "../1", "0" * 5000])
def test_a_text_that_is_no_uuid_names_no_event(store, project_id, uuid):
    with pytest.raises(NotFound):
        Events(store).get(project_id, uuid)


def test_an_event_that_is_listed_is_found_before_its_id_is_written(store, project_id):
    row = event_row(project_id)
    store.insert("events", [row])
    assert uuids(Events(store).list(project_id)) == [row["uuid"]]
    assert Events(store).get(project_id, row["uuid"]).uuid == row["uuid"]


def test_an_event_of_another_project_is_not_found(store, project_id):
    other = new_project_id()
    shared = str(uuid4())
    insert(store, [event_row(other, uuid=shared, properties='{"secret":1}')])
    events = Events(store)
    with pytest.raises(NotFound) as theirs:
        events.get(project_id, shared)
    with pytest.raises(NotFound) as nobodys:
        events.get(project_id, str(uuid4()))
    assert theirs.value.detail == nobodys.value.detail
    assert events.list(project_id).rows == ()
    insert(store, [event_row(project_id, uuid=shared)])
    assert events.get(project_id, shared).properties == "{}"
    assert events.get(other, shared).properties == '{"secret":1}'


def test_a_store_that_is_down_is_unavailable(tmp_path):
    from nilometer.clickhouse.store import Store

    with pytest.raises(StoreUnavailable):
        Events(Store(tmp_path)).list(1)


def test_a_read_that_costs_too_much_says_so_and_the_store_stays_ready(
    store, project_id, monkeypatch
):
    insert(store, [event_row(project_id)])
    monkeypatch.setattr(reader, "LIMITS", {"max_memory_usage": 1000})
    with pytest.raises(StatementTooCostly, match="narrow it") as refused:
        Events(store).list(project_id)
    assert refused.value.code == "too_costly"
    assert store.ready()


def test_reads_from_many_threads_at_once_are_right(store, project_id):
    rows = [event_row(project_id, at=at) for at in range(20)]
    insert(store, rows)
    expected, answers = newest_first(rows), []
    threads = [
        threading.Thread(target=lambda: answers.append(uuids(Events(store).list(project_id))))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert answers == [expected] * 8
