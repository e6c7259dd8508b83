"""A configuration for clients that reach nothing but this machine."""

from collections.abc import Callable

import pytest

from tests.integration.production.configuration import Configuration

pytest.register_assert_rewrite("tests.integration.chaos")


@pytest.fixture
def configured() -> Callable[[str], Configuration]:
    """A configuration of team 12 whose every address is the given one."""

    def configured(url: str) -> Configuration:
        return Configuration(
            host=url,
            project_id="12",
            team_id="12",
            bucket="bucket",
            region="us-east-1",
            s3_endpoint=url,
            delay=0,
            api_key="the-key",
            s3_key_id="id",
            s3_secret="secret",
        )

    return configured
