"""Made-up trace files, the same for the same seed: mixed records with bad lines, and a month of
Claude Code's transcripts.

`write_mixture` writes lines of every format with a share of bad ones, of every way in which a line
can be bad, and says what must come of them; `write_array` one JSON array; `write_month` a folder as
`~/.claude/projects` is laid out, streamed answers, sub-agents, a resumed session and an API error
among it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson

from nilometer.importers.trace_call import Reason

START = datetime(2026, 10, 1, 8, 0, tzinfo=UTC)
MODELS = (
    *("claude-sonnet-4-5-20250929", "claude-haiku-4-5-20251001", "claude-opus-4-1-20250805"),
    *("claude-3-5-sonnet-20241022", "claude-3-opus-20240229"),
)
PEOPLE = tuple(f"{name}@example.com" for name in ("ada", "grace", "lin", "omar", "sofia"))
REPOSITORIES = ("acme/shop", "acme/billing", "acme/search")
TOOLS = ("Bash", "Edit", "Read", "Grep", "Write")
SOURCES = ("prodlens",) * 40 + ("litellm",) * 30 + ("claude_code",) * 24 + ("turn",) * 4
SOURCES += ("otlp",) * 2

Random = random.Random


@dataclass
class Mixture:
    """What a file holds, and so what reading it must find."""

    lines: int = 0
    calls: Counter[str] = field(default_factory=Counter)
    passed: int = 0
    bad: Counter[str] = field(default_factory=Counter)
    """By the way in which they are bad: the names in BAD."""
    reasons: Counter[Reason] = field(default_factory=Counter)


def write_mixture(path: Path, count: int, seed: int = 1, bad_every: int = 100) -> Mixture:
    """Write so many lines, of each hundred the first a bad one, each way of BAD in its turn."""
    mixture = Mixture()
    with path.open("wb", buffering=1 << 20) as file:
        for line in lines(count, seed, mixture, bad_every):
            file.write(line)
            file.write(b"\n")
    return mixture


def write_array(path: Path, count: int, seed: int = 1) -> None:
    """Write LiteLLM's payloads of so many calls as one JSON array, an element a line, as its proxy
    answers for spend logs."""
    chance = random.Random(seed)
    with path.open("wb", buffering=1 << 20) as file:
        for number in range(count):
            file.write(b",\n" if number else b"[")
            file.write(orjson.dumps(litellm(chance, number)))
        file.write(b"]\n")


def lines(count: int, seed: int, mixture: Mixture, bad_every: int = 100) -> Iterator[bytes]:
    """The lines, without their ends; `mixture` counts them as they come."""
    chance = random.Random(seed)
    ways = list(BAD)
    for number in range(count):
        mixture.lines += 1
        if bad_every and number % bad_every == 0:
            way = ways[(number // bad_every) % len(ways)]
            make, reason = BAD[way]
            mixture.bad[way] += 1
            mixture.reasons[reason] += 1
            yield make(chance)
            continue
        source = SOURCES[chance.randrange(len(SOURCES))]
        if source == "turn":
            mixture.passed += 1
        else:
            mixture.calls[source] += 1
        yield orjson.dumps(GOOD[source](chance, number))


def _when(number: int) -> datetime:
    return START + timedelta(milliseconds=number * 731)


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _uuid(chance: Random) -> str:
    return str(UUID(int=chance.getrandbits(128), version=4))


def prodlens(chance: Random, number: int) -> dict[str, Any]:
    """A record as ProdLens reads them."""
    entered, left = chance.randrange(50, 9000), chance.randrange(1, 2000)
    return {
        "timestamp": _text(_when(number)),
        "usage": {"input_tokens": entered, "output_tokens": left, "total_tokens": entered + left},
        "attributes": {
            "llm.model_name": f"anthropic/{chance.choice(MODELS)}",
            "latency_ms": round(chance.uniform(100, 9000), 1),
            "status_code": 200,
            "prod_lens.accepted": chance.choice((True, False)),
        },
        "metadata": {
            "session_id": f"session_{chance.randrange(5000)}",
            "developer_id": chance.choice(PEOPLE),
            "repo": chance.choice(REPOSITORIES),
        },
    }


def litellm(chance: Random, number: int) -> dict[str, Any]:
    """A StandardLoggingPayload as LiteLLM 1.109 makes it, with short content."""
    read = chance.choice((0, 0, 4000))
    entered, left = read + chance.randrange(50, 900), chance.randrange(1, 900)
    start = _when(number).timestamp()
    call, model = _uuid(chance), chance.choice(MODELS)
    session = {"device_id": "d1", "account_uuid": "", "session_id": _uuid(chance)}
    return {
        "id": f"chatcmpl-{call[:18]}",
        "litellm_call_id": call,
        "trace_id": _uuid(chance),
        "session_id": "",
        "call_type": "acompletion",
        "stream": False,
        "status": "success",
        "model": model,
        "custom_llm_provider": "anthropic",
        "startTime": start,
        "endTime": start + chance.uniform(0.2, 9),
        "completionStartTime": start + 0.1,
        "response_cost": round((entered * 3 + left * 15) / 1_000_000, 9),
        "prompt_tokens": entered,
        "completion_tokens": left,
        "total_tokens": entered + left,
        "end_user": orjson.dumps(session).decode(),
        "request_tags": [f"repo:{chance.choice(REPOSITORIES)}", "User-Agent: claude-cli/2.1"],
        "cache_hit": None,
        "messages": [{"role": "user", "content": "Why is the total wrong?"}],
        "response": {
            "model": model,
            "choices": [{"finish_reason": "stop", "message": {"content": "A sign is lost."}}],
        },
        "metadata": {
            "user_api_key_user_id": chance.choice(PEOPLE),
            "user_api_key_team_id": "t1",
            "requester_metadata": {},
            "usage_object": {
                "prompt_tokens": entered,
                "completion_tokens": left,
                "total_tokens": entered + left,
                "completion_tokens_details": None,
                "prompt_tokens_details": {"audio_tokens": None, "cached_tokens": read},
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": read,
            },
        },
    }


def claude_code(chance: Random, number: int) -> dict[str, Any]:
    """An assistant's line of a transcript."""
    usage = anthropic_usage(chance, chance.randrange(1, 900))
    shop = chance.choice(("shop", "billing", "search"))
    tool = {"type": "tool_use", "id": "toolu_1", "name": chance.choice(TOOLS), "input": {}}
    return {
        **_envelope(chance, f"/home/dev/{shop}", _uuid(chance), _when(number)),
        "type": "assistant",
        "requestId": f"req_{number:012d}",
        "message": {
            "id": f"msg_{number:012d}",
            "type": "message",
            "role": "assistant",
            "model": chance.choice(MODELS),
            "content": [tool],
            "stop_reason": "tool_use",
            "usage": usage,
        },
    }


def turn(chance: Random, number: int) -> dict[str, Any]:
    """A person's line of a transcript: no call."""
    told = {"role": "user", "content": "Now the tests, please."}
    where = _envelope(chance, "/home/dev/shop", _uuid(chance), _when(number))
    return {**where, "type": "user", "message": told}


def otlp(chance: Random, number: int) -> dict[str, Any]:
    """An export request of one call, by the GenAI conventions."""
    start = int(_when(number).timestamp() * 1_000_000_000)
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": chance.choice(MODELS),
        "gen_ai.usage.input_tokens": chance.randrange(50, 9000),
        "gen_ai.usage.output_tokens": chance.randrange(1, 900),
    }
    span = {
        "traceId": f"{chance.getrandbits(128) | 1:032x}",
        "spanId": f"{chance.getrandbits(64) | 1:016x}",
        "name": "chat",
        "kind": 3,
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(start + chance.randrange(10**8, 10**10)),
        "attributes": [
            {
                "key": name,
                "value": {"intValue": str(value)} if type(value) is int else {"stringValue": value},
            }
            for name, value in attributes.items()
        ],
        "status": {},
    }
    service = {"key": "service.name", "value": {"stringValue": "shop"}}
    scope = {"scope": {"name": "app"}, "spans": [span]}
    return {"resourceSpans": [{"resource": {"attributes": [service]}, "scopeSpans": [scope]}]}


GOOD: dict[str, Callable[[Random, int], dict[str, Any]]] = {
    "prodlens": prodlens,
    "litellm": litellm,
    "claude_code": claude_code,
    "turn": turn,
    "otlp": otlp,
}


def _changed(make: Callable[[Random, int], dict[str, Any]], **members: Any) -> Bad:
    return lambda chance: orjson.dumps({**make(chance, 7), **members})


def _without(name: str) -> Bad:
    def made(chance: Random) -> bytes:
        record = prodlens(chance, 7)
        del record[name]
        return orjson.dumps(record)

    return made


def _broken(before: bytes, after: bytes) -> Bad:
    return lambda chance: orjson.dumps(prodlens(chance, 7)).replace(before, after, 1)


def _slug(name: str) -> Bad:
    return _changed(prodlens, metadata={"repo": name})


def _bad_span(chance: Random) -> bytes:
    record = otlp(chance, 7)
    record["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["startTimeUnixNano"] = "soon"
    return orjson.dumps(record)


def _deep(chance: Random) -> bytes:
    depth = chance.randrange(2_000, 4_000)
    return b'{"timestamp":1,"usage":{},"metadata":' + b"[" * depth + b"]" * depth + b"}"


Bad = Callable[[Random], bytes]
BAD: dict[str, tuple[Bad, Reason]] = {
    "a list": (lambda _: b"[1,2,3]", Reason.NOT_AN_OBJECT),
    "cut": (lambda chance: orjson.dumps(prodlens(chance, 7))[:-40], Reason.NOT_JSON),
    "two objects": (lambda _: b"{}{}", Reason.NOT_JSON),
    "plain text": (lambda _: b"INFO: proxy started on port 4000", Reason.NOT_JSON),
    "control character": (_broken(b'"usage"', b'"us\x01age"'), Reason.NOT_JSON),
    "wrong utf-8": (_broken(b"acme", b"ac\xffme"), Reason.NOT_UTF8),
    "latin-1": (_broken(b"acme", b"acm\xe9"), Reason.NOT_UTF8),
    "nul byte": (_broken(b"acme", b"ac\x00me"), Reason.NUL_BYTE),
    "deep": (_deep, Reason.TOO_DEEP),
    "brackets": (lambda _: b"[" * 5_000, Reason.TOO_DEEP),
    "a number": (lambda _: b"-1e308", Reason.NOT_AN_OBJECT),
    "null": (lambda _: b"null", Reason.NOT_AN_OBJECT),
    "empty object": (lambda _: b"{}", Reason.UNKNOWN_RECORD),
    "another record": (lambda _: b'{"level":"info","msg":"ready"}', Reason.UNKNOWN_RECORD),
    "no time": (_without("timestamp"), Reason.NO_TIME),
    "no usage": (_without("usage"), Reason.NO_USAGE),
    "usage is a text": (_changed(prodlens, usage="many"), Reason.NO_USAGE),
    "time is a word": (_changed(prodlens, timestamp="yesterday"), Reason.BAD_TIME),
    "time is huge": (_broken(b'"2026', b'9999999999999999999999,"x":"2026'), Reason.BAD_TIME),
    "time is negative": (_changed(prodlens, timestamp=-1), Reason.BAD_TIME),
    "time is NaN": (_broken(b'"2026', b'NaN,"x":"2026'), Reason.BAD_TIME),
    "time is an object": (_changed(litellm, startTime={}), Reason.BAD_TIME),
    "payload without time": (_changed(litellm, startTime=None, endTime=None), Reason.NO_TIME),
    "line without time": (_changed(claude_code, timestamp=None), Reason.NO_TIME),
    "traversal": (_slug("../../etc/passwd"), Reason.BAD_REPOSITORY),
    "encoded traversal": (_slug("%2e%2e/x"), Reason.BAD_REPOSITORY),
    "absolute path": (_slug("/etc"), Reason.BAD_REPOSITORY),
    "hidden name": (_slug(".git/hooks"), Reason.BAD_REPOSITORY),
    "span without time": (_bad_span, Reason.BAD_MESSAGE),
}
"""Every way, and the reason that must be given for it. Those that need megabytes are not here: a
line that is too long, and one of too many values."""


def anthropic_usage(chance: Random, output: int) -> dict[str, Any]:
    """Usage as Anthropic answers, with the cache as a coding agent uses it."""
    written = chance.randrange(0, 4000)
    return {
        "input_tokens": chance.randrange(1, 30),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": chance.randrange(8_000, 90_000),
        "cache_creation": {"ephemeral_5m_input_tokens": written, "ephemeral_1h_input_tokens": 0},
        "output_tokens": output,
        "service_tier": "standard",
    }


def _envelope(chance: Random, directory: str, session: str, at: datetime) -> dict[str, Any]:
    return {
        "parentUuid": _uuid(chance),
        "isSidechain": False,
        "userType": "external",
        "cwd": directory,
        "sessionId": session,
        "version": "2.1.197",
        "gitBranch": "main",
        "uuid": _uuid(chance),
        "timestamp": _text(at),
    }


@dataclass
class Month:
    """What a folder of transcripts holds."""

    files: int = 0
    lines: int = 0
    calls: int = 0
    joined: int = 0
    repeated: int = 0
    """Calls that a resumed session's file tells again."""
    failed: int = 0
    sessions: set[str] = field(default_factory=set)
    tokens: Counter[str] = field(default_factory=Counter)
    """All tokens, by repository."""


class _Transcripts:
    """Writes transcripts and counts what is in them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._chance = random.Random(seed)
        self._message = 0
        self.month = Month()

    def session(self, repository: str, start: datetime) -> list[dict[str, Any]]:
        """One session: turns of a person, each with answers, tools and what they gave."""
        chance, session = self._chance, _uuid(self._chance)
        directory, at = f"/home/dev/src/{repository}", start
        self.month.sessions.add(session)
        written: list[dict[str, Any]] = [{"type": "summary", "summary": "Work", "leafUuid": "l1"}]
        for _ in range(chance.randrange(2, 7)):
            at += timedelta(seconds=chance.randrange(5, 4000))
            where = _envelope(chance, directory, session, at)
            asked = {"role": "user", "content": "Please look at the totals."}
            written.append({**where, "type": "user", "message": asked})
            for _ in range(chance.randrange(1, 5)):
                at += timedelta(seconds=chance.randrange(2, 60))
                written += self._answer(directory, session, at)
        self._write(directory, session, written)
        return written

    def agent(self, repository: str, session: str, start: datetime) -> None:
        """A sub-agent's transcript, in the session's own folder."""
        directory = f"/home/dev/src/{repository}"
        told = self._answer(directory, session, start)
        for line in told:
            line.update(isSidechain=True, agentId="a1b2c3d4")
        self._write(directory, f"{session}/subagents/agent-a1b2c3d4", told)

    def resumed(self, repository: str, before: list[dict[str, Any]], start: datetime) -> None:
        """A session that goes on from another one: its file begins with the other's lines."""
        directory, session = f"/home/dev/src/{repository}", _uuid(self._chance)
        copied = [
            {**line, "sessionId": session, "forkedFrom": {"sessionId": line["sessionId"]}}
            for line in before
            if "sessionId" in line
        ]
        ids = {line["message"]["id"] for line in copied if line["type"] == "assistant"}
        parts = sum(line["type"] == "assistant" for line in copied)
        self.month.repeated += len(ids)
        self.month.joined += parts - len(ids)
        self.month.sessions.add(session)
        self._write(directory, session, [*copied, *self._answer(directory, session, start)])

    def failure(self, repository: str, start: datetime) -> None:
        """An API error, as the program writes it."""
        session = _uuid(self._chance)
        directory = f"/home/dev/src/{repository}"
        line = {
            **_envelope(self._chance, directory, session, start),
            "type": "assistant",
            "isApiErrorMessage": True,
            "message": {
                "id": _uuid(self._chance),
                "model": "<synthetic>",
                "role": "assistant",
                "content": [{"type": "text", "text": "API Error: 529 overloaded_error"}],
                "usage": {"input_tokens": 0, "output_tokens": 0},
            },
        }
        self.month.sessions.add(session)
        self.month.calls += 1
        self.month.failed += 1
        self._write(directory, session, [line])

    def _answer(self, directory: str, session: str, at: datetime) -> list[dict[str, Any]]:
        """An answer in one to three lines, its usage growing, and the result of its tool."""
        chance = self._chance
        self._message += 1
        blocks = chance.randrange(1, 4)
        whole = anthropic_usage(chance, chance.randrange(40, 900))
        model = chance.choice(MODELS[:3])
        told: list[dict[str, Any]] = []
        for block in range(blocks):
            is_last = block == blocks - 1
            tool = {"type": "tool_use", "id": "t", "name": chance.choice(TOOLS), "input": {}}
            content = tool if is_last else {"type": "text", "text": "Let me see."}
            usage = whole if is_last else {**whole, "output_tokens": block + 1}
            message = {
                "id": f"msg_{self._message:08d}",
                "type": "message",
                "role": "assistant",
                "model": model,
                "content": [content],
                "usage": usage,
            }
            moment = at + timedelta(milliseconds=400 * block)
            line = _envelope(chance, directory, session, moment)
            request = f"req_{self._message:08d}"
            told.append({**line, "type": "assistant", "requestId": request, "message": message})
        counted = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
        total = sum(whole[name] for name in (*counted, "output_tokens"))
        self.month.tokens[directory.rpartition("/")[2]] += total
        self.month.calls += 1
        self.month.joined += blocks - 1
        gave = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}]}
        where = _envelope(chance, directory, session, at + timedelta(seconds=2))
        return [*told, {**where, "type": "user", "message": gave}]

    def _write(self, directory: str, name: str, written: list[dict[str, Any]]) -> None:
        path = self._folder / directory.replace("/", "-") / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in written))
        self.month.files += 1
        self.month.lines += len(written)


def write_month(folder: Path, seed: int = 1, days: int = 30) -> Month:
    """A month of one developer's work on three repositories."""
    transcripts, chance = _Transcripts(folder, seed), random.Random(seed)
    for day in range(days):
        morning = START + timedelta(days=day)
        for each in range(chance.randrange(1, 4)):
            repository = chance.choice(REPOSITORIES).partition("/")[2]
            start = morning + timedelta(hours=2 * each)
            written = transcripts.session(repository, start)
            session = written[1]["sessionId"]
            if day % 5 == 0:
                transcripts.agent(repository, session, start + timedelta(minutes=3))
            if day % 10 == 3:
                transcripts.resumed(repository, written, start + timedelta(days=1, hours=1))
        if day % 7 == 2:
            transcripts.failure("shop", morning + timedelta(hours=9))
    return transcripts.month
