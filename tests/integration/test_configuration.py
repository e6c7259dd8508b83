"""The production suite is configured by the environment, and says what is missing."""

import json
import subprocess
import sys

import pytest

from tests.integration.production.configuration import (
    REQUIRED,
    Configuration,
    NotConfigured,
    from_environment,
)
from tests.integration.production_block import BLOCK

SHOW = "import json, os; print(json.dumps(dict(os.environ)))"


@pytest.fixture(scope="module")
def environment():
    """What the block leaves in the environment of a shell that had nothing."""
    done = subprocess.run(
        ["env", "-i", "bash", "-euc", f"{BLOCK}\n\"$0\" -c '{SHOW}'", sys.executable],
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout)


def test_the_block_pasted_as_it_is_configures_it(environment):
    assert from_environment(environment) == Configuration(
        host="https://app.posthog.com",
        project_id="12345",
        team_id="123",
        bucket="your-llma-bucket",
        region="us-east-1",
        s3_endpoint=None,
        delay=0.5,
        api_key="your_posthog_api_key",
        s3_key_id="your_limited_access_key",
        s3_secret="your_limited_secret_key",
    )


def test_no_secret_is_in_its_repr(environment):
    shown = repr(from_environment(environment))
    assert "your_posthog_api_key" not in shown
    assert "limited" not in shown


@pytest.mark.parametrize("name", REQUIRED)
def test_one_missing_variable_is_named_alone(environment, name):
    for gone in ({}, {name: ""}):
        rest = {each: value for each, value in environment.items() if each != name}
        with pytest.raises(NotConfigured, match=f": {name}. See"):
            from_environment(rest | gone)


def test_without_anything_all_are_named():
    with pytest.raises(NotConfigured) as caught:
        from_environment({})
    assert all(name in str(caught.value) for name in (*REQUIRED, 'LLMA_TEST_MODE="production"'))


@pytest.mark.parametrize("mode", ["local", "", "Production"])
def test_another_mode_is_not_production(environment, mode):
    with pytest.raises(NotConfigured, match="LLMA_TEST_MODE"):
        from_environment(environment | {"LLMA_TEST_MODE": mode})


@pytest.mark.parametrize("name", ["POSTHOG_PROJECT_ID", "LLMA_TEAM_ID"])
@pytest.mark.parametrize("value", ["1/../2", "@current", "12 ", "-1", "١"])
def test_an_id_that_is_no_number_is_refused(environment, name, value):
    with pytest.raises(NotConfigured, match=name):
        from_environment(environment | {name: value})


@pytest.mark.parametrize(("text", "seconds"), [("0", 0), ("2.5", 2.5), ("", 0.5)])
def test_the_delay_is_a_setting(environment, text, seconds):
    given = from_environment(environment | {"LLMA_REQUEST_DELAY_SECONDS": text})
    assert given.delay == seconds


@pytest.mark.parametrize("text", ["-1", "soon", "nan", "inf", "61"])
def test_a_delay_that_is_none_is_refused(environment, text):
    with pytest.raises(NotConfigured, match="LLMA_REQUEST_DELAY_SECONDS"):
        from_environment(environment | {"LLMA_REQUEST_DELAY_SECONDS": text})
