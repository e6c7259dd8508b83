"""The deployment under test: the one that the environment names, or one of the suite's own."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import pytest

from tests.acceptance.deployment import deployed
from tests.acceptance.distributed import distributed
from tests.acceptance.llma import configuration as llma_configuration
from tests.acceptance.llma.api import Api, StoredEvent, Team
from tests.acceptance.llma.bucket import Bucket
from tests.acceptance.llma.capture import Capture
from tests.acceptance.llma.configuration import Configuration
from tests.acceptance.llma.generators import Generators
from tests.acceptance.llma.multipart import Blob
from tests.acceptance.llma.outage import Outages
from tests.acceptance.llma.teams import Leftovers, Teams

_STARTED = {"embedded": deployed, "distributed": distributed}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Without POSTHOG_HOST, each test runs on a deployment of either profile. Pytest puts those of
    one profile together, so each process has one deployment at a time."""
    if "environment" in metafunc.fixturenames and "POSTHOG_HOST" not in os.environ:
        profiles = ["embedded", pytest.param("distributed", marks=pytest.mark.kafka)]
        metafunc.parametrize("environment", profiles, indirect=True, scope="session")


@pytest.fixture(scope="session")
def environment(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, str]]:
    """The variables that say where the deployment is; without POSTHOG_HOST, one is started."""
    if "POSTHOG_HOST" in os.environ:
        yield os.environ
        return
    with _STARTED[request.param](tmp_path_factory.mktemp("deployment")) as environment:
        yield environment


@pytest.fixture(scope="session")
def configuration(environment: Mapping[str, str]) -> Configuration:
    configuration = llma_configuration.read(environment)
    if configuration.mode == "production":
        pytest.fail(
            "this suite makes teams and writes events; with LLMA_TEST_MODE=production run "
            "tests/integration/production, which only reads"
        )
    return configuration


@pytest.fixture(scope="session")
def api(configuration: Configuration) -> Iterator[Api]:
    api = Api(configuration)
    yield api
    api.close()


@pytest.fixture(scope="session")
def capture(configuration: Configuration) -> Iterator[Capture]:
    capture = Capture(configuration)
    yield capture
    capture.close()


@pytest.fixture(scope="session")
def bucket(configuration: Configuration) -> Iterator[Bucket]:
    bucket = Bucket(configuration)
    yield bucket
    bucket.close()


@pytest.fixture(scope="session")
def leftovers(api: Api, bucket: Bucket) -> Iterator[Leftovers]:
    """What the tests had deleted; the run ends when it is gone."""
    leftovers = Leftovers(api, bucket)
    yield leftovers
    leftovers.wait_until_gone()


@pytest.fixture
def outages(
    configuration: Configuration, environment: Mapping[str, str], leftovers: Leftovers
) -> Outages:
    """The outages that can be made here. Deletions under way end first: what is deleted while a
    server is being stopped may come back with it."""
    leftovers.wait_until_gone()
    return Outages(configuration, environment)


@pytest.fixture
def teams(configuration: Configuration, api: Api, leftovers: Leftovers) -> Iterator[Teams]:
    """Teams of this test alone; their deletion begins when it ends."""
    teams = Teams(configuration, api, leftovers)
    yield teams
    teams.clean_up()


@pytest.fixture
def team(teams: Teams) -> Team:
    return teams.create()


@pytest.fixture
def data() -> Generators:
    """Test data. The seed is shown when the test fails; LLMA_SEED takes it again."""
    seed = int(os.environ.get("LLMA_SEED") or secrets.randbits(32))
    print(f"LLMA_SEED={seed}")  # noqa: T201  (pytest shows it with a failure)
    return Generators(seed)


class Sender(Protocol):
    """Sends a valid event with these blobs, and waits until it is stored."""

    def __call__(
        self, *blobs: Blob, event_type: str = ..., to: Team | None = None, **options: Any
    ) -> StoredEvent: ...


@pytest.fixture
def sent(capture: Capture, api: Api, team: Team, data: Generators) -> Sender:
    """Send an event to the test's team (or another), and give it back as it is stored."""

    def send(
        *blobs: Blob, event_type: str = "$ai_generation", to: Team | None = None, **options: Any
    ) -> StoredEvent:
        receiver = to or team
        event = data.event(event_type)
        properties = data.properties(event_type)
        answer = capture.send_event(receiver.token, event, properties, blobs, **options)
        assert answer.status_code == 200, answer.text
        return api.wait_for_event(receiver.id, event["uuid"])

    return send


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Write each test's phase into the JUnit report."""
    for item in items:
        for mark in item.iter_markers():
            if match := re.fullmatch(r"phase_(\d)", mark.name):
                item.user_properties.append(("phase", match[1]))
