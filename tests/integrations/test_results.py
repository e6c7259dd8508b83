"""Files of a batch's results: large, in odd pieces, broken, and fetched on an event loop."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest

from nilometer import ClientConfig, ClientManager, usage_context
from nilometer.domain.usage_metric import AIUsageMetric
from nilometer.integrations import anthropic, openai, results
from nilometer.integrations.call import Call, Lines
from nilometer.integrations.results import Results
from nilometer.sdk.scopes import NOTHING
from tests.integrations import test_anthropic as claude
from tests.integrations import test_openai as gpt
from tests.integrations import upstream
from tests.integrations.conftest import Metrics

USAGE = {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}


def line(number: int, **more: Any) -> bytes:
    body = {**upstream.CHAT, "id": f"chatcmpl-{number}", "usage": USAGE, **more}
    response = {"status_code": 200, "request_id": f"req_{number}", "body": body}
    told = {"id": f"batch_req_{number}", "custom_id": str(number), "response": response}
    return json.dumps(told).encode() + b"\n"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[ClientManager]:
    """A manager whose queue has room for a part of a file."""
    config = ClientConfig(
        sink=f"jsonl://{tmp_path}/usage.jsonl",
        spool_dir=tmp_path / "spool",
        queue_size=400,
        environment="test",
        auto_tags=False,
        handle_sigterm=False,
    )
    with ClientManager(config) as made:
        yield made


def all_of(manager: ClientManager, tmp_path: Path, count: int) -> list[AIUsageMetric]:
    """What is stored, where nothing was lost of so many."""
    assert manager.flush(timeout=60)
    stats = manager.stats()
    assert (stats.submitted, stats.stored, stats.dropped) == (count, count, {})
    written = (tmp_path / "usage.jsonl").read_bytes().splitlines()
    return [AIUsageMetric.from_json(each) for each in written]


def test_every_result_of_a_file_larger_than_the_queue_is_recorded(
    small: ClientManager, tmp_path: Path
) -> None:
    body = b"".join(map(line, range(1200)))
    tracked = small.wrap(gpt.client(lambda _: httpx2.Response(200, content=body)))
    with usage_context(job_id="nightly"):
        assert tracked.files.content("file-out").content == body
    found = all_of(small, tmp_path, 1200)
    assert [each.response_id for each in found] == [f"chatcmpl-{n}" for n in range(1200)]
    last = found[-1]
    assert (last.job_id, last.service_tier, last.total_tokens) == ("nightly", "batch", 150)


async def turns_beside(work: Coroutine[Any, Any, None]) -> int:
    """How often another task has its turn meanwhile."""
    turns = 0

    async def tick() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    await work
    ticking.cancel()
    return turns


def test_an_event_loop_goes_on_while_a_file_is_handed_on(
    small: ClientManager, tmp_path: Path
) -> None:
    body = b"".join(map(line, range(1200)))

    async def run() -> None:
        tracked = small.wrap(gpt.async_client(lambda _: httpx2.Response(200, content=body)))
        await tracked.files.content("file-out")

    assert asyncio.run(turns_beside(run())) > 24  # one for each fifty results, at least
    all_of(small, tmp_path, 1200)


class Pieces(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A body that comes in pieces of so many bytes, as a server sent it."""

    def __init__(self, body: bytes, size: int) -> None:
        self._pieces = [body[at : at + size] for at in range(0, len(body), size)]

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


def answers(body: bytes, size: int, **headers: str) -> Any:
    def respond(request: httpx2.Request) -> httpx2.Response:
        if not request.url.path.endswith("/results"):
            return httpx2.Response(200, json=claude.BATCH)
        return httpx2.Response(200, stream=Pieces(body, size), headers=headers)

    return respond


def succeeded(number: int) -> bytes:
    message = {**upstream.MESSAGE, "id": f"msg_{number}"}
    told = {"custom_id": str(number), "result": {"type": "succeeded", "message": message}}
    return json.dumps(told).encode()


@pytest.mark.parametrize("size", [1, 7, 4096, 1_000_000])
@pytest.mark.parametrize("coding", ["", "gzip"])
def test_results_are_recorded_however_they_come(
    manager: ClientManager, metrics: Metrics, size: int, coding: str
) -> None:
    body = b"\r\n".join(map(succeeded, range(5)))  # no end behind the last
    if coding:
        body = gzip.compress(body)
    headers = {"content-encoding": coding} if coding else {}
    tracked = manager.wrap(claude.client(answers(body, size, **headers)))
    assert len(list(tracked.messages.batches.results("msgbatch_1"))) == 5
    assert [each.response_id for each in metrics()] == [f"msg_{number}" for number in range(5)]


def test_an_event_loop_reads_a_stream_of_results_larger_than_the_queue(
    small: ClientManager, tmp_path: Path
) -> None:
    body = b"\n".join(map(succeeded, range(1200)))

    async def run() -> None:
        tracked = small.wrap(claude.async_client(answers(body, 65_536)))
        found = await tracked.messages.batches.results("msgbatch_1")
        assert len([each async for each in found]) == 1200

    assert asyncio.run(turns_beside(run())) > 24
    all_of(small, tmp_path, 1200)


def test_a_compressed_answer_that_is_read_as_bytes_is_understood(
    manager: ClientManager, metrics: Metrics
) -> None:
    body = gzip.compress(json.dumps(upstream.CHAT).encode())
    headers = {"content-encoding": "gzip", "content-type": "application/json"}
    stream = Pieces(body, 50)
    tracked = manager.wrap(
        gpt.client(lambda _: httpx2.Response(200, stream=stream, headers=headers))
    )
    with tracked.chat.completions.with_streaming_response.create(**gpt.ASK) as response:
        assert json.loads(b"".join(response.iter_bytes())) == upstream.CHAT
    (metric,) = metrics()
    assert (metric.total_tokens, metric.estimated) == (150, False)


def test_a_broken_result_is_counted_and_one_that_was_left_is_not(
    manager: ClientManager, metrics: Metrics
) -> None:
    broken = succeeded(1)[:-5] + b"\n"
    left = succeeded(3)[:-5]  # where the reader went away
    body = succeeded(0) + b"\n\n" + broken + succeeded(2) + b"\n" + left
    call = Call(manager.tracker, "anthropic", anthropic._RESULTS, None, {}, "msgbatch_1")
    for _ in (found := Results(call, lines_of(call))).take(body):
        pass
    found.end()
    assert [each.response_id for each in metrics()] == ["msg_0", "msg_2"]
    assert manager.stats().dropped == {"invalid": 1}


def test_a_result_is_known_by_its_id_wherever_that_stands(
    manager: ClientManager, metrics: Metrics
) -> None:
    first = json.loads(line(1))
    late = json.dumps({"custom_id": "1", **{name: first[name] for name in ("response", "id")}})
    quoting = json.dumps({"id": "mine", "of": "batch_req_1"})
    body = "\n".join((late, quoting, '{"of": "batch_req_1"', '{"plain": 1}', "[]", ""))
    manager.wrap(gpt.client(lambda _: httpx2.Response(200, text=body))).files.content("f")
    assert [each.response_id for each in metrics()] == ["chatcmpl-1"]
    assert manager.stats().submitted == 1


def test_of_a_long_line_only_what_it_says_of_usage_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "_LONG", 5000)
    taken: list[Any] = []
    call = gpt_call(taken)
    long = line(1, object="list", data=[0.5] * 10_000)
    assert list(Results(call, lines_of(call)).take(long + line(2) + b'{"id": "batch_req_3\n'))
    first, second, _ = taken
    assert first.size < 3000 < len(long)
    assert [each.seen["usage"] for each in (first, second)] == [USAGE, USAGE]
    taken.clear()
    list(Results(call, lines_of(call)).take(b'{"id": "batch_req_' + b"4" * 6000 + b"\n"))
    with pytest.raises(ValueError, match="Unterminated"):  # as the writer finds, and counts
        _ = taken[0].seen


def test_a_line_without_an_end_is_passed_over_in_little_time_and_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(results, "_LONGEST", 8_000_000)
    taken: list[Any] = []
    call = gpt_call(taken)
    found = Results(call, lines_of(call))
    begun = time.thread_time()
    for _ in range(12_000):
        assert list(found.take(b"{" * 1024))
        assert len(found._begun) <= 8_000_000
    assert time.thread_time() - begun < 2  # looked at anew with each piece it is minutes
    assert list(found.take(b"}\n" + line(1)))
    found.end()
    assert [each.seen["request_id"] is not None for each in taken] == [True]


def test_a_writer_that_does_not_move_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "_PATIENCE", 0.1)
    taken: list[Any] = []  # and held
    call = gpt_call(taken)
    waited: list[float] = []
    begun = time.monotonic()
    for pause in Results(call, lines_of(call)).take(b"".join(map(line, range(5000)))):
        waited.append(pause)
        time.sleep(pause)
    assert len(taken) == 5000
    assert 0.1 <= time.monotonic() - begun < 30
    assert len([each for each in waited if each]) < 100


@pytest.mark.parametrize("size", [1000, 10_000_000])
def test_who_reads_waits_for_the_writer_to_come_along(size: int) -> None:
    taken: list[Any] = []
    call = gpt_call(taken)
    found = Results(call, lines_of(call))
    body = b"".join(map(line, range(3000)))
    most = total = 0
    for at in range(0, len(body), size):
        for pause in found.take(body[at : at + size]):
            most = max(most, len(taken))
            if pause:
                total += len(taken)
                taken.clear()  # they are written
    assert most == 1000
    assert total + len(taken) == 3000


def test_results_on_their_way_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "_MOST_BYTES", 100_000)
    taken: list[Any] = []
    call = gpt_call(taken)
    most = 0
    for pause in Results(call, lines_of(call)).take(b"".join(map(line, range(1000)))):
        most = max(most, sum(each.size for each in taken))
        if pause:
            taken.clear()
    assert 100_000 <= most < 200_000


def gpt_call(taken: list[Any]) -> Call:
    """A call whose results come into a list."""
    tracker: Any = SimpleNamespace(room=2000, take=taken.append, snapshot=lambda: NOTHING)
    return Call(tracker, "openai", openai._RESULTS, None, {}, "file-out")


def lines_of(call: Call) -> Lines:
    assert call.endpoint.lines is not None
    return call.endpoint.lines
