"""The client library's hard stop with a running server: who is stopped, by what the server has."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from nilometer import BudgetExceeded, ClientConfig, ClientManager
from tests.integrations import upstream
from tests.running import KEY, Server, running, wait_until

CALLERS, WITHIN = 50, 200
ONE = (60 * Decimal("0.15") + 40 * Decimal("0.075") + 30) / 1_000_000
"""What a call costs, by the server's own prices."""
LIMIT = ONE * WITHIN - ONE / 2
ASK: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "?"}]}


@pytest.fixture(autouse=True)
def _the_first_answer_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that takes the processor away is slower than the two seconds that a manager waits, and
    until there is an answer no call is stopped."""
    monkeypatch.setattr("nilometer.sdk.manager._FIRST_ANSWER_SECONDS", 60)


def managed(server: Server, spool: Path) -> ClientManager:
    return ClientManager(
        ClientConfig(
            sink=server.url,
            api_key=KEY,
            spool_dir=spool,
            hard_stop=True,
            budget_check_interval=0.2,
            handle_sigterm=False,
        )
    )


def client(manager: ClientManager) -> openai.OpenAI:
    def respond(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json=upstream.CHAT)

    transport = httpx2.Client(transport=httpx2.MockTransport(respond))
    return manager.wrap(openai.OpenAI(api_key="sk", http_client=transport))


def spend(manager: ClientManager) -> int:
    """Have many callers call until they are stopped; how many calls they made."""
    asked = client(manager)

    def call(_: int) -> int:
        made = 0
        while made < 1000:
            try:
                asked.chat.completions.create(**ASK)
            except BudgetExceeded:
                break
            made += 1
        return made

    with ThreadPoolExecutor(CALLERS) as pool:
        return sum(pool.map(call, range(CALLERS)))


def test_of_fifty_callers_only_calls_in_flight_pass_and_the_stop_outlives_a_kill(
    tmp_path: Path,
) -> None:
    budget = {"name": "all", "amount_usd": f"{LIMIT:f}", "period": "year", "hard_stop": True}
    data, spool = tmp_path / "data", tmp_path / "spool"
    with running(data) as server:
        with server.client() as asking:
            made = asking.post("/api/projects/@current/budgets/", json=budget)
            assert made.status_code == 201, made.text
        with managed(server, spool) as manager:
            calls = spend(manager)
            assert WITHIN <= calls <= WITHIN + CALLERS - 1
            assert manager.flush(30)
        wait_until(lambda: status(server)["call_count"] == calls)
        assert Decimal(status(server)["spent_usd"]) == ONE * calls
        with managed(server, spool) as another, pytest.raises(BudgetExceeded) as stop:
            client(another).chat.completions.create(**ASK)
        assert (stop.value.budget, stop.value.limit) == ("all", LIMIT)
        assert stop.value.spent == ONE * calls
        with managed(server, spool) as staying:
            server.kill()
            assert not staying.refresh_budgets()
            with pytest.raises(BudgetExceeded):  # what was known holds for a while
                client(staying).chat.completions.create(**ASK)
    with running(data) as server, managed(server, spool) as later, pytest.raises(BudgetExceeded):
        client(later).chat.completions.create(**ASK)


def status(server: Server) -> dict[str, Any]:
    with server.client() as asking:
        [found] = asking.get("/api/projects/@current/budgets/").json()["results"]
        return found["status"]
