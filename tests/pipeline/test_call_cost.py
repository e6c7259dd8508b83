"""A call's row has its token vector, its exact cost and where that came from, or why there is
none."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson
import pytest

from nilometer.clickhouse.store import Store
from nilometer.database.engine import DatabaseUnavailable
from nilometer.domain.usage import INPUT_BUCKETS, OUTPUT_BUCKETS
from nilometer.pipeline.mapping import Rows, map_record
from nilometer.pricing import Override, Overrides
from nilometer.pricing.overrides import BUCKETS
from tests.pipeline import rows
from tests.pipeline.records import MemoryLog, envelope, mapped

UUID = "00000000-0000-4000-8000-000000000001"
TOKENS = {
    "$ai_model": "gpt-4o",
    "$ai_provider": "openai",
    "$ai_input_tokens": 1000,
    "$ai_cache_read_input_tokens": 400,
    "$ai_output_tokens": 50,
}
OWN = Override(
    "mine",
    "openai",
    "gpt-4o",
    datetime(2025, 1, 1, tzinfo=UTC),
    per_million_tokens=dict.fromkeys(BUCKETS, Decimal(1)),
)


def call(properties: dict[str, Any], name: str = "$ai_generation") -> dict[str, Any]:
    line = mapped(envelope(1, UUID, name=name, properties=properties)).call
    assert line is not None
    return orjson.loads(line)


def test_a_call_is_stored_with_its_vector_its_cost_and_its_price(
    store: Store, project_id: int, make_pipeline: Any
):
    """gpt-4o: 2.50, 1.25 and 10 dollars for a million uncached, cached and output tokens."""
    make_pipeline(MemoryLog([envelope(project_id, UUID, properties=TOKENS)])).run_once(1)
    [row] = rows.final(store, "calls", project_id)
    assert row["vector_uncached_input"] == 600
    assert row["vector_cache_read"] == 400
    assert (row["vector_input"], row["vector_output"], row["vector_total"]) == (1000, 50, 1050)
    assert row["cost_uncached_input"] == Decimal("0.0015")
    assert row["cost_cache_read"] == Decimal("0.0005")
    assert (row["cost_input"], row["cost_output"]) == (Decimal("0.002"), Decimal("0.0005"))
    assert row["cost_total"] == Decimal("0.0025")
    assert (row["price_source"], row["price_reason"]) == ("genai-prices", "")
    assert (row["priced_provider"], row["priced_model"]) == ("openai", "gpt-4o")
    assert row["price_version"]


@pytest.mark.parametrize(
    ("change", "usage_reason", "price_reason"),
    [
        ({"$ai_model": "gpt-4o-foo"}, "", "unknown_model"),
        ({"$ai_cache_read_input_tokens": 2000}, "negative_remainder", "no_usage"),
    ],
)
def test_what_is_not_known_is_null_with_its_reason(change, usage_reason, price_reason):
    row = call(TOKENS | change)
    assert row.get("usage_reason", "") == usage_reason
    assert row["price_reason"] == price_reason
    assert not any(name.startswith("cost_") for name in row.keys() - {"cost_stated"})
    assert ("vector_total" in row) == (not usage_reason)


def test_tokens_that_no_column_holds_are_no_vector(
    store: Store, project_id: int, make_pipeline: Any
):
    most = 2**63 - 1
    huge = TOKENS | {"$ai_input_tokens": most, "$ai_output_tokens": most}
    make_pipeline(MemoryLog([envelope(project_id, UUID, properties=huge)])).run_once(1)
    [row] = rows.final(store, "calls", project_id)
    assert (row["vector_total"], row["cost_total"]) == (None, None)
    assert row["usage_reason"]
    assert row["price_reason"] == "no_usage"


def test_a_projects_override_is_what_its_calls_cost():
    one = envelope(1, UUID, properties=TOKENS)
    [priced] = map_record(one, lambda project: Overrides([OWN]) if project == 1 else Overrides())
    assert isinstance(priced, Rows)
    assert priced.call is not None
    row = orjson.loads(priced.call)
    assert (row["cost_total"], row["price_source"]) == ("0.001050", "override:mine")


def test_overrides_that_nobody_can_read_are_waited_for_and_no_event_is_blamed(
    store: Store, project_id: int, make_pipeline: Any, dead_letters: Any
):
    known: list[Overrides] = []

    def overrides_of(_: int) -> Overrides:
        if not known:
            raise DatabaseUnavailable("away")
        return known[0]

    log = MemoryLog([envelope(project_id, UUID, properties=TOKENS)])
    pipeline = make_pipeline(log, overrides_of=overrides_of)
    with pytest.raises(DatabaseUnavailable):
        pipeline.run_once(1)
    assert log.committed == 0
    known.append(Overrides([OWN]))
    assert pipeline.run_once(1) == 1
    assert rows.final(store, "calls", project_id)[0]["price_source"] == "override:mine"
    assert dead_letters.list(project_id).items == []


def test_every_bucket_has_its_columns():
    assert set(BUCKETS) == {*INPUT_BUCKETS, *OUTPUT_BUCKETS}
    row = call({**TOKENS, "$ai_input_tokens": 1, "$ai_cache_read_input_tokens": 0})
    assert {name for name in row if name.startswith("vector_")} == {
        f"vector_{name}" for name in (*BUCKETS, "input", "output", "total")
    }


def test_an_amount_that_the_column_would_round_is_no_cost():
    dust = replace(OWN, per_million_tokens=dict.fromkeys(BUCKETS, Decimal("0.0000000000001")))
    one = envelope(1, UUID, properties=TOKENS | {"$ai_output_tokens": 51})
    [rows_] = map_record(one, lambda _: Overrides([dust]))
    assert isinstance(rows_, Rows)
    assert rows_.call is not None
    row = orjson.loads(rows_.call)
    assert row["price_reason"] == "cost_out_of_range"
    assert not any(name.startswith("cost_") for name in row.keys() - {"cost_stated"})
    whole = envelope(1, UUID, properties=TOKENS | {"$ai_output_tokens": 1_000_000})
    [exact] = map_record(
        whole,
        lambda _: Overrides(
            [replace(dust, per_million_tokens=dict.fromkeys(BUCKETS, Decimal("0.000000000010")))]
        ),
    )
    assert isinstance(exact, Rows)
    assert exact.call is not None
    assert orjson.loads(exact.call)["cost_output"] == "0.000000000010000000"
