"""What LiteLLM's callback does with what it is told, without LiteLLM: tests/clients has both."""

from __future__ import annotations

import gzip
import json
import logging
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from nilometer.domain import clock
from nilometer.errors import ConfigurationError, Unavailable
from nilometer.integrations import litellm_payload, litellm_stores
from nilometer.integrations.litellm_payload import PAYLOADS, Noted, Payload
from nilometer.integrations.litellm_stores import PayloadFiles, PayloadServer, file_name
from nilometer.integrations.litellm_traces import Places, Traces
from nilometer.sdk.appending import locked
from nilometer.sdk.delivery.lane import NO_ROOM, Lane
from nilometer.sdk.delivery.ledger import Ledger
from tests.clients.upstream import Upstream, serving
from tests.running import wait_until
from tests.serve.test_litellm_door import payload


def told(number: int = 1, **fields: Any) -> dict[str, Any]:
    """What LiteLLM calls a callback with."""
    return {"model": "gpt-4o-mini", "standard_logging_object": payload(number, **fields)}


@pytest.fixture(autouse=True)
def _nothing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NILOMETER_URL", "NILOMETER_SINK", "NILOMETER_API_KEY", "LITELLM_LOG_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NILOMETER_SPOOL_DIR", str(tmp_path / "spool"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "logs"


@pytest.fixture
def traces(folder: Path) -> Iterator[Traces]:
    made = Traces(folder=folder)
    yield made
    made.close()
    assert made.stats().delivered.balanced


def lines(folder: Path) -> list[dict[str, Any]]:
    [file] = folder.glob("*.jsonl")
    return [orjson.loads(line) for line in file.read_bytes().splitlines()]


def test_a_call_that_is_told_of_twice_is_recorded_once(traces: Traces, folder: Path):
    for number in (1, 2, 1, 1):
        traces.take(told(number))
    assert traces.flush(60)
    assert [line["litellm_call_id"][-1] for line in lines(folder)] == ["1", "2"]
    assert (traces.stats().repeated, traces.stats().delivered.stored) == (2, 2)


def test_each_attempt_at_a_call_is_recorded(traces: Traces, folder: Path):
    traces.take(told(status="failure", startTime=1.0))
    traces.take(told(status="failure", startTime=2.0))
    traces.take(told(startTime=3.0))
    assert traces.flush(60)
    assert [line["status"] for line in lines(folder)] == ["failure", "failure", "success"]


def test_what_is_told_is_recorded_as_it_is_but_for_secrets(traces: Traces, folder: Path):
    content = {"messages": [{"role": "user", "content": "Wie hoch? \U0001f30a"}], "cost": 1e-7}
    metadata = {"user_api_key_team_alias": "nile", "tags": ["a", None]}
    secrets = {"user_api_key_hash": "swordfish", "headers": {"authorization": "Bearer swordfish"}}
    traces.take(told(**content, metadata=metadata | secrets))
    assert traces.flush(60)
    assert lines(folder) == [payload(1, **content, metadata=metadata)]


def test_a_session_that_only_a_header_names_is_in_the_payload(traces: Traces, folder: Path):
    request = {"headers": {"accept": "*/*", "X-Claude-Code-Session-Id": "s-1"}}
    for number, session in ((1, None), (2, ""), (3, "own")):
        kwargs = told(number, session_id=session)
        traces.take(kwargs | {"litellm_params": {"proxy_server_request": request}})
    assert traces.flush(60)
    assert [line["session_id"] for line in lines(folder)] == ["s-1", "s-1", "own"]


class _Model:
    def model_dump(self) -> dict[str, Any]:
        return {"held": True}


def test_odd_values_make_a_line_that_any_reader_takes(traces: Traces, folder: Path):
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    odd = {
        "nan": float("nan"),
        "half": "\ud83c",
        "at": datetime(2026, 3, 1, tzinfo=UTC),
        "model": _Model(),
        "bytes": b"\xff",
        3: {4: "four"},
    }
    traces.take(told(1, response=odd))
    traces.take(told(2, response=deep))
    assert traces.flush(60)
    first, second = lines(folder)
    assert first["response"] == {
        "nan": "NaN",
        "half": "�",
        "at": "2026-03-01 00:00:00+00:00",
        "model": {"held": True},
        "bytes": "ff",
        "3": {"4": "four"},
    }
    assert second["litellm_call_id"] == payload(2)["litellm_call_id"]


def test_the_callers_thread_writes_no_json(
    traces: Traces, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    written: list[tuple[str, bool]] = []
    write = litellm_payload._json  # pyright: ignore[reportPrivateUsage]

    def noted(value: dict[str, Any], *, in_pieces: bool) -> str:
        written.append((threading.current_thread().name, in_pieces))
        return write(value, in_pieces=in_pieces)

    monkeypatch.setattr(litellm_payload, "_json", noted)
    large = [{"role": "user", "content": f"{number} \u00e9" * 100} for number in range(500)]
    traces.take(told(1))
    traces.take(told(2, messages=large))
    assert threading.current_thread().name not in dict(written)
    assert traces.flush(60)
    assert [in_pieces for _, in_pieces in written] == [False, True]
    assert lines(folder)[1]["messages"] == large


def test_what_was_told_stays_when_the_caller_goes_on_with_its_messages(
    traces: Traces, folder: Path
):
    messages = [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]
    before = json.loads(json.dumps(messages))
    traces.take(told(1, messages=messages))
    messages[0]["content"][0]["text"] = "later"  # pyright: ignore
    messages.append({"role": "assistant", "content": []})
    assert traces.flush(60)
    assert lines(folder)[0]["messages"] == before


def test_what_waits_to_be_written_is_weighed():
    small, large = Noted(payload(1)), Noted(payload(1, messages="x" * 10_000))
    assert 10_000 <= large.size - small.size < 11_000
    assert small.size >= len(json.dumps(payload(1)))


def test_a_batch_of_embeddings_fits_a_queue():
    batch = [[0.5] * 1536] * 1000
    size = Noted(payload(1, response={"data": batch})).size
    assert 16 * 1536 * 1000 < size < 32 * 1024 * 1024


class _Raises(dict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError("dictionary changed size during iteration")


def test_nothing_that_is_told_raises(traces: Traces):
    for kwargs in (None, 7, {}, {"standard_logging_object": None}, {"standard_logging_object": []}):
        traces.take(kwargs)
    traces.take({"standard_logging_object": _Raises()})
    assert (traces.stats().without_payload, traces.stats().faults) == (5, 1)


def test_where_nothing_says_where_to_that_is_said_once(caplog: pytest.LogCaptureFixture):
    nowhere = Traces()
    with caplog.at_level(logging.ERROR):
        nowhere.take(told(1))
        nowhere.take(told(2))
    [record] = caplog.records
    assert "set NILOMETER_URL and NILOMETER_API_KEY, or LITELLM_LOG_DIR" in record.message
    assert nowhere.flush()
    assert nowhere.close()


@pytest.mark.parametrize(
    ("variables", "stores"),
    [
        ({"LITELLM_LOG_DIR": "/logs"}, ["jsonl:///logs"]),
        ({"NILOMETER_URL": "http://river:8000", "NILOMETER_API_KEY": "k"}, ["http://river:8000"]),
        (
            {
                "NILOMETER_SINK": "jsonl:///usage.jsonl, https://river",
                "NILOMETER_API_KEY": "k",
                "LITELLM_LOG_DIR": "/logs",
            },
            ["https://river", "jsonl:///logs"],
        ),
    ],
)
def test_the_environment_says_where_to(variables: dict[str, str], stores: list[str]):
    places = Places.named(None, None, None, variables)
    assert [each.sink.name for each in places.destinations()] == stores


def test_a_server_needs_a_key():
    with pytest.raises(ConfigurationError, match="NILOMETER_API_KEY"):
        Places.named(None, None, None, {"NILOMETER_URL": "http://river:8000"})


def test_the_file_is_the_days_and_its_owners(traces: Traces, folder: Path):
    traces.take(told())
    assert traces.flush(60)
    [file] = folder.iterdir()
    assert file.name == f"litellm-traces-{clock.now():%Y-%m-%d}.jsonl"
    assert (folder.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)
    assert file_name(datetime(2026, 3, 1, 23, 59, tzinfo=UTC)) == "litellm-traces-2026-03-01.jsonl"


def test_another_day_is_another_file(folder: Path, monkeypatch: pytest.MonkeyPatch):
    files = PayloadFiles(folder)
    for day in (1, 2):
        monkeypatch.setattr(clock, "now", lambda day=day: datetime(2026, 3, day, tzinfo=UTC))
        files.store([Payload.of(payload(day))])
    assert [file.name[-7:-6] for file in sorted(folder.iterdir())] == ["1", "2"]


def test_a_link_in_the_folder_is_not_written_through(folder: Path, tmp_path: Path):
    folder.mkdir()
    victim = tmp_path / "victim"
    victim.write_text("")
    (folder / file_name(clock.now())).symlink_to(victim)
    with pytest.raises(OSError, match="symbolic link"):
        PayloadFiles(folder).store([Payload.of(payload(1))])
    assert victim.read_text() == ""


def test_a_line_that_a_crash_cut_short_is_ended(folder: Path):
    folder.mkdir()
    file = folder / file_name(clock.now())
    file.write_text('{"litellm_call')
    PayloadFiles(folder).store([Payload.of(payload(1))])
    cut_short, whole = file.read_text().splitlines()
    assert cut_short == '{"litellm_call'
    assert json.loads(whole) == payload(1)


def test_who_holds_the_file_is_waited_for(folder: Path):
    folder.mkdir()
    store = partial(PayloadFiles(folder).store, [Payload.of(payload(1))])
    thread = threading.Thread(target=store)
    with locked(folder / file_name(clock.now())) as file:
        os.write(file, b'{"litellm_call_id": ')
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
        os.write(file, b'"0"}\n')
    thread.join(90)
    assert lines(folder) == [{"litellm_call_id": "0"}, payload(1)]


def test_processes_share_a_file(folder: Path):
    code = """
    import sys
    from pathlib import Path
    from nilometer.integrations.litellm_traces import Traces
    traces = Traces(folder=Path(sys.argv[1]))
    for number in range(300):
        call = {"litellm_call_id": f"{sys.argv[2]}-{number}", "messages": "x" * 5000}
        traces.take({"standard_logging_object": call})
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code), str(folder)]
    processes = [subprocess.Popen([*command, name]) for name in ("a", "b", "c")]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    ids = [line["litellm_call_id"] for line in lines(folder)]
    assert sorted(ids) == sorted(f"{name}-{number}" for name in "abc" for number in range(300))


def server(answer: Callable[[list[Any]], httpx.Response]) -> PayloadServer:
    def handle(request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == "Bearer secret-key"
        assert request.url == "http://river:8000/integrations/litellm"
        return answer(json.loads(gzip.decompress(request.content)))

    return PayloadServer("http://river:8000/", "secret-key", transport=httpx.MockTransport(handle))


def test_the_server_gets_payloads_as_they_are():
    got: list[Any] = []

    def answer(body: list[Any]) -> httpx.Response:
        got.extend(body)
        return httpx.Response(200, json={"accepted": len(body)})

    assert server(answer).store([Payload.of(payload(n)) for n in range(3)]) == []
    assert got == [payload(n) for n in range(3)]


def test_a_request_has_so_many_bytes(monkeypatch: pytest.MonkeyPatch):
    sizes: list[int] = []

    def answer(body: list[Any]) -> httpx.Response:
        sizes.append(len(body))
        return httpx.Response(200, json={"accepted": len(body)})

    payloads = [Payload.of(payload(n)) for n in range(5)]
    monkeypatch.setattr(litellm_stores, "MAX_BODY_BYTES", 2 * payloads[0].size)
    server(answer).store(payloads)
    assert sizes == [2, 2, 1]


def test_what_the_server_makes_a_dead_letter_of_is_not_sent_again():
    body = {"accepted": 1, "dead_lettered": 1, "errors": [{"index": 1, "detail": "too large"}]}
    payloads = [Payload.of(payload(n)) for n in range(2)]
    [failed] = server(lambda _: httpx.Response(200, json=body)).store(payloads)
    assert (failed.metric, failed.reason, failed.permanent) == (payloads[1], "dead_lettered", True)


def test_a_batch_that_is_too_large_is_halved_until_it_is_not():
    def answer(body: list[Any]) -> httpx.Response:
        if len(body) > 1:
            return httpx.Response(413, json={"code": "too_large"})
        bad = body[0]["litellm_call_id"].endswith("2")
        return httpx.Response(413 if bad else 200, json={"code": "too_large"})

    payloads = [Payload.of(payload(n)) for n in range(4)]
    [failed] = server(answer).store(payloads)
    assert (failed.metric, failed.reason) == (payloads[2], "too_large")


@pytest.mark.parametrize("status", [401, 429, 503])
def test_an_outage_is_one(status: int):
    with pytest.raises(Unavailable):
        server(lambda _: httpx.Response(status)).store([Payload.of(payload(1))])


def test_what_a_server_did_not_take_the_next_process_sends(monkeypatch: pytest.MonkeyPatch):
    # The first is through with its last request before the server is up: it was not to take that.
    monkeypatch.setattr("nilometer.sdk.delivery.delivery._JOIN", 90)
    up, got = [False], []

    class Handler(Upstream):
        def do_POST(self) -> None:  # noqa: N802
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if up[0]:
                got.extend(json.loads(gzip.decompress(body)))
            self.answer_json(200 if up[0] else 503, {})

    with serving(Handler) as url:
        first = Traces(url, "key")
        first.take(told())
        wait_until(lambda: first.stats().delivered.spooled == 1)
        assert not first.close(0.2)
        up[0] = True
        second = Traces(url, "key")
        assert second.flush(10)
        assert second.close()
    assert got == [payload(1)]


def test_what_comes_after_the_end_is_delivered_all_the_same(traces: Traces, folder: Path):
    traces.take(told(1))
    assert traces.close(60)
    traces.take(told(2))
    assert [line["litellm_call_id"][-1] for line in lines(folder)] == ["1", "2"]
    assert (traces.stats().late, traces.stats().lost) == (1, 0)


def test_what_comes_after_the_end_and_cannot_be_sent_is_left_on_disk(tmp_path: Path):
    with serving(Upstream) as url:
        down = Traces(url, "key")
    down.take(told(1))
    wait_until(lambda: down.stats().delivered.spooled == 1)
    assert not down.close(0.1)
    for number in (2, 3):
        down.take(told(number))
    assert (down.stats().late, down.stats().lost) == (2, 0)
    spooled = [file.read_text() for file in (tmp_path / "spool").rglob("*.jsonl")]
    assert sorted(json.loads(text)["litellm_call_id"][-1] for text in spooled) == ["1", "2", "3"]


def test_what_waits_in_memory_is_bounded_by_its_bytes():
    ledger = Ledger(["there"])
    account = ledger.accounts["there"]
    size = Payload.of(payload(1)).size
    lane = Lane(ledger, account, None, local=True, most_bytes=2 * size, form=PAYLOADS)
    for number in range(3):
        ledger.queue.append(number)
        ledger.leave(1)
        lane.put([Payload.of(payload(number))])
    assert (account.waiting, account.dropped) == (2, {NO_ROOM: 1})
