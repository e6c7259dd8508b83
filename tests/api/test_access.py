"""Who may do what, for every route of the application, whatever routes it has."""

import re
from uuid import uuid4

import pytest

from nilometer.access.types import ALL_SCOPES, Scope
from nilometer.api.app import create_app

NO_PROJECT = 987_654_321_000
# Path by method and the scope that it needs; None is public.
ROUTES = {
    "GET /api/projects/{project_id}/events": Scope.READ,
    "GET /api/projects/{project_id}/events/{uuid}": Scope.READ,
    "GET /api/projects/{project_id}/traces": Scope.READ,
    "GET /api/projects/{project_id}/traces/{trace_id:path}": Scope.READ,
    "GET /api/projects/{project_id}/usage": Scope.READ,
    "GET /api/projects/{project_id}/usage/savings": Scope.READ,
    "GET /ai_usage": Scope.READ,
    "POST /api/projects/{project_id}/query": Scope.READ,
    "POST /api/environments/{project_id}/query": Scope.READ,
    "GET /api/projects/{project_id}/blobs": Scope.READ,
    "GET /api/projects/{project_id}/dead_letters": Scope.OPERATE,
    "GET /api/projects/{project_id}/dead_letters/{letter_id}": Scope.OPERATE,
    "POST /api/projects/{project_id}/dead_letters/{letter_id}/replay": Scope.OPERATE,
    "POST /api/projects/{project_id}/dead_letters/{letter_id}/discard": Scope.OPERATE,
    "GET /api/dead_letters": Scope.OPERATE,
    "GET /api/dead_letters/{letter_id}": Scope.OPERATE,
    "POST /api/dead_letters/{letter_id}/replay": Scope.OPERATE,
    "POST /api/dead_letters/{letter_id}/discard": Scope.OPERATE,
    "GET /api/organizations": Scope.READ,
    "POST /api/organizations": Scope.ADMIN,
    "GET /api/organizations/{organization_id}": Scope.READ,
    "PATCH /api/organizations/{organization_id}": Scope.ADMIN,
    "DELETE /api/organizations/{organization_id}": Scope.ADMIN,
    "GET /api/organizations/{organization_id}/projects": Scope.READ,
    "POST /api/organizations/{organization_id}/projects": Scope.ADMIN,
    "GET /api/organizations/{organization_id}/audit_log": Scope.ADMIN,
    "GET /api/projects": Scope.READ,
    "POST /api/projects": Scope.ADMIN,
    "GET /api/projects/{project_id}": Scope.READ,
    "PATCH /api/projects/{project_id}": Scope.ADMIN,
    "DELETE /api/projects/{project_id}": Scope.ADMIN,
    "POST /api/projects/{project_id}/rotate": Scope.ADMIN,
    "GET /api/projects/{project_id}/deletion": Scope.READ,
    "GET /api/projects/{project_id}/keys": Scope.READ,
    "POST /api/projects/{project_id}/keys": Scope.ADMIN,
    "GET /api/projects/{project_id}/keys/{key_id}": Scope.READ,
    "PATCH /api/projects/{project_id}/keys/{key_id}": Scope.ADMIN,
    "DELETE /api/projects/{project_id}/keys/{key_id}": Scope.ADMIN,
    "POST /api/projects/{project_id}/keys/{key_id}/rotate": Scope.ADMIN,
    "GET /api/projects/{project_id}/prices/check": Scope.READ,
    "GET /api/projects/{project_id}/price_overrides": Scope.READ,
    "POST /api/projects/{project_id}/price_overrides": Scope.ADMIN,
    "DELETE /api/projects/{project_id}/price_overrides/{override_id}": Scope.ADMIN,
    "GET /api/projects/{project_id}/rewrites": Scope.READ,
    "POST /api/projects/{project_id}/rewrites": Scope.ADMIN,
    "GET /api/projects/{project_id}/rewrites/{rewrite_id}": Scope.READ,
    "DELETE /api/projects/{project_id}/rewrites/{rewrite_id}": Scope.ADMIN,
    "GET /api/projects/{project_id}/budgets": Scope.READ,
    "POST /api/projects/{project_id}/budgets": Scope.ADMIN,
    "POST /api/projects/{project_id}/budgets/check": Scope.CAPTURE,
    "GET /api/projects/{project_id}/budgets/{budget_id}": Scope.READ,
    "PATCH /api/projects/{project_id}/budgets/{budget_id}": Scope.ADMIN,
    "DELETE /api/projects/{project_id}/budgets/{budget_id}": Scope.ADMIN,
    "GET /api/projects/{project_id}/budget_alerts": Scope.READ,
    "GET /api/projects/{project_id}/alert_rules": Scope.READ,
    "POST /api/projects/{project_id}/alert_rules": Scope.ADMIN,
    "DELETE /api/projects/{project_id}/alert_rules/{rule_id}": Scope.ADMIN,
    "GET /api/projects/{project_id}/unusual_days": Scope.READ,
    "GET /api/projects/{project_id}/alerts": Scope.READ,
    "GET /api/projects/{project_id}/notification_channels": Scope.READ,
    "POST /api/projects/{project_id}/notification_channels": Scope.ADMIN,
    "GET /api/projects/{project_id}/notification_channels/{channel_id}": Scope.READ,
    "PATCH /api/projects/{project_id}/notification_channels/{channel_id}": Scope.ADMIN,
    "DELETE /api/projects/{project_id}/notification_channels/{channel_id}": Scope.ADMIN,
    "POST /api/projects/{project_id}/notification_channels/{channel_id}/rotate": Scope.ADMIN,
    "POST /api/projects/{project_id}/notification_channels/{channel_id}/test": Scope.ADMIN,
    "GET /api/projects/{project_id}/notification_deliveries": Scope.READ,
    "GET /api/projects/{project_id}/notification_deliveries/{delivery_id}": Scope.READ,
    "POST /api/projects/{project_id}/notification_deliveries/{delivery_id}/replay": Scope.OPERATE,
    "GET /api/projects/{project_id}/packs": Scope.READ,
    "POST /api/projects/{project_id}/packs": Scope.WRITE,
    "POST /api/projects/{project_id}/packs/validate": Scope.READ,
    "GET /api/projects/{project_id}/packs/{pack}": Scope.READ,
    "GET /api/projects/{project_id}/packs/{pack}/{version}": Scope.READ,
    "POST /api/projects/{project_id}/packs/{pack}/{version}/activate": Scope.ADMIN,
    "POST /api/projects/{project_id}/packs/{pack}/{version}/deactivate": Scope.ADMIN,
    "GET /api/projects/{project_id}/playbooks": Scope.READ,
    "POST /exceptions": Scope.CAPTURE,
    "POST /exceptions/{tenant}": Scope.CAPTURE,
    "GET /exceptions/{tenant}": Scope.READ,
    "GET /exceptions/{tenant}/{exception_id}": Scope.READ,
    "GET /exceptions/{tenant}/{exception_id}/events": Scope.READ,
    "GET /exceptions/{tenant}/{exception_id}/trace": Scope.READ,
    "GET /exceptions/{tenant}/{exception_id}/playbook": Scope.READ,
    "POST /exceptions/{tenant}/{exception_id}/reprocess": Scope.WRITE,
    "POST /exceptions/{tenant}/{exception_id}/resolve": Scope.WRITE,
    "POST /exceptions/{tenant}/{exception_id}/comments": Scope.WRITE,
    "PUT /exceptions/{tenant}/{exception_id}/owner": Scope.WRITE,
    "POST /exceptions/{tenant}/{exception_id}/playbook/recalculate": Scope.WRITE,
    "POST /exceptions/{tenant}/{exception_id}/playbook/steps/{step}/complete": Scope.WRITE,
    "GET /approvals/{tenant}": Scope.READ,
    "GET /approvals/{tenant}/{approval_id}": Scope.READ,
    "POST /approvals/{tenant}/{approval_id}/approve": Scope.APPROVE,
    "POST /approvals/{tenant}/{approval_id}/reject": Scope.APPROVE,
    "GET /ops/dlq": Scope.OPERATE,
    "GET /ops/dlq/stats": Scope.OPERATE,
    "GET /ops/dlq/{task_id}": Scope.OPERATE,
    "POST /ops/dlq/replay": Scope.OPERATE,
    "POST /ops/dlq/discard": Scope.OPERATE,
    "POST /ops/dlq/{task_id}/replay": Scope.OPERATE,
    "POST /ops/dlq/{task_id}/discard": Scope.OPERATE,
    "GET /ops/workers/health": Scope.OPERATE,
    "GET /ops/sla/compliance": Scope.READ,
    "GET /ops/sla/breaches": Scope.READ,
    "GET /ops/sla/at-risk": Scope.READ,
    "GET /ops/sla/resolution-time": Scope.READ,
    "GET /api/projects/{project_id}/tools": Scope.READ,
    "POST /api/projects/{project_id}/tools": Scope.ADMIN,
    "GET /api/projects/{project_id}/tools/{tool}": Scope.READ,
    "PATCH /api/projects/{project_id}/tools/{tool}": Scope.ADMIN,
    "DELETE /api/projects/{project_id}/tools/{tool}": Scope.ADMIN,
    "POST /api/projects/{project_id}/tools/{tool}/rotate": Scope.ADMIN,
    "POST /api/projects/{project_id}/tools/{tool}/close_breaker": Scope.OPERATE,
    "POST /api/projects/{project_id}/tools/{tool}/dry_run": Scope.OPERATE,
    "GET /api/projects/{project_id}/tool_executions": Scope.READ,
    "GET /api/projects/{project_id}/tool_executions/{execution_id}": Scope.READ,
    "POST /api/projects/{project_id}/tool_executions/{execution_id}/decide": Scope.OPERATE,
    "GET /api/price_overrides": Scope.OPERATE,
    "POST /api/price_overrides": Scope.OPERATE,
    "DELETE /api/price_overrides/{override_id}": Scope.OPERATE,
    "GET /api/log": Scope.OPERATE,
    "POST /api/pipeline/resume": Scope.OPERATE,
    "GET /api/schemas": None,
    "GET /api/schemas/{name}": None,
    "GET /openapi.json": None,
    "GET /docs": None,
}
PRIVATE = [name for name, scope in ROUTES.items() if scope]
IN_PROJECT = [name for name in PRIVATE if "{project_id}" in name]
IN_ORGANIZATION = [name for name in PRIVATE if "{organization_id}" in name]
# Whose tenant is that of the key: in the path, or not named at all.
IN_TENANT = [name for name in PRIVATE if "{tenant}" in name]
OF_A_TENANT = [
    name for name in PRIVATE if re.search(r" /(exceptions|approvals|ops/(dlq|sla))\b", name)
]
OF_AN_OBJECT = [
    name
    for name in [*IN_PROJECT, *OF_A_TENANT]
    if re.search(
        r"\{(uuid|trace_id|letter_id|key_id|override_id|rewrite_id|budget_id|rule_id|channel_id|"
        r"delivery_id|exception_id|approval_id|task_id|tool\}|execution_id|pack\})",
        name,
    )
]
OF_THE_DEPLOYMENT = [
    name
    for name in PRIVATE
    if (ROUTES[name] is Scope.OPERATE and name not in [*IN_PROJECT, *OF_A_TENANT])
    or name == "POST /api/organizations"
]
# What routes need that look at the body before the object.
BODIES = [
    (r"/dlq/(replay|discard)$", {"reason": "r", "dry_run": True}),
    (r"(discard|resolve|task_id\}/replay)$", {"reason": "r"}),
    (r"comments$", {"text": "t"}),
    (r"owner$", {"owner": "o"}),
    (r"^PATCH .*tool\}$", {"enabled": True}),
    (r"/decide$", {"succeeded": True}),
    (r"^PATCH ", {"name": "n"}),
]
# What a route says to a caller who may use it, where that is not 200.
ALLOWED = [
    (r"/blobs$|/discard$|/query|^POST .*/(keys|projects|price_overrides|rewrites|budgets)$", 400),
    (r"^POST .*/packs(/validate)?$|/dlq/replay$", 400),
    (r"^POST .*/(notification_channels|alert_rules|tools)$|/decide$", 400),
    (r"tool\}/rotate$|^(DELETE|PATCH) .*tool\}$", 404),
    (r"^DELETE .*rule_id\}$", 404),
    (r"channel_id\}/test$", 202),
    (r"channel_id\}/rotate$|^(DELETE|PATCH) .*channel_id\}$", 404),
    (r"letter_id\}/replay$|/deletion$", 404),
    (r"^DELETE .*project_id\}$", 202),
    (r"^DELETE .*key_id\}$", 204),
    (r"^PATCH .*key_id\}$", 400),
    (r"override_id\}$|^DELETE .*rewrite_id\}$|^(DELETE|PATCH) .*budget_id\}$", 404),
]
NOT_FOUND = {
    "type": "invalid_request",
    "code": "not_found",
    "detail": "Project not found.",
    "attr": "project_id",
}

NOT_THE_TENANT = {
    "type": "authentication_error",
    "code": "permission_denied",
    "detail": "The tenant must be the project of this key.",
    "attr": "tenant",
}

private = pytest.mark.parametrize("route", PRIVATE)
in_project = pytest.mark.parametrize("route", IN_PROJECT)
slashes = pytest.mark.parametrize("slash", ["", "/"], ids=["bare", "slash"])


@pytest.fixture(scope="module")
def objects(world):
    """A project with one of everything, by the names of the path parameters."""
    project = world.project()
    trace = f"trace-{project.id}"
    uuid = project.store({"$ai_trace_id": trace})
    project.key()
    return project, {
        "uuid": uuid,
        "trace_id": trace,
        "letter_id": project.dead_letter(),
        "key_id": world.accounts.keys.list(project.id)[0].key_id,
        "override_id": project.price_override(),
        "rewrite_id": project.rewrite(),
        "budget_id": project.budget(),
        "rule_id": project.alert_rule(),
        "pack": project.pack(),
        "version": "1",
        "exception_id": project.exception(),
        "approval_id": project.approval(),
        "task_id": project.exception_dead_letter(),
        "tool": project.tool(),
        "execution_id": project.tool_execution(),
        "step": "call",
        "organization_id": world.accounts.projects.get(project.id).organization_id,
        **dict(zip(("channel_id", "delivery_id"), project.notification(), strict=True)),
    }


def ask(world, route, token, project_id, names=None, slash="/", **more):
    method, path = route.split(" ")
    values = {"project_id": project_id, "uuid": uuid4(), "trace_id": "none", "letter_id": uuid4()}
    values |= {"key_id": uuid4(), "organization_id": uuid4(), "override_id": uuid4()}
    values |= {"rewrite_id": uuid4(), "budget_id": uuid4(), "name": "ai_generation.v1"}
    values |= {"channel_id": uuid4(), "delivery_id": uuid4(), "rule_id": uuid4()}
    values |= {"pack": "none", "version": "1"}
    values |= {"tenant": project_id, "exception_id": uuid4(), "approval_id": uuid4()}
    values |= {"task_id": f"{uuid4()}.1", "step": "none", "tool": "none"}
    values |= {"execution_id": uuid4()}
    filled = path.replace(":path", "").format(**values | (names or {}))
    return world.ask(method, filled + slash, token, **more)


def signature(answer):
    """What a caller can tell two refusals apart by."""
    headers = {k: v for k, v in answer.headers.items() if k not in ("date", "server")}
    return answer.status_code, answer.content, headers


def test_the_table_has_every_route(world):
    names = set()
    for route in create_app(world.services).routes:
        each_of = getattr(route, "effective_candidates", lambda route=route: [route])
        for each in each_of():
            for method in each.methods - {"HEAD"}:
                names.add(f"{method} {each.path.rstrip('/')}")
    assert names == set(ROUTES)


@private
@slashes
def test_without_a_key_nothing_is_said(world, objects, route, slash):
    project, names = objects
    answer = ask(world, route, None, project.id, names, slash)
    assert answer.status_code == 401
    assert answer.json() == {
        "type": "authentication_error",
        "code": "not_authenticated",
        "detail": "Authentication credentials were not provided.",
        "attr": None,
    }
    assert answer.headers["www-authenticate"] == "Bearer"
    assert signature(answer) == signature(ask(world, route, None, NO_PROJECT, slash=slash))


@private
@slashes
def test_a_wrong_key_is_refused_with_the_contracts_sentence(world, objects, route, slash):
    project, names = objects
    refused_as_wrong(ask(world, route, b"wrong", project.id, names, slash))


@pytest.mark.parametrize("route", PRIVATE[::12])
def test_whatever_is_no_key_is_a_wrong_key(world, objects, route):
    project, names = objects
    for token in ("x" * 5000, "phx_personal", "%00", "\u00e9"):
        refused_as_wrong(ask(world, route, token.encode(), project.id, names))


def refused_as_wrong(answer):
    assert answer.status_code == 401
    assert answer.json()["code"] == "authentication_failed"
    assert answer.json()["detail"] == (
        "Personal API key found in request Authorization header is invalid."
    )
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("route", [each for each in PRIVATE if ROUTES[each] is not Scope.CAPTURE])
@slashes
def test_a_project_key_only_captures(world, objects, route, slash):
    project, names = objects
    answer = ask(world, route, project.key(), project.id, names, slash)
    assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
    assert "A project key may only capture" in answer.json()["detail"]


def test_a_project_key_asks_before_calls_of_its_own_project_only(world):
    project = world.project()
    check = "POST /api/projects/{project_id}/budgets/check"
    assert ask(world, check, project.key(), project.id).status_code == 200
    assert ask(world, check, project.key(), "@current").status_code == 200
    for elsewhere in (world.project().id, NO_PROJECT):
        answer = ask(world, check, project.key(), elsewhere)
        assert (answer.status_code, answer.json()) == (404, NOT_FOUND)


@private
@slashes
def test_a_missing_scope_is_refused_before_anything_is_looked_up(world, objects, route, slash):
    project, names = objects
    token = project.key(*(ALL_SCOPES - {ROUTES[route]}))
    answer = ask(world, route, token, project.id, names, slash)
    assert answer.status_code == 403
    assert f"scope '{ROUTES[route].value}'" in answer.json()["detail"]
    for elsewhere in (project.id, NO_PROJECT, "x"):
        assert signature(ask(world, route, token, elsewhere, slash=slash)) == signature(answer)


@pytest.fixture(scope="module")
def strangers(world):
    """Keys of every scope of a neighbour in the organization and of another organization, and a
    project key of the neighbour."""
    neighbour = world.project()
    foreign = world.foreign_project()
    return neighbour.key(*ALL_SCOPES), foreign.key(*ALL_SCOPES), neighbour.key()


@pytest.mark.parametrize("route", IN_TENANT)
@slashes
def test_another_tenant_and_none_are_refused_alike(world, objects, strangers, route, slash):
    """Also to a key of the same organization, with every scope, and to a project key that may
    raise."""
    project, names = objects
    *personal, of_project = strangers
    for token in [*personal, of_project] if ROUTES[route] is Scope.CAPTURE else personal:
        answer = ask(world, route, token, project.id, names, slash)
        assert (answer.status_code, answer.json()) == (403, NOT_THE_TENANT)
        for nowhere in (NO_PROJECT, 0, -1, "x", "1e3", f"{project.id}%20", "9" * 40, "١"):
            assert signature(ask(world, route, token, nowhere, slash=slash)) == signature(answer)


@pytest.mark.parametrize("route", OF_A_TENANT)
def test_the_tenant_of_the_key_is_served(world, objects, route):
    project, names = objects
    if not route.startswith("GET"):
        names = {**names, "exception_id": uuid4(), "approval_id": uuid4(), "task_id": "x.1"}
    body = next((body for pattern, body in BODIES if re.search(pattern, route)), None)
    token = project.key(ROUTES[route])
    for tenant in [project.id, "@current"] if "{tenant}" in route else [project.id]:
        answer = ask(world, route, token, tenant, names, json=body)
        expected = 200 if re.search(r"^GET|/dlq/(replay|discard)$", route) else 404
        expected = 400 if re.search(r"^POST /exceptions(/\{tenant\})?$", route) else expected
        assert answer.status_code == expected, answer.text


def test_a_project_key_raises_and_sees_nothing(world, objects):
    project, names = objects
    token = project.key()
    body = {"exception_type": "Failed", "source_system": "billing"}
    for route in OF_A_TENANT:
        answer = ask(world, route, token, project.id, names, json=body)
        raises = ROUTES[route] is Scope.CAPTURE
        assert answer.status_code == (202 if raises else 403), route


@in_project
@slashes
def test_a_project_of_others_and_no_project_are_answered_alike(world, objects, route, slash):
    project, names = objects
    stranger = world.foreign_project().key(*ALL_SCOPES)
    answer = ask(world, route, stranger, project.id, names, slash)
    assert (answer.status_code, answer.json()) == (404, NOT_FOUND)
    for nowhere in (NO_PROJECT, 0, -1, "x", "1e3", f"{project.id}%20", "9" * 40, "١"):
        assert signature(ask(world, route, stranger, nowhere, slash=slash)) == signature(answer)


@pytest.mark.parametrize("route", OF_AN_OBJECT)
def test_an_object_of_another_project_is_as_if_it_did_not_exist(world, objects, route):
    _, names = objects
    elsewhere = world.project()
    token = elsewhere.key(ROUTES[route])
    body = next((body for pattern, body in BODIES if re.search(pattern, route)), None)
    theirs = ask(world, route, token, elsewhere.id, names, json=body)
    assert theirs.status_code == 404
    assert signature(ask(world, route, token, elsewhere.id, json=body)) == signature(theirs)


@in_project
def test_a_key_reaches_the_other_projects_of_its_organization(world, objects, route):
    project, names = objects
    if route.startswith("POST"):
        names = {**names, "letter_id": uuid4()}
    if re.search(r"^(DELETE|PATCH)|rotate$", route):
        project = world.project()
        project.key()
        names = {**names, "key_id": world.accounts.keys.list(project.id)[0].key_id}
    token = world.project().key(ROUTES[route])
    answer = ask(world, route, token, project.id, names)
    expected = next((status for pattern, status in ALLOWED if re.search(pattern, route)), 200)
    assert answer.status_code == expected, answer.text


@pytest.mark.parametrize("route", IN_ORGANIZATION)
@slashes
def test_an_organization_of_others_and_none_are_answered_alike(world, objects, route, slash):
    project, names = objects
    stranger = world.foreign_project().key(*ALL_SCOPES)
    answer = ask(world, route, stranger, project.id, names, slash)
    assert (answer.status_code, answer.json()["detail"]) == (404, "Organization not found.")
    for nowhere in (uuid4(), "x", "@other", "0", names["organization_id"].replace("-", "")):
        refused = ask(world, route, stranger, project.id, {"organization_id": nowhere}, slash)
        assert signature(refused) == signature(answer)


def test_the_key_may_come_in_the_query_and_the_header_goes_first(world):
    project = world.project()
    path = project.path("events/")
    assert world.get(path, None, personal_api_key=project.reader).status_code == 200
    assert world.get(path, "wrong", personal_api_key=project.reader).status_code == 401
    wrong = world.get(path, None, personal_api_key="wrong")
    assert wrong.status_code == 401
    assert wrong.json()["detail"] == "Personal API key found in query string is invalid."


def test_a_key_in_the_query_is_not_repeated_in_links(world):
    project = world.project()
    for _ in range(2):
        project.send()
    world.settle()
    answer = world.get(project.path("events/"), None, personal_api_key=project.reader, limit=1)
    assert answer.json()["next"]
    assert project.reader not in answer.text


def test_a_basic_credential_is_no_credential(world):
    project = world.project()
    headers = {"Authorization": f"Basic {project.reader}"}
    answer = world.http.get(project.path("events/"), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")


@pytest.fixture(scope="module")
def revoked(world):
    """A token that had every scope, and its project."""
    project = world.project()
    token = project.key(*ALL_SCOPES)
    world.accounts.keys.revoke(world.accounts.keys.list(project.id)[-1].key_id)
    return token, project.id


@private
def test_a_revoked_key_is_a_wrong_key(world, revoked, route):
    token, project = revoked
    answer = ask(world, route, token, project)
    assert answer.status_code == 401
    assert signature(answer) == signature(ask(world, route, "wrong", project))


@pytest.mark.parametrize("route", OF_THE_DEPLOYMENT)
def test_another_organization_does_not_operate_the_deployment(world, route):
    stranger = world.foreign_project().key(*ALL_SCOPES)
    letter = world.project().unowned_dead_letter()
    answer = ask(world, route, stranger, 0, {"letter_id": letter})
    assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
    assert signature(ask(world, route, stranger, 0)) == signature(answer)


@slashes
def test_a_path_names_every_method_that_it_has(world, objects, slash):
    project, names = objects
    paths = {route.partition(" ")[2] for route in ROUTES} - {"/docs", "/openapi.json"}
    for path in paths:
        has = {route.partition(" ")[0] for route in ROUTES if route.endswith(f" {path}")}
        method = "PATCH" if path.endswith("/owner") else "PUT"
        answer = ask(world, f"{method} {path}", None, project.id, names, slash)
        assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed"), path
        if re.search(r"/dlq/(stats|replay|discard)$", path):  # or the id of a dead letter
            has |= {"GET"}
        if path.endswith("/packs/validate"):  # which could be the name of a pack, too
            has |= {"GET"}
        if path.endswith("/budgets/check"):  # which could be the name of a budget, too
            has |= {"GET", "PATCH", "DELETE"}
        expected = has | ({"HEAD"} if "GET" in has else set())
        assert set(answer.headers["allow"].split(", ")) == expected, path


@pytest.mark.parametrize("route", [name for name in ROUTES if name.startswith("GET ")])
def test_head_says_what_get_says_and_sends_no_body(world, objects, route):
    project, names = objects
    slash = "" if route.endswith(("/docs", ".json", "{name}")) else "/"
    token = project.key(*ALL_SCOPES)
    got = ask(world, route, token, project.id, names, slash)
    head = ask(world, route.replace("GET", "HEAD"), token, project.id, names, slash)
    assert (head.status_code, head.content) == (got.status_code, b"")
    for name in ("content-type", "cache-control"):
        assert head.headers.get(name) == got.headers.get(name)
    assert ask(world, route, token, project.id, names, slash).status_code == got.status_code


def test_the_body_is_not_read_before_the_key(world):
    project = world.project()
    path = project.path(f"dead_letters/{uuid4()}/discard/")
    answer = world.ask("POST", path, None, content=b"\xff" * 100_000)
    assert answer.status_code == 401


def test_schemas_are_public(world):
    assert world.get("/api/schemas/", None).status_code == 200
