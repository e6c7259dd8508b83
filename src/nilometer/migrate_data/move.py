"""One run of a move, from its checks to its report."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import datetime
from pathlib import Path

import orjson

from nilometer import failpoints
from nilometer.blobs.configured import configured
from nilometer.clickhouse.migrate import SchemaBehind
from nilometer.clickhouse.store import Store
from nilometer.database.engine import Database
from nilometer.database.migrate import migrate
from nilometer.domain import clock
from nilometer.errors import ConfigurationError
from nilometer.foundation import clickhouse
from nilometer.migrate_data import objects, records, rows, source
from nilometer.migrate_data.claim import Claim, Claims, TargetTaken
from nilometer.migrate_data.objects import Objects
from nilometer.migrate_data.records import Records
from nilometer.migrate_data.report import Comparison, Progress, Report, Tally
from nilometer.migrate_data.rows import Rows
from nilometer.migrate_data.tables import Partition, Tables
from nilometer.settings import Settings

TABLES = "store"
_IN_USE = "the target is in use since"


class Move:
    """From a data directory to the servers of the settings, which are a distributed profile's.

    Holds the directory's lock until `close`. Everything blocks; raises ConfigurationError for what
    an operator has to change, and Unavailable for a server that does not answer: run it again.
    """

    def __init__(self, path: Path, settings: Settings, blobs_url: str | None = None) -> None:
        settings.check_profile()
        with ExitStack() as parts:
            self._source = parts.enter_context(source.opened(path, settings, blobs_url))
            self._database = parts.enter_context(closing(_target_database(settings)))
            self._store = parts.enter_context(closing(Store(clickhouse(settings))))
            self._objects: Objects | None = None
            if self._source.blobs is not None:
                target = parts.enter_context(closing(configured(settings)))
                self._objects = Objects(self._source.blobs, target)
            self._records = Records(self._source.unread, settings)
            self._tables = Tables(self._source.store, self._store)
            self._rows = Rows(self._source.database, self._database)
            self._claims = Claims(self._database)
            self._parts = parts.pop_all()

    def close(self) -> None:
        """Let go of everything."""
        self._parts.close()

    def plan(self) -> Report:
        """What there is to move, and whether it could be; changes nothing anywhere."""
        claim = self._known_claim()
        there = self._open_store()
        if claim is None:
            self._require_empty(stored=there)
        if claim is None or claim.finished_at is None:
            self._records.require_room()
        counts = [(objects.PART, "objects", self._objects.count() if self._objects else 0)]
        counts += [(TABLES, each.table, each.rows) for each in self._tables.partitions()]
        counts += [(records.PART, "unread records", self._records.waiting)]
        counts += [(rows.PART, "rows", self._rows.count())]
        summed: dict[tuple[str, str], int] = {}
        for part, name, count in counts:
            summed[part, name] = summed.get((part, name), 0) + count
        state = "new" if claim is None else "finished" if claim.finished_at else "begun"
        return Report(
            state,
            claim.finished_at if claim else None,
            {f"{part}: {name}": count for (part, name), count in summed.items()},
        )

    def run(self, progress: Progress) -> Report:
        """Move what the target lacks, compare everything, and let the target be served. A move that
        is finished stays as it is."""
        migrate(self._database)
        source.require_same_release(self._database, "the target's database")
        claim = self._found_claim()
        if claim is not None and claim.finished_at is not None:
            return Report("finished", claim.finished_at)
        self._records.require_room()
        self._store.open()
        source.require_same_schema(self._store, "the target's store")
        if claim is None:
            self._require_empty(stored=True)
            claim = self._claims.take(self._source.identity, self._source.place, self._until())
        moved = self._move(progress)
        found = list(self._compare(progress, None, mend=True))
        report = Report("begun", None, moved, found)
        if not report.fine:
            return report
        failpoints.hit("moved_all")
        return Report("finished", self._claims.finish(self._source.extent), moved, found)

    def verify(self, progress: Progress) -> Report:
        """Compare everything; changes nothing. Of a move that is finished, what was accepted since
        is left out."""
        source.require_same_release(self._database, "the target's database")
        claim = self._found_claim()
        if claim is None:
            raise ConfigurationError("nothing was moved from there into this database yet")
        self._store.open(migrating=False)
        finished = claim.finished_at is not None
        found = list(self._compare(progress, claim if finished else None, mend=False))
        return Report("finished" if finished else "begun", claim.finished_at, {}, found)

    def _known_claim(self) -> Claim | None:
        try:
            source.require_same_release(self._database, "the target's database")
        except ConfigurationError as error:
            if "newer" in error.detail:
                raise
            return None  # it has no tables of this release, and so no claim
        return self._found_claim()

    def _found_claim(self) -> Claim | None:
        claim = self._claims.found(self._source.identity)
        if claim is not None:
            claim.require_moved(self._source.extent)
        return claim

    def _open_store(self) -> bool:
        """Whether the target has tables already."""
        try:
            self._store.open(migrating=False)
        except SchemaBehind:
            return False
        source.require_same_schema(self._store, "the target's store")
        return True

    def _require_empty(self, *, stored: bool) -> None:
        taken = [
            f"the database ({', '.join(found)})" for found in [self._rows.strangers()] if found
        ]
        if stored and (found := self._tables.strangers()):
            taken.append(f"ClickHouse ({', '.join(found)})")
        if self._records.strangers():
            taken.append("the Kafka topic")
        if self._objects is not None and self._objects.strangers():
            taken.append("the bucket")
        if taken:
            raise TargetTaken(
                f"the target is in use: there is something in {', and in '.join(taken)}. Move into "
                "servers that no Nilometer has used yet"
            )

    def _until(self) -> datetime:
        """Everything that was accepted before this is stored in the source, or dead-lettered."""
        oldest = clock.to_micros(clock.now())
        for record in self._source.unread:
            oldest = min(oldest, _accepted_at(record.headers, oldest))
        return clock.from_micros(oldest)

    def _move(self, progress: Progress) -> dict[str, int]:
        moved = {objects.PART: 0, TABLES: 0}
        if self._objects is not None:
            progress.begin(objects.PART, self._objects.count())
            moved[objects.PART] = self._objects.move(progress)
        partitions = self._tables.partitions()
        progress.begin(TABLES, sum(each.rows for each in partitions))
        for partition in partitions:
            copied = self._tables.copy(partition, progress)
            progress.advance(partition.rows - copied)  # those that were there
            moved[TABLES] += copied
        wanted = self._rows.letters_from(self._source.unread.start)
        progress.begin(records.PART, self._records.waiting)
        moved[records.PART], places = self._records.move(wanted, progress)
        progress.begin(rows.PART, self._rows.count())
        moved[rows.PART] = self._rows.move(places, progress)
        return moved

    def _compare(
        self, progress: Progress, finished: Claim | None, *, mend: bool
    ) -> Iterator[Comparison]:
        """`finished` is the claim of a target that may be in use."""
        if self._objects is not None:
            progress.begin("comparing blobs", 0)
            yield from self._objects.compare()
        yield from self._compare_tables(progress, finished, mend=mend)
        if finished is None:
            progress.begin("comparing the log", self._records.waiting)
            yield self._records.compare()
        progress.begin("comparing the database", 0)
        yield from self._rows.compare(_IN_USE if finished else "")

    def _compare_tables(
        self, progress: Progress, finished: Claim | None, *, mend: bool
    ) -> Iterator[Comparison]:
        """Table by table and project by project. A partition that differs is copied again, all of
        it, where that may be."""
        partitions = self._tables.partitions()
        progress.begin("comparing the store", sum(each.rows for each in partitions))
        until = finished.until if finished else None
        summed: dict[tuple[str, int], tuple[Tally, Tally]] = {}
        for partition in partitions:
            ours, theirs = self._tables.tallies(partition, until)
            if ours != theirs and mend:
                self._tables.copy(partition, _Silent(), afresh=True)
                ours, theirs = self._tables.tallies(partition, until)
            _sum(partition, ours, theirs, summed)
            progress.advance(partition.rows)
        for (table, project), (ours, theirs) in summed.items():
            yield Comparison(TABLES, table, project, ours, theirs)


class _Silent:
    """Tells nobody."""

    def begin(self, step: str, total: int) -> None:
        """As `Progress`."""

    def advance(self, count: int) -> None:
        """As `Progress`."""


def _sum(
    partition: Partition,
    ours: dict[int, Tally],
    theirs: dict[int, Tally],
    summed: dict[tuple[str, int], tuple[Tally, Tally]],
) -> None:
    for project in sorted(ours.keys() | theirs.keys()):
        both = summed.setdefault((partition.table, project), (Tally(), Tally()))
        for total, found in zip(both, (ours, theirs), strict=True):
            tally = found.get(project, Tally())
            total.add(tally.digest, tally.count)


def _accepted_at(headers: bytes, otherwise: int) -> int:
    """When a record was accepted, if its headers can be read."""
    try:
        at = orjson.loads(headers)["accepted_at"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return otherwise
    return at if type(at) is int and at > 0 else otherwise


def _target_database(settings: Settings) -> Database:
    database = Database(settings.effective_database_url)
    if database.path is not None:
        raise ConfigurationError(
            "NILOMETER_DATABASE_URL must name a PostgreSQL server", attr="database_url"
        )
    return database
