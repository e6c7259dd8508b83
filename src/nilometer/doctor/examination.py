"""Which checks a deployment's role needs, and their making."""

from __future__ import annotations

from contextlib import suppress

from nilometer.clickhouse.address import Server
from nilometer.doctor.blobs import Blobs
from nilometer.doctor.clickhouse import ClickHouse
from nilometer.doctor.clickhouse_reader import Reader
from nilometer.doctor.configuration import SETTINGS, Configuration
from nilometer.doctor.embedded import Embedded
from nilometer.doctor.finding import Check, Finding, Verdict, failed
from nilometer.doctor.machine import Machine
from nilometer.doctor.postgres import Postgres
from nilometer.doctor.runner import run
from nilometer.errors import ConfigurationError
from nilometer.foundation import clickhouse
from nilometer.settings import Role, Settings

SECONDS = 5.0
"""How long a check may take."""


def examine(settings: Settings, *, seconds: float = SECONDS) -> list[Finding]:
    """Every finding about the deployment that the settings describe, for their role.

    Nothing is made but a probe object among the blobs, which is deleted. No server is waited for
    longer than `seconds` a check.
    """
    return run(checks_of(settings, seconds), seconds=seconds)


def checks_of(settings: Settings, seconds: float) -> list[Check]:
    """The checks for the profile and the role."""
    checks = [*Configuration(settings).checks(), *Machine(settings).checks()]
    checks += _distributed(settings, seconds) if settings.distributed else _embedded(settings)
    return checks + Blobs(settings, seconds).checks()


def _embedded(settings: Settings) -> list[Check]:
    return Embedded(settings).checks()


def _distributed(settings: Settings, seconds: float) -> list[Check]:
    url = settings.database_url
    checks = Postgres(url.get_secret_value() if url else None, seconds).checks()
    checks += _kafka(settings, seconds)
    if settings.role is not Role.CAPTURE:  # it has no connection to the store
        checks += _clickhouse(settings, seconds)
    return checks


def _kafka(settings: Settings, seconds: float) -> list[Check]:
    try:
        from nilometer.doctor.kafka import Kafka
    except ModuleNotFoundError:
        return [Check("kafka.cluster", _without_client)]
    return Kafka(settings, seconds).checks()


def _without_client() -> Verdict:
    return failed("Kafka needs its client.", 'pip install "nilometer[kafka]"')


def _clickhouse(settings: Settings, seconds: float) -> list[Check]:
    server: Server | None = None
    if settings.clickhouse_url is not None:
        with suppress(ConfigurationError):  # which the check of the settings tells
            server = clickhouse(settings)
    store = ClickHouse(server, seconds)
    return store.checks() + Reader(store, server.reader if server else None).checks()


__all__ = ["SECONDS", "SETTINGS", "checks_of", "examine"]
