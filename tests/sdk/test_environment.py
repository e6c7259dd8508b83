from __future__ import annotations

import pytest

from nilometer.errors import ConfigurationError
from nilometer.sdk.environment import check_table_name, detect, environment, table_name

AWS = {"AWS_EXECUTION_ENV": "AWS_Lambda_python3.12"}


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({}, "development"),
        ({"ENVIRONMENT": "Prod"}, "production"),
        ({"ENVIRONMENT": "staging", "CI": "true"}, "staging"),
        ({"ENVIRONMENT": "canary"}, "canary"),
        ({"GITHUB_ACTIONS": "true"}, "cicd"),
        ({"CI": "1"}, "cicd"),
        ({"CI": "false"}, "development"),
        ({"CONTINUOUS_INTEGRATION": "true"}, "cicd"),
        ({"GITLAB_CI": "true"}, "cicd"),
        ({"JENKINS_URL": "http://ci"}, "cicd"),
        (AWS | {"PULUMI_STACK_NAME": "shop-prod"}, "production"),
        (AWS | {"PULUMI_STACK_NAME": "staging"}, "staging"),
        (AWS | {"PULUMI_STACK_NAME": "stage"}, "staging"),
        (AWS | {"PULUMI_STACK_NAME": "alice"}, "development"),
        (AWS | {"PULUMI_STACK_NAME": "prod", "AWS_SAM_LOCAL": "true"}, "development"),
    ],
)
def test_where_a_process_runs(variables: dict[str, str], name: str):
    assert detect(variables) == name


def test_ci_tells_of_its_run():
    found = environment(
        variables={
            "GITHUB_ACTIONS": "true",
            "GITHUB_RUN_ID": "5",
            "GITHUB_WORKFLOW": "test",
            "GITHUB_ACTOR": "octocat",
            "GITHUB_REF": "refs/heads/main",
            "GITHUB_SHA": "abc",
            "GITHUB_REPOSITORY": "o/r",
            "APP_VERSION": "1.2",
        }
    )
    assert found.tags == {
        "environment": "cicd",
        "app_version": "1.2",
        "run_id": "5",
        "workflow": "test",
        "actor": "octocat",
        "ref": "refs/heads/main",
        "sha": "abc",
        "repository": "o/r",
    }
    scopes = found.scopes()
    assert (scopes.environment, scopes.repository) == ("cicd", "o/r")


def test_a_developers_machine_tells_of_the_developer_unless_it_is_not_to():
    found = environment(variables={"USER": "ada", "BRANCH_NAME": "fix"})
    assert found.tags["branch"] == "fix"
    assert found.tags["machine"]
    assert found.scopes().developer == "ada"
    assert environment(variables={"USER": "ada"}, tagged=False).tags == {
        "environment": "development"
    }


def test_production_and_staging_tell_of_the_deployment():
    live = environment("production", {"DEPLOYMENT_ID": "d", "HOSTNAME": "h", "AWS_REGION": "eu"})
    assert live.tags == {
        "environment": "production",
        "region": "eu",
        "deployment": "d",
        "instance_id": "h",
    }
    assert environment("staging", {"GIT_BRANCH": "b"}).tags["branch"] == "b"


def test_tables_have_their_environments_suffix():
    assert table_name("usage", "production") == "usage"
    assert table_name("usage", "staging") == "usage-staging"
    check_table_name("usage", "production")
    check_table_name("usage-cicd", "cicd")
    check_table_name("anything", "canary")


@pytest.mark.parametrize(
    ("table", "environment"),
    [("usage-staging", "production"), ("usage", "staging"), ("usage-cicd", "development")],
)
def test_a_table_of_another_environment_is_refused(table: str, environment: str):
    with pytest.raises(ConfigurationError):
        check_table_name(table, environment)
