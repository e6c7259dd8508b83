"""Stored calls are priced again: exactly, once, in `calls` only, and whatever stops it."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from nilometer import failpoints
from nilometer.access.accounts import Accounts
from nilometer.clickhouse.store import Store
from nilometer.domain import clock
from nilometer.errors import InvalidInput, NotFound, Unavailable
from nilometer.pipeline.rewriting.jobs import InProgress, Kind, Rewrite, Rewrites, State
from nilometer.pipeline.rewriting.reprice import Reprice
from nilometer.pricing import Override, Overrides
from nilometer.pricing.overrides import BUCKETS
from tests.pipeline import rows
from tests.pipeline.records import ACCEPTED_AT, MemoryLog, envelope

MODEL = {"$ai_model": "gpt-4o", "$ai_provider": "openai"}
TOKENS = MODEL | {"$ai_input_tokens": 1000, "$ai_output_tokens": 50}
LISTED = Decimal("0.003")  # 2.50 and 10 dollars for a million
OWN = Decimal("0.00105")  # a dollar for a million, whatever they are
START = datetime(2025, 1, 1, tzinfo=UTC)
END = datetime(2026, 1, 1, tzinfo=UTC)


def own(tier: str = "standard", dollars: str = "1") -> Override:
    prices = dict.fromkeys(BUCKETS, Decimal(dollars))
    return Override("mine", "openai", "gpt-4o", START, per_million_tokens=prices, tier=tier)


def uuid(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012}"


@pytest.fixture
def send(make_pipeline: Any) -> Callable[..., None]:
    def send(project: int, *properties: dict[str, Any], **more: Any) -> None:
        records = [
            envelope(project, uuid(number), properties=each, **more)
            for number, each in enumerate(properties)
        ]
        make_pipeline(MemoryLog(records)).run_once(1)

    return send


def ask(rewrites: Rewrites, project: int, **more: Any) -> Rewrite:
    given = {"since": START, "until": END, "dry_run": False} | more
    return rewrites.add(project, Kind.REPRICE, **given)


def costs(store: Store, project: int) -> list[Decimal | None]:
    return [row["cost_total"] for row in rows.final(store, "calls", project)]


def test_calls_are_priced_by_the_prices_of_now_and_nothing_else_of_them_changes(
    store, project, prices, rewrites, worker, send
):
    send(project, TOKENS, MODEL | {"$ai_model": "gpt-4o-mini", "$ai_input_tokens": 1})
    before = rows.everything(store, project)
    prices.now = Overrides([own()])
    asked = ask(rewrites, project)
    assert worker().run_once() == 1
    after = rows.everything(store, project)
    assert (after["events"], after["event_ids"]) == (before["events"], before["event_ids"])
    assert after["calls"][1] == before["calls"][1]
    changed = {
        name: value
        for name, value in after["calls"][0].items()
        if value != before["calls"][0][name]
    }
    assert changed == {
        "revision": 2,
        "cost_uncached_input": Decimal("0.001"),
        "cost_text_output": Decimal("0.00005"),
        "cost_input": Decimal("0.001"),
        "cost_output": Decimal("0.00005"),
        "cost_total": OWN,
        "price_source": "override:mine",
        "price_version": "",
        "price_as_of": "2025-01-01",
    }
    done = rewrites.get(project, asked.id)
    assert (done.state, done.total, done.seen, done.changed) == (State.DONE, 2, 2, 1)
    assert prices.settled == 1


def test_what_changed_is_told_by_model(store, project, prices, rewrites, worker, send):
    unknown = MODEL | {"$ai_model": "chat", "$ai_input_tokens": 10, "$ai_output_tokens": 0}
    send(project, TOKENS, TOKENS, unknown)
    chat = Override(
        *("chat", "openai", "chat", START), per_million_tokens={"uncached_input": Decimal(3)}
    )
    prices.now = Overrides([own(), chat])
    asked = ask(rewrites, project, dry_run=True)
    stored = rows.everything(store, project)
    worker().run_once()
    assert rows.everything(store, project) == stored
    found = dict(rewrites.get(project, asked.id).findings.items())
    assert found == {
        ("openai", "chat"): {
            "changed": 1,
            "newly_priced": 1,
            "newly_unpriced": 0,
            "before": Decimal(0),
            "after": Decimal("0.00003"),
        },
        ("openai", "gpt-4o"): {
            "changed": 2,
            "newly_priced": 0,
            "newly_unpriced": 0,
            "before": 2 * LISTED,
            "after": 2 * OWN,
        },
    }


def test_a_redelivery_does_not_undo_it(store, project, prices, rewrites, worker, send):
    send(project, TOKENS)
    prices.now = Overrides([own()])
    ask(rewrites, project)
    worker().run_once()
    send(project, TOKENS)
    assert costs(store, project) == [OWN]
    # Nor where the look-up is lost and the first row is written once more, after the second.
    [row] = rows.final(store, "calls", project)
    lost = row | {"project_id": project, "revision": 1, "cost_total": LISTED}
    store.insert("calls", [{k: str(v) if isinstance(v, Decimal) else v for k, v in lost.items()}])
    assert costs(store, project) == [OWN]
    store.command("OPTIMIZE TABLE calls FINAL")
    assert costs(store, project) == [OWN]


def test_the_tier_of_a_call_is_known_when_it_is_priced_again(
    store, project, prices, rewrites, worker, send
):
    send(project, TOKENS, TOKENS | {"$ai_service_tier": "batch"})
    prices.now = Overrides([own("batch")])
    ask(rewrites, project)
    worker().run_once()
    assert costs(store, project) == [LISTED, OWN]


def test_only_calls_of_the_time_and_the_project_are_touched(
    store, project, prices, rewrites, worker, send, database
):
    other = Accounts(database).create_project("other").project_id
    send(other, TOKENS)
    send(project, TOKENS)
    prices.now = Overrides([own()])
    at = clock.from_micros(ACCEPTED_AT)
    ask(rewrites, project, until=at)
    worker().run_once()
    assert costs(store, project) == [LISTED]
    ask(rewrites, project, since=at, until=at + timedelta(microseconds=1))
    worker().run_once()
    assert (costs(store, project), costs(store, other)) == ([OWN], [LISTED])


def test_calls_of_an_earlier_mapping_are_left_and_counted(
    store, project, prices, rewrites, worker, send
):
    send(project, TOKENS)
    [row] = rows.final(store, "calls", project)
    old = row | {"project_id": project, "revision": 2, "mapping_version": 2}
    store.insert("calls", [{k: str(v) if isinstance(v, Decimal) else v for k, v in old.items()}])
    prices.now = Overrides([own()])
    asked = ask(rewrites, project)
    worker().run_once()
    assert costs(store, project) == [LISTED]
    assert rewrites.get(project, asked.id).skipped == 1


@pytest.mark.parametrize("point", ["rewrite_planned", "rewrite_written"])
@pytest.mark.parametrize("page", [1, 2, 3])
def test_it_goes_on_where_it_stopped_and_counts_nothing_twice(
    store, project, prices, rewrites, worker, send, point, page
):
    send(project, *[TOKENS] * 5)
    prices.now = Overrides([own()])
    asked = ask(rewrites, project)
    failpoints.configure(f"{point}=error@{page}")
    stopping = worker(page_rows=2)
    with pytest.MonkeyPatch.context() as patch:
        # A process that ends says nothing of it: the pass is left as it stood.
        patch.setattr(rewrites, "finish", lambda *_: None)
        stopping.run_once()
    failpoints.configure("")
    assert rewrites.get(project, asked.id).state == State.RUNNING
    worker(page_rows=2).run_once()
    done = rewrites.get(project, asked.id)
    assert (done.state, done.total, done.seen, done.changed) == (State.DONE, 5, 5, 5)
    assert dict(done.findings.items())["openai", "gpt-4o"]["after"] == 5 * OWN
    found = rows.final(store, "calls", project)
    assert [(row["cost_total"], row["revision"]) for row in found] == [(OWN, 2)] * 5


def test_it_waits_while_the_store_is_away(store, project, prices, rewrites, worker, send):
    send(project, TOKENS)
    prices.now = Overrides([own()])
    asked = ask(rewrites, project)
    failpoints.configure("store=error")
    assert worker().run_once() == 0
    failpoints.configure("")
    assert rewrites.get(project, asked.id).finished_at is None
    assert worker().run_once() == 1
    assert costs(store, project) == [OWN]


def test_what_cannot_be_done_ends_it_with_a_place_and_no_content(
    project, prices, rewrites, worker, send, monkeypatch
):
    send(project, TOKENS)
    asked = ask(rewrites, project)
    monkeypatch.setattr(prices, "of", {}.__getitem__)
    assert worker().run_once() == 1
    failed = rewrites.get(project, asked.id)
    assert failed.state == State.FAILED
    assert failed.error is not None
    assert failed.error.startswith("The rewrite failed: KeyError in ")


def test_a_second_one_of_a_project_is_refused_until_the_first_has_ended(
    project, rewrites, worker, database
):
    first = ask(rewrites, project)
    with pytest.raises(InProgress, match=first.id):
        ask(rewrites, project)
    other = Accounts(database).create_project("other").project_id
    ask(rewrites, other)
    assert worker().run_once() == 2
    ask(rewrites, project)


def test_two_that_ask_at_once_are_one(project, rewrites):
    barrier = threading.Barrier(4)
    outcomes: list[object] = []

    def race() -> None:
        barrier.wait()
        try:
            outcomes.append(ask(rewrites, project))
        except InProgress as refused:
            outcomes.append(refused)

    threads = [threading.Thread(target=race) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(each, Rewrite) for each in outcomes) == 1
    assert sum(isinstance(each, InProgress) for each in outcomes) == 3


def test_a_cancelled_one_stops_before_the_next_page(
    store, project, prices, rewrites, worker, send, monkeypatch
):
    send(project, *[TOKENS] * 3)
    prices.now = Overrides([own()])
    asked = ask(rewrites, project)
    written = store.insert

    def and_cancel(*arguments: Any, **more: Any) -> None:
        written(*arguments, **more)
        rewrites.cancel(project, asked.id)

    monkeypatch.setattr(Store, "insert", lambda _, *arguments, **more: and_cancel(*arguments))
    worker(page_rows=1).run_once()
    assert rewrites.get(project, asked.id).state == State.CANCELLED
    assert sorted(costs(store, project)) == [OWN, LISTED, LISTED]


def test_nothing_is_written_for_a_project_that_is_being_deleted(
    store, project, prices, rewrites, worker, send, database
):
    send(project, TOKENS)
    prices.now = Overrides([own()])
    ask(rewrites, project)
    Accounts(database).projects.delete(project)
    worker().run_once()
    assert costs(store, project) == [LISTED]
    with pytest.raises(NotFound):
        ask(rewrites, project)
    rewrites.forget(project)
    assert not [each for each in rewrites.unfinished() if each.project_id == project]


def test_a_page_under_way_is_waited_for(store, project, rewrites, worker, send, monkeypatch):
    send(project, TOKENS)
    ask(rewrites, project)
    within, go_on = threading.Event(), threading.Event()

    def slow(*_: Any) -> None:
        within.set()
        go_on.wait(30)

    monkeypatch.setattr(Reprice, "page", slow)
    one = worker()
    thread = threading.Thread(target=one.run_once)
    thread.start()
    assert within.wait(90)
    with pytest.raises(Unavailable):
        one.settle(0.01)
    go_on.set()
    one.settle(30)
    thread.join()


def test_times_that_cannot_be_are_refused(project, rewrites):
    with pytest.raises(InvalidInput, match="later than from"):
        ask(rewrites, project, until=START)
