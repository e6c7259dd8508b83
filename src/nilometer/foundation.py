"""What a process stands on, for each profile: the database, the log, the store."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nilometer.clickhouse.address import Server
from nilometer.clickhouse.store import Store
from nilometer.data_directory import DataDirectory
from nilometer.database.engine import Database
from nilometer.database.migrate import migrate
from nilometer.errors import ConfigurationError
from nilometer.log.port import Log
from nilometer.log.sqlite import SqliteLog
from nilometer.migrate_data.claim import require_whole
from nilometer.settings import Role, Settings

if TYPE_CHECKING:
    from nilometer.log.kafka import KafkaLog

STORE_GROUP = "store"
"""The log's group of the pipeline."""

# What the pipeline pauses in every millisecond of mapping while other threads want the interpreter,
# so that it and the event loop do not fight for it. In trials on a busy machine acknowledgements
# under load came up to half again as fast; mapping is then a third of what it is alone.
COURTESY_SECONDS = 0.002


@dataclass(frozen=True, slots=True)
class Foundation:
    """The parts that differ between the profiles; all that stands on them does not.

    `exceptions` is the log of what happens to incidents. It and `store` are None for a role that
    has no use for them. `courtesy` is `Pipeline`'s. `place` says
    where the data is, for who started the process.
    """

    database: Database
    log: Log
    exceptions: Log | None
    store: Store | None
    courtesy: float
    place: str


def lay(settings: Settings, stack: ExitStack) -> Foundation:
    """The foundation of the profile that the settings name; closed with the stack.

    Raises ConfigurationError when it cannot be as configured.
    """
    settings.check_profile()
    return _distributed(settings, stack) if settings.distributed else _embedded(settings, stack)


def _embedded(settings: Settings, stack: ExitStack) -> Foundation:
    """Everything in one data directory, which is this process's alone while it runs."""
    directory = stack.enter_context(closing(DataDirectory(settings.data_dir)))
    database = _database(settings, stack)
    log = stack.enter_context(closing(_segments(settings, directory.path / "log")))
    events = _segments(settings, directory.path / "log-exceptions", needs_readers=False)
    return Foundation(
        database=database,
        log=log,
        exceptions=stack.enter_context(closing(events)),
        store=stack.enter_context(closing(Store(directory.path / "clickhouse"))),
        courtesy=COURTESY_SECONDS,
        place=f"its data in {settings.data_dir}",
    )


def _segments(settings: Settings, path: Path, *, needs_readers: bool = True) -> SqliteLog:
    return SqliteLog(
        path,
        segment_bytes=settings.log_segment_bytes,
        max_bytes=settings.log_max_bytes,
        keep_seconds=settings.log_keep_hours * 3600,
        disk_reserve=settings.disk_reserve,
        rewind_seconds=settings.log_rewind_seconds,
        needs_readers=needs_readers,
    )


def _distributed(settings: Settings, stack: ExitStack) -> Foundation:
    """Servers, which any number of processes share."""
    database = _database(settings, stack)
    require_whole(database)
    log = stack.enter_context(closing(_kafka_log(settings)))
    exceptions, store = None, None
    if settings.role is not Role.CAPTURE:
        exceptions = stack.enter_context(closing(_kafka_exceptions(settings)))
        store = stack.enter_context(closing(Store(clickhouse(settings))))
    shares_interpreter = settings.role is Role.ALL
    return Foundation(
        database=database,
        log=log,
        exceptions=exceptions,
        store=store,
        courtesy=COURTESY_SECONDS if shares_interpreter else 0,
        place=f"the role {settings.role}",
    )


def _database(settings: Settings, stack: ExitStack) -> Database:
    database = stack.enter_context(closing(Database(settings.effective_database_url)))
    migrate(database)
    return database


def _kafka_log(settings: Settings) -> KafkaLog:
    try:
        from nilometer.log.kafka.configured import configured
    except ModuleNotFoundError:
        raise ConfigurationError('Kafka needs its client: pip install "nilometer[kafka]"') from None
    return configured(settings)


def _kafka_exceptions(settings: Settings) -> KafkaLog:
    from nilometer.log.kafka.configured import exceptions

    return exceptions(settings)


def clickhouse(settings: Settings) -> Server:
    """The ClickHouse server of the settings. Raises ConfigurationError."""
    url, reader = settings.clickhouse_url, settings.clickhouse_reader_url
    return Server.parse(
        url.get_secret_value() if url else "",
        reader_url=reader.get_secret_value() if reader else None,
        cluster=settings.clickhouse_cluster,
        insert_quorum=settings.clickhouse_insert_quorum,
        timeout=settings.clickhouse_timeout,
    )
