"""Which addresses notifications may go to."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from nilometer.errors import ConfigurationError
from nilometer.notifications import reach as reaching
from nilometer.notifications.failures import PermanentFailure, TemporaryFailure
from nilometer.notifications.reach import PUBLIC, Reach

PRIVATE = [
    *("127.0.0.1", "10.1.1.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0"),
    *("100.64.0.1", "192.0.0.8", "198.18.0.1", "224.0.0.1", "255.255.255.255"),
    *("::", "::1", "fe80::1", "fe80::1%lo", "fd00:ec2::254", "fec0::1", "ff0e::1", "::7f00:1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1"),
    *("2002:7f00:1::", "2001:0:7f00:1::1"),
]
OPEN = ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.fixture
def resolving(monkeypatch):
    """Names lead to these addresses, in turn."""
    answers: list[list[str]] = []

    def look_up(host, port, **_):
        found = answers.pop(0)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in found]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return answers


@pytest.mark.parametrize("address", PRIVATE)
def test_what_only_this_network_can_reach_is_refused(resolving, address):
    resolving.append([address])
    with pytest.raises(PermanentFailure, match="NILOMETER_NOTIFICATION_NETWORKS") as refused:
        PUBLIC.places("receiver.example", 443)
    assert refused.value.code == "address_refused"
    assert address not in refused.value.detail


@pytest.mark.parametrize("address", OPEN)
def test_the_internet_is_open(resolving, address):
    resolving.append([address])
    [place] = PUBLIC.places("receiver.example", 443)
    assert not place.named


def test_a_named_network_is_open_and_no_other(resolving):
    reach = Reach.parse("10.1.0.0/16, ::1/128")
    resolving.append(["10.1.2.3", "10.2.0.1", "::1", "8.8.8.8", "10.1.2.3"])
    found = [(place.address, place.named) for place in reach.places("r.example", 443)]
    assert found == [("10.1.2.3", True), ("::1", True), ("8.8.8.8", False)]


@pytest.mark.parametrize("literal", ["127.1", "0x7f000001", "2130706433", "localhost"])
def test_loopback_in_disguise_is_loopback(literal):
    with pytest.raises(PermanentFailure):
        PUBLIC.places(literal, 80)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "x" * 64 + ".example", "a\u2024..b"])
def test_a_name_that_leads_nowhere_may_lead_somewhere_later(host):
    with pytest.raises(TemporaryFailure) as failed:
        PUBLIC.places(host, 80)
    assert failed.value.code == "name_unknown"


@pytest.mark.parametrize("error", [TimeoutError("of the system"), ConnectionError("refused")])
def test_what_the_system_says_at_once_is_not_waited_for(monkeypatch, error):
    def look_up(*_, **__):
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(TemporaryFailure, match="cannot be resolved"):
        PUBLIC.places("receiver.example", 443, 60)


def test_an_error_in_the_thread_that_looks_up_is_the_callers(resolving):
    with pytest.raises(IndexError):  # there is no answer left to pop
        PUBLIC.places("receiver.example", 443)
    resolving.append(["8.8.8.8"])
    assert PUBLIC.places("receiver.example", 443)  # and its place is free again


def test_a_lookup_takes_no_longer_than_it_may(monkeypatch):
    """Nor does one that finds all lookups taken by those that nobody waits for any more."""
    silent = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: silent.wait(30))
    monkeypatch.setattr(reaching, "_LOOKUPS", reaching._Lookups())
    monkeypatch.setattr(reaching, "MOST_LOOKUPS", 2)
    for _ in range(2):
        begun = time.monotonic()
        with pytest.raises(TemporaryFailure, match="in time") as failed:
            PUBLIC.places("receiver.example", 443, 0.05)
        assert failed.value.code == "name_unknown"
        assert time.monotonic() - begun < 20
    silent.set()


@pytest.mark.parametrize("text", ["10.0.0.1/8", "private", "10.0.0.0/33"])
def test_what_is_no_network_is_refused(text):
    with pytest.raises(ConfigurationError):
        Reach.parse(text)


def test_names_that_resolve_slowly_keep_no_other_project_waiting(monkeypatch):
    gate = threading.Event()

    def look_up(host, port, **_):
        if host.startswith("slow"):
            gate.wait(30)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", port))]

    def slowly(project):
        with pytest.raises(TemporaryFailure):
            PUBLIC.of(project).places("slow.example", 443, 0.2)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    try:
        with ThreadPoolExecutor(20) as pool:
            list(pool.map(slowly, [7] * 20))
        [place] = PUBLIC.of(8).places("quick.example", 443, 5)
        assert place.address == "8.8.8.8"
        [place] = PUBLIC.places("quick.example", 443, 5)
        with pytest.raises(TemporaryFailure):
            PUBLIC.of(7).places("quick.example", 443, 0.01)
    finally:
        gate.set()
    [place] = PUBLIC.of(7).places("quick.example", 443, 5)  # once they have ended
