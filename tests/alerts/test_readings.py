"""What rules measure in a real store and database, and that the API tells of what broke."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from nilometer.access.types import KeyKind, Scope
from nilometer.alerts.failures import BLOBS, Failures, failed
from nilometer.alerts.kinds import Kind
from nilometer.alerts.readings import FOREIGN, OTHERS, Readings
from nilometer.alerts.rule import AlertRule, Condition
from nilometer.alerts.rules import StoredRule
from nilometer.alerts.watch import RuleWatch
from nilometer.database.engine import Database
from nilometer.domain import clock
from nilometer.query.measures import Measures
from nilometer.query.usage import Usage
from tests.api.world import Project, World

HOUR = timedelta(hours=1)


@pytest.fixture
def project(world: World) -> Project:
    return world.project()


@pytest.fixture
def measure(world: World, project: Project) -> Any:
    """What a rule reads of the project: number, count and facts by subject; `(late)` follows that
    of what came late."""
    readings = Readings(Measures(world.services.store), world.database)

    def measure(
        kind: Kind, threshold: int | str = 1, *, of: Project = project, **given: Any
    ) -> Mapping[str, Any]:
        created_at: datetime = given.pop("created_at", clock.now() - 2 * HOUR)
        at: datetime = given.pop("at", clock.now())
        condition = Condition(Decimal(threshold), HOUR)
        rule = AlertRule(str(uuid4()), "r", kind=kind, condition=condition, **given)
        found = readings.of(StoredRule(rule, of.id, created_at), at)
        return {
            each.subject + each.late * "(late)": (each.measured, each.calls, dict(each.facts))
            for each in found
        }

    return measure


def test_calls_are_measured_once_each_by_value_and_within_filters(
    world: World, project: Project, measure: Any
) -> None:
    other = world.project()
    now = clock.now()
    for place in range(20):
        bad = place < 5
        project.send(
            {
                "$ai_provider": "OpenAI",
                "$ai_model": "m" if place % 2 else "n",
                "$ai_latency": place / 10,
                "$ai_is_error": bad,
                **({} if bad else {"$ai_total_cost_usd": "0.10"}),
            },
            timestamp=(now - timedelta(minutes=place)).isoformat(),
        )
    project.send({"$ai_provider": "p", "$ai_latency": 9}, timestamp=(now - 2 * HOUR).isoformat())
    project.send({"$ai_provider": "p", "$ai_total_cost_usd": "3"})
    other.send({"$ai_provider": "openai", "$ai_is_error": True, "$ai_latency": 100})
    same = {"$ai_provider": "p", "$ai_generation_id": "chatcmpl-1", "$ai_total_cost_usd": "2"}
    for _ in range(2):
        project.send(same)
    world.settle()

    found = measure(Kind.ERROR_RATE, 0, dimension="service")
    assert found.pop("p(late)")[:2] == (0, 1)
    assert found == {
        "openai": (Decimal("0.25"), 20, {"errors": "5"}),
        "p": (Decimal(0), 3, {"errors": "0"}),
    }
    assert measure(Kind.ERROR_RATE, dimension="service", value="OpenAI", filters={"model": "m"})[
        ""
    ] == (Decimal("0.2"), 10, {"errors": "2"})
    assert measure(Kind.COST_PER_CALL, filters={"service": "openai"})[""][:2] == (
        Decimal("0.1"),
        15,
    )
    spent, calls, facts = measure(Kind.SPEND)[""]
    assert spent == Decimal("1.5") + 3 + 4
    assert (calls, facts) == (23, {"unpriced_calls": "5"})
    p95, timed, _ = measure(Kind.LATENCY_P95, dimension="service", value="openai")[""]
    assert timed == 20
    assert Decimal("1.75") <= p95 <= Decimal("1.9")
    assert measure(Kind.MISSING_TRAFFIC, dimension="service", value="nobody") == {"": (0, 0, {})}
    assert measure(Kind.MISSING_TRAFFIC)[""][0] == 23
    assert measure(Kind.MISSING_TRAFFIC, created_at=now - HOUR / 2) == {}  # it is too young to say
    assert measure(Kind.ERROR_RATE, of=other)[""][:2] == (1, 1)


def test_what_comes_after_its_window_is_judged_by_itself_in_a_window_of_its_own_time(
    world: World, project: Project, measure: Any
) -> None:
    """What an SDK kept during an outage. What came in time is not judged a second time."""
    now = clock.now()

    def send(hours_ago: float, cost: str, count: int, *, bad: bool = False) -> None:
        at = (now - hours_ago * HOUR).isoformat()
        for _ in range(count):
            own = {"$ai_provider": "p", "$ai_total_cost_usd": cost, "$ai_is_error": bad}
            project.send({**own, "$ai_generation_id": str(uuid4())}, timestamp=at)
            metric = {"$ai_metric_name": "accuracy", "$ai_metric_value": "0" if bad else "1"}
            project.send(metric, event="$ai_metric", timestamp=at)

    send(5.5, "3", 8, bad=True)
    send(4.5, "1", 2, bad=True)
    send(4.4, "1", 2)
    send(0.5, "2", 4)
    send(25, "500", 8, bad=True)  # yesterday's is no news of today
    world.settle()
    at = clock.now()
    for by in ({}, {"dimension": "service"}):
        subject = "p" if by else ""
        late = f"{subject}(late)"
        outage = measure(Kind.ERROR_RATE, "0.5", at=at, **by)
        assert outage[late][:2] == (1, 8)
        began = datetime.fromisoformat(outage[late][2]["late_of"])
        assert began <= now - 5.5 * HOUR < began + HOUR
        of_now = {} if by else {"": (0, 4, {"errors": "0"})}
        assert outage == {late: outage[late], **of_now}
        both = measure(Kind.SPEND, 5, at=at, **by)
        assert {each: told[:2] for each, told in both.items()} == {subject: (8, 4), late: (24, 8)}
        assert measure(Kind.SPEND, 30, at=at, **by) == ({} if by else {"": (8, 4, {})})
    assert measure(Kind.QUALITY, "0.4", at=at)["(late)"][:2] == (0, 8)
    assert measure(Kind.QUALITY, "0.4", at=at, dimension="metric")["accuracy(late)"][:2] == (0, 8)
    assert measure(Kind.MISSING_TRAFFIC, 5, at=at) == {"": (4, 4, {})}

    later = at + 0.75 * HOUR  # what was in time half an hour ago is over; what was late is not yet
    found = measure(Kind.SPEND, 5, at=later)
    assert (found[""][:2], found["(late)"][:2]) == ((0, 0), (24, 8))
    assert measure(Kind.SPEND, 5, at=later + HOUR) == {"": (0, 0, {})}


@pytest.mark.parametrize("dimension", [None, "service"])
def test_what_came_late_is_told_once_and_silences_nothing_that_breaks_now(
    world: World, project: Project, dimension: str | None
) -> None:
    admin, now = project.key(Scope.ADMIN, Scope.READ), clock.now()
    body = {"name": "spend", "kind": "spend", "threshold": "10", "window_seconds": 3600}
    by = {"dimension": dimension} if dimension else {}
    rule = world.ask("POST", project.path("alert_rules/"), admin, json=body | by).json()
    database = world.database
    readings = Readings(Measures(world.services.store), database)

    def send(hours_ago: float) -> None:
        own = {"$ai_provider": "p", "$ai_total_cost_usd": "6"}
        project.send(own, timestamp=(now - hours_ago * HOUR).isoformat())
        project.send(own, timestamp=(now - hours_ago * HOUR - 0.4 * HOUR).isoformat())
        world.settle()

    def look(minutes: int) -> list[tuple[str, bool]]:
        """All that was ever told: how it stands, and whether it is of what came late."""
        at = now + timedelta(minutes=minutes)
        RuleWatch(
            database, Usage(world.services.store).groups, readings.of, now=lambda: at
        ).run_once()
        found = world.get(project.path("alerts/"), admin).json()["results"]
        return sorted((each["state"], "late_of" in each["facts"]) for each in found)

    send(5)
    late, live = ("firing", True), ("firing", False)
    assert [look(minutes) for minutes in range(1, 50, 7)] == [[late]] * 7
    send(0.1)
    assert look(25) == [live, late]
    assert look(50) == [late, ("recovered", False)]
    assert look(70) == [("recovered", False), ("recovered", True)]
    path = project.path(f"alert_rules/{rule['id']}/")
    assert world.ask("DELETE", path, admin).status_code == 204


def test_late_calls_beyond_so_many_are_told_of_beside_those_in_time(
    world: World, project: Project, measure: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nilometer.alerts.readings.MAX_OPEN", 2)
    for hours_ago, users in ((5, "abcde"), (0.5, "cdef")):
        at = (clock.now() - hours_ago * HOUR).isoformat()
        for place, user in enumerate(users):
            own = {"$ai_user_id": user, "$ai_total_cost_usd": str(20 - place)}
            project.send(own, timestamp=at)
    world.settle()
    found = measure(Kind.SPEND, 10, dimension="user")
    assert set(found) == {"a(late)", "b(late)", "others(late)", "c", "d", OTHERS}
    assert found["others(late)"][2]["others"] == "3"
    assert found[OTHERS][2]["others"] == "2"


def test_a_call_that_was_told_in_time_is_not_late_when_another_source_tells_it(
    world: World, project: Project, measure: Any
) -> None:
    at = (clock.now() - 23.9 * HOUR).isoformat()
    for days_ago in (1, 0):
        own = {"$ai_total_cost_usd": "50", "$ai_response_id": "chatcmpl-0123456789"}
        project.send(own, timestamp=at, days_ago=days_ago)
    project.send({"$ai_total_cost_usd": "3", "$ai_generation_id": str(uuid4())}, timestamp=at)
    world.settle()
    assert measure(Kind.SPEND, 1)["(late)"][:2] == (3, 1)


def test_what_leaves_its_window_before_the_next_look_is_late(
    world: World, project: Project
) -> None:
    now = clock.now()
    project.send({"$ai_total_cost_usd": "3"}, timestamp=(now - 0.6 * HOUR).isoformat())
    world.settle()
    start, end = now - 0.5 * HOUR, now + 0.5 * HOUR
    for every, told in ((0 * HOUR, [0]), (0.4 * HOUR, [0, 1, 1]), (HOUR, [0, 1, 1])):
        found = Measures(world.services.store, every).calls(project.id, start, end, {})
        assert [each.calls for each in found] == told


CHEAP = [f"user {number}" for number in range(60)]


def test_of_each_value_those_that_break_the_rule_are_read_however_few_their_calls(
    world: World, project: Project, measure: Any
) -> None:
    for user in (*CHEAP, *CHEAP):
        call = {"$ai_total_cost_usd": "0.7", "$ai_latency": 0.7, "$ai_generation_id": str(uuid4())}
        project.send({"$ai_user_id": user, **call})
        metric = {"$ai_metric_name": user, "$ai_metric_value": "0.7"}
        project.send(metric, event="$ai_metric")
    own = {"$ai_user_id": "runaway", "$ai_total_cost_usd": "5000", "$ai_is_error": True}
    project.send(own | {"$ai_latency": 90})
    project.send({"$ai_metric_name": "poor", "$ai_metric_value": "0.1"}, event="$ai_metric")
    world.settle()
    runaway = {
        Kind.SPEND: (100, (5000, 1, {})),
        Kind.COST_PER_CALL: (100, (5000, 1, {})),
        Kind.ERROR_RATE: (1, (1, 1, {"errors": "1"})),
        Kind.LATENCY_P95: (89, (90, 1, {})),
    }
    for kind, (threshold, told) in runaway.items():
        assert measure(kind, threshold, dimension="user") == {"runaway": told}
    assert measure(Kind.QUALITY, "0.7", dimension="metric") == {"poor": (Decimal("0.1"), 1, {})}

    # At the limit is beyond it, or within it, as the engine has the number and as people write it.
    for kind, limit in (
        (Kind.SPEND, "1.4"),
        (Kind.COST_PER_CALL, "0.7"),
        (Kind.LATENCY_P95, "0.7"),
    ):
        assert len(measure(kind, limit, dimension="user")) == len(CHEAP) + 1
        assert len(measure(kind, f"{limit}0001", dimension="user")) == 1
    assert len(measure(Kind.QUALITY, "0.70001", dimension="metric")) == len(CHEAP) + 1


def test_of_very_many_that_break_a_rule_it_says_how_many_and_which_is_the_worst(
    world: World, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nilometer.alerts.readings.MAX_OPEN", 2)
    admin, now = project.key(Scope.ADMIN, Scope.READ), clock.now()
    body = {"name": "spend", "kind": "spend", "dimension": "user", "threshold": "10"}
    body |= {"window_seconds": 900}
    added = world.ask("POST", project.path("alert_rules/"), admin, json=body).json()
    store, database = world.services.store, world.database
    readings = Readings(Measures(store), database)

    def look(minutes: int) -> dict[str, str]:
        """What is told, by subject."""
        at = now + timedelta(minutes=minutes)
        RuleWatch(database, Usage(store).groups, readings.of, now=lambda: at).run_once()
        found = world.get(project.path("alerts/"), admin).json()["results"]
        standing = [each for each in found if each["state"] == "firing"]
        assert len({each["subject"] for each in standing}) == len(standing)
        return {each["subject"]: each["measured"] for each in standing}

    def spend(user: str, cost: str, minutes: int = -1) -> None:
        at = (now + timedelta(minutes=minutes)).isoformat()
        project.send({"$ai_user_id": user, "$ai_total_cost_usd": cost}, timestamp=at)

    for user, cost in (("b", "40"), ("c", "30"), ("d", "20"), ("e", "9")):
        spend(user, cost)
    spend("a\0", "50", -10)
    world.settle()
    assert look(0) == {"a\ufffd": "50", "b": "40", OTHERS: "30"}
    [told] = [
        each
        for each in world.get(project.path("alerts/"), admin).json()["results"]
        if each["subject"] == OTHERS
    ]
    assert (told["facts"]["others"], told["facts"]["user"]) == ("2", "c")

    spend("f", "1000")
    spend("g", "5")
    world.settle()
    assert look(1) == {"a\ufffd": "50", "b": "40", OTHERS: "30"}  # none recovers for it
    assert look(6) == {"b": "40", OTHERS: "30"}  # one that does
    assert look(7) == {"f": "1000", "b": "40", OTHERS: "30"}  # gives way to the worst
    assert look(20) == {}
    path = project.path(f"alert_rules/{added['id']}/")
    assert world.ask("DELETE", path, admin).status_code == 204


def test_quality_is_the_mean_of_metrics_that_are_numbers(
    world: World, project: Project, measure: Any
) -> None:
    for value in ("0.9", 0.5, "high", True, "false", "nan"):
        metric = {"$ai_metric_name": "accuracy", "$ai_metric_value": value}
        project.send(metric, event="$ai_metric")
    project.send({"$ai_metric_name": "speed", "$ai_metric_value": "7"}, event="$ai_metric")
    project.send({"$ai_metric_name": "accuracy", "$ai_metric_value": "0"})  # no metric
    world.settle()
    found = measure(Kind.QUALITY, 8, dimension="metric")
    assert {name: each[:2] for name, each in found.items()} == {
        "accuracy": (Decimal("0.6"), 4),
        "speed": (7, 1),
    }
    assert measure(Kind.QUALITY, dimension="metric", value="speed")[""][:2] == (7, 1)
    assert measure(Kind.QUALITY, filters={"metric": "none"}) == {}


def test_keys_in_content_are_found_and_ones_own_named(
    world: World, project: Project, measure: Any
) -> None:
    keys = world.accounts.keys
    own = keys.create(kind=KeyKind.PROJECT, project_id=project.id, name="app", scopes=())
    revoked = keys.create(kind=KeyKind.PROJECT, project_id=project.id, name="old", scopes=())
    keys.revoke(revoked.key_id)
    foreign = world.project().key(Scope.READ)
    project.send({"$ai_input": "no key in it, only a task-management-system-for-everyone"})
    project.send({"$ai_input": f"use this:\n{revoked.token}"})
    world.settle()
    assert measure(Kind.LEAKED_KEY) == {}

    uuid = project.send({"$ai_input": f"use this:\n{own.token}\nor", "$ai_trace_id": "t"})
    world.settle()
    [(subject, (count, _, facts))] = measure(Kind.LEAKED_KEY).items()
    assert (subject, facts["key_id"], count) == (own.key_id, own.key_id, 1)
    assert (facts["event_uuid"], facts["trace_id"]) == (uuid, "t")
    assert own.token not in str(facts)

    project.send({"$ai_output_choices": [{"content": "sk-0123456789abcdef0123"}]})
    project.send({"$ai_input": foreign})
    world.settle()
    found = measure(Kind.LEAKED_KEY)
    assert found.keys() == {subject, FOREIGN}
    assert found[FOREIGN][0] == 2
    assert "key_id" not in found[FOREIGN][2]
    assert measure(Kind.LEAKED_KEY, of=world.project()) == {}


def test_a_leaked_key_is_found_whatever_else_stands_beside_it(
    world: World, project: Project, measure: Any
) -> None:
    keys = world.accounts.keys
    own = keys.create(kind=KeyKind.PROJECT, project_id=project.id, name="app", scopes=())
    revoked = keys.create(kind=KeyKind.PROJECT, project_id=project.id, name="old", scopes=())
    keys.revoke(revoked.key_id)
    flood = [f"sk-proj-{uuid4().hex}" for _ in range(60)]
    flood += [f"nlm_user_{uuid4().hex}_{number:010}" for number in range(60)]
    for key in flood:
        project.send({"$ai_input": key, "$ai_trace_id": "flood"})
    found = project.send({"$ai_input": f"nlm_user_{own.token}-{' '.join(flood)}"})
    for key in flood[::8]:
        project.send({"$ai_input": f"{key} {revoked.token}"})
    project.send({"$ai_input": revoked.token})
    world.settle()
    seen = measure(Kind.LEAKED_KEY)
    assert seen.keys() == {own.key_id, FOREIGN}
    assert (seen[own.key_id][0], seen[own.key_id][2]["event_uuid"]) == (1, found)
    assert seen[FOREIGN][0] == len(flood) + 1 + len(flood[::8])
    keys.revoke(own.key_id)
    assert measure(Kind.LEAKED_KEY).keys() == {FOREIGN}


def test_new_dead_letters_are_counted_with_their_reasons(
    world: World, project: Project, measure: Any
) -> None:
    del world
    project.dead_letter()
    [(count, _, facts)] = measure(Kind.DEAD_LETTERS).values()
    assert count == 1
    assert facts["reasons"].endswith("(1)")


def test_failures_are_counted_over_processes_and_kept_while_the_database_is_away(
    database: Database, project_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = clock.now()
    one, other = Failures(database), Failures(database)
    for each in (one, one, other):
        each.note(project_id)

    def away(*_: object) -> None:
        raise OSError("away")

    with monkeypatch.context() as patched:
        patched.setattr(one, "_add", away)
        with pytest.raises(OSError, match="away"):
            one.write()
    one.note(project_id)
    assert [one.write(), other.write(), one.write()] == [3, 1, 0]
    assert failed(database, project_id, BLOBS, start) == 4
    assert failed(database, project_id + 1, BLOBS, start) == 0
    late = Failures(database, now=lambda: clock.now() + timedelta(days=9))
    late.note(project_id)
    late.start()
    late.stop()  # what is noted is written before it ends
    assert failed(database, project_id, BLOBS, start) == 1  # the older ones are gone


def test_a_rule_by_the_api_fires_for_what_was_sent_and_is_listed(
    world: World, project: Project
) -> None:
    admin = project.key(Scope.ADMIN, Scope.READ)
    path = project.path("alert_rules/")
    body = {"name": "outage", "kind": "error_rate", "dimension": "service", "min_calls": 3}
    given = {"threshold": "0.4", "window_seconds": 900, "raise_exception": True}
    added = world.ask("POST", path, admin, json=body | given)
    assert added.status_code == 201, added.text
    rule = added.json()
    assert (rule["exception_type"], rule["severity"]) == ("provider_outage", "high")
    for wrong in (
        {"kind": "moon"},
        {"threshold": "lots"},
        {"window_seconds": 10**9},
        {"kind": "spend"},  # has no threshold of its own
        {"raise_exception": True, "severity": "worst"},
    ):
        answer = world.ask("POST", path, admin, json=body | {"name": "x"} | wrong)
        attr = "threshold" if wrong == {"kind": "spend"} else [*wrong][-1]
        assert (answer.status_code, answer.json()["attr"]) == (400, attr)
    for place in range(4):
        project.send({"$ai_provider": "openai", "$ai_is_error": place % 2 == 0})
    world.settle()
    store, database = world.services.store, world.database
    readings = Readings(Measures(store), database)
    watch = RuleWatch(database, Usage(store).groups, readings.of)
    assert [watch.run_once(), watch.run_once()] == [1, 0]
    alerts = project.path("alerts/")
    [alert] = world.get(alerts, admin).json()["results"]
    assert (alert["state"], alert["subject"], alert["measured"]) == ("firing", "openai", "0.5")
    assert world.get(alerts, admin, rule_id=rule["id"]).json()["results"] == [alert]
    assert world.get(alerts, admin, rule_id="x").status_code == 404
    assert world.ask("DELETE", f"{path}{rule['id']}/", admin).status_code == 204
    assert world.get(alerts, admin).json()["results"] == []
