"""Readiness and metrics under many askers and parts that hang: one check at a time, each shared."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from nilometer.api import errors
from nilometer.api.health import Health, create_router
from nilometer.errors import Unavailable
from tests.running import wait_until


class Part:
    """A part whose check blocks a thread while it hangs; it counts its checks."""

    def __init__(self) -> None:
        self.works = threading.Event()
        self.works.set()
        self.checks = 0
        self.under_way = 0
        self.error: Exception | None = None

    async def check(self) -> None:
        await run_in_threadpool(self.block)

    def block(self) -> None:
        self.checks += 1
        self.under_way += 1
        assert self.works.wait(90)
        self.under_way -= 1
        if self.error is not None:
            raise self.error


@pytest.fixture
def part() -> Iterator[Part]:
    found = Part()
    yield found
    found.works.set()


Ask = Callable[[str], Coroutine[Any, Any, httpx.Response]]


def asking(health: Health, questions: Callable[[Ask], Awaitable[None]]) -> None:
    """Ask an application that has these health routes only, on one event loop."""
    app = FastAPI()
    errors.install(app)
    app.include_router(create_router(health))

    async def run() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            await asyncio.wait_for(questions(client.get), 30)

    asyncio.run(run())


def of(part: Part, *, timeout: float = 30, fresh: float = 0) -> Health:
    return Health({"api": {"store": part.check}}, lambda: None, timeout=timeout, fresh=fresh)


def told(answer: httpx.Response) -> str:
    text: str = answer.json()["roles"]["api"]["checks"]["store"]
    return text


async def until(condition: Callable[[], bool]) -> None:
    await asyncio.to_thread(wait_until, condition)


def test_askers_at_one_time_share_one_check(part: Part) -> None:
    async def questions(ask: Ask) -> None:
        part.works.clear()
        asked = [asyncio.create_task(ask("/_readiness")) for _ in range(60)]
        await until(lambda: part.under_way == 1)
        part.works.set()
        assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}

    asking(of(part), questions)
    assert part.checks == 1


def test_a_check_that_hangs_is_not_started_again_and_holds_one_thread(part: Part) -> None:
    before = threading.active_count()

    async def questions(ask: Ask) -> None:
        part.works.clear()
        for _ in range(60):
            answer = await ask("/_readiness")
            assert answer.status_code == 503
            assert told(answer) == "no answer within 0.05 s"
        assert part.checks == 1
        assert threading.active_count() <= before + 2
        part.works.set()
        await until(lambda: part.under_way == 0)
        await until_ready(ask)

    asking(of(part, timeout=0.05), questions)


async def until_ready(ask: Ask) -> None:
    async with asyncio.timeout(20):
        while (await ask("/_readiness")).status_code != 200:
            continue


def test_only_the_first_asker_waits_for_a_check_that_hangs(part: Part) -> None:
    async def questions(ask: Ask) -> None:
        part.works.clear()
        await ask("/_readiness")
        async with asyncio.timeout(10):  # they would wait 30 s
            for _ in range(60):
                await ask("/_readiness")
        part.works.set()

    asking(of(part, timeout=0.5), questions)


def test_a_result_is_given_again_while_it_is_fresh(part: Part) -> None:
    async def questions(ask: Ask) -> None:
        for _ in range(20):
            assert (await ask("/_readiness")).status_code == 200

    asking(of(part, fresh=3600), questions)
    assert part.checks == 1


def test_a_result_that_is_no_longer_fresh_is_looked_for_anew(part: Part) -> None:
    async def questions(ask: Ask) -> None:
        await until_ready(ask)
        part.error = Unavailable("the store is away")
        async with asyncio.timeout(20):
            while (answer := await ask("/_readiness")).status_code == 200:
                continue
        assert told(answer) == "the store is away"

    asking(of(part, fresh=0.05), questions)


def test_a_check_of_two_roles_is_one(part: Part) -> None:
    async def questions(ask: Ask) -> None:
        roles = (await ask("/_readiness")).json()["roles"]
        assert {role: report["ready"] for role, report in roles.items()} == {
            "worker": True,
            "api": True,
        }

    checks = {"store": part.check}
    asking(Health({"worker": checks, "api": checks}, lambda: None), questions)
    assert part.checks == 1


def test_an_asker_who_goes_away_does_not_end_the_check_of_the_others(part: Part) -> None:
    async def questions(ask: Ask) -> None:
        part.works.clear()
        leaving, staying = (asyncio.create_task(ask("/_readiness")) for _ in range(2))
        await until(lambda: part.under_way == 1)
        leaving.cancel()
        await asyncio.wait([leaving])
        part.works.set()
        assert (await staying).status_code == 200

    asking(of(part), questions)
    assert part.checks == 1


def test_an_unforeseen_error_is_a_part_that_is_down_and_its_text_stays_inside(
    part: Part, caplog: pytest.LogCaptureFixture
) -> None:
    part.error = KeyError("a prompt")

    async def questions(ask: Ask) -> None:
        answer = await ask("/_readiness")
        assert answer.status_code == 503
        assert told(answer) == "the check failed: KeyError"

    asking(of(part), questions)
    assert "a prompt" not in caplog.text
    assert "in block" in caplog.text


def test_scrapes_share_one_refresh_and_are_answered_while_it_hangs(part: Part) -> None:
    async def questions(ask: Ask) -> None:
        part.works.clear()
        for _ in range(20):
            answer = await ask("/metrics")
            assert answer.status_code == 200
            assert "nilometer_log_records" in answer.text
        part.works.set()

    asking(Health({}, part.block, timeout=0.05, fresh=0), questions)
    assert part.checks == 1


def test_an_unknown_role_is_refused(part: Part) -> None:
    async def questions(ask: Ask) -> None:
        answer = await ask("/_readiness?role=none")
        assert answer.status_code == 400
        assert answer.json()["attr"] == "role"

    asking(of(part), questions)
