"""Rows of two projects side by side in one part of the store, and ours again in a part of their
own: what differs between the two was told by the neighbour's rows.

A part's columns may share something between all of its rows, whosever they are (a LowCardinality
column: the dictionary), and rows that are inserted one project after the other are in parts of
their own, where nothing of that shows. These go in with one insert.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nilometer.clickhouse.store import Store
from tests.projects import new_project_id
from tests.query.rows import aligned, call_row, event_row, insert

# A number, and base64; what functions take otherwise is made from it.
OURS = "1234"
# No number, no base64, no regular expression; and it begins with what no date or UUID has.
THEIRS = "!((SECRETB"
_TEXTS = (
    *("trace_id", "session_id", "parent_id", "span_id", "generation_id", "experiment_id", "model"),
    *("provider", "framework", "span_type", "span_name", "trace_name", "prompt_name", "error"),
    *("error_type", "error_normalized", "stop_reason", "base_url", "redacted"),
)
_TEXTS_OF_CALLS = (
    *("usage_convention", "usage_reason", "usage_units", "service_tier", "price_source"),
    *("price_version", "price_as_of", "price_reason", "priced_model", "priced_provider"),
    *("identity", "operation", "call_id", "distinct_id", "operation_name", "user_id", "job_id"),
    *("batch_id", "environment", "developer", "repository"),
)
_HEAVY = ("input", "output", "output_choices", "tools", "input_state", "output_state")
_HEAVY_NAMES = tuple(f'"$ai_{name}"' for name in (*_HEAVY, "instructions"))
ROWS = 12


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Three projects: ours `alone`, the same rows `beside` those of `other`."""

    alone: int
    beside: int
    other: int


def filled(store: Store, projects: Neighbours) -> Neighbours:
    """The projects with their rows: of the neighbour's there are twenty for each of ours, and all
    of those have what a column has by default, so that the store keeps such columns sparsely."""
    ours = _rows(projects.beside, OURS, range(ROWS))
    theirs = _rows(projects.other, THEIRS, range(20 * ROWS))
    _insert(store, _rows(projects.alone, OURS, range(ROWS)))
    _insert(store, [row for n, row in enumerate(theirs) for row in _next_to(n, row, ours)])
    return projects


def new(store: Store) -> Neighbours:
    """Three new projects with their rows."""
    return filled(store, Neighbours(new_project_id(), new_project_id(), new_project_id()))


def _next_to(n: int, row: dict[str, Any], ours: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row, ours[n // 20]] if n % 20 == 0 else [row]


def _rows(project_id: int, text: str, numbers: range) -> list[dict[str, Any]]:
    """Events that have the text wherever a text can be."""
    value = text if text == OURS else f'"{text}"'
    heavy = ",".join(f"{name}:{value}" for name in _HEAVY_NAMES)
    return [
        event_row(
            project_id,
            **dict.fromkeys(_TEXTS, text),
            at=number,
            distinct_id=text,
            event=f"$ai_{text}",
            input_tokens=1 if text == OURS else 0,
            is_error=text == OURS,
            properties=f'{{{heavy},"$ai_model":{value},"plan":{value},"{text}":{value}}}',
        )
        for number in numbers
    ]


def _insert(store: Store, rows: list[dict[str, Any]]) -> None:
    insert(store, rows)
    calls = [
        call_row(row, **dict.fromkeys(_TEXTS_OF_CALLS, row["model"]), tags=[row["model"]])
        for row in rows
    ]
    store.insert("calls", aligned(calls))
