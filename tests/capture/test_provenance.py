"""Where a request says it came from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nilometer.capture.provenance import client_address, trace_context
from tests.capture.door import form, whole_event

PEER = ("10.0.0.9", 4711)


@pytest.mark.parametrize(
    ("forwarded", "proxies", "address"),
    [
        ([], 0, "10.0.0.9"),
        ([b"203.0.113.7"], 0, "10.0.0.9"),
        ([b"203.0.113.7"], 1, "203.0.113.7"),
        ([b"6.6.6.6, 203.0.113.7"], 1, "203.0.113.7"),
        ([b"6.6.6.6, 203.0.113.7, 10.0.0.1"], 2, "203.0.113.7"),
        ([b"6.6.6.6", b"203.0.113.7", b"10.0.0.1"], 2, "203.0.113.7"),
        ([b"203.0.113.7"], 2, "10.0.0.9"),
        ([], 1, "10.0.0.9"),
        ([b"203.0.113.7:8080"], 1, "203.0.113.7"),
        ([b"2001:DB8::1"], 1, "2001:db8::1"),
        ([b"[2001:db8::1]:443"], 1, "2001:db8::1"),
        ([b"unknown"], 1, "127.0.0.1"),
        ([b"<script>"], 1, "127.0.0.1"),
        ([b"1.1.1.1,"], 1, "127.0.0.1"),
        ([b"9" * 5000], 1, "127.0.0.1"),
    ],
)
def test_the_address_is_the_one_that_the_outermost_trusted_proxy_saw(forwarded, proxies, address):
    assert client_address(PEER, forwarded, proxies) == address


@pytest.mark.parametrize("peer", [None, ("", 0)])
def test_a_client_without_an_address_is_localhost(peer):
    assert client_address(peer, [], 0) == "127.0.0.1"


@given(st.lists(st.binary(max_size=60), max_size=4), st.integers(0, 4))
def test_no_header_makes_the_address_anything_but_an_address(forwarded, proxies):
    import ipaddress

    ipaddress.ip_address(client_address(PEER, forwarded, proxies))


@pytest.mark.parametrize(
    ("header", "valid"),
    [
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", True),
        ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", False),
        ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", False),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", False),
        ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", False),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7", False),
        ("", False),
    ],
)
def test_only_a_valid_traceparent_is_kept(door, header, valid):
    assert trace_context(header.encode()) == (header if valid else None)
    assert door.post(form(whole_event()), headers={"traceparent": header}).status_code == 200
    assert door.log.envelopes[0].trace_context == (header if valid else None)
