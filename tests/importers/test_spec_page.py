"""The three records of the page that called its costs accurate: every column, at the real price."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from nilometer.domain import clock
from nilometer.domain.usage import Usage
from nilometer.importers import parsing, reading
from nilometer.importers.chunk import Options
from nilometer.importers.trace_call import TraceCall
from nilometer.pricing import price

PAGE = Path(__file__).parent / "fixtures" / "spec_page.jsonl"


def _calls() -> list[TraceCall]:
    (chunk,) = reading.read_chunks(reading.sources([str(PAGE)])[0])
    parsed = parsing.parse_chunk(chunk, Options())
    assert not parsed.rejected
    return parsed.calls


def _cost(call: TraceCall) -> Decimal | None:
    usage = Usage(vector=call.vector, convention=call.usage_convention)
    at = clock.from_micros(call.started_at)
    return price(usage, provider=call.provider, model=call.model, at=at, tier=call.tier).total


def test_each_record_has_the_columns_of_the_page():
    columns = [
        (
            *(call.session, call.developer, call.model, call.tokens_in, call.tokens_out),
            *(call.latency_ms, call.status_code, call.accepted, call.repository),
        )
        for call in _calls()
    ]
    model, dev, alice = "anthropic/claude-3-", "dev@example.com", "alice@example.com"
    repo = "acme/widgets"
    assert columns == [
        ("abc123", dev, f"{model}5-sonnet-20241022", 250, 150, 1234.5, 200, True, repo),
        ("abc124", dev, f"{model}5-haiku-latest", 100, 50, 567.8, 200, None, repo),
        (
            "xyz789",
            alice,
            f"{model}opus-20240229",
            500,
            300,
            2345.6,
            200,
            False,
            repo,
        ),
    ]


def test_each_record_has_its_time_place_and_identity():
    calls = _calls()
    times = [datetime(2025, 10, 12, 9, minute, tzinfo=UTC) for minute in (0, 5, 10)]
    assert [clock.from_micros(call.started_at) for call in calls] == times
    assert [call.line for call in calls] == [1, 2, 3]
    content = PAGE.read_bytes()
    assert [content[call.offset - 1 :][:1] for call in calls[1:]] == [b"\n", b"\n"]
    assert len({call.key for call in calls}) == 3
    assert [(call.source, call.is_identified, call.failed) for call in calls] == [
        ("prodlens", False, False)
    ] * 3


def test_each_record_costs_what_the_price_book_says_and_not_what_the_page_said():
    assert [_cost(call) for call in _calls()] == [
        Decimal("0.0030"),
        Decimal("0.00028"),
        Decimal("0.0300"),
    ]
