"""The deployment under test: the one that the environment names, or one of the suite's own."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping

import pytest

from tests.acceptance.deployment import deployed
from tests.acceptance.llma import configuration as llma_configuration
from tests.acceptance.llma.api import Api, Team
from tests.acceptance.llma.bucket import Bucket
from tests.acceptance.llma.capture import Capture
from tests.acceptance.llma.configuration import Configuration
from tests.acceptance.llma.generators import Generators
from tests.acceptance.llma.outage import Outages
from tests.acceptance.llma.teams import Teams


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """The variables that say where the deployment is; without POSTHOG_HOST, one is started."""
    if "POSTHOG_HOST" in os.environ:
        yield os.environ
        return
    with deployed(tmp_path_factory.mktemp("deployment")) as environment:
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
def outages(configuration: Configuration, environment: Mapping[str, str]) -> Outages:
    return Outages(configuration, environment)


@pytest.fixture
def teams(configuration: Configuration, api: Api, bucket: Bucket) -> Iterator[Teams]:
    """Teams of this test alone; everything of theirs is deleted when it ends."""
    teams = Teams(configuration, api, bucket)
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
