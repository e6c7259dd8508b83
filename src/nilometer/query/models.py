"""Which models were called, as their sources named them."""

from __future__ import annotations

from dataclasses import dataclass

from nilometer.clickhouse.store import Store
from nilometer.query.reader import Condition, Reader, Select, moment

MOST = 1000
"""Names that one read answers with, at most: the most called."""


@dataclass(frozen=True, slots=True)
class CalledModel:
    """A model as sent, with how many events named it and when last (microseconds)."""

    provider: str
    model: str
    events: int
    last_seen: int


class Models:
    """Reads of model names. Blocks; raises the store's errors."""

    def __init__(self, store: Store) -> None:
        self._reader = Reader(store)

    def called(self, project_id: int, after: int) -> list[CalledModel]:
        """The models called from a moment on, the most called first."""
        select = Select(
            columns="ifNull(provider, '') AS sent_provider, ifNull(model, '') AS sent_model, "
            "count() AS events, toUnixTimestamp64Micro(max(timestamp)) AS last_seen",
            table="events",
            where=[
                Condition("event IN ('$ai_generation', '$ai_embedding')"),
                moment("timestamp >=", "after", after),
            ],
            tail="GROUP BY sent_provider, sent_model "
            f"ORDER BY events DESC, sent_provider, sent_model LIMIT {MOST}",
        )
        return [
            CalledModel(row["sent_provider"], row["sent_model"], row["events"], row["last_seen"])
            for row in self._reader.rows(project_id, select)
        ]
