"""Rows of several projects in one store: ours, and others' that are full of a marker."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

from nilometer.clickhouse.store import Store
from tests.query.rows import NOON, event_row, insert

MARKER = "OTHERS-SECRET"
# A moment that ours never have: conversions of it overflow.
FAR = datetime(2299, 12, 31, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def our_row(project_id: int, number: int) -> dict:
    """An event of ours: every text of it is a number, and no number is 0."""
    return event_row(
        project_id,
        at=number * 1_000_000,
        distinct_id=str(number % 3 + 1),
        trace_id=str(number % 4 + 1),
        session_id=str(number % 2 + 1),
        span_id=str(number + 1),
        model=f"model-{number % 2}",
        input_tokens=number + 1,
        output_tokens=2 * number + 1,
        latency=0.5 + number,
        total_cost_usd=Decimal("0.000000000000000001") * (number + 1),
        properties=(
            f'{{"$ai_model":"model-{number % 2}","$ai_input":[{{"role":"user"}}],'
            f'"n":{number + 1},"deep":{{"list":[1,2,{number}]}},"text":"word {number}"}}'
        ),
    )


def their_row(project_id: int, number: int) -> dict:
    """An event of another project: what is done to it by a query either shows or fails."""
    return event_row(
        project_id,
        event=f"$ai_{MARKER}",
        timestamp=(EPOCH, FAR, NOON + timedelta(microseconds=number))[number % 3],
        distinct_id=MARKER,
        trace_id=MARKER,
        session_id=MARKER,
        span_id=MARKER,
        model=MARKER,
        input_tokens=0,
        output_tokens=-(2**62),
        latency=0,
        total_cost_usd=Decimal(9999999999999999999),
        properties=f'{{"$ai_model":"{MARKER}","$ai_input":"{MARKER}","n":"{MARKER}"}}',
    )


def call_row(project_id: int, text: str, number: int | None = None) -> dict:
    return {
        "project_id": project_id,
        "call_id": text,
        "identity": "response",
        "event_uuid": str(uuid4() if number is None else UUID(int=number + 1)),
        "source_rank": 1,
        "revision": 1,
        "accepted_at": NOON,
        "timestamp": NOON,
        "trace_id": text,
        "distinct_id": text,
        "model": text,
        "operation": "generation",
        "is_error": False,
        "mapping_version": 1,
    }


def our_call(project_id: int, number: int) -> dict:
    """A call of ours: no number of it is 0, and texts are numbers."""
    text = str(number)
    return (
        call_row(project_id, text, number)
        | _consumption(number, text)
        | {
            "session_id": str(number % 2 + 1),
            "cost_total": Decimal("0.000000000000000001") * number,
        }
    )


def their_call(project_id: int, number: int) -> dict:
    """A call of another project, in ours's traces by name, with what a query would fail on."""
    return (
        call_row(project_id, f"{MARKER}-{number}", number)
        | _consumption(0, MARKER)
        | {
            "trace_id": str(number % 4 + 1) if number % 2 else MARKER,
            "session_id": "1" if number % 2 else MARKER,
            "cost_total": Decimal(9999999999999999999),
        }
    )


def _consumption(count: int, text: str) -> dict:
    tokens = ("vector_input", "vector_output", "vector_total", "vector_cache_read")
    texts = ("price_source", "price_version", "priced_model", "priced_provider")
    scopes = ("user_id", "job_id", "batch_id", "environment", "developer", "repository")
    return dict.fromkeys(tokens, count) | dict.fromkeys((*texts, *scopes), text) | {"tags": [text]}


def fill_ours(store: Store, project_id: int, count: int = 12) -> None:
    insert(store, _ours(project_id, count))
    store.insert("calls", [our_call(project_id, number + 1) for number in range(4)])
    store.insert("usage_days", [kept_day(project_id, "1")])


def fill_theirs(store: Store, project_id: int, count: int = 12) -> None:
    insert(store, [their_row(project_id, number) for number in range(count)])
    store.insert("calls", [their_call(project_id, number) for number in range(4)])
    store.insert("usage_days", [kept_day(project_id, MARKER)])


def kept_day(project_id: int, text: str) -> dict:
    """A row of `usage_days`, which no query may read."""
    return {"project_id": project_id, "kind": "user", "day": "2025-07-01", "mark": text}


def fill_side_by_side(
    store: Store, project_id: int, others: tuple[int, int], *, ours: int = 12, theirs: int = 2500
) -> None:
    """Ours as `fill_ours` has them and each of the others', in one part of each table: by one
    insert, theirs before, between and after ours."""
    before, after = ([their_row(other, n) for n in range(theirs)] for other in others)
    own = _ours(project_id, ours)
    insert(store, [*before[: theirs // 2], *_between(own, before[theirs // 2 :]), *after])
    calls = [their_call(other, n) for other in others for n in range(4)]
    store.insert("calls", _between([our_call(project_id, n + 1) for n in range(4)], calls))


def _ours(project_id: int, count: int) -> list[dict]:
    """Events of ours, with the same ids in every project."""
    rows = [our_row(project_id, n) for n in range(count)]
    return [row | {"uuid": str(UUID(int=n + 1))} for n, row in enumerate(rows)]


def _between(own: list[dict], others: list[dict]) -> list[dict]:
    """One of each in turn, then what is left."""
    pairs = [row for pair in zip(others, own, strict=False) for row in pair]
    return [*pairs, *others[len(own) :]]
