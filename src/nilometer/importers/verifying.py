"""Whether a store is whole and adds up, and whether its Parquet files say the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from nilometer.importers import repository
from nilometer.importers.parquet import comparing
from nilometer.importers.store.connection import translated
from nilometer.importers.store.store import TraceStore

_CALLS = """
SELECT trace_hash, timestamp, repo_slug, tokens_in, tokens_out, total_tokens,
  json_extract(details, '$.tokens'), cost_usd, json_extract(price, '$.components'),
  price_source, unpriced_reason
FROM sessions"""
_INPUTS = 8


@dataclass(slots=True)
class Verified:
    """How many calls there are, and by fault how many have it and which one first."""

    calls: int = 0
    counts: dict[str, int] = field(default_factory=dict[str, int])
    examples: dict[str, str] = field(default_factory=dict[str, str])

    def fault(self, name: str, example: str) -> None:
        """A call with a fault."""
        self.counts[name] = self.counts.get(name, 0) + 1
        self.examples.setdefault(name, example)


def verify(store: TraceStore, parquet: Path | None = None) -> Verified:
    """Look at every call, and at every file of an export."""
    found = Verified()
    with translated(store.path):
        for (told,) in store.database.execute("PRAGMA integrity_check"):
            if told != "ok":
                found.fault("damaged file", str(told))
        for row in store.database.execute(_CALLS):
            found.calls += 1
            for fault in _faults(*row[1:]):
                found.fault(fault, row[0])
        if parquet is not None:
            for fault in comparing.faults(store, parquet):
                found.fault(*fault)
    return found


def _faults(
    timestamp: str,
    repo: str | None,
    tokens_in: int | None,
    tokens_out: int | None,
    total: int | None,
    tokens: str | None,
    cost: str | None,
    components: str | None,
    price_source: str | None,
    reason: str | None,
) -> Iterator[str]:
    counts: list[int] | None = json.loads(tokens) if tokens else None
    if counts is not None:
        sums = (sum(counts[:_INPUTS]), sum(counts[_INPUTS:]), sum(counts))
        if sums != (tokens_in, tokens_out, total):
            yield "tokens do not add up"
    elif (tokens_in, tokens_out, total) != (None, None, None):
        yield "tokens without a vector"
    if cost is not None and components:
        parts: dict[str, str] = json.loads(components)
        if sum(map(Decimal, parts.values())) != Decimal(cost):
            yield "the cost is not its components"
    if (cost is None) is not (reason is not None):
        yield "neither a cost nor a reason why there is none, or both"
    if cost is not None and not price_source:
        yield "a cost without the source of its price"
    if repo is not None and not repository.is_safe(repo):
        yield "a repository that is none"
    if len(timestamp) != 32 or not timestamp.endswith("+00:00"):
        yield "a time that is not UTC"
