"""Makes a client of librdkafka fail for good, as the library itself offers to its tests."""

from __future__ import annotations

import ctypes
from pathlib import Path

import confluent_kafka
from confluent_kafka import KafkaError, Producer

_AFTER_HEAD = object.__basicsize__
"""Where a client of Python has its first field: the library's own handle."""


def fail_for_good(client: Producer) -> None:
    """Have the library raise a fatal error of this client, as of one that a broker has fenced.
    Python's client has no name for that."""
    package = Path(confluent_kafka.__file__).parent
    [place] = package.with_name("confluent_kafka.libs").glob("librdkafka*")
    library = ctypes.CDLL(str(place))  # loaded already: the same one
    library.rd_kafka_test_fatal_error.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p]
    handle = ctypes.c_void_p.from_address(id(client) + _AFTER_HEAD).value
    code = KafkaError.INVALID_PRODUCER_EPOCH
    assert library.rd_kafka_test_fatal_error(handle, code, b"made by a test") == 0
