"""`nilometer prices check`, through a server."""

import json
import re

import pytest
from typer.testing import CliRunner

from nilometer.access.types import Scope
from nilometer.cli.app import app
from nilometer.pricing.files import moment
from tests.api.world import Project, World


@pytest.fixture
def project(world: World) -> Project:
    return world.project()


def check(project: Project, *arguments: str, scope: Scope = Scope.READ, code: int = 0) -> str:
    options = ["--url", project.world.url, "--project", str(project.id), *arguments]
    environment = {"NILOMETER_API_KEY": project.key(scope)}
    done = CliRunner().invoke(app, ["prices", "check", *options], env=environment)
    assert done.exit_code == code, done.output
    return done.output


def test_check_lists_what_has_no_price_with_the_nearest_names(project):
    project.send({"$ai_model": "gpt-4o-minni", "$ai_provider": "openai"})
    project.send({"$ai_model": "gpt-4o-minni", "$ai_provider": "openai"})
    project.store({"$ai_model": "gpt-4o", "$ai_provider": "openai"})
    shown = check(project)
    assert re.search(r"openai\s+gpt-4o-minni\s+2\s+\S+\s+unknown_model\s+gpt-4o-mini", shown)
    assert not re.search(r"gpt-4o\s", shown.split("gpt-4o-minni")[0])
    [told] = json.loads(check(project, "--days", "1", "--json"))["results"]
    assert (told["events"], told["reason"], told["nearest"][0]) == (
        *(2, "unknown_model"),
        "gpt-4o-mini",
    )


def test_check_is_silent_of_a_deployment_with_a_price_of_its_own(project):
    project.store({"$ai_model": "chat-production", "$ai_provider": "azure"})
    assert "chat-production" in check(project)
    project.world.accounts.price_overrides.add(
        project.id,
        provider="azure",
        model="chat-production",
        effective_from=moment("2025-01-01", "day"),
        alias="openai/gpt-4o",
    )
    assert "chat-production" not in check(project)


def test_check_needs_a_key_that_may_read(project):
    assert "scope 'read'" in check(project, scope=Scope.ADMIN, code=1)
