"""The store on the real engine: what goes in comes out, and every failure has one of two types."""

import threading
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from nilometer import failpoints
from nilometer.clickhouse import errors
from nilometer.clickhouse.store import Store, StoreRejected, StoreUnavailable
from nilometer.observability import metrics

_SYNCED = (
    "fsync_after_insert = 1",
    "fsync_part_directory = 1",
    "min_rows_to_fsync_after_merge = 1",
    "min_compressed_bytes_to_fsync_after_merge = 1",
    "old_parts_lifetime = 480",
)
MOMENT = datetime(2025, 7, 1, 11, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture(autouse=True)
def no_failpoints():
    yield
    failpoints.configure("")


def event(project_id: int, **columns: object) -> dict[str, object]:
    return {
        "project_id": project_id,
        "uuid": str(uuid.uuid4()),
        "event": "$ai_span",
        "distinct_id": "someone",
        "timestamp": MOMENT,
        "accepted_at": MOMENT,
        "expires_at": MOMENT,
        "ip": "127.0.0.1",
        "properties": "{}",
        "blobs": "[]",
        "is_error": False,
        "door": "ai",
        "mapping_version": 1,
        "first_wins": 1,
    } | columns


def test_a_row_comes_back_as_it_went_in(store: Store, project_id: int):
    text = "quote \" ' backslash \\ newline \n tab \t NUL \0 é 😀"
    row = event(
        project_id,
        properties=text,
        total_cost_usd=Decimal("0.000000000000000001"),
        input_tokens=2**63 - 1,
        latency=0.1,
        is_error=True,
    )
    store.insert("events", [row])
    (found,) = store.query(
        "SELECT * FROM events WHERE project_id = {project:Int64}", {"project": project_id}
    ).dicts()
    assert found["properties"] == text
    assert found["total_cost_usd"] == Decimal("1e-18")
    assert found["input_tokens"] == 2**63 - 1
    assert found["latency"] == 0.1
    assert found["is_error"] is True
    assert found["timestamp"] == MOMENT
    assert found["timestamp"].utcoffset().total_seconds() == 0
    assert found["uuid"] == uuid.UUID(row["uuid"])
    assert found["trace_id"] is None


def test_an_insert_is_one_part_so_that_all_of_it_or_nothing_is_there(store: Store, project_id: int):
    month_of_no_other_test = datetime(2019, 3, 1, tzinfo=UTC)
    rows = [
        event(project_id, properties="x" * 8000, accepted_at=month_of_no_other_test)
        for _ in range(2000)
    ]
    store.insert("events", rows)
    parts = store.query(
        "SELECT rows, max_block_number - min_block_number FROM system.parts "
        "WHERE database = 'nilometer' AND table = 'events' AND partition = '201903' AND active"
    ).rows
    # The part of a merge spans the numbers of the parts it was made of.
    assert parts == [(2000, 0)]


def test_tables_are_synced_at_every_insert_and_merge(store: Store):
    tables = store.query(
        "SELECT name, create_table_query FROM system.tables WHERE database = 'nilometer'"
    ).rows
    assert {name for name, _ in tables} >= {"events", "event_ids", "calls", "schema_migrations"}
    for name, statement in tables:
        for setting in _SYNCED:
            assert setting in statement, name
    engine = store.query("SELECT engine FROM system.databases WHERE name = 'nilometer'").rows
    assert engine == [("Atomic",)]


@pytest.mark.parametrize(
    "value",
    ["", "it's", "back\\slash", "a\nb\tc", "nul\0", "`tick`", "{x:String} %s %(a)s", "é😀", "\\N"],
)
def test_parameters_are_bound_exactly(store: Store, value: str):
    rows = store.query(
        "SELECT {value:String}, {list:Array(String)}", {"value": value, "list": [value]}
    )
    assert rows.rows == [(value, [value])]


def test_a_bound_time_keeps_its_microseconds(store: Store):
    bound = {"at": MOMENT, "list": [MOMENT]}
    sql = "SELECT {at:DateTime64(6, 'UTC')}, {list:Array(DateTime64(6, 'UTC'))}"
    assert store.query(sql, bound).rows == [(MOMENT, [MOMENT])]


def test_a_naive_time_is_refused(store: Store):
    with pytest.raises(ValueError, match="time zone"):
        store.query("SELECT {at:DateTime64(6)}", {"at": MOMENT.replace(tzinfo=None)})


@pytest.mark.parametrize(
    "broken",
    [
        {"uuid": "no-uuid-but-a-secret"},
        {"properties": None},
        {"input_tokens": "a secret"},
        {"is_error": "a secret"},
        {"latency": "a secret"},
        {"total_cost_usd": "1" + "0" * 25},
        {"no_such_column": "a secret"},
        {"timestamp": "a secret"},
    ],
)
def test_a_row_that_cannot_be_stored_is_rejected_without_its_content(
    store: Store, project_id: int, broken: dict[str, object], caplog: pytest.LogCaptureFixture
):
    good = event(project_id)
    with pytest.raises(StoreRejected) as caught:
        store.insert("events", [good, good | broken])
    assert errors.DATA_CODES[caught.value.engine_code] == caught.value.engine_name
    shown = f"{caught.value!r} {caught.value.__cause__!r} {caplog.text}"
    assert caught.value.__suppress_context__
    assert "secret" not in shown
    assert _count(store, project_id) == 0
    store.insert("events", [good])
    assert _count(store, project_id) == 1
    assert store.ready()


def test_the_error_codes_are_the_engines(store: Store):
    lists = (errors.DATA_CODES, errors.STATEMENT_CODES, errors.LIMIT_CODES)
    codes = {code: name for each in lists for code, name in each.items()}
    assert len(codes) == sum(len(each) for each in lists), "each code in one list"
    sql = "SELECT number, errorCodeToName(toInt32(number)) FROM numbers(1100)"
    assert codes.items() <= dict(store.query(sql).rows).items()


def test_a_refused_statement_is_no_outage(store: Store):
    store.query("SELECT 1")  # a test before this one may have left the store in trouble
    with pytest.raises(StoreRejected) as caught:
        store.query("SELECT no_such_column FROM events")
    assert caught.value.engine_name == "UNKNOWN_IDENTIFIER"
    assert store.ready()


@pytest.mark.parametrize(
    "said",
    [
        "Code: 573. DB::Exception: epoll_wait failed. (EPOLL_ERROR)",
        "Code: 49. DB::Exception: Bad cast. (LOGICAL_ERROR)",
        "Code: 40. DB::Exception: Checksum. (CHECKSUM_DOESNT_MATCH)",
        "Code: 4711. DB::Exception: of a later version. (OF_A_LATER_VERSION)",
        "no code at all",
    ],
)
def test_an_error_not_known_to_be_the_statements_is_an_outage(said: str):
    assert isinstance(errors.of_statement(RuntimeError(said)), StoreUnavailable)
    assert isinstance(errors.of_insert(RuntimeError(said), "events"), StoreUnavailable)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT",
        "SELECT 1 FROM no_such_table",
        "SELECT no_such_function(1)",
        "SELECT sum(sum(project_id)) FROM events",
        "SELECT {missing:String}",
        "SELECT toUUID('no uuid')",
        "SELECT 1 SETTINGS no_such_setting = 1",
        "SELECT 1 + 'x'",
        "SELECT uuid, count() FROM events",
    ],
)
def test_a_statement_that_no_store_could_run_is_refused(store: Store, sql: str):
    store.query("SELECT 1")  # ready, whatever the test before found
    with pytest.raises(StoreRejected):
        store.query(sql)
    assert store.ready()


def test_a_missing_table_makes_inserts_wait_rather_than_blame_the_row(
    store: Store, project_id: int
):
    with pytest.raises(StoreUnavailable):
        store.insert("no_such_table", [event(project_id)])


def test_a_query_is_bounded_in_time(store: Store):
    with pytest.raises(StoreUnavailable, match="TIMEOUT_EXCEEDED"):
        store.query("SELECT sleep(2)", settings={"max_execution_time": "0.2"})


def test_a_query_is_bounded_in_memory(store: Store):
    with pytest.raises(StoreUnavailable, match="MEMORY_LIMIT_EXCEEDED"):
        store.query(
            "SELECT groupArray(number) FROM numbers(3000000)", settings={"max_memory_usage": 10**7}
        )


def test_names_that_are_no_names_never_reach_the_engine(store: Store, project_id: int):
    with pytest.raises(ValueError, match="not a table"):
        store.insert("events; DROP TABLE events", [event(project_id)])
    with pytest.raises(ValueError, match="not a table"):
        store.insert("events", [event(project_id)], settings={"a = 1, b": 2})


def test_a_fault_is_unavailable_and_shows_in_the_state_until_the_next_success(
    store: Store, project_id: int
):
    failed = metrics.STORE_INSERTS.labels("events", "failed")._value.get()
    failpoints.configure("store=error")
    with pytest.raises(StoreUnavailable):
        store.insert("events", [event(project_id)])
    assert not store.ready()
    assert "failpoint" in store.state().reason
    assert metrics.STORE_INSERTS.labels("events", "failed")._value.get() == failed + 1
    with pytest.raises(StoreUnavailable):
        store.query("SELECT 1")
    failpoints.configure("")
    assert store.query("SELECT 1").rows == [(1,)]
    assert store.ready()


def test_a_store_that_is_not_open_is_unavailable(tmp_path: Path):
    closed = Store(tmp_path)
    assert not closed.ready()
    with pytest.raises(StoreUnavailable):
        closed.query("SELECT 1")
    with pytest.raises(StoreUnavailable):
        closed.insert("events", [event(1)])


def test_a_second_directory_in_one_process_is_refused(embedded_store: Store, tmp_path: Path):
    store = embedded_store
    second = Store(tmp_path)
    assert store.query("SELECT 1").rows == [(1,)]  # the engine lives as long as a handle does
    with pytest.raises(StoreUnavailable):
        second.open()
    assert store.query("SELECT 1").rows == [(1,)]


def test_many_threads_read_and_write_at_once(store: Store, project_id: int):
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(5):
                store.insert("events", [event(project_id) for _ in range(20)])
                assert _count(store, project_id) >= 20
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert _count(store, project_id) == 12 * 5 * 20


def test_what_was_inserted_is_there_after_close_and_open(store: Store, project_id: int):
    store.insert("events", [event(project_id)])
    store.close()
    assert not store.ready()
    store.open()
    assert _count(store, project_id) == 1


def test_the_engine_works_while_python_runs(store: Store):
    """The acknowledgement path shares the interpreter: a query must not hold its lock."""
    progress = 0
    done = threading.Event()

    def query() -> None:
        store.query(
            "SELECT sum(cityHash64(number)) FROM numbers(40000000)", settings={"max_threads": 1}
        )
        done.set()

    thread = threading.Thread(target=query)
    thread.start()
    while not done.is_set():
        progress += 1
    thread.join()
    assert progress > 10_000


def _count(store: Store, project_id: int) -> int:
    sql = "SELECT count() FROM events WHERE project_id = {project:Int64}"
    return store.query(sql, {"project": project_id}).rows[0][0]
