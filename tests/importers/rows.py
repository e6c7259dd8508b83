"""Rows of the store, for tests."""

import json

from nilometer.importers.store.columns import STORED_NAMES

USUAL = {
    "session_id": "s-1",
    "developer_id": "ada",
    "timestamp": "2026-11-02T10:00:00.000000+00:00",
    "model": "claude-sonnet-4-5",
    "tokens_in": 100,
    "tokens_out": 50,
    "total_tokens": 150,
    "latency_ms": 1234.5,
    "status": "success",
    "repo_slug": "acme/river",
    "source": "prodlens",
    "provider": "anthropic",
    "cost_usd": "0.00105",
    "completeness": 1,
    "details": {"tokens": [100, 0, 0, 0, 0, 0, 0, 0, 50]},
    "price": {"source": "genai-prices", "as_of": "2025-09-29", "components": {"x": "0.00105"}},
}


def row(name, **values):
    """The call of a name, of which `values` are told."""
    told = {**USUAL, "trace_hash": f"prodlens:{name}", **values}
    assert told.keys() <= {*STORED_NAMES}
    found = (told.get(column) for column in STORED_NAMES)
    return tuple(json.dumps(each) if isinstance(each, dict) else each for each in found)


def rows_of(count, **values):
    return [row(f"call-{number}", **values) for number in range(count)]
