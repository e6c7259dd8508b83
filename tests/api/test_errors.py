import asyncio
import logging
import threading
from uuid import uuid4

import pytest

from nilometer.access.types import ALL_SCOPES
from nilometer.api.workers import Workers
from nilometer.errors import Unavailable
from nilometer.query.events import Events

SHAPE = {"type", "code", "detail", "attr"}


def test_a_path_that_does_not_exist_has_the_shape_of_every_error(world):
    answer = world.get("/api/nothing/", None)
    assert answer.status_code == 404
    assert answer.json()["code"] == "not_found"
    assert set(answer.json()) == SHAPE


def test_nul_in_a_text_is_refused(world):
    project = world.project()
    body = {"name": "a\0b", "kind": "http", "config": {}}
    answer = world.ask("POST", project.path("tools/"), project.key(*ALL_SCOPES), json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "nul")


def test_a_method_that_does_not_exist_has_the_shape_of_every_error(world):
    project = world.project()
    answer = world.ask("DELETE", project.path("events/"), project.reader)
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert set(answer.json()) == SHAPE
    assert answer.headers["allow"] == "GET, HEAD"


def test_what_nobody_foresaw_is_logged_without_its_text_and_answered_without_any(
    world, monkeypatch, caplog
):
    secret = uuid4().hex

    def fail(*_, **__):
        raise RuntimeError(f"a prompt: {secret}")

    monkeypatch.setattr(Events, "list", fail)
    project = world.project()
    with caplog.at_level(logging.ERROR):
        answer = project.get("events/")
    assert answer.status_code == 500
    assert set(answer.json()) == SHAPE
    assert answer.json()["type"] == "server_error"
    assert secret not in answer.text
    assert "RuntimeError" in caplog.text
    assert "test_errors.py" in caplog.text
    assert secret not in caplog.text
    assert project.reader not in caplog.text


@pytest.mark.anyio
async def test_a_full_queue_refuses_at_once_and_recovers():
    release = threading.Event()
    workers = Workers("test", threads=1, waiting=1)
    try:
        first = asyncio.ensure_future(workers.run(release.wait))
        second = asyncio.ensure_future(workers.run(release.wait))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable) as refused:
            await workers.run(release.wait)
        assert (refused.value.code, refused.value.retry_after) == ("busy", 1)
        release.set()
        assert await first
        assert await second
        assert await workers.run(lambda: 7) == 7
    finally:
        release.set()
        workers.close()


@pytest.mark.anyio
async def test_a_call_whose_client_has_gone_still_takes_its_place():
    release = threading.Event()
    workers = Workers("test", threads=1, waiting=0)
    try:
        call = asyncio.ensure_future(workers.run(release.wait))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(Unavailable):
            await workers.run(release.wait)
    finally:
        release.set()
        workers.close()


@pytest.fixture
def anyio_backend():
    return "asyncio"
