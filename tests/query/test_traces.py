from decimal import Decimal
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nilometer.domain import clock
from nilometer.errors import InvalidInput, NotFound
from nilometer.query import traces as module
from nilometer.query.traces import TraceFilters, Traces
from nilometer.query.tree import walk
from tests.projects import new_project_id
from tests.query.rows import NOON, aligned, call_row, event_row, insert

NOON_US = clock.to_micros(NOON)
GREATEST = 2**63 - 1


def ids(page):
    return [trace.trace_id for trace in page.rows]


def test_a_trace_is_summed_up_from_its_events(store, project_id):
    common = {"trace_id": "t", "session_id": "s"}
    rows = [
        event_row(project_id, at=0, event="$ai_trace", trace_name="answer", **common),
        event_row(project_id, at=10, model="b", input_tokens=5, output_tokens=2, **common),
        event_row(project_id, at=20, model="a", input_tokens=7, is_error=True, **common),
        event_row(project_id, at=30, event="$ai_embedding", input_tokens=100, **common),
        # A span repeats what is below it, and its model is no call.
        event_row(
            project_id, at=2_000_000, event="$ai_span", model="c", input_tokens=112, **common
        ),
    ]
    insert(store, rows)
    priced = {"cost_total": Decimal("0.000000000000000001"), "vector_output": 2}
    calls = [
        call_row(rows[1], vector_input=5, **priced),
        call_row(rows[2], vector_input=7, reported_total_cost_usd=Decimal("0.5")),
        call_row(rows[3], vector_input=100, **priced),
        # The same call from a source that is further away, and in another project's trace.
        call_row(rows[1], event_uuid=str(uuid4()), source_rank=20, vector_input=999, **priced),
        call_row(rows[1], project_id=new_project_id(), vector_input=999, **priced),
    ]
    store.insert("calls", aligned(calls))
    (trace,) = Traces(store).list(project_id).rows
    assert trace == module.Trace(
        trace_id="t",
        name="answer",
        start=NOON_US,
        end=NOON_US + 2_000_000,
        duration=2.0,
        events=5,
        errors=1,
        models=("a", "b"),
        calls=3,
        input_tokens=112,
        output_tokens=4,
        total_cost=Decimal("0.000000000000000002"),
        reported_total_cost=Decimal("0.5"),
        unpriced_calls=1,
        session_id="s",
        distinct_id="ada",
    )


def test_tokens_that_nobody_reported_are_unknown_and_not_zero(store, project_id):
    row = event_row(project_id, trace_id="t")
    insert(store, [row])
    store.insert("calls", [call_row(row, vector_input=0)])
    (trace,) = Traces(store).list(project_id).rows
    assert (trace.input_tokens, trace.output_tokens) == (0, None)
    assert (trace.calls, trace.total_cost, trace.unpriced_calls) == (1, None, 1)


def test_a_trace_without_calls_costs_nothing_that_is_known(store, project_id):
    insert(store, [event_row(project_id, trace_id="t", event="$ai_span")])
    (trace,) = Traces(store).list(project_id).rows
    assert (trace.calls, trace.input_tokens, trace.total_cost, trace.unpriced_calls) == (
        *(0, None, None, 0),
    )


def test_hostile_token_counts_do_not_wrap_around(store, project_id):
    rows = [event_row(project_id, trace_id="t") for _ in range(3)]
    insert(store, rows)
    store.insert("calls", [call_row(row, vector_input=2 * GREATEST) for row in rows])
    (trace,) = Traces(store).list(project_id).rows
    assert trace.input_tokens == GREATEST


def test_a_trace_lasts_at_least_as_long_as_its_longest_event(store, project_id):
    insert(store, [event_row(project_id, trace_id="t", latency=1.5)])
    assert Traces(store).list(project_id).rows[0].duration == 1.5


def test_events_without_a_trace_are_in_none(store, project_id):
    insert(store, [event_row(project_id)])
    assert Traces(store).list(project_id).rows == ()


def test_traces_come_latest_start_first_and_each_filter_narrows_the_list(store, project_id):
    insert(
        store,
        [
            event_row(project_id, at=0, trace_id="a", distinct_id="bob"),
            event_row(project_id, at=99, trace_id="a"),
            event_row(project_id, at=5, trace_id="b", session_id="s", is_error=True),
            event_row(project_id, at=9, trace_id="c", event="$ai_span"),
        ],
    )
    traces = Traces(store)

    def found(**filters):
        return ids(traces.list(project_id, TraceFilters(**filters)))

    assert found() == ["c", "b", "a"]
    assert found(distinct_id="bob") == ["a"]
    assert found(session_id="s") == ["b"]
    assert found(event="$ai_span") == ["c"]
    assert found(errors=True) == ["b"]
    assert found(after=NOON_US + 5) == ["c", "b"]
    assert found(before=NOON_US + 5) == ["a"]
    assert found(distinct_id="' OR 1=1 --") == []


@settings(max_examples=15)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from("abcdefgh")), max_size=14),
    st.integers(1, 4),
    st.data(),
)
def test_pages_give_each_trace_once_while_others_arrive(store, events, limit, data):
    project_id = new_project_id()
    insert_all = [event_row(project_id, at=at, trace_id=name) for at, name in events]
    insert(store, insert_all)
    traces = Traces(store)
    seen, cursor = [], None
    while True:
        page = traces.list(project_id, limit=limit, cursor=cursor)
        seen += ids(page)
        cursor = page.next
        if cursor is None:
            break
        late = data.draw(st.lists(st.tuples(st.integers(0, 9), st.uuids()), max_size=2))
        insert(store, [event_row(project_id, at=at, trace_id=str(name)) for at, name in late])
    assert len(seen) == len(set(seen))
    assert {name for _, name in events} <= set(seen)


def test_a_cursor_of_events_is_refused(store, project_id):
    from nilometer.query.events import Events

    insert(store, [event_row(project_id, at=at, trace_id="t") for at in range(2)])
    cursor = Events(store).list(project_id, limit=1).next
    with pytest.raises(InvalidInput):
        Traces(store).list(project_id, cursor=cursor)


@settings(max_examples=20)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_a_trace_id_may_be_any_text(store, trace_id):
    project_id = new_project_id()
    insert(store, [event_row(project_id, at=at, trace_id=trace_id) for at in range(3)])
    traces = Traces(store)
    assert traces.get(project_id, trace_id).trace.trace_id == trace_id
    first = traces.list(project_id, limit=1)
    assert ids(first) == [trace_id]


def test_one_trace_is_a_tree_of_its_events(store, project_id):
    insert(
        store,
        [
            event_row(project_id, at=0, event="$ai_trace", trace_id="t", span_name="root"),
            event_row(
                project_id,
                at=1,
                trace_id="t",
                span_id="s",
                parent_id="t",
                model="m",
                provider="p",
                latency=0.5,
                input_tokens=1,
                http_status=500,
                is_error=True,
                error="é" * 5000,
            ),
            event_row(project_id, at=2, trace_id="other"),
        ],
    )
    found = Traces(store).get(project_id, "t")
    assert not found.truncated
    (root,) = found.tops
    (call,) = root.children
    assert (root.span.name, call.span.model, call.span.provider) == ("root", "m", "p")
    assert (call.span.latency, call.span.http_status, call.span.is_error) == (0.5, 500, True)
    assert call.span.error == "é" * 1000


def test_a_trace_of_too_many_events_shows_the_earliest_and_says_so(store, project_id, monkeypatch):
    monkeypatch.setattr(module, "MAX_TREE_EVENTS", 3)
    insert(store, [event_row(project_id, at=at, trace_id="t") for at in range(4)])
    found = Traces(store).get(project_id, "t")
    assert found.truncated
    assert found.trace.events == 4
    assert [node.span.timestamp - NOON_US for node in walk(found.tops)] == [0, 1, 2]


def test_a_trace_of_another_project_is_not_found(store, project_id):
    insert(store, [event_row(new_project_id(), trace_id="theirs")])
    with pytest.raises(NotFound):
        Traces(store).get(project_id, "theirs")
    assert Traces(store).list(project_id).rows == ()
