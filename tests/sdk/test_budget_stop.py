"""The hard stop in the client library: which calls are not made, and what it never does."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest

from nilometer import BudgetExceeded, ClientConfig, ClientManager, usage_context
from nilometer.errors import ConfigurationError, InvalidInput, Unavailable
from nilometer.sdk import budget_guard
from nilometer.sdk.assembly import Assembler
from nilometer.sdk.budget_guard import STALE_SECONDS, UNKNOWN, BudgetGuard
from nilometer.sdk.budget_sources import ServerStandings
from nilometer.sdk.budget_standing import Standing
from nilometer.sdk.observation import Observation
from nilometer.sdk.scopes import NOTHING, Scopes
from tests.integrations import upstream
from tests.running import wait_until

SENT: dict[str, Any] = {
    "id": "b",
    "name": "team",
    "scope": "user",
    "value": "ada",
    "hard_stop": True,
    "spent_usd": "1.50",
    "limit_usd": "10",
    "period_start": "2026-11-01T00:00:00Z",
    "period_end": "2026-12-01T00:00:00Z",
}
START = datetime(2026, 11, 1, tzinfo=UTC)
END = datetime(2026, 12, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 21, tzinfo=UTC).timestamp()
ASK: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "?"}]}
MESSAGE: dict[str, Any] = {**ASK, "model": "claude-sonnet-4-6", "max_tokens": 5}
CALL = {"service": "openai", "model": "gpt-4o-mini", "operation": "completion"}


@pytest.fixture(autouse=True)
def _the_first_answer_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that takes the processor away is slower than the two seconds that a manager waits, and
    until there is an answer no call is stopped."""
    monkeypatch.setattr("nilometer.sdk.manager._FIRST_ANSWER_SECONDS", 60)


def standing(spent: str, limit: str = "10", **more: Any) -> Standing:
    given = {"id": "b1", "name": "team", "kind": "project", "value": ""}
    moments = {"period_start": START, "period_end": END}
    return Standing(spent=Decimal(spent), limit=Decimal(limit), **(given | moments | more))


class Told:
    """Stands where a server or a table does."""

    def __init__(self, *standings: Standing) -> None:
        self.standings = standings
        self.down: Exception | None = None
        self.closed = False

    def ask(self) -> tuple[Standing, ...]:
        if self.down:
            raise self.down
        return self.standings

    def close(self) -> None:
        self.closed = True


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def guard(told: Told, clock: Clock | None = None, **more: Any) -> BudgetGuard:
    made = BudgetGuard(
        lambda: told,
        more.pop("process", NOTHING),
        Assembler(NOTHING, None),
        monotonic=clock or Clock(),
        wall=more.pop("wall", lambda: NOW),
        **more,
    )
    made.refresh()
    return made


def spend(made: BudgetGuard, cost: str, **more: Any) -> None:
    seen: Any = {**CALL, "cost_usd": Decimal(cost), **more}
    made.count(Observation(seen, NOTHING, NOW))


def stopped(made: BudgetGuard, *given: Any) -> bool:
    try:
        made.admit(*(given or ("openai", ["gpt-4o-mini"], NOTHING)))
    except BudgetExceeded:
        return True
    return False


def test_a_used_up_budget_stops_the_calls_it_covers_and_says_why() -> None:
    made = guard(Told(standing("10.5", kind="user", value="ada")))
    with pytest.raises(
        BudgetExceeded, match=r"team \(user ada\) is used up: 10.5 of 10 USD"
    ) as told:
        made.admit("openai", ["gpt-4o-mini"], Scopes(user_id="ada"))
    error = told.value
    assert (error.code, error.budget_id, error.scope, error.value) == (
        *("budget_exceeded", "b1", "user", "ada"),
    )
    assert (error.spent, error.limit, error.ends_at) == (Decimal("10.5"), Decimal(10), END)
    assert not stopped(made, "openai", ["gpt-4o-mini"], Scopes(user_id="bob"))


@pytest.mark.parametrize(
    ("kind", "value", "covered"),
    [
        ("global", "", True),
        ("project", "", True),
        ("service", "openai", True),
        ("service", "anthropic", False),
        ("model", "gpt-4o-mini", True),
        ("model", "gpt-4o", False),
        ("user", "ada", True),
        ("job", "nightly", True),
        ("job", "nightly2", False),
        ("environment", "test", True),
        ("environment", "production", False),
        ("moon", "full", False),
    ],
)
def test_a_budget_covers_calls_by_exactly_its_scope(kind: str, value: str, covered: bool) -> None:
    made = guard(Told(standing("10", kind=kind, value=value)), process=Scopes(environment="test"))
    call = ("OpenAI", ["gpt-4o-mini"], Scopes(user_id="ada", job_id="nightly"))
    assert stopped(made, *call) is covered


def test_what_the_process_spends_itself_counts_at_once_and_not_twice() -> None:
    told, clock = Told(standing("9")), Clock()
    made = guard(told, clock)
    spend(made, "0.6")
    assert not stopped(made)
    spend(made, "0.4", error="failed", cost_usd=Decimal("0.39"))
    assert not stopped(made)
    told.standings = (standing("9.6"),)  # the store has one of the two so far
    made.refresh()
    assert not stopped(made)
    spend(made, "0.01")
    assert stopped(made)


class Interrupting(Told):
    """In the middle of what is done with its answer, a call ends on the same thread: a stream that
    nobody holds any more is found by the collector."""

    interrupt: Callable[[], None] | None = None

    def ask(self) -> Any:
        yield from self.standings
        if interrupt := self.interrupt:
            interrupt()


def test_a_call_may_end_anywhere_on_the_guards_own_thread() -> None:
    told = Interrupting(standing("9"))
    made = guard(told)
    told.interrupt = lambda: spend(made, "0.6")
    thread = threading.Thread(target=made.refresh, daemon=True)
    thread.start()
    thread.join(90)
    assert not thread.is_alive()
    told.interrupt = None
    assert not stopped(made)
    spend(made, "0.4")  # and nobody waits for anybody
    assert stopped(made)


def test_a_call_that_ends_while_another_is_added_counts_too(monkeypatch: Any) -> None:
    made = guard(Told(standing("9")))
    exact = budget_guard._EXACT

    class Interrupted:
        subtract = exact.subtract

        def add(self, one: Decimal, other: Decimal) -> Decimal:
            total = exact.add(one, other)
            monkeypatch.setattr(budget_guard, "_EXACT", exact)
            spend(made, "0.6")
            return total

    monkeypatch.setattr(budget_guard, "_EXACT", Interrupted())
    spend(made, "0.4")
    assert stopped(made)


def test_nothing_that_is_told_or_priced_ends_the_guards_thread() -> None:
    class Failing:
        def metric(self, _: Any) -> Any:
            raise ConfigurationError("the prices file cannot be read")

    class Counting(Told):
        asked = 0

        def ask(self) -> Any:
            self.asked += 1
            return (None,) if self.asked == 1 else super().ask()

    told = Counting(standing("10"))
    failing: Any = Failing()
    made = BudgetGuard(lambda: told, NOTHING, failing, interval=0.01, wall=lambda: NOW)
    made.start(10)
    wait_until(lambda: told.asked > 3)
    assert stopped(made)
    made.close()


def test_a_cost_that_is_corrected_downwards_ends_the_stop() -> None:
    told, clock = Told(standing("10")), Clock()
    made = guard(told, clock)
    assert stopped(made)
    told.standings = (standing("4"),)
    made.refresh()
    clock.now += 61
    made.refresh()
    assert not stopped(made)


def test_a_raised_limit_and_the_next_period_end_the_stop() -> None:
    told = Told(standing("10"))
    made = guard(told)
    told.standings = (standing("10", limit="11"),)
    made.refresh()
    assert not stopped(made)
    told.standings = (standing("11", limit="11"),)
    made.refresh()
    assert stopped(made)
    following = {"period_start": END, "period_end": END + timedelta(days=31)}
    told.standings = (standing("0", **following),)
    made.refresh()
    assert not stopped(made)


def test_a_stop_ends_with_its_period_though_nobody_says_so() -> None:
    wall = Clock()
    wall.now = NOW
    made = guard(Told(standing("10")), wall=wall)
    assert stopped(made)
    wall.now = END.timestamp()
    assert not stopped(made)


def test_where_nobody_answers_calls_are_made_unless_it_fails_closed() -> None:
    told, clock = Told(standing("10")), Clock()
    made, strict = guard(told, clock), guard(told, clock, fail_closed=True)
    told.down = OSError("down")
    clock.now += STALE_SECONDS - 1
    assert not made.refresh()
    assert stopped(made)  # what was known still holds
    clock.now += 2
    assert not stopped(made)
    with pytest.raises(BudgetExceeded) as unknown:
        strict.admit("openai", [], NOTHING)
    assert unknown.value.code == UNKNOWN


def test_what_ends_asks_no_more() -> None:
    told = Told(standing("10"))
    made = guard(told)
    made.close()
    assert told.closed
    assert not made.refresh()
    assert stopped(made)


def test_a_call_without_a_price_or_that_is_none_counts_nothing() -> None:
    made = guard(Told(standing("9.99")))
    made.count(Observation({**CALL}, NOTHING, NOW))  # type: ignore[typeddict-item]
    with pytest.raises(InvalidInput):
        made.count(Observation({**CALL, "moon": 1}, NOTHING, NOW))  # type: ignore[typeddict-unknown-key]
    spend(made, "5", user_id="bob")
    assert stopped(made)
    other = guard(Told(standing("9.99", kind="user", value="ada")))
    spend(other, "5", user_id="bob")
    assert not stopped(other, "openai", [], Scopes(user_id="ada"))
    spend(other, "5", user_id="ada")
    assert stopped(other, "openai", [], Scopes(user_id="ada"))


def test_an_answer_in_no_known_shape_harms_nobody() -> None:
    for wrong in (RuntimeError("?"), KeyError("budgets")):
        told = Told()
        told.down = wrong
        assert not stopped(guard(told))


class Desk:
    """A server that answers checks of budgets with what it is told to."""

    def __init__(self) -> None:
        self.spent, self.limit = Decimal(0), Decimal(10)
        self.kind, self.value = "project", ""
        self.status = 200
        self.asked: list[str | None] = []
        self.url = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked.append(handler.headers.get("authorization"))
        budget = {"id": "b1", "name": "team", "scope": self.kind, "value": self.value}
        budget |= {"spent_usd": f"{self.spent:f}", "limit_usd": f"{self.limit:f}"}
        budget |= {"hard_stop": True, "period_start": START.isoformat()}
        budget["period_end"] = (datetime.now(UTC) + timedelta(days=1)).isoformat()
        body = json.dumps({"allowed": self.spent < self.limit, "budgets": [budget]}).encode()
        handler.send_response(self.status)
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    with upstream.serving(made.answer) as made.url:
        yield made


@contextmanager
def managed(desk: Desk, **more: Any) -> Iterator[ClientManager]:
    fields: dict[str, Any] = {
        "sink": "memory://",
        "spool": False,
        "auto_tags": False,
        "environment": "test",
        "hard_stop": True,
        "budget_check": desk.url,
        "api_key": "key",
        "handle_sigterm": False,
        "budget_check_interval": 0.02,
    }
    with ClientManager(ClientConfig(**(fields | more))) as manager:
        yield manager


def openai_client(calls: Callable[[], Any], **more: Any) -> openai.OpenAI:
    def respond(request: httpx2.Request) -> httpx2.Response:
        calls()
        return httpx2.Response(200, json=upstream.CHAT)

    transport = httpx2.Client(transport=httpx2.MockTransport(respond))
    return openai.OpenAI(api_key="sk", http_client=transport, **more)


def test_the_first_call_knows_already(desk: Desk) -> None:
    desk.spent = Decimal(10)
    made: list[int] = []
    with managed(desk, budget_check_interval=60) as manager:
        client = manager.wrap(openai_client(lambda: made.append(1)))
        for call in (
            lambda: client.chat.completions.create(**ASK),
            lambda: client.chat.completions.create(**ASK, stream=True),
            lambda: client.with_options(timeout=3).responses.create(model="m", input="?"),
            lambda: client.embeddings.create(model="m", input="?"),
            lambda: client.batches.create(
                input_file_id="f", endpoint="/v1/chat/completions", completion_window="24h"
            ),
            lambda: client.chat.completions.with_raw_response.create(**ASK),
        ):
            with pytest.raises(BudgetExceeded):
                call()
        assert manager.flush(5)
        assert manager.sinks[0].metrics == []  # what was not made is no call
    assert made == []
    assert desk.asked == ["Bearer key"]


def test_what_costs_nothing_is_not_stopped(desk: Desk) -> None:
    desk.spent = Decimal(10)

    def respond(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json={"object": "list", "data": []})

    transport = httpx2.Client(transport=httpx2.MockTransport(respond))
    with managed(desk) as manager:
        client = manager.wrap(openai.OpenAI(api_key="sk", http_client=transport))
        assert list(client.models.list()) == []
        assert list(client.batches.list()) == []


def test_anthropic_google_and_one_s_own_blocks_are_stopped(desk: Desk) -> None:
    desk.spent, desk.kind, desk.value = Decimal(10), "job", "nightly"
    request = {"custom_id": "1", "params": MESSAGE}
    with managed(desk) as manager, usage_context(job_id="nightly"):
        client = manager.wrap(anthropic.Anthropic(api_key="k", base_url="http://127.0.0.1:1"))
        with pytest.raises(BudgetExceeded):
            client.messages.create(**MESSAGE)
        with pytest.raises(BudgetExceeded), client.messages.stream(**MESSAGE):
            pass
        with pytest.raises(BudgetExceeded):
            client.messages.batches.create(requests=[request])  # type: ignore[list-item]
        with pytest.raises(BudgetExceeded), manager.tracker.measure(**CALL):  # type: ignore[arg-type]
            raise AssertionError("the block must not begin")
        with usage_context(job_id="other"), manager.tracker.measure(**CALL):  # type: ignore[arg-type]
            pass


def test_a_batch_is_stopped_by_the_budget_of_a_model_in_it(desk: Desk) -> None:
    desk.spent, desk.kind, desk.value = Decimal(10), "model", "claude-sonnet-4-6"
    requests = [
        {"custom_id": str(n), "params": {**MESSAGE, "model": model}}
        for n, model in enumerate(["claude-haiku-4-5", "claude-sonnet-4-6"])
    ]
    with managed(desk) as manager:
        client = manager.wrap(
            anthropic.Anthropic(api_key="k", base_url="http://127.0.0.1:1", max_retries=0)
        )
        with pytest.raises(BudgetExceeded):
            client.messages.batches.create(requests=requests)  # type: ignore[arg-type]
        with pytest.raises(anthropic.APIConnectionError):
            client.messages.batches.create(requests=requests[:1])  # type: ignore[arg-type]


def test_asynchronous_calls_are_stopped(desk: Desk) -> None:
    desk.spent = Decimal(10)

    async def run(manager: ClientManager) -> None:
        own = manager.wrap(openai.AsyncOpenAI(api_key="sk", base_url="http://127.0.0.1:1"))
        theirs = manager.wrap(anthropic.AsyncAnthropic(api_key="k", base_url="http://127.0.0.1:1"))
        with pytest.raises(BudgetExceeded):
            await own.chat.completions.create(**ASK)
        with pytest.raises(BudgetExceeded):
            await own.chat.completions.create(**ASK, stream=True)
        with pytest.raises(BudgetExceeded):
            await theirs.messages.create(**MESSAGE)

    with managed(desk) as manager:
        asyncio.run(run(manager))


def test_of_fifty_callers_only_the_calls_in_flight_go_beyond_the_budget(desk: Desk) -> None:
    """The server never hears of what is spent: the process alone knows."""
    one = (60 * Decimal("0.15") + 40 * Decimal("0.075") + 30) / 1_000_000
    desk.limit = one * 200 - one / 2  # reached with the 200th call
    begun, lock = [0], threading.Lock()

    def call() -> None:
        with lock:
            begun[0] += 1

    with managed(desk) as manager:
        wait_until(lambda: len(desk.asked) > 1)
        client = manager.wrap(openai_client(call))

        def work(_: int) -> int:
            done = 0
            while done < 1000:
                try:
                    client.chat.completions.create(**ASK)
                except BudgetExceeded:
                    break
                done += 1
            return done

        with ThreadPoolExecutor(50) as pool:
            done = sum(pool.map(work, range(50)))
        with pytest.raises(BudgetExceeded):
            client.chat.completions.create(**ASK)
    assert done == begun[0]
    assert 200 <= done <= 200 + 49


def test_the_stop_begins_and_ends_with_what_the_server_says(desk: Desk) -> None:
    with managed(desk) as manager:
        client = manager.wrap(openai_client(lambda: None))
        client.chat.completions.create(**ASK)
        desk.spent = Decimal(10)
        asked = len(desk.asked)
        wait_until(lambda: len(desk.asked) > asked + 1)
        with pytest.raises(BudgetExceeded):
            client.chat.completions.create(**ASK)
        desk.limit = Decimal(20)
        assert manager.refresh_budgets()
        client.chat.completions.create(**ASK)


@pytest.mark.parametrize(
    "body",
    [
        "{",
        "[]",
        '{"budgets": 1}',
        '{"budgets": [{"hard_stop": true}]}',
        json.dumps({"budgets": [SENT | {"period_end": "2026-12-01T00:00:00"}]}),
        json.dumps({"budgets": [SENT | {"spent_usd": "much"}]}),
        json.dumps({"budgets": [SENT], "more": "x" * 5_000_000}),
    ],
)
def test_an_answer_that_is_none_is_no_answer(body: str) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, text=body))
    asked = ServerStandings("http://h", "k", transport=transport)
    with pytest.raises(Unavailable):
        asked.ask()
    asked.close()


def test_a_budget_without_a_hard_stop_is_left_out() -> None:
    told = {"budgets": [SENT, SENT | {"id": "soft", "hard_stop": False}]}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=told))
    asked = ServerStandings("http://h/", "k", transport=transport)
    [found] = asked.ask()
    assert (found.id, found.spent, found.period_end) == ("b", Decimal("1.50"), END)
    asked.close()


def test_a_call_waits_for_no_server_that_hangs_or_fails(desk: Desk) -> None:
    desk.status = 503
    with managed(desk) as manager:
        begun = time.perf_counter()
        for _ in range(1000):
            manager.tracker.admit("openai", "gpt-4o-mini")
        assert time.perf_counter() - begun < 10  # a thousand
        assert not manager.refresh_budgets()
    with managed(desk, budget_fail_closed=True) as manager, pytest.raises(BudgetExceeded) as told:
        manager.tracker.admit("openai", "gpt-4o-mini")
    assert told.value.code == UNKNOWN


def test_a_forked_process_asks_for_itself() -> None:
    opened = [Told(standing("0"))]
    made = BudgetGuard(lambda: opened[-1], NOTHING, None, wall=lambda: NOW)
    made.refresh()
    opened.append(Told(standing("10")))
    child = os.fork()
    if child == 0:
        status = 1
        try:
            wait_until(lambda: stopped(made))
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not stopped(made)


def test_a_process_forked_while_another_thread_asks_can_ask_too() -> None:
    asks, goes_on = threading.Event(), threading.Event()

    class Slow(Told):
        def ask(self) -> tuple[Standing, ...]:
            asks.set()
            goes_on.wait(60)
            return super().ask()

    opened: list[Told] = [Slow(standing("0"))]
    made = BudgetGuard(lambda: opened[-1], NOTHING, None, wall=lambda: NOW)
    asking = threading.Thread(target=made.refresh)
    asking.start()
    assert asks.wait(60)
    opened.append(Told(standing("10")))
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(60)
            if made.refresh() and stopped(made):
                status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    goes_on.set()
    asking.join(60)
    assert not stopped(made)


def test_who_is_told_that_nobody_answers_may_ask_again() -> None:
    told = Told(standing("10"))
    told.down = ConnectionError()
    made = guard(told)
    answers: list[bool] = []

    class Asking(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            answers.append(made.refresh())

    handler = Asking()
    budget_guard._LOG.addHandler(handler)
    try:
        thread = threading.Thread(target=made.refresh, daemon=True)
        thread.start()
        thread.join(30)
        assert not thread.is_alive()
    finally:
        budget_guard._LOG.removeHandler(handler)
    assert answers == [False]
    told.down = None
    assert made.refresh()


def test_a_hard_stop_needs_somebody_to_ask() -> None:
    with pytest.raises(ConfigurationError, match="NILOMETER_BUDGET_CHECK"):
        ClientConfig(sink="memory://", hard_stop=True)
    with pytest.raises(ConfigurationError, match="needs tracking"):
        ClientConfig(track_usage=False, hard_stop=True)
    with pytest.raises(ConfigurationError, match="more than 0"):
        ClientConfig(sink="http://h", api_key="k", hard_stop=True, budget_check_interval=0)
    named = ClientConfig.from_env(
        {
            "NILOMETER_SINK": "memory://,dynamodb://t",
            "NILOMETER_HARD_STOP": "true",
            "NILOMETER_BUDGET_CHECK_INTERVAL": "2.5",
            "NILOMETER_BUDGET_FAIL_CLOSED": "yes",
        }
    )
    assert (named.budgets_at, named.budget_check_interval) == ("dynamodb://t", 2.5)
    assert named.budget_fail_closed
    config = ClientConfig(
        sink="memory://", spool=False, hard_stop=True, budget_check="jsonl:///x", api_key="k"
    )
    with pytest.raises(ConfigurationError, match="knows no budgets"):
        ClientManager(config)
    keyless = ClientConfig(sink="memory://", spool=False, hard_stop=True, budget_check="http://h")
    with pytest.raises(ConfigurationError, match="needs api_key"):
        ClientManager(keyless)


def test_without_a_hard_stop_nothing_is_asked(desk: Desk) -> None:
    desk.spent = Decimal(10)
    with managed(desk, hard_stop=False) as manager:
        manager.wrap(openai_client(lambda: None)).chat.completions.create(**ASK)
        assert not manager.refresh_budgets()
    assert desk.asked == []
