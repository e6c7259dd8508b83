"""One session as Markdown: who, where, what it cost, and each call. The same calls give the same
bytes. What someone sent is shown as text: it makes no heading, link, image, table cell or HTML."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

from nilometer.errors import NotFound
from nilometer.importers.store.connection import translated
from nilometer.importers.store.store import TraceStore
from nilometer.importers.trace_call import BUCKETS
from nilometer.usage.groups import known_cost
from nilometer.usage.report.markdown import escaped, lines_of
from nilometer.usage.report.report import Figures
from nilometer.usage.report.wording import exact, visible

IDLE_SECONDS = 30 * 60
"""After so long without a call a session is a new working session."""

_MOST_CHARS = 120
_CALLS = """
SELECT * FROM sessions WHERE session_id = ?
ORDER BY timestamp, trace_hash"""

_FACTS = {
    "Developer": "developer_id",
    "Repository": "repo_slug",
    "Branch": "branch",
    "Source": "source",
}

Call = dict[str, Any]


def to_markdown(store: TraceStore, session: str) -> bytes:
    """The page of a session, UTF-8. Raises NotFound."""
    with translated(store.path):
        found = store.database.cursor()
        found.row_factory = _by_name
        calls: list[Call] = found.execute(_CALLS, (session,)).fetchall()
    if not calls:
        raise NotFound(f"there is no session {session!a}")
    return "\n".join([*_lines(session, calls), ""]).encode()


def _by_name(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> Call:
    return {column[0]: value for column, value in zip(cursor.description, row, strict=True)}


def _lines(session: str, calls: Sequence[Call]) -> Iterable[str]:
    yield f"# Session {_text(session)}"
    yield ""
    for name, column in _FACTS.items():
        if values := _values(calls, column):
            yield f"- {name}: {', '.join(map(_text, values))}"
    yield f"- Time: {_text(calls[0]['timestamp'])} to {_text(calls[-1]['timestamp'])}"
    yield f"- Active: {_active(calls)}"
    yield f"- Cost: {_cost(calls)}"
    yield ""
    yield "## Tokens"
    yield ""
    rows = [
        [bucket.replace("_", " "), f"{total:,}"]
        for bucket in BUCKETS
        if (total := _sum(calls, bucket))
    ]
    yield from lines_of(["Kind", "Tokens"], [*rows, ["total", f"{_sum(calls, 'total_tokens'):,}"]])
    yield "## Models"
    yield ""
    yield from lines_of(["Model", "Calls", "Failed", "Tokens", "Cost"], _models(calls))
    yield "## Calls"
    yield ""
    names = ["Time", "Model", "Tools", "Outcome", "Seconds", "In", "Out", "Cost"]
    yield from lines_of(names, map(_row, calls), left=4)


def _models(calls: Sequence[Call]) -> Iterable[Sequence[str]]:
    for model in _values(calls, "model") or [""]:
        mine = [call for call in calls if (call["model"] or "") == model]
        failed = sum(call["status"] == "error" for call in mine)
        yield [_cut(model), f"{len(mine):,}", f"{failed:,}", f"{_sum(mine, 'total_tokens'):,}",
               _cost(mine)]  # fmt: skip


def _row(call: Call) -> Sequence[str]:
    return [
        call["timestamp"],
        _cut(call["model"] or ""),
        _cut(", ".join(json.loads(call["tools"] or "[]"))),
        _cut(_outcome(call)),
        "" if call["latency_ms"] is None else f"{call['latency_ms'] / 1000:.3f}",
        _count(call["tokens_in"]),
        _count(call["tokens_out"]),
        _call_cost(call),
    ]


def _call_cost(call: Call) -> str:
    cost = _known(call)
    if cost is None:
        return "" if call["status"] == "error" else "unpriced"
    return exact(cost)


def _outcome(call: Call) -> str:
    if call["status"] == "error":
        told = [str(call[name]) for name in ("status_code", "error_type") if call[name]]
        return " ".join(["error", *told])
    return {None: "", 0: "rejected", 1: "accepted"}[call["accepted_flag"]]


def _active(calls: Sequence[Call]) -> str:
    """How many working sessions, and how long from the first call of each to its last: a session
    may be taken up again for weeks."""
    seconds, number = 0.0, 1
    moments = [datetime.fromisoformat(call["timestamp"]) for call in calls]
    for before, after in pairwise(moments):
        gap = (after - before).total_seconds()
        number += gap > IDLE_SECONDS
        seconds += gap if gap <= IDLE_SECONDS else 0
    return f"{seconds / 60:.1f} minutes in {number} working session{'' if number == 1 else 's'}"


def _cost(calls: Sequence[Call]) -> str:
    total, unpriced = Figures(), 0
    for call in calls:
        cost = _known(call)
        unpriced += cost is None and call["status"] != "error"
        total = total.plus(Figures(cost=cost or Decimal(0)))
    if not unpriced:
        return exact(total.cost)
    known = any(_known(call) is not None for call in calls)
    return f"{exact(total.cost if known else None)}, {unpriced:,} of {len(calls):,} calls unpriced"


def _known(call: Call) -> Decimal | None:
    return known_cost(_amount(call["cost_usd"]), _amount(call["cost_reported_usd"]))


def _amount(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def _values(calls: Sequence[Call], column: str) -> list[str]:
    return sorted({call[column] for call in calls if call[column]})


def _sum(calls: Sequence[Call], column: str) -> int:
    return sum(call[column] or 0 for call in calls)


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _cut(text: str) -> str:
    """On one line, harmless to a terminal too. `lines_of` escapes it."""
    shown = visible(text[: _MOST_CHARS + 1])
    return shown if len(shown) <= _MOST_CHARS else f"{shown[: _MOST_CHARS - 1]}…"


def _text(text: str) -> str:
    return escaped(_cut(text))
