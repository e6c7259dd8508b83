"""Budgets over HTTP: made, read, changed, removed; how they stand; whether a call may be made."""

import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from uuid import uuid4

import pytest

from nilometer.access.types import Scope
from nilometer.budgets.evaluation import assess
from nilometer.budgets.firing import fire
from nilometer.domain import clock

COSTS = {"$ai_provider": "acme", "$ai_model": "m-1", "$ai_input_tokens": 10}


@pytest.fixture
def project(world):
    return world.project()


@pytest.fixture
def admin(project):
    return project.key(Scope.ADMIN)


def spend(project, usd, **properties):
    """A call that says that it cost so many dollars."""
    told = {**COSTS, "$ai_total_cost_usd": usd, "$ai_trace_id": str(uuid4()), **properties}
    return project.store(told)


def post(project, token, rest, **body):
    return project.world.ask("POST", project.path(rest), token, json=body)


def check(project, **subject):
    answer = post(project, project.key(), "budgets/check/", **subject)
    assert answer.status_code == 200, answer.text
    return answer.json()


def add(project, admin, **given):
    body = {"name": "all", "amount_usd": "100", "period": "month", **given}
    answer = post(project, admin, "budgets/", **body)
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_a_budget_is_made_read_changed_and_removed(world, project, admin):
    made = add(
        *(project, admin),
        name=" Search ",
        scope="service",
        value="ACME",
        amount_usd="99.50",
        time_zone="Europe/Berlin",
        rollover_cap_usd="10",
    )
    assert (made["name"], made["value"], made["amount_usd"]) == ("Search", "acme", "99.5")
    assert (made["thresholds"], made["hard_stop"], made["channels"]) == ([50, 80, 100], False, None)
    path = project.path(f"budgets/{made['id']}/")
    changes = {"amount_usd": "120", "rollover_cap_usd": None, "hard_stop": True}
    changed = world.ask("PATCH", path, admin, json=changes).json()
    assert (changed["amount_usd"], changed["rollover_cap_usd"]) == ("120", None)
    assert (changed["hard_stop"], changed["name"]) == (True, "Search")
    [listed] = project.get("budgets/").json()["results"]
    assert {name: listed[name] for name in changed} == changed
    assert world.ask("DELETE", path, admin).status_code == 200
    assert project.get("budgets/").json() == {"results": []}
    assert project.get(f"budgets/{made['id']}/").status_code == 404


def test_how_a_budget_stands_is_what_its_calls_cost_exactly(project, admin):
    made = add(project, admin)
    spend(project, 0.1)
    spend(project, 0.2)
    project.store({**COSTS, "$ai_provider": "nobody"})
    status = project.get(f"budgets/{made['id']}/").json()["status"]
    assert (status["spent_usd"], status["left_usd"], status["percent"]) == ("0.3", "99.7", "0.30")
    assert (status["call_count"], status["unpriced_count"], status["reached"]) == (3, 1, [])
    assert status["forecast"]["method"] == "trailing_week"
    assert Decimal(status["forecast"]["cost_usd"]) >= Decimal("0.3")


@pytest.mark.parametrize(
    ("scope", "value", "spent"),
    [
        ("project", "", "7"),
        ("service", "acme", "6"),
        ("model", "m-1", "5"),
        ("user", "ada", "7"),
        ("user", "bob", "0"),
        ("service", "acm", "0"),
    ],
)
def test_a_scope_counts_the_calls_that_have_its_value(one_spent, scope, value, spent):
    project, admin = one_spent
    made = add(project, admin, name=f"{scope} {value}", scope=scope, value=value)
    status = project.get(f"budgets/{made['id']}/").json()["status"]
    assert status["spent_usd"] == spent


@pytest.fixture(scope="module")
def one_spent(world):
    """A project that spent 7 dollars, of which 6 with one service and 5 with one model."""
    project = world.project()
    spend(project, 5)
    spend(project, 1, **{"$ai_model": "m-2"})
    spend(project, 1, **{"$ai_provider": "other", "$ai_model": "m-3"})
    return project, project.key(Scope.ADMIN)


def test_a_global_budget_counts_its_organization_and_never_another(world, admin, project):
    foreign = world.foreign_project()
    near, far = foreign, world.project()
    spend(near, 3)
    spend(far, 1)
    own = foreign.key(Scope.ADMIN, Scope.READ)
    made = add(foreign, own, scope="global", hard_stop=True)
    status = world.get(foreign.path(f"budgets/{made['id']}/"), own).json()["status"]
    assert status["spent_usd"] == "3"
    second = world.accounts.create_project(
        "second", organization_id=world.accounts.projects.get(foreign.id).organization_id
    )
    sibling = type(foreign)(world, second.project_id)
    spend(sibling, 4)
    status = world.get(foreign.path(f"budgets/{made['id']}/"), own).json()["status"]
    assert status["spent_usd"] == "7"
    assert [each["id"] for each in check(sibling)["budgets"]] == [made["id"]]
    assert made["id"] not in {each["id"] for each in check(far)["budgets"]}


@pytest.mark.parametrize(
    ("attr", "wrong"),
    [
        ("amount_usd", {"amount_usd": "0"}),
        ("amount_usd", {"amount_usd": "ten"}),
        ("amount_usd", {"amount_usd": 5}),
        ("period", {"period": "fortnight"}),
        ("time_zone", {"time_zone": "Mars/Olympus"}),
        ("value", {"scope": "job"}),
        ("value", {"value": "x"}),
        ("thresholds", {"thresholds": [80, 50]}),
        ("rollover_cap_usd", {"rollover_cap_usd": "-1"}),
        ("channels", {"channels": [str(uuid4())]}),
        ("channels", {"channels": ["x"]}),
        ("colour", {"colour": "red"}),
    ],
)
def test_what_is_wrong_is_named(project, admin, attr, wrong):
    body = {"name": "n", "amount_usd": "1", "period": "day", **wrong}
    answer = post(project, admin, "budgets/", **body)
    assert (answer.status_code, answer.json()["attr"]) == (400, attr), answer.text


def test_names_are_one_projects_own(world, project, admin):
    add(project, admin)
    again = post(project, admin, "budgets/", name="all", amount_usd="1", period="day")
    assert (again.status_code, again.json()["code"]) == (400, "name_taken")
    elsewhere = world.project()
    add(elsewhere, elsewhere.key(Scope.ADMIN))


def test_the_audit_log_tells_of_amounts_and_not_of_people(world, project, admin):
    made = add(project, admin, scope="user", value="ada@example.com")
    path = project.path(f"budgets/{made['id']}/")
    world.ask("PATCH", path, admin, json={"amount_usd": "7"})
    world.ask("DELETE", path, admin)
    entries = [
        each for each in world.accounts.audit.list(limit=50).entries if each.subject == made["id"]
    ]
    assert [each.action for each in reversed(entries)] == [
        *("budget.add", "budget.change", "budget.remove")
    ]
    assert entries[1].detail == {"amount": ["100", "7"]}
    assert "ada" not in str([each.detail for each in entries])


def test_a_call_is_stopped_once_the_limit_is_reached_and_at_once(project, admin):
    made = add(project, admin, amount_usd="1", hard_stop=True)
    add(project, admin, name="soft", amount_usd="0.5")
    assert check(project)["allowed"]
    spend(project, 0.99)
    assert check(project)["allowed"]
    spend(project, 0.01)
    said = check(project)
    assert not said["allowed"]
    [budget] = said["budgets"]
    assert (budget["id"], budget["exceeded"], budget["spent_usd"]) == (made["id"], True, "1")


def test_a_call_stops_others_once_it_can_be_read_though_its_batch_is_not_done(
    world, project, admin, store, monkeypatch
):
    """Whoever reads the call knows that it counts; its event's id may take long after that."""
    reached, go_on, insert = threading.Event(), threading.Event(), store.insert_lines

    def insert_lines(table, lines):
        if table == "event_ids":
            reached.set()
            assert go_on.wait(60)
        insert(table, lines)

    monkeypatch.setattr(world.app.state.context.budget_checks, "_fresh", 3600)
    add(project, admin, amount_usd="1", hard_stop=True)
    assert check(project)["allowed"]
    project.send({**COSTS, "$ai_total_cost_usd": 1})
    monkeypatch.setattr(store, "insert_lines", insert_lines)
    with ThreadPoolExecutor(1) as carrying:
        try:
            carried = carrying.submit(world.settle)
            assert reached.wait(60)
            assert not check(project)["allowed"]
        finally:
            go_on.set()
        carried.result(60)
    assert not check(project)["allowed"]


def test_a_budget_stops_the_calls_that_it_is_for_and_no_others(project, admin):
    spend(project, 5)
    add(project, admin, amount_usd="1", hard_stop=True, scope="service", value="acme")
    assert not check(project, service="ACME")["allowed"]
    assert check(project, service="other") | {"as_of": ""} == {
        "allowed": True,
        "as_of": "",
        "budgets": [],
    }
    unknown = check(project)
    assert unknown["allowed"]
    assert [each["exceeded"] for each in unknown["budgets"]] == [True]


def test_spend_of_the_period_before_stops_nothing(project, admin):
    project.send({**COSTS, "$ai_total_cost_usd": 9}, days_ago=40)
    project.world.settle()
    add(project, admin, amount_usd="1", hard_stop=True)
    assert check(project)["allowed"]


def test_alerts_are_listed_newest_first(world, project, admin):
    spend(project, 90)
    made = add(project, admin)
    stored = world.services.budgets.get(project.id, made["id"])
    spender = world.services.spend.of_project(project.id)
    now = clock.now()
    [assessment] = assess(spender, [stored.budget], now)
    assert fire(world.database, stored, assessment.current, now) == (50, 80)
    alerts = project.get("budget_alerts/").json()["results"]
    assert [each["threshold"] for each in alerts] == [80, 50]
    told = {
        "budget_id": made["id"],
        "threshold": 80,
        "amount_usd": "100",
        "limit_usd": "100",
        "spent_usd": "90",
        "call_count": 1,
        "unpriced_count": 0,
        "lapsed_at": None,
    }
    assert {name: alerts[0][name] for name in told} == told
    one = project.get("budget_alerts/", budget_id=made["id"], limit=1).json()["results"]
    assert one == alerts[:1]
    assert project.get("budget_alerts/", budget_id=uuid4()).status_code == 404
