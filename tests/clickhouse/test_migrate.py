"""The schema comes up to date once, whoever starts first, and never silently differs."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from nilometer.clickhouse import embedded, migrate, migration_lock
from nilometer.clickhouse.engine import Reader
from nilometer.clickhouse.layout import SINGLE
from nilometer.clickhouse.migrate import file_lock
from nilometer.clickhouse.network import Network
from nilometer.clickhouse.store import Store
from nilometer.conventions.ai_event import COLUMNS
from nilometer.domain.usage import INPUT_BUCKETS, OUTPUT_BUCKETS
from nilometer.errors import ConfigurationError

TYPES = {
    "text": {"String", "Nullable(String)", "LowCardinality(Nullable(String))"},
    "int64": {"Nullable(Int64)"},
    "float64": {"Nullable(Float64)"},
    "decimal": {"Nullable(Decimal(38, 18))"},
    "flag": {"Bool"},
}


def opened(store: Store) -> Reader:
    """A reader of the test's database."""
    engine = store._engine
    if isinstance(engine, Network):
        return engine._connected(engine._pool, "migrations_test", 30)
    return embedded.open_reader(engine._path, "migrations_test")


@pytest.fixture
def empty(store: Store) -> Iterator[Reader]:
    """A reader whose database has nothing in it."""
    store.command("DROP DATABASE IF EXISTS migrations_test")
    store.command("CREATE DATABASE migrations_test ENGINE = Atomic")
    reader = opened(store)
    yield reader
    reader.close()
    store.command("DROP DATABASE migrations_test")


def test_every_migration_runs_once(empty: Reader, tmp_path: Path):
    numbers = [migration.version for migration in migrate.migrations()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert migrate.migrate(empty, lock=file_lock(tmp_path / "lock")) == numbers
    assert migrate.migrate(empty, lock=file_lock(tmp_path / "lock")) == []
    assert _recorded(empty) == numbers


def test_a_migration_cut_short_runs_again(empty: Reader, tmp_path: Path):
    """A crash may come after any statement: what is not recorded runs from its start."""
    migrate.migrate(empty, lock=file_lock(tmp_path / "lock"))
    empty.command("TRUNCATE TABLE schema_migrations")
    empty.command("DROP TABLE calls")
    assert migrate.migrate(empty, lock=file_lock(tmp_path / "lock")) != []
    assert empty.query("SELECT count() FROM calls").result_rows == [(0,)]


def test_starting_at_once_runs_each_migration_once(store: Store, empty: Reader, tmp_path: Path):
    together = threading.Barrier(4)
    ran: list[list[int]] = []

    def start() -> None:
        reader = opened(store)
        together.wait(10)
        lock = (
            migration_lock.held(reader, SINGLE)
            if isinstance(store._engine, Network)
            else file_lock(tmp_path / "lock")
        )
        ran.append(migrate.migrate(reader, lock=lock))
        reader.close()

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    numbers = [migration.version for migration in migrate.migrations()]
    assert sorted(ran) == [[], [], [], numbers]
    assert _recorded(empty) == numbers


def test_a_migration_that_was_changed_after_it_ran_is_refused(
    empty: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    migrate.migrate(empty, lock=file_lock(tmp_path / "lock"))
    changed = [
        migrate.Migration(each.version, each.name, each.text, "another checksum")
        for each in migrate.migrations()
    ]
    monkeypatch.setattr(migrate, "migrations", lambda: changed)
    with pytest.raises(ConfigurationError, match="another text"):
        migrate.migrate(empty, lock=file_lock(tmp_path / "lock"))


def test_a_schema_newer_than_this_process_is_fine(empty: Reader, tmp_path: Path):
    """A rolling upgrade has two versions running; migrations only add."""
    migrate.migrate(empty, lock=file_lock(tmp_path / "lock"))
    empty.command("INSERT INTO schema_migrations (version, name, checksum) VALUES (999, 'x', 'y')")
    assert migrate.migrate(empty, lock=file_lock(tmp_path / "lock")) == []


def test_a_migration_that_drops_says_which_releases_it_still_serves(
    empty: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    ours = migrate.migrations()
    newest = ours[-1].version
    text = "-- min_compatible: {:04}\nALTER TABLE events DROP COLUMN IF EXISTS next_release;\n"
    migrate.migrate(empty, lock=file_lock(tmp_path / "lock"))
    for version, needed in ((newest + 1, newest), (newest + 2, newest + 1)):
        later = [*ours, migrate.Migration(version, "drops", text.format(needed), "checksum")]
        with monkeypatch.context() as next_release:
            next_release.setattr(migrate, "migrations", lambda later=later: later)
            assert migrate.migrate(empty, lock=file_lock(tmp_path / "lock")) == [version]
        if needed == newest:
            assert migrate.pending(empty) == []
    assert migrate.versions(empty) == (newest + 2, newest)
    with pytest.raises(migrate.SchemaTooNew, match=f"knows {newest:04}: upgrade it"):
        migrate.pending(empty)


def test_a_record_of_an_older_release_is_read_and_completed(empty: Reader, tmp_path: Path):
    migrate.migrate(empty, lock=file_lock(tmp_path / "lock"))
    empty.command("ALTER TABLE schema_migrations DROP COLUMN min_compatible")
    assert migrate.pending(empty) == []
    newest = migrate.migrations()[-1].version
    empty.command(
        f"ALTER TABLE schema_migrations DELETE WHERE version = {newest} SETTINGS mutations_sync = 1"
    )
    with pytest.raises(migrate.SchemaBehind):
        migrate.require_run(empty)
    assert migrate.migrate(empty, lock=file_lock(tmp_path / "lock")) == [newest]
    migrate.require_run(empty)


def test_the_typed_columns_are_those_of_the_conventions(store: Store):
    events = _columns(store, "events")
    for name, kind in COLUMNS.items():
        assert events.get(name) in TYPES[kind], name


def test_what_events_takes_calls_takes(store: Store):
    """The pipeline relies on it: a record whose events row was stored is never rejected after."""
    events, calls = _columns(store, "events"), _columns(store, "calls")
    # What no value of a client's can make unfit: ids and texts of any length.
    own = {"call_id", "identity", "event_uuid", "source_rank", "revision", "operation"}
    own |= {"service_tier", "operation_name", "api_calls", "user_id", "job_id", "batch_id"}
    own |= {"environment", "developer", "repository", "tags"}
    computed = ("vector_", "usage_", "cost_", "price_", "priced_")
    for name, kind in calls.items():
        if name not in own and not name.startswith(computed):
            assert events[name.removeprefix("reported_")] == kind, name
    for name, kind in _columns(store, "event_ids").items():
        assert events[name] == kind, name


def test_a_filled_store_of_the_first_release_is_migrated_and_goes_on(
    empty: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    every = migrate.migrations()
    with monkeypatch.context() as first_release:
        first_release.setattr(migrate, "migrations", lambda: every[:1])
        migrate.migrate(empty, lock=file_lock(tmp_path / "lock"))
    fill = (
        "INSERT INTO events (project_id, uuid, event, timestamp, accepted_at, properties) "
        "SELECT 1, generateUUIDv4(), '$ai_span', now64(6), now64(6), '{\"a\":1}' FROM numbers(1000)"
    )
    call = (
        "INSERT INTO calls (project_id, call_id, event_uuid, revision, accepted_at, input_tokens) "
        "SELECT 1, toString(number), generateUUIDv4(), 1, now64(6), 7 FROM numbers(1000)"
    )
    empty.command(fill)
    empty.command(call)
    migrate.migrate(empty, lock=file_lock(tmp_path / "lock"))
    empty.command(fill)  # a process of the release before, while the upgrade rolls
    empty.command(call)
    for table, defaults in (
        ("events", "source = '' AND converter = '' AND properties = '{\"a\":1}'"),
        ("events", "other_properties = properties AND property_names = ['a']"),
        (
            "calls",
            "vector_total IS NULL AND cost_total IS NULL AND usage_units = '{}' "
            "AND price_reason = '' AND input_tokens = 7",
        ),
    ):
        assert empty.query(f"SELECT countIf({defaults}), count() FROM {table}").result_rows == [
            (2000, 2000)
        ]


def test_the_columns_of_usage_are_the_token_vectors(store: Store):
    calls = _columns(store, "calls")
    for name in (*INPUT_BUCKETS, *OUTPUT_BUCKETS, "input", "output", "total"):
        assert calls[f"vector_{name}"] == "Nullable(UInt64)"
        assert calls[f"cost_{name}"] == "Nullable(Decimal(38, 18))"


def test_properties_are_compressed_text_and_not_the_lossy_json_type(store: Store):
    rows = store.query(
        "SELECT type, compression_codec FROM system.columns "
        "WHERE database = 'nilometer' AND table = 'events' AND name = 'properties'"
    ).rows
    assert rows == [("String", "CODEC(ZSTD(3))")]


def _columns(store: Store, table: str) -> dict[str, str]:
    sql = (
        "SELECT name, type FROM system.columns "
        "WHERE database = 'nilometer' AND table = {table:String}"
    )
    return dict(store.query(sql, {"table": table}).rows)


def _recorded(reader: Reader) -> list[int]:
    rows = reader.query("SELECT version FROM schema_migrations ORDER BY version").result_rows
    return [version for (version,) in rows]
