"""A server's errors, as the driver hands them on: wait, narrow it, or do not repeat it."""

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError
from urllib3 import PoolManager
from urllib3.exceptions import HTTPError

from nilometer.clickhouse import errors
from nilometer.clickhouse.errors import StatementTooCostly, StoreRejected, StoreUnavailable


def told(code: int, name: str) -> DatabaseError:
    """The driver's error: its text is cut, and has an address at its end."""
    text = f"Received ClickHouse exception, code: {code}, server response: Code: {code}. DB::Excep"
    return DatabaseError(f"{text} (for url http://host:8123)", code=code, name=name)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (202, "TOO_MANY_SIMULTANEOUS_QUERIES"),
        (209, "SOCKET_TIMEOUT"),
        (210, "NETWORK_ERROR"),
        (236, "ABORTED"),
        (242, "TABLE_IS_READ_ONLY"),
        (252, "TOO_MANY_PARTS"),
        (285, "TOO_FEW_LIVE_REPLICAS"),
        (319, "UNKNOWN_STATUS_OF_INSERT"),
        (516, "AUTHENTICATION_FAILED"),
        (999, "KEEPER_EXCEPTION"),
    ],
)
def test_what_the_server_may_do_later(code: int, name: str):
    for error in (errors.of_statement(told(code, name)), errors.of_insert(told(code, name), "t")):
        assert type(error) is StoreUnavailable
        assert f"error {code}, {name}" in error.detail
        assert "host" not in error.detail


def test_what_asks_too_much():
    for code, name in errors.LIMIT_CODES.items():
        assert type(errors.of_statement(told(code, name))) is StatementTooCostly
        # The rows of an insert are not to blame for what the server has no memory for.
        assert type(errors.of_insert(told(code, name), "t")) is StoreUnavailable


def test_what_is_at_fault_itself():
    statement = errors.of_statement(told(62, "SYNTAX_ERROR"))
    row = errors.of_insert(told(27, "CANNOT_PARSE_INPUT_ASSERTION_FAILED"), "events")
    for error, name in [(statement, "SYNTAX_ERROR"), (row, "CANNOT_PARSE_INPUT_ASSERTION_FAILED")]:
        assert isinstance(error, StoreRejected)
        assert error.engine_name == name


def test_no_answer_at_all():
    error = errors.of_insert(OperationalError("Error HTTPConnectionPool … Connection refused"), "t")
    assert type(error) is StoreUnavailable
    assert error.detail == "the store did not take rows of t (unknown: OperationalError)"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:1", "connection refused"),
        ("http://no-such-host.invalid:1", "its name is not known"),
    ],
)
def test_what_hinders_the_way_to_a_server_is_said_without_its_address(url: str, said: str):
    with pytest.raises(HTTPError) as raised:
        PoolManager(retries=False).request("GET", url)
    wrapped = OperationalError(f"Error {raised.value} at {url}")
    wrapped.__cause__ = raised.value
    for error in (raised.value, wrapped):
        assert errors.of_statement(error).detail == f"the store did not answer ({said})"
