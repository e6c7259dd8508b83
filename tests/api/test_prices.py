"""Prices of one's own over HTTP, and the names that have none."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from nilometer.access.price_overrides import CurrentOverrides, PriceOverrides
from nilometer.access.types import Scope
from nilometer.database.engine import DatabaseUnavailable
from nilometer.pricing.overrides import Scope as Layer
from nilometer.pricing.overrides import made
from tests.pricing.calls import priced

BODY = {
    "provider": "Azure_OpenAI",
    "model": "Chat-Production",
    "effective_from": "2026-01-01",
    "per_million_tokens": {"uncached_input": "2.10", "text_output": "8.40"},
}


@pytest.fixture
def project(world):
    return world.project()


def ask(project, method, rest="", scope=Scope.ADMIN, **more):
    return project.world.ask(
        method, project.path(f"price_overrides/{rest}"), project.key(scope), **more
    )


def test_a_price_is_added_listed_used_and_removed(project):
    added = ask(project, "POST", json=BODY)
    assert added.status_code == 201, added.text
    shown = added.json()
    assert (shown["provider"], shown["model"]) == ("azure", "chat-production")
    assert shown["effective_from"].startswith("2026-01-01T00:00:00")
    assert shown["per_million_tokens"] == {"uncached_input": "2.10", "text_output": "8.40"}
    assert ask(project, "GET", scope=Scope.READ).json() == {"results": [shown]}
    current = CurrentOverrides(project.world.accounts.price_overrides, max_age=0)
    cost = priced(
        *("azure", "chat-production"), text_output=1, more={"overrides": current.of(project.id)}
    )
    assert (cost.total, cost.source) == (Decimal("0.0000084"), f"override:{shown['id']}")
    assert current.of(project.id) is current.of(project.id)
    assert not current.of(project.world.project().id).named("azure", "chat-production")
    assert ask(project, "DELETE", f"{shown['id']}/").json() == shown
    assert ask(project, "GET", scope=Scope.READ).json() == {"results": []}
    assert ask(project, "DELETE", f"{shown['id']}/").status_code == 404
    actions = [entry.action for entry in project.world.accounts.audit.list(limit=200).entries]
    assert actions.count("price_override.add") >= 1
    assert actions.count("price_override.remove") >= 1


@pytest.mark.parametrize(
    ("change", "attr"),
    [
        ({"per_million_tokens": {"uncached_input": 2.1}}, "per_million_tokens.uncached_input"),
        ({"per_million_tokens": {"input": "2"}}, "per_million_tokens"),
        ({"effective_from": "2026-01-01T00:00:00"}, "effective_from"),
        ({"effective_from": "soon"}, "effective_from"),
        ({"effective_to": "2025-01-01"}, "effective_to"),
        ({"alias": "openai/gpt-4o"}, "alias"),
        ({"tier": "scale"}, "tier"),
        ({"prices": {}}, "prices"),
    ],
)
def test_a_wrong_price_is_refused_with_the_member_at_fault(project, change, attr):
    answer = ask(project, "POST", json=BODY | change)
    assert (answer.status_code, answer.json()["attr"]) == (400, attr), answer.text


def test_two_prices_of_one_moment_are_refused_and_of_two_are_not(project):
    ended = BODY | {"effective_to": "2026-06-01"}
    assert ask(project, "POST", json=ended).status_code == 201
    overlapping = ask(project, "POST", json=BODY | {"effective_from": "2026-05-31"})
    assert (overlapping.status_code, overlapping.json()["code"]) == (400, "overlapping_override")
    assert ask(project, "POST", json=BODY | {"effective_from": "2026-06-01"}).status_code == 201
    assert ask(project.world.project(), "POST", json=BODY).status_code == 201


def test_the_operators_price_is_for_every_project(world, project):
    token = project.key(Scope.OPERATE)
    added = world.ask("POST", "/api/price_overrides/", token, json=BODY | {"model": "shared"})
    assert (added.status_code, added.json()["project_id"]) == (201, None)
    current = CurrentOverrides(world.accounts.price_overrides)
    assert current.of(project.id).named("azure", "shared")
    assert ask(project, "DELETE", f"{added.json()['id']}/").status_code == 404
    path = f"/api/price_overrides/{added.json()['id']}/"
    assert world.ask("DELETE", path, token).status_code == 200


def test_a_check_lists_what_was_called_and_has_no_price(project):
    for model in ("gpt-4o", "gpt-4o-mimi", "gpt-4o-mimi", "chat-production"):
        provider = "azure" if model == "chat-production" else "openai"
        project.store({"$ai_model": model, "$ai_provider": provider, "$ai_trace_id": "t"})
    project.store({"$ai_model": "gemini-2.0-flash", "$ai_provider": "gemini", "$ai_trace_id": "t"})

    def check():
        answer = project.world.get(project.path("prices/check/"), project.reader)
        return {each["model"]: each for each in answer.json()["results"]}

    found = check()
    assert found.keys() == {"gpt-4o-mimi", "chat-production", "gemini-2.0-flash"}
    assert (found["gpt-4o-mimi"]["reason"], found["gpt-4o-mimi"]["events"]) == ("unknown_model", 2)
    assert "gpt-4o-mini" in found["gpt-4o-mimi"]["nearest"]
    assert found["gemini-2.0-flash"]["reason"] == "deprecated"
    assert ask(project, "POST", json=BODY).status_code == 201
    assert "chat-production" not in check()


def test_overrides_last_known_stay_while_the_database_is_away():
    file = made(
        id="file",
        provider="a",
        model="b",
        effective_from=datetime(2026, 1, 1, tzinfo=UTC),
        per_unit={"calls": "1"},
        scope=Layer.FILE,
    )

    class Away(PriceOverrides):
        def __init__(self):
            self.away = False

        def everything(self):
            if self.away:
                raise DatabaseUnavailable("away")
            return []

    source = Away()
    current = CurrentOverrides(source, [file], max_age=0)
    known = current.of(1)
    assert known.named("a", "b")
    source.away = True
    assert current.of(1) is known
    with pytest.raises(DatabaseUnavailable):
        CurrentOverrides(source).of(1)
