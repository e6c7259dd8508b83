"""`nilometer reprice` and `rewrites`, through a server: a worker of its own carries them out."""

import json
import re
from collections.abc import Callable, Iterator
from decimal import Decimal

import pytest
from typer.testing import CliRunner

from nilometer.access.price_overrides import CurrentOverrides
from nilometer.access.types import Scope
from nilometer.cli.app import app
from nilometer.pipeline.packing import Packer
from nilometer.pipeline.rewriting.passes import passes
from nilometer.pipeline.rewriting.worker import RewriteWorker
from tests.api.world import Project, World

CALL = {
    "$ai_model": "gpt-4o",
    "$ai_provider": "openai",
    "$ai_input_tokens": 1000,
    "$ai_output_tokens": 50,
}


@pytest.fixture
def project(world: World) -> Project:
    return world.project()


@pytest.fixture
def worker(world: World) -> Iterator[RewriteWorker]:
    overrides = CurrentOverrides(world.accounts.price_overrides)
    worker = RewriteWorker(
        world.services.rewrites,
        passes(
            world.services.store,
            overrides.of,
            world.services.blobs,
            Packer(world.services.blobs, above=16384),
        ),
        tombstoned=lambda _: (),
        settle=overrides.renew,
        interval=0.05,
    )
    worker.start()
    yield worker
    worker.stop()


@pytest.fixture
def run(project: Project) -> Callable[..., str]:
    def run(command: str, *arguments: str, scope: Scope = Scope.ADMIN, code: int = 0) -> str:
        options = ["--url", project.world.url, "--project", str(project.id)]
        key = project.key(scope, Scope.READ)
        done = CliRunner().invoke(
            app, [command, *options, *arguments], env={"NILOMETER_API_KEY": key}
        )
        assert done.exit_code == code, done.output
        return done.output

    return run


def own_price(project: Project) -> None:
    project.world.accounts.price_overrides.add(
        project.id,
        provider="openai",
        model="gpt-4o",
        effective_from=datetime_of("2025-01-01"),
        per_million_tokens={"uncached_input": "1", "text_output": "1"},
    )


def datetime_of(day: str):
    from nilometer.pricing.files import moment

    return moment(day, "day")


def cost(project: Project) -> Decimal:
    sql = "SELECT cost_total FROM calls FINAL WHERE project_id = {project:Int64}"
    [(found,)] = project.world.services.store.query(sql, {"project": project.id}).rows
    return found


@pytest.mark.usefixtures("worker")
def test_a_dry_run_says_what_a_run_then_does(project, run):
    project.store(CALL)
    own_price(project)
    told = run("reprice", "--from", "2025-01-01", "--dry-run")
    assert re.search(r"openai\s+gpt-4o\s+1\s+0\s+0\s+0.003\d*\s+0.00105", told)
    assert "1 of 1 rows would change." in told
    assert cost(project) == Decimal("0.003")
    done = json.loads(run("reprice", "--from", "2025-01-01", "--json"))
    assert (done["state"], done["total"], done["changed"]) == ("done", 1, 1)
    [finding] = done["findings"]
    assert (finding["provider"], finding["model"]) == ("openai", "gpt-4o")
    assert Decimal(finding["after"]) == Decimal("0.00105")
    assert cost(project) == Decimal("0.00105")
    assert "0 of 1 rows changed." in run("reprice", "--from", "2025-01-01")


@pytest.mark.usefixtures("worker")
def test_a_remap_tells_the_columns_that_change_and_changes_them(project, run):
    project.store(CALL)
    project.world.services.store.command(
        "ALTER TABLE events UPDATE model = 'wrong' WHERE project_id = {project:Int64} "
        "SETTINGS mutations_sync = 1",
        {"project": project.id},
    )
    told = run("remap", "--from", "2025-01-01", "--dry-run")
    assert re.search(r"events\s+model\s+1\s", told)
    assert "1 of 1 rows would change." in told
    assert "1 of 1 rows changed." in run("remap", "--from", "2025-01-01")
    assert "0 of 1 rows would change." in run("remap", "--from", "2025-01-01", "--dry-run")


def test_one_that_waits_is_listed_refuses_another_and_can_be_cancelled(run):
    identity = run("reprice", "--from", "2025-01-01", "--to", "2025-02-01", "--no-wait").strip()
    assert identity in run("rewrites", "--json", scope=Scope.READ)
    assert "waiting" in run("rewrites")
    refused = run("reprice", "--from", "2025-01-01", code=1)
    assert "HTTP 409" in refused
    assert identity in refused
    assert "It is cancelled." in run("rewrites", identity, "--cancel")
    assert json.loads(run("rewrites", identity, "--json"))["state"] == "cancelled"


def test_wrong_times_and_ids_are_refused_with_a_sentence(run):
    assert "to must be later than from" in run(
        "reprice", "--from", "2025-02-01", "--to", "2025-01-01", code=1
    )
    assert "from" in run("reprice", "--from", "yesterday", code=1)
    assert "no such rewrite" in run("rewrites", "00000000-0000-4000-8000-000000000000", code=1)
    run("rewrites", "--cancel", code=2)
    run("reprice", "--from", "2025-01-01", scope=Scope.READ, code=1)
