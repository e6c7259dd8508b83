"""Where this process runs: production, staging, CI or a developer's machine, and what tells it
from others there. Read from the environment's variables; no command is run and nothing is asked."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from nilometer.errors import ConfigurationError
from nilometer.sdk.scopes import Scopes

PRODUCTION = "production"
STAGING = "staging"
CICD = "cicd"
DEVELOPMENT = "development"

_SPELLINGS = {
    "prod": PRODUCTION,
    "stage": STAGING,
    "ci": CICD,
    "ci/cd": CICD,
    "ci-cd": CICD,
    "dev": DEVELOPMENT,
    "local": DEVELOPMENT,
}
_CI = ("GITHUB_ACTIONS", "CI", "CONTINUOUS_INTEGRATION", "GITLAB_CI", "JENKINS_URL")
_SUFFIXES = {name: f"-{name}" for name in (STAGING, CICD, DEVELOPMENT)}
_OFF = ("", "0", "false", "no", "off")

# For each tag, the variables that may say it: GitHub's, then GitLab's and Jenkins'.
_EVERYWHERE = {
    "service": ("OTEL_SERVICE_NAME", "AWS_LAMBDA_FUNCTION_NAME"),
    "app_version": ("APP_VERSION",),
    "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
}
_IN = {
    CICD: {
        "run_id": ("GITHUB_RUN_ID", "CI_PIPELINE_ID", "BUILD_ID"),
        "workflow": ("GITHUB_WORKFLOW", "CI_JOB_NAME", "JOB_NAME"),
        "actor": ("GITHUB_ACTOR", "GITLAB_USER_LOGIN"),
        "ref": ("GITHUB_REF", "CI_COMMIT_REF_NAME", "GIT_BRANCH"),
        "sha": ("GITHUB_SHA", "CI_COMMIT_SHA", "GIT_COMMIT"),
        "repository": ("GITHUB_REPOSITORY", "CI_PROJECT_PATH"),
    },
    PRODUCTION: {"deployment": ("DEPLOYMENT_ID",), "instance_id": ("INSTANCE_ID", "HOSTNAME")},
    STAGING: {"branch": ("BRANCH_NAME", "GIT_BRANCH"), "deployment": ("DEPLOYMENT_ID",)},
    DEVELOPMENT: {
        "developer": ("USER", "USERNAME"),
        "branch": ("BRANCH_NAME", "GIT_BRANCH"),
    },
}


@dataclass(frozen=True, slots=True)
class Environment:
    """What was found: `name`, and the tags by their names."""

    name: str
    tags: Mapping[str, str]

    def scopes(self) -> Scopes:
        """What every call of this process belongs to, unless its context says else."""
        return Scopes(
            environment=self.name,
            developer=self.tags.get("developer"),
            repository=self.tags.get("repository"),
            metadata=dict(self.tags),
        )


def detect(variables: Mapping[str, str] = os.environ) -> str:
    """The environment's name: `ENVIRONMENT`, else what CI services set, else AWS by its stack's
    name, else `development`. A name of one's own in `ENVIRONMENT` is taken as it is."""
    named = variables.get("ENVIRONMENT", "").strip().lower()
    if named:
        return _SPELLINGS.get(named, named)
    if any(variables.get(name, "").lower() not in _OFF for name in _CI):
        return CICD
    if variables.get("AWS_EXECUTION_ENV") and not variables.get("AWS_SAM_LOCAL"):
        stack = variables.get("PULUMI_STACK_NAME", "").lower()
        if "prod" in stack:
            return PRODUCTION
        if "stag" in stack:
            return STAGING
    return DEVELOPMENT


def environment(
    name: str | None = None, variables: Mapping[str, str] = os.environ, *, tagged: bool = True
) -> Environment:
    """This process' environment. Without `tagged`, its name alone: the tags tell of the machine
    and of who works on it."""
    name = name or detect(variables)
    found = {"environment": name}
    if tagged:
        wanted = _EVERYWHERE | _IN.get(name, {})
        for tag, sources in wanted.items():
            value = next((variables[source] for source in sources if variables.get(source)), None)
            if value:
                found[tag] = value
        if name == DEVELOPMENT:
            found["machine"] = socket.gethostname()
    return Environment(name, found)


def table_name(base: str, environment: str) -> str:
    """The table of an environment: the name itself in production, else with its suffix."""
    return base + _SUFFIXES.get(environment, "")


def check_table_name(table: str, environment: str) -> None:
    """Refuse, with ConfigurationError, a table that is another environment's by its suffix. For
    those who name their tables so; nothing calls it unless it is asked for."""
    own = _SUFFIXES.get(environment)
    if own is not None and not table.endswith(own):
        raise ConfigurationError(
            f"the table {table!r} is not of {environment}: its name does not end in {own!r}"
        )
    others = [suffix for suffix in _SUFFIXES.values() if suffix != own]
    if own is None and (found := next(filter(table.endswith, others), None)):
        raise ConfigurationError(
            f"the table {table!r} is not of {environment}: its name ends in {found!r}"
        )
