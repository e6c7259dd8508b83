"""The real servers themselves: that a start, a stop, a kill and a pause are what they say."""

from __future__ import annotations

import socket

from tests.services import KafkaService, PostgresService


def test_kafka_answers(kafka: KafkaService) -> None:
    host, port = kafka.bootstrap.split(":")
    with socket.create_connection((host, int(port)), timeout=5):
        pass


def test_postgres_answers(postgres: PostgresService) -> None:
    assert postgres.server.sql("SELECT 6 * 7", "sentinai_test") == "42"
