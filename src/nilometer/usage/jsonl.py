"""Usage from the file of the client library's `jsonl://` store: a host of the aggregation contract.

Lines are added up as they are read, by the values of their dimensions, and not kept. What the file
has grown by since it was last read is all that the next `refresh` reads.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, cast

from nilometer.domain.usage_metric import AIUsageMetric
from nilometer.errors import InvalidInput, NotFound
from nilometer.usage import fold
from nilometer.usage.fold import Row
from nilometer.usage.groups import Group, Groups, dimensions_of, latencies_of, values_of
from nilometer.usage.query import UsageQuery
from nilometer.usage.savings import Savings, of_metric

_READ_BYTES = 1 << 20
Dimensions = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class _Cell:
    """The calls that have the same value of every dimension."""

    group: Group = field(default_factory=Group)
    savings: Savings = field(default_factory=Savings)


class Ledger:
    """Metrics added up. A metric that comes again (`request_id`) counts once."""

    def __init__(self) -> None:
        self._cells: dict[Dimensions, _Cell] = {}
        self._seen: set[str] = set()

    def add(self, metric: AIUsageMetric) -> None:
        """Count a metric."""
        if metric.request_id in self._seen:
            return
        self._seen.add(metric.request_id)
        key = tuple(cast("Mapping[str, str]", dimensions_of(metric)).items())
        cell = self._cells.setdefault(key, _Cell())
        cell.group.add(values_of(metric), latencies_of(metric))
        cell.savings.add(of_metric(metric))

    def skip(self, request_id: str) -> None:
        """Count no metric of this id, which was told before what is counted."""
        self._seen.add(request_id)

    def groups(self, query: UsageQuery) -> Groups:
        """What the query asks for."""
        return fold.fold(
            query,
            (
                Row(dimensions, cell.group.values, cell.group.latencies)
                for dimensions, cell in self._of_days(query)
            ),
        )

    def savings(self, query: UsageQuery) -> Savings:
        """What caches and batches saved, of the calls of the query."""
        found = Savings()
        for dimensions, cell in self._of_days(query):
            if fold.matches(query, dimensions):
                found.add(cell.savings)
        return found

    def _of_days(self, query: UsageQuery) -> Iterable[tuple[dict[str, str], _Cell]]:
        first, last = query.start.isoformat(), query.end.isoformat()
        for key, cell in self._cells.items():
            dimensions = dict(key)
            if first <= dimensions["day"] <= last:
                yield dimensions, cell


class JsonlUsage:
    """The file and those that it was renamed to when it was full, from the first `since` on."""

    def __init__(self, path: Path, since: date) -> None:
        self._path = path
        self._since = since.isoformat()
        self._offsets: dict[tuple[int, int], int] = {}
        self.ledger = Ledger()
        self.unreadable = 0
        """Whole lines that were no metric."""

    def refresh(self) -> None:
        """Read what was written since. Raises NotFound where there is no such file."""
        files = self._files()
        if not files:
            raise NotFound(f"{self._path} is not there; it is made with the first call")
        known, self._offsets = self._offsets, {}
        for each in files:
            self._read(each, known)

    def _files(self) -> list[Path]:
        rotated = sorted(self._path.parent.glob(f"{_literal(self._path.name)}.*Z"))
        return [each for each in (*rotated, self._path) if each.is_file()]

    def _read(self, path: Path, known: Mapping[tuple[int, int], int]) -> None:
        """Whole lines alone: the last may be half written. A file is known by its inode, so that
        one that is renamed meanwhile is not read twice."""
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return  # renamed, or deleted, since it was listed
        except OSError as error:
            raise InvalidInput(f"{path} cannot be read: {error.strerror}") from None
        with file:
            status = os.fstat(file.fileno())
            identity = (status.st_dev, status.st_ino)
            offset = self._offsets.get(identity, known.get(identity, 0))
            if status.st_size < offset:  # written anew
                offset = 0
            file.seek(offset)
            while lines := file.readlines(_READ_BYTES):
                for line in lines:
                    if line.endswith(b"\n"):
                        offset += len(line)
                        self._add(line)
            self._offsets[identity] = offset

    def _add(self, line: bytes) -> None:
        try:
            members = _members(line)
            if str(members.get("timestamp", ""))[:10] >= self._since:
                self.ledger.add(AIUsageMetric.from_dict(members))
            elif members.get("id_given"):  # it may be there again, of a later day
                self.ledger.skip(str(members.get("request_id")))
        except (ValueError, RecursionError, InvalidInput):
            self.unreadable += bool(line.strip())


def _members(line: bytes) -> dict[str, Any]:
    members: Any = json.loads(line)
    if not isinstance(members, dict):
        raise InvalidInput("a line is no JSON object")
    return cast("dict[str, Any]", members)


def _literal(name: str) -> str:
    """A name as a pattern that matches only itself."""
    return "".join(f"[{each}]" if each in "*?[" else each for each in name)
