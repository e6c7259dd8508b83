import json
import random
from collections import Counter

import pytest

from bench.trace_records import claude_code, write_month
from nilometer.importers import parsing, reading, telling
from nilometer.importers.chunk import Limits, Options, Tally
from nilometer.importers.trace_call import Reason
from tests.importers.records import call_of, parsed, reason_of


def line(**members):
    return {**claude_code(random.Random(7), 1), **members}


def streamed(*outputs, **members):
    """The lines of one answer, whose output grows."""
    made = line(**members)
    for number, output in enumerate(outputs):
        usage = {**made["message"]["usage"], "output_tokens": output}
        tool = {"type": "tool_use", "name": f"Tool{number}"}
        message = {**made["message"], "usage": usage, "content": [tool]}
        yield {**made, "timestamp": f"2026-10-01T08:00:0{number}Z", "message": message}


def test_lines_of_one_answer_are_one_call_with_the_last_count_and_all_its_tools():
    told = b"\n".join(json.dumps(each).encode() for each in streamed(2, 9, 400))
    found = parsing.parse_chunk(
        parsing.Chunk("x", "lines", told, parsing.Position(), parsing.Position()), Options()
    )
    (call,) = found.calls
    assert found.tally == Tally(records=3, calls=1, joined=2)
    assert call.tokens_out == 400
    assert call.tools == ("Tool0", "Tool1", "Tool2")
    assert call.line == 1
    assert call.started_at == parsed(next(streamed(1))).calls[0].started_at


def test_in_any_order_the_whole_answer_stands_and_its_tools_are_in_their_own():
    part, whole = (call_of(each) for each in streamed(2, 400))
    assert part.key == whole.key
    for order in ([part, whole], [whole, part], [whole, part, whole]):
        (call,) = telling.joined(order)
        assert (call.tokens, call.raw_usage) == (whole.tokens, whole.raw_usage)
        assert (call.started_at, call.told_at) == (part.started_at, whole.started_at)
        assert call.tools == ("Tool0", "Tool1")


def test_a_call_has_the_place_and_identity_that_the_line_tells():
    call = call_of(line(gitBranch="fix", agentId="a1", sessionId="s"))
    assert (call.session, call.branch, call.agent, call.provider) == ("s", "fix", "a1", "anthropic")
    assert call.key == "msg_000000000001/req_000000000001"
    assert call.developer is None
    assert call_of(line(), developer="ada").developer == "ada"


@pytest.mark.parametrize(
    ("directory", "repository"),
    [
        ("/home/dev/src/shop", "shop"),
        ("/home/dev/shop/.claude/worktrees/fix-1", "shop"),
        ("C:\\work\\shop", "shop"),
        ("/", None),
        ("/home/dev/.hidden", None),
        (None, None),
    ],
)
def test_a_repository_is_named_by_its_directory(directory, repository):
    assert call_of(line(cwd=directory)).repository == repository


@pytest.mark.parametrize(
    "other",
    [
        {"type": "summary", "summary": "Work", "leafUuid": "l"},
        {"type": "file-history-snapshot", "messageId": "m", "snapshot": {}},
        {"type": "user", "uuid": "u", "message": {"role": "user", "content": "hello"}},
        {"type": "system", "subtype": "turn_duration", "uuid": "u"},
        {"type": "assistant", "uuid": "u", "message": {"model": "<synthetic>", "usage": {}}},
        {"type": "something-of-next-year", "sessionId": "s"},
    ],
)
def test_lines_that_are_no_calls_are_passed_and_counted(other):
    assert parsed(other).tally == Tally(records=1, passed=1)


def test_an_api_error_is_a_call_that_failed_and_consumed_nothing():
    text = {"type": "text", "text": "API Error: 529 overloaded"}
    told = {"id": "m", "model": "<synthetic>", "content": [text]}
    call = call_of(line(isApiErrorMessage=True, message=told))
    assert (call.failed, call.status_code, call.model, call.tokens) == (True, 529, None, None)
    assert call.counts_usage is False


def test_a_line_without_time_is_rejected():
    assert reason_of(line(timestamp=None)) is Reason.NO_TIME


def test_a_month_of_transcripts_holds_what_was_written(tmp_path):
    month = write_month(tmp_path, seed=3, days=12)
    told, tally = [], Tally()
    sources = reading.sources([str(tmp_path)])
    for source in sources:
        for chunk in reading.read_chunks(source, limits=Limits(chunk=4096)):
            found = parsing.parse_chunk(chunk, Options())
            assert not found.rejected
            tally += found.tally
            told += found.calls
    best = {call.key: call for call in telling.joined(told)}
    assert (len(sources), tally.records) == (month.files, month.lines)
    assert len(best) == month.calls
    assert tally.calls + tally.joined == month.calls + month.joined + month.repeated
    assert sum(call.failed is True for call in best.values()) == month.failed > 0
    tokens = Counter()
    for call in best.values():
        tokens[call.repository] += sum(call.tokens or ())
    assert +tokens == month.tokens
    assert {call.session for call in best.values()} == month.sessions


def test_the_same_seed_writes_the_same_month(tmp_path):
    write_month(tmp_path / "a", seed=5, days=3)
    write_month(tmp_path / "b", seed=5, days=3)

    def files(folder):
        return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.jsonl")}

    assert files(tmp_path / "a") == files(tmp_path / "b")
