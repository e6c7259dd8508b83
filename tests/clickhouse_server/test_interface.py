"""The fixture answers clickhouse-connect as a server does, and its data outlives it."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import clickhouse_connect
import httpx
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from tests.clickhouse_server.running import ClickHouseServer
from tests.clickhouse_server.stores import running

AT = datetime(2025, 7, 1, 11, 0, 0, 123456, tzinfo=UTC)
ROWS = [[1, "it's", AT], [2, "a\tb\\", AT]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseServer]:
    with running(tmp_path_factory.mktemp("server")) as server:
        client(server).command("CREATE DATABASE own ENGINE = Atomic")
        yield server


@pytest.fixture
def table(server: ClickHouseServer) -> str:
    return made(server)


def made(server: ClickHouseServer) -> str:
    name = f"own.t{uuid.uuid4().hex}"
    client(server).command(
        f"CREATE TABLE {name} (a Int64, b String, c DateTime64(6, 'UTC')) "
        "ENGINE = MergeTree ORDER BY a SETTINGS fsync_after_insert = 1"
    )
    return name


def client(server: ClickHouseServer, **options: Any) -> Any:
    known = {"username": "default", "password": "quite-secret", "tz_mode": "aware"}
    return clickhouse_connect.get_client(
        interface="http", host="127.0.0.1", port=server.port, **known | options
    )


@pytest.mark.parametrize("form", [False, True])
@pytest.mark.parametrize("compress", [False, True, "lz4", "zstd", "gzip"])
def test_rows_go_both_ways_in_every_compression(
    server: ClickHouseServer, table: str, compress: Any, form: bool
):
    asking = client(server, compress=compress, form_encode_query_params=form)
    assert asking.insert(table, ROWS, column_names=["a", "b", "c"]).written_rows == 2
    found = asking.query(f"SELECT * FROM {table} WHERE b = {{b:String}}", {"b": ROWS[1][1]})
    assert found.result_rows == [tuple(ROWS[1])]


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("JSONEachRow", b'{"a":1,"b":"x"}\n{"a":2,"b":"FORMAT y\\n"}\n'),
        ("RowBinary", bytes([1]) + bytes(7) + b"\x01x" + bytes([2]) + bytes(7) + b"\x01y"),
        ("TSV", b"1\tx\n2\ty\n"),
    ],
)
def test_formats_are_taken_as_they_are(
    server: ClickHouseServer, table: str, name: str, body: bytes
):
    asking = client(server)
    assert asking.raw_insert(table, ["a", "b"], body, fmt=name).written_rows == 2
    found = asking.raw_query(f"SELECT a FROM {table} ORDER BY a", fmt="RowBinary")
    assert found == bytes([1]) + bytes(7) + bytes([2]) + bytes(7)


def test_an_error_has_its_code_and_name(server: ClickHouseServer):
    for sql, code, name in [
        ("SELECT nothing", 47, "UNKNOWN_IDENTIFIER"),
        ("SELECT 1 FROM nowhere", 60, "UNKNOWN_TABLE"),
        ("SELEKT 1", 62, "SYNTAX_ERROR"),
    ]:
        with pytest.raises(DatabaseError) as caught:
            client(server).query(sql)
        assert (caught.value.code, caught.value.name) == (code, name)


def test_settings_hold_for_one_request(server: ClickHouseServer):
    asking = client(server)
    with pytest.raises(DatabaseError) as caught:
        asking.query("SELECT number FROM numbers(100)", settings={"max_result_rows": 10})
    assert caught.value.code == 396
    assert len(asking.query("SELECT number FROM numbers(100)").result_rows) == 100
    with pytest.raises(DatabaseError) as caught:
        asking.query("SELECT 1 SETTINGS max_threads = 1", settings={"readonly": 1})
    assert caught.value.code == 164


def test_a_session_keeps_what_is_temporary(server: ClickHouseServer):
    asking = client(server, session_id=str(uuid.uuid4()))
    asking.command("CREATE TEMPORARY TABLE short (a Int8)")
    asking.command("INSERT INTO short VALUES (7)")
    assert asking.query("SELECT a FROM short").result_rows == [(7,)]
    with pytest.raises(DatabaseError):
        client(server).query("SELECT a FROM short")


def test_who_is_unknown_does_nothing_and_others_what_they_may(server: ClickHouseServer, table: str):
    with pytest.raises(DatabaseError) as caught:
        client(server, password="wrong")
    assert caught.value.code == 516
    reader = client(server, username="reader", password="re@der")
    writer = client(server, username="writer", password="wr1ter's")
    assert writer.insert(table, ROWS, column_names=["a", "b", "c"]).written_rows == 2
    assert reader.command(f"SELECT count() FROM {table}") == 2
    refused = [(reader, f"INSERT INTO {table} (a) VALUES (1)")]
    refused += [(each, f"DROP TABLE {table}") for each in (reader, writer)]
    for asking, sql in refused:
        with pytest.raises(DatabaseError) as caught:
            asking.command(sql)
        assert caught.value.code == 497


def test_a_field_is_no_longer_than_a_server_takes(server: ClickHouseServer):
    asking = client(server, form_encode_query_params=True)
    assert asking.query("SELECT length({x:String})", {"x": "x" * 131_072}).result_rows == [
        (131072,)
    ]
    with pytest.raises(DatabaseError, match="Field value too long"):
        asking.query("SELECT length({x:String})", {"x": "x" * 131_073})


def test_it_can_be_pinged(server: ClickHouseServer):
    assert httpx.get(f"http://127.0.0.1:{server.port}/ping").text == "Ok.\n"


def test_what_was_taken_is_there_after_a_stop_and_a_kill(server: ClickHouseServer):
    table = made(server)
    for end in (server.stop, server.kill):
        client(server).insert(table, ROWS, column_names=["a", "b", "c"])
        end()
        server.start()
    assert client(server).command(f"SELECT count() FROM {table}") == 4
