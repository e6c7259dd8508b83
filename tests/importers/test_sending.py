"""Calls of trace files reach a server with their session, and answers whole."""

import gzip
import json
import os
import time
from decimal import Decimal

import httpx
import pytest

from nilometer.errors import ConfigurationError
from nilometer.importers import ingestion, reading, sending
from nilometer.importers.chunk import MIB, Limits, Options
from nilometer.importers.formats.claude_code import read
from nilometer.importers.formats.record import Place
from nilometer.importers.growing import AT_ONCE, QUIET_SECONDS, SETTLED_BYTES, is_quiet
from nilometer.importers.ingestion import Work
from nilometer.importers.keepers import Anew
from nilometer.importers.priced import FAILED, cost_of
from nilometer.importers.reading import Source
from nilometer.importers.sending import ServerKeeper
from nilometer.importers.store import TraceStore
from nilometer.importers.trace_server import TraceServer
from nilometer.sdk.calculator import CostCalculator
from nilometer.sdk.config import ClientConfig
from nilometer.sdk.manager import ClientManager


class Server:
    """Keeps the first event of each uuid, as Nilometer does."""

    def __init__(self):
        self.events = {}
        self.status = 200

    def __call__(self, request):
        if self.status == 200:
            for event in json.loads(gzip.decompress(request.content))["batch"]:
                self.events.setdefault(event["uuid"], event)
        return httpx.Response(self.status, json={})

    @property
    def calls(self):
        return [event["properties"] for event in self.events.values()]

    @property
    def outputs(self):
        return {each["$ai_response_id"]: each["$ai_output_tokens"] for each in self.calls}


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def store(tmp_path):
    with TraceStore(tmp_path / "traces.db") as made:
        yield made


@pytest.fixture
def send(server, store):
    """Sends files as `nilometer traces ingest --server` does."""

    def sent(*files, again=False, chunk=MIB):
        door = TraceServer("http://server", "key", transport=httpx.MockTransport(server))
        config = ClientConfig(
            sink=door,
            api_key="key",
            spool=False,
            auto_tags=False,
            handle_sigterm=False,
            exit_timeout=0.1,
        )
        with ClientManager(config) as manager, store.run() as run:
            keeper = ServerKeeper(door, manager, run)
            return ingestion.ingest(
                reading.sources(map(str, files)),
                Anew(keeper) if again else keeper,
                Work(Options(), calls=True),
                limits=Limits(chunk=chunk),
            )

    return sent


def part(message, output, second=0, agent=None, tool="Read"):
    """A line of an answer."""
    usage = {"input_tokens": 40, "cache_read_input_tokens": 1000, "output_tokens": output}
    line = {
        "type": "assistant",
        "sessionId": "s-1",
        "uuid": f"u-{message}-{output}",
        "timestamp": f"2026-10-01T23:59:{second:02d}Z",
        "requestId": f"req_{message}",
        "cwd": "/home/ada/shop",
        "message": {
            "id": f"msg_{message}_0123456789",
            "model": "claude-sonnet-4-5-20250929",
            "content": [{"type": "tool_use", "name": tool, "id": "t", "input": {}}],
            "usage": usage,
        },
    }
    return json.dumps(line | ({"agentId": agent} if agent else {})) + "\n"


def gave(size=0):
    """A line of what a tool gave."""
    told = {"role": "user", "content": [{"type": "tool_result", "content": "x" * size}]}
    return json.dumps({"type": "user", "sessionId": "s-1", "uuid": "u", "message": told}) + "\n"


def quiet(path):
    """Nothing was written to the file for long."""
    then = time.time() - QUIET_SECONDS - 1
    os.utime(path, (then, then))


def one():
    return "msg_one_0123456789"


def test_an_answer_that_grew_between_two_runs_is_sent_whole_and_once(send, server, tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text(part("one", 5))
    assert (send(path).held, server.events) == (1, {})
    with path.open("a") as file:
        file.write(gave() + part("one", 25, 3, tool="Bash") + gave())
    assert (send(path).held, server.events) == (1, {})
    with path.open("a") as file:
        file.write(part("two", 7, 9))
    done = send(path)
    assert (done.counts.inserted, done.held) == (1, 1)
    quiet(path)
    done = send(path)
    assert (done.counts.inserted, done.held) == (1, 0)
    assert server.outputs == {one(): 25, "msg_two_0123456789": 7}
    [first] = [each for each in server.calls if each["$ai_response_id"] == one()]
    assert first["$ai_metadata"]["tools"] == ["Read", "Bash"]
    assert send(path).tally.records == 0


def test_pieces_of_an_answer_that_come_apart_in_one_run_are_one(send, server, tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text(part("one", 5) + gave(3000) + part("one", 25, 3) + gave(3000) + part("two", 7))
    done = send(path, chunk=1024)
    assert server.outputs == {one(): 25}
    assert (done.counts.inserted, done.counts.updated, done.held) == (1, 1, 1)
    assert done.tally.calls == 3


def test_each_agent_of_a_file_has_an_answer_that_grows(send, server, tmp_path):
    path = tmp_path / "t.jsonl"
    lines = [part("one", 5), part("a", 2, agent="a1"), part("one", 25), part("a", 9, agent="a1")]
    path.write_text("".join(each + gave(2000) for each in lines))
    assert send(path, chunk=1024).held == 2
    assert server.events == {}
    quiet(path)
    assert send(path).held == 0
    assert server.outputs == {one(): 25, "msg_a_0123456789": 9}


def test_an_answer_far_behind_is_whole_and_the_file_counts_as_read(send, server, tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text(part("one", 5) + gave(SETTLED_BYTES))
    assert (send(path).held, server.outputs) == (0, {one(): 5})
    assert send(path).bytes == 0


def test_only_a_file_can_grow_behind_its_end(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert is_quiet(Source("-", None))
    assert is_quiet(Source("pipe", tmp_path / "pipe"))
    path = tmp_path / "t.jsonl"
    path.write_text(part("one", 5))
    assert not is_quiet(Source("t", path))
    assert is_quiet(Source("t", path), lambda: time.time() + QUIET_SECONDS)


def test_a_file_read_anew_sends_nothing_twice(send, server, tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text(part("one", 5) + part("two", 7) + "no json\n")
    quiet(path)
    for again in (False, True):
        done = send(path, again=again)
        assert (done.counts.inserted, done.counts.rejected) == (2, 1)
    assert len(server.events) == 2


LITELLM = {
    "id": "chatcmpl-0123456789",
    "litellm_call_id": "c-1",
    "trace_id": "conversation-7",
    "session_id": "s-9",
    "call_type": "acompletion",
    "status": "success",
    "model": "claude-sonnet-4-5-20250929",
    "custom_llm_provider": "anthropic",
    "startTime": 1790000000.0,
    "endTime": 1790000001.0,
    "prompt_tokens": 100,
    "completion_tokens": 10,
    "total_tokens": 110,
    "response_cost": 0.5,
}


def test_sessions_and_traces_are_where_the_server_looks_for_them(send, server, tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text(part("one", 5) + json.dumps(LITELLM) + "\n")
    quiet(path)
    send(path)
    claude, litellm = sorted(server.calls, key=lambda each: each["$ai_session_id"])
    assert (claude["$ai_session_id"], claude["$ai_repository"]) == ("s-1", "shop")
    assert claude["$ai_metadata"].items() >= {"source": "claude_code", "tools": ["Read"]}.items()
    assert not {"session_id", "trace_id"} & litellm["$ai_metadata"].keys()
    assert (litellm["$ai_session_id"], litellm["$ai_trace_id"]) == ("s-9", "conversation-7")
    assert litellm["litellm_call_id"] == "c-1"


def test_an_answer_from_a_cache_costs_nothing_on_the_server(send, server, tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps(LITELLM | {"cache_hit": True, "response_cost": 0}) + "\n")
    send(path)
    [call] = server.calls
    assert call["$ai_cache_hit"] is True
    assert Decimal(call["$ai_total_cost_usd"]) == 0
    assert call["$ai_cost_stated"] is True
    assert not {"$ai_input_tokens", "$ai_usage"} & call.keys()


def test_a_key_that_the_server_refuses_is_said_at_once(send, server, tmp_path, monkeypatch):
    monkeypatch.setattr(sending, "_LOOK_SECONDS", 0.2)
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps(LITELLM) + "\n")
    server.status = 401
    with pytest.raises(ConfigurationError, match="refuses the key"):
        send(path)
    server.status = 200
    assert send(path).counts.inserted == 1


def test_an_api_error_is_no_cache_hit_on_the_server(send, server, tmp_path):
    told = json.loads(part("one", 5)) | {"isApiErrorMessage": True, "apiErrorStatus": 529}
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps(told) + "\n")
    quiet(path)
    send(path)
    [call] = server.calls
    assert (call["$ai_http_status"], call["$ai_is_error"]) == (529, True)
    assert not {"$ai_cache_hit", "$ai_total_cost_usd", "$ai_cost_stated"} & call.keys()
    known = read(told, Place(1, 0, Options()))
    assert known is not None
    assert cost_of(known, CostCalculator()).reason == FAILED


def test_a_line_that_was_being_written_leaves_no_letter(send, store, tmp_path):
    path = tmp_path / "t.jsonl"
    whole = part("one", 5) + part("two", 7)
    path.write_text(whole[:-40])
    assert send(path).counts.rejected == 1
    path.write_text(whole)
    assert send(path).held == 1
    assert list(store.letters.list()) == []


def side(message, output):
    """A line of a sub-agent's answer, which does not say which one it is."""
    return json.dumps(json.loads(part(message, output)) | {"isSidechain": True}) + "\n"


def test_answers_of_sub_agents_that_are_not_told_apart_are_sent_whole(send, server, tmp_path):
    path = tmp_path / "t.jsonl"
    parts = (("a", 5), ("b", 6), ("a", 25), ("b", 30))
    path.write_text("".join(side(*each) + gave(2000) for each in parts))
    assert send(path, chunk=1024).held == 2
    assert server.events == {}
    quiet(path)
    assert send(path).held == 0
    assert server.outputs == {"msg_a_0123456789": 25, "msg_b_0123456789": 30}


def test_the_oldest_of_many_answers_of_sub_agents_is_whole(send, server, tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text("".join(side(f"{number:02d}", 5) for number in range(AT_ONCE + 1)))
    assert send(path).held == AT_ONCE
    assert server.outputs == {"msg_00_0123456789": 5}
