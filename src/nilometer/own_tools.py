"""What incidents' own tools do in rooms that incidents know nothing of, and the executor of tools
that is made with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from nilometer.clickhouse.store import Store
from nilometer.database.engine import Database
from nilometer.domain import clock
from nilometer.incidents.tools.executor import Executor
from nilometer.incidents.tools.own.elsewhere import Elsewhere
from nilometer.incidents.tools.remote import Remote
from nilometer.log.port import Log
from nilometer.notifications.reach import Reach
from nilometer.pipeline.letter_replays import LetterReplays
from nilometer.query.usage import Usage
from nilometer.usage import answers
from nilometer.usage.query import parse
from nilometer.usage.report.document import document
from nilometer.usage.report.making import Wanted, levels_of, make
from nilometer.usage.report.markdown import to_markdown
from nilometer.usage.report.report import Period

TOP_LINES = 10
"""Of each table of a report, as text and as data; the others are summed up in the text."""

Json = dict[str, Any]


def tool_executor(database: Database, log: Log, store: Store, reach: Reach) -> Executor:
    """What executes tools in this process."""
    elsewhere = Elsewhere(LetterReplays(database, log), UsageReports(store))
    return Executor(database, Remote(reach), elsewhere)


class UsageReports:
    """Makes reports of what a project spent, from the store. Blocks; safe between threads."""

    def __init__(self, store: Store) -> None:
        self._usage = Usage(store)

    def make(self, project_id: int, *, days: int, group_by: Sequence[str]) -> Json:
        """The report of the last days, today included, beside as many before; tables have their
        costliest `TOP_LINES` lines. Raises InvalidInput, and the store's errors."""
        today = clock.now().date()
        wanted = Wanted(
            Period(today - timedelta(days=days - 1), today),
            tables=tuple(levels_of(each) for each in group_by),
            savings=False,
        )
        report = make(_Project(self._usage, project_id), wanted)
        told = document(report)
        del told["savings"]
        for table in told["tables"]:
            table["lines"] = table["lines"][:TOP_LINES]
        return {"report": told, "markdown": to_markdown(report, TOP_LINES).decode()}


@dataclass(slots=True)
class _Project:
    """A project's calls, as a report's source."""

    usage: Usage
    project_id: int
    name: str = "this server"

    def ask(self, parameters: Mapping[str, str]) -> Json:
        query = parse({k: [v] for k, v in parameters.items()}, today=clock.now().date())
        return answers.answer(query, self.usage.groups(self.project_id, query))

    def savings(self, parameters: Mapping[str, str]) -> Json | None:  # noqa: ARG002
        return None

    def notes(self) -> list[str]:
        return []

    def close(self) -> None:
        """Nothing of its own is open."""
