"""What only a store on a server has: users, long parameters, tokens, several processes at once."""

import threading
import uuid
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from nilometer.clickhouse import migrate, migration_lock
from nilometer.clickhouse.address import Address, Server
from nilometer.clickhouse.layout import SINGLE
from nilometer.clickhouse.sandbox import EngineFault
from nilometer.clickhouse.store import Store, StoreRejected, StoreUnavailable
from nilometer.migrate_data.tables import Tables
from nilometer.query.sql import limits
from tests.clickhouse_server.running import ClickHouseServer
from tests.clickhouse_server.stores import addressed, running
from tests.running import wait_until

MOMENT = datetime(2025, 7, 1, 11, tzinfo=UTC)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseServer]:
    """A server that has our tables."""
    with running(tmp_path_factory.mktemp("server")) as server:
        with closing(Store(addressed(server))) as store:
            store.open()
        yield server


def rows(project_id: int, count: int) -> list[dict[str, object]]:
    return [
        {
            "project_id": project_id,
            "uuid": str(uuid.uuid4()),
            "timestamp": MOMENT,
            "accepted_at": MOMENT,
            "expires_at": MOMENT,
            "first_wins": 1,
        }
        for _ in range(count)
    ]


def test_a_look_up_longer_than_a_server_takes_in_one_field(network_store: Store, project_id: int):
    stored = rows(project_id, 20_000)
    network_store.insert("event_ids", stored)
    asked = [row["uuid"] for row in stored] + [str(uuid.uuid4()) for _ in range(2000)]
    found = network_store.query(
        "SELECT count(), max(length({text:String})) FROM event_ids "
        "WHERE project_id IN {projects:Array(Int64)} AND uuid IN {uuids:Array(UUID)}",
        {"projects": [project_id], "uuids": asked, "text": "é'\\" * 100_000},
    )
    assert found.rows == [(20_000, 400_000)]


def test_a_batch_that_is_sent_again_is_one_where_the_engine_deduplicates(
    network_store: Store, project_id: int
):
    """Replicated tables do, and here a table that is told to; see `layout` for why ours are not."""
    network_store.command(
        "CREATE TABLE deduplicating AS event_ids ENGINE = MergeTree ORDER BY uuid "
        "PARTITION BY toYYYYMM(accepted_at) SETTINGS non_replicated_deduplication_window = 100"
    )
    try:
        batch = rows(project_id, 3) + [
            r | {"accepted_at": datetime.now(UTC)} for r in rows(project_id, 2)
        ]
        for _ in range(3):
            network_store.insert("deduplicating", batch)
        assert network_store.query("SELECT count() FROM deduplicating").rows == [(5,)]
        network_store.insert("deduplicating", batch[:3])
        assert network_store.query("SELECT count() FROM deduplicating").rows == [(8,)]
        parts = network_store.query(
            "SELECT count() FROM system.parts WHERE table = 'deduplicating' AND active"
        )
        assert parts.rows == [(3,)]
    finally:
        network_store.command("DROP TABLE deduplicating")


def test_a_partition_that_a_move_mends_is_written_whatever_the_engine_was_given_before(
    network_store: Store, project_id: int
):
    """As replicated tables, which would take the same rows for a batch that is sent again."""
    network_store.command(
        "CREATE TABLE mended AS event_ids ENGINE = ReplacingMergeTree ORDER BY uuid "
        "PARTITION BY toYYYYMM(accepted_at) SETTINGS non_replicated_deduplication_window = 100"
    )
    try:
        network_store.command("SYSTEM STOP MERGES mended")
        network_store.insert("mended", rows(project_id, 3))
        tables = Tables(network_store, network_store)
        [partition] = [each for each in tables.partitions() if each.table == "mended"]
        for _ in range(2):
            tables.copy(partition, Nobody(), afresh=True)
        stored = "SELECT count() FROM mended"
        assert network_store.query(stored).rows == [(9,)]
    finally:
        network_store.command("DROP TABLE mended")


class Nobody:
    """Is told of a move's progress."""

    def begin(self, step: str, total: int) -> None: ...

    def advance(self, count: int) -> None: ...


def test_an_insert_asks_for_its_quorum_and_waits_for_its_end(
    server: ClickHouseServer, project_id: int, monkeypatch: pytest.MonkeyPatch
):
    """Without effect on the fixture, which has no replicas: it is what is sent."""
    cluster = replace(addressed(server), cluster="main", insert_quorum="auto")
    with closing(Store(cluster)) as store:
        store.open()
        sent: list[dict[str, object]] = []
        command = store._engine._client.command

        def spy(cmd: str, **options: dict[str, object]) -> object:
            sent.append(options["settings"])
            return command(cmd, **options)

        monkeypatch.setattr(store._engine._client, "command", spy)
        store.insert("event_ids", rows(project_id, 2))
        store.insert("event_ids", rows(project_id, 2))
    assert [each["insert_quorum"] for each in sent] == ["auto", "auto"]
    assert [each["wait_end_of_query"] for each in sent] == [1, 1]
    assert len({each["insert_deduplication_token"] for each in sent}) == 2


def test_a_user_without_definitions_opens_a_store_that_is_up_to_date(
    server: ClickHouseServer, project_id: int
):
    writer = Server(Address.parse(server.url("writer", "wr1ter's")))
    with closing(Store(writer)) as store:
        store.open()
        store.insert("event_ids", rows(project_id, 2))
        found = store.query(f"SELECT count() FROM event_ids WHERE project_id = {project_id}")
        assert found.rows == [(2,)]
        with pytest.raises(StoreRejected) as caught:
            store.command("DROP TABLE events")
        assert caught.value.engine_name == "ACCESS_DENIED"


def test_a_user_without_definitions_cannot_make_a_store(tmp_path: Path):
    with running(tmp_path / "server") as server:
        store = Store(Server(Address.parse(server.url("writer", "wr1ter's"))))
        with pytest.raises(StoreUnavailable, match="ACCESS_DENIED"):
            store.open()
        assert not store.ready()


def test_a_wrong_password_is_told_and_not_repeated(server: ClickHouseServer):
    store = Store(Server(Address.parse(server.url("default", "a-wrong-secret"))))
    with pytest.raises(StoreUnavailable, match="AUTHENTICATION_FAILED") as caught:
        store.open()
    assert "secret" not in f"{caught.value!r} {store.state()}"
    assert caught.value.__suppress_context__


def test_untrusted_queries_run_as_the_reader(server: ClickHouseServer):
    wrong_reader = replace(
        addressed(server), reader=Address.parse(server.url("reader", "another-secret"))
    )
    with closing(Store(wrong_reader)) as store:
        store.open()
        settings = limits.settings(1, seconds=5, result_bytes=1 << 20)
        with store.sandbox(settings) as sandbox, pytest.raises(EngineFault) as caught:
            sandbox.read("SELECT 1", "TSV")
        assert caught.value.name == "AUTHENTICATION_FAILED"
        assert "secret" not in str(caught.value)
        assert store.ready()


def test_without_a_reader_they_run_read_only_all_the_same(server: ClickHouseServer):
    with closing(Store(replace(addressed(server), reader=None))) as store:
        store.open()
        settings = limits.settings(1, seconds=5, result_bytes=1 << 20)
        with store.sandbox(settings) as sandbox:
            for statement in ("DROP TABLE nilometer.events", "SELECT 1 SETTINGS max_threads = 3"):
                with pytest.raises(EngineFault) as caught:
                    sandbox.read(statement, "TSV")
                assert caught.value.name == "READONLY"


def test_an_answer_in_pieces_is_the_answer(network_store: Store):
    settings = limits.settings(1, seconds=5, result_bytes=0)
    sql = "SELECT number, repeat('x', 100) AS text FROM numbers(20000)"
    with network_store.sandbox(settings) as sandbox:
        whole = sandbox.read(sql, "CSVWithNames")
        first, *others = sandbox.stream(sql, "CSVWithNames")
        assert first + b"".join(each.split(b"\n", 1)[1] for each in others) == whole
        assert len(others) > 10
        lines = b"".join(sandbox.stream(sql, "JSONEachRow"))
        assert lines == sandbox.read(sql, "JSONEachRow")


def test_an_error_after_the_first_rows_is_an_error(network_store: Store):
    """A server sends what it has unless it is told to wait; half a file would look whole."""
    settings = limits.settings(1, seconds=5, result_bytes=0) | {"max_threads": 1}
    sql = "SELECT throwIf(number = 5000000) FROM numbers(10000000)"
    with network_store.sandbox(settings) as sandbox, pytest.raises(EngineFault) as caught:
        list(sandbox.stream(sql, "JSONEachRow"))
    assert caught.value.name == "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO"


class _Telling(BaseHTTPRequestHandler):
    """Remembers what it was asked, and answers as its server is told to."""

    def do_POST(self) -> None:
        self.server.asked.append(self.path)
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def telling() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Telling)
    server.asked, server.headers, server.body = [], {}, b""
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_readers_row_policy_is_told_the_project(
    server: ClickHouseServer, telling: ThreadingHTTPServer
):
    reader = Address.parse(f"clickhouse://reader:x@127.0.0.1:{telling.server_port}")
    with closing(Store(replace(addressed(server), reader=reader))) as store:
        store.open()
        with store.sandbox(limits.settings(7, seconds=5, result_bytes=0)) as sandbox:
            sandbox.read("SELECT 1", "TSV")
    (asked,) = telling.asked
    settings = dict(parse_qsl(urlsplit(asked).query))
    assert settings["SQL_nilometer_project"] == "7"
    assert settings["readonly"] == "1"
    assert settings["database"] == "nothing"


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, b""),
        ({}, b"<html>another server</html>" * 10),
        ({"X-ClickHouse-Exception-Code": "241"}, b"Code: 241. DB::Exception: x"),
        ({"Content-Length": "1000"}, b"cut"),
        ({"Content-Encoding": "lz4"}, b"no lz4"),
        ({"Transfer-Encoding": "chunked"}, b"5\r\nhalf"),
    ],
)
def test_an_answer_that_is_none_is_an_outage(
    telling: ThreadingHTTPServer, headers: dict[str, str], body: bytes
):
    telling.headers, telling.body = headers, body
    store = Store(Server.parse(f"clickhouse://127.0.0.1:{telling.server_port}", timeout=2))
    with pytest.raises(StoreUnavailable):
        store.open()
    assert not store.ready()


def test_stores_that_start_at_once_make_one_schema(tmp_path: Path):
    with running(tmp_path / "server") as server:
        stores = [Store(addressed(server)) for _ in range(4)]
        together = threading.Barrier(len(stores))
        failures: list[BaseException] = []

        def start(store: Store) -> None:
            together.wait(10)
            try:
                store.open()
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=start, args=(store,)) for store in stores]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        recorded = stores[0].query("SELECT version FROM schema_migrations ORDER BY version").rows
        assert recorded == [(each.version,) for each in migrate.migrations()]
        left = stores[0].query("SELECT count() FROM system.tables WHERE name = 'migrations_lock'")
        assert left.rows == [(0,)]
        for store in stores:
            store.close()


def test_a_lock_is_waited_for_and_taken_over_when_its_holder_is_gone(network_store: Store):
    with network_store._reading() as client:
        with migration_lock.held(client, SINGLE):
            with pytest.raises(StoreUnavailable), migration_lock.held(client, SINGLE, patience=0.1):
                pass
            with migration_lock.held(client, SINGLE, lease=-1):
                pass
        with migration_lock.held(client, SINGLE, patience=0):
            pass


def test_a_server_that_comes_back_is_used_again(tmp_path: Path, project_id: int):
    with running(tmp_path / "server") as server, closing(Store(addressed(server))) as store:
        store.open()
        store.insert("event_ids", rows(project_id, 3))
        server.kill()
        with pytest.raises(StoreUnavailable):
            store.query("SELECT 1")
        with pytest.raises(StoreUnavailable):
            store.insert("event_ids", rows(project_id, 3))
        assert not store.ready()
        server.start()
        assert store.query("SELECT count() FROM event_ids").rows == [(3,)]
        assert store.ready()


def test_a_server_that_never_answers_is_an_outage_within_the_timeout(
    server: ClickHouseServer, project_id: int
):
    with closing(Store(addressed(server, timeout=4))) as store:
        store.open()
        server.pause()
        try:
            for call in (
                lambda: store.query("SELECT 1"),
                lambda: store.insert("event_ids", rows(project_id, 3)),
            ):
                started = datetime.now(UTC)
                with pytest.raises(StoreUnavailable):
                    call()
                assert (datetime.now(UTC) - started).total_seconds() < 40
            settings = {"max_execution_time": 1}
            with store.sandbox(settings) as sandbox, pytest.raises(StoreUnavailable):
                sandbox.read("SELECT 1", "TSV")
        finally:
            server.resume()

        def answers() -> bool:
            with suppress(StoreUnavailable):
                return store.query("SELECT 1").rows == [(1,)]
            return False

        wait_until(answers)
