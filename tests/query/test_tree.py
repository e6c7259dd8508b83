import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nilometer.query.tree import Link, Span, build, walk

IDS = st.sampled_from(["a", "b", "c", "d", "trace", ""]) | st.none()
EVENTS = st.sampled_from(["$ai_trace", "$ai_span", "$ai_generation", "$ai_metric"])


def span(uuid, parent=None, *, span_id=None, event="$ai_span", at=0):
    return Span(uuid, event, at, span_id if span_id is not None else uuid, parent)


@st.composite
def traces(draw):
    count = draw(st.integers(0, 14))
    return [
        Span(str(n), draw(EVENTS), draw(st.integers(0, 3)), draw(IDS), draw(IDS))
        for n in range(count)
    ]


def shape(nodes):
    return [(node.span.uuid, shape(node.children)) for node in nodes]


@given(traces())
def test_every_event_is_in_the_tree_exactly_once(spans):
    shown = [node.span.uuid for node in walk(build(spans, "trace"))]
    assert sorted(shown) == sorted(each.uuid for each in spans)


@given(traces(), st.randoms())
def test_the_tree_does_not_depend_on_the_order_of_arrival(spans, rng: random.Random):
    shuffled = list(spans)
    rng.shuffle(shuffled)
    assert shape(build(shuffled, "trace")) == shape(build(spans, "trace"))


@given(traces())
def test_depths_count_from_the_top_and_children_are_in_time_order(spans):
    tops = build(spans, "trace")
    assert all(node.depth == 0 for node in tops)
    for node in walk(tops):
        assert all(child.depth == node.depth + 1 for child in node.children)
        places = [(child.span.timestamp, child.span.uuid) for child in node.children]
        assert places == sorted(places)


@given(traces())
def test_a_node_below_its_parent_names_that_parent(spans):
    for node in walk(build(spans, "trace")):
        for child in node.children:
            if child.link is Link.PARENT:
                assert child.span.parent_id == node.span.span_id


def test_children_of_the_trace_id_stand_below_the_trace():
    spans = [span("root", event="$ai_trace", span_id="run-1"), span("child", "trace", at=1)]
    assert shape(build(spans, "trace")) == [("root", [("child", [])])]


def test_a_root_that_ends_last_is_still_the_root():
    spans = [span("child", "trace", at=1), span("root", "trace", event="$ai_trace", at=9)]
    assert shape(build(spans, "trace")) == [("root", [("child", [])])]


def test_an_orphan_is_kept_and_said_to_be_one():
    (top,) = build([span("root", event="$ai_trace"), span("lost", "never-sent")], "trace")
    assert [(child.span.uuid, child.link) for child in top.children] == [("lost", Link.ORPHAN)]
    (alone,) = build([span("lost", "never-sent")], "trace")
    assert alone.link is Link.ORPHAN


def test_a_cycle_is_opened_at_its_earliest_event():
    spans = [span("late", "early", at=2), span("early", "late", at=1), span("leaf", "late", at=3)]
    tops = build(spans, "trace")
    assert shape(tops) == [("early", [("late", [("leaf", [])])])]
    assert tops[0].link is Link.CYCLE


def test_an_event_that_is_its_own_parent_stands_at_the_top():
    (top,) = build([span("narcissus", "narcissus")], "trace")
    assert (top.link, top.children) == (Link.ROOT, [])


def test_of_two_events_with_one_span_id_the_container_is_the_parent():
    spans = [
        span("call", span_id="s", event="$ai_generation", at=0),
        span("step", span_id="s", at=1),
        span("child", "s", at=2),
    ]
    tops = build(spans, "trace")
    assert shape(tops) == [("call", []), ("step", [("child", [])])]


@pytest.mark.parametrize("depth", [5000])
def test_a_chain_of_thousands_does_not_exhaust_the_stack(depth):
    spans = [span(str(n), str(n - 1) if n else None, at=n) for n in range(depth)]
    nodes = list(walk(build(spans, "trace")))
    assert [node.depth for node in nodes] == list(range(depth))
