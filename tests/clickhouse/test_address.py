"""A ClickHouse URL says where, who and how; what it cannot mean is refused without repeating it."""

import pytest

from nilometer.clickhouse.address import Address, Server
from nilometer.errors import ConfigurationError


def test_a_whole_url():
    address = Address.parse(
        "clickhouse://a%40b:p%2F%3Aw@store.example:9440/nilometer?secure=true&ca_cert=/etc/ca.pem"
    )
    assert address == Address(
        "store.example", 9440, "a@b", "p/:w", secure=True, verify=True, ca_cert="/etc/ca.pem"
    )


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("clickhouse://host", 8123),
        ("clickhouse://host/?secure=1", 8443),
        ("clickhouse://[::1]", 8123),
    ],
)
def test_the_ports_are_clickhouses_own(url: str, port: int):
    assert Address.parse(url).port == port
    assert Address.parse(url).user == "default"


@pytest.mark.parametrize(
    "url",
    [
        "http://user:a-secret@host",
        "clickhouse://user:a-secret@",
        "clickhouse://user:a-secret@host:no-port",
        "clickhouse://user:a-secret@host/other",
        "clickhouse://user:a-secret@host?secure=perhaps",
        "clickhouse://user:a-secret@host?compress=no",
    ],
)
def test_what_is_no_address_is_refused(url: str):
    with pytest.raises(ConfigurationError) as caught:
        Address.parse(url)
    assert "secret" not in str(caught.value)


def test_a_password_is_not_shown():
    assert "secret" not in repr(Server.parse("clickhouse://user:a-secret@host"))


@pytest.mark.parametrize(
    "given",
    [
        {"insert_quorum": "2"},
        {"cluster": "c", "insert_quorum": "some"},
        {"cluster": "c'; DROP", "insert_quorum": "2"},
    ],
)
def test_what_does_not_fit_together_is_refused(given: dict[str, str]):
    with pytest.raises(ConfigurationError):
        Server.parse("clickhouse://host", **given)
