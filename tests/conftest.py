"""What every test shares."""

import os
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from nilometer.clickhouse.store import Store
from tests import forking
from tests.clickhouse_server import stores
from tests.patience import PATIENCE
from tests.projects import new_project_id

if TYPE_CHECKING:
    from tests.api.world import World

pytest_plugins = ["tests.services"]

# Coverage is measured in processes that begin with it.
forking.wanted = "COVERAGE_PROCESS_CONFIG" not in os.environ

# Slow machines are not wrong examples: the suite runs in parallel on two cores.
settings.register_profile(
    "suite", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile("suite")

_LIMIT = 120

# Where tests wait for other processes, or servers in threads: brokers, databases, doors, clients.
_OF_SEVERAL_PARTS = frozenset(
    {"acceptance", "budgets", "clients", "clickhouse_server", "database", "deploy", "doctor"}
    | {"dynamodb", "faults", "integration", "live_blobs", "log", "migrate_data", "notifications"}
    | {"sdk", "serve", "servers", "soak", "test_servers.py", "usage"}
    | {"alerts", "incidents", "tools", "workflows"}
    | {"api", "blobs", "capture", "cli", "clickhouse", "integrations", "query_sql"}
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    _begin_with_the_longest(items, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
    _allow_second_chances(config, items)
    _lengthen_limits(items)


def _begin_with_the_longest(items: list[pytest.Item], parts: int) -> None:
    """Those with a time limit of their own. Each process of pytest-xdist begins with one part of
    the list, and a long test at the end would keep one of them busy while the others are done."""
    modules = [list(group) for _, group in groupby(items, lambda item: item.path)]
    long = sorted(filter(_seconds, modules), key=_seconds, reverse=True)
    rest = [item for module in modules if not _seconds(module) for item in module]
    ordered: list[pytest.Item] = []
    for part in range(parts):
        size = (len(items) - len(ordered)) // (parts - part)
        first = [item for module in long[part::parts] for item in module]
        fill = max(0, size - len(first))
        ordered += first + rest[:fill]
        del rest[:fill]
    items[:] = ordered + rest


def _seconds(module: list[pytest.Item]) -> float:
    """The longest limit that a test of the module has for itself; 0 for none."""
    marks = [mark for item in module if (mark := item.get_closest_marker("timeout"))]
    return max((mark.args[0] for mark in marks), default=0)


def _allow_second_chances(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A test of several parts gets a second chance on a busy machine: what it failed of is told in
    the summary and it is counted in the closing line, to be mended like a failure. `--reruns 0`
    allows none."""
    if config.option.reruns == 0:
        return
    tests = Path(__file__).parent
    for item in items:
        if not item.path.is_relative_to(tests):
            continue
        if item.path.relative_to(tests).parts[0] in _OF_SEVERAL_PARTS:
            item.add_marker(pytest.mark.flaky(reruns=1))


def _lengthen_limits(items: list[pytest.Item]) -> None:
    """By the patience with which tests wait, those of 120 s among them, which is every other's."""
    for item in items:
        mark = item.get_closest_marker("timeout")
        limit = mark.args[0] if mark else _LIMIT
        item.add_marker(pytest.mark.timeout(limit * PATIENCE), append=False)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What those failed of that were given a second chance."""
    for report in terminalreporter.stats.get("rerun", []):
        terminalreporter.section(f"failed at first: {report.nodeid}", sep="_")
        report.toterminal(terminalreporter._tw)


@pytest.fixture(scope="session")
def embedded_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """The one engine of this process: chDB allows one data directory at a time. Tests share it and
    keep apart by `project_id`."""
    store = Store(tmp_path_factory.mktemp("clickhouse"))
    store.open()
    yield store
    store.close()


@pytest.fixture(scope="session")
def network_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """The same on a server, a process of its own: see `tests.clickhouse_server`."""
    with stores.network_store(tmp_path_factory.mktemp("clickhouse-server")) as store:
        yield store


@pytest.fixture(scope="session")
def store(request: pytest.FixtureRequest) -> Store:
    """The embedded store; with NILOMETER_TEST_STORE=network the one on a server."""
    name = os.environ.get("NILOMETER_TEST_STORE", "embedded")
    return request.getfixturevalue(f"{name}_store")


@pytest.fixture
def project_id() -> int:
    """A project that no other test of this process has."""
    return new_project_id()


@pytest.fixture(scope="session")
def world(store: Store, tmp_path_factory: pytest.TempPathFactory) -> "Iterator[World]":
    """The API over real parts: for its own tests, and those of the commands that read with it."""
    from tests.api.world import opened

    with opened(store, tmp_path_factory.mktemp("world")) as world:
        yield world
