"""A personal key as a member of a JSON body, for clients that cannot send a header."""

import dataclasses
import json
import re
import socket
from contextlib import ExitStack, contextmanager

import httpx
import pytest

from nilometer.access.guessing import BURST, GuessLimiter
from nilometer.access.types import ALL_SCOPES, Scope
from nilometer.api.app import create_app
from nilometer.settings import Settings
from tests.api.test_access import PRIVATE, ROUTES, ask
from tests.api.world import served
from tests.running import wait_until

INVALID = "Personal API key found in {} is invalid."
NOT_GIVEN = "Authentication credentials were not provided."
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def project(world):
    return world.foreign_project()


@pytest.fixture(scope="module")
def admin(project):
    return project.key(*ALL_SCOPES)


@pytest.fixture
def send(world, project):
    """The status and sentence of a query with this body, and whatever else comes with it."""

    def send(body=None, *, path="query/", header=None, query=None, content=None, headers=JSON):
        more = {"params": {"personal_api_key": query}} if query is not None else {}
        return world.http.post(
            project.path(path),
            content=json.dumps(body) if content is None else content,
            headers=headers | ({"Authorization": f"Bearer {header}"} if header else {}),
            **more,
        )

    return send


def told(answer):
    return answer.status_code, answer.json().get("detail")


QUERY = {"query": {"kind": "HogQLQuery", "query": "SELECT 1"}}


def test_a_key_in_the_body_is_taken_out_before_the_body_is_checked(world, send, project, admin):
    assert send(QUERY | {"personal_api_key": admin}).status_code == 200
    spaced = send(QUERY | {"personal_api_key": f" {admin} "})
    assert spaced.status_code == 200
    made = world.http.post("/api/projects/", json={"name": "n", "personal_api_key": admin})
    assert made.status_code == 201
    one = f"/api/projects/{made.json()['id']}/"
    changed = world.http.patch(one, json={"name": "m", "personal_api_key": admin})
    assert changed.json()["name"] == "m"
    path = project.path(f"dead_letters/{project.dead_letter()}/discard/")
    discarded = world.http.post(path, json={"reason": "r", "personal_api_key": admin})
    assert discarded.json()["state"] == "discarded"
    deleted = world.http.request("DELETE", one, json={"personal_api_key": admin})
    assert deleted.status_code == 202


@pytest.mark.parametrize("route", PRIVATE)
def test_on_every_route_the_key_is_judged_as_one_of_the_header_is(world, project, route):
    wrong = ask_with(world, route, "wrong", project.id)
    assert told(wrong) == (401, INVALID.format("body"))
    assert wrong.headers["www-authenticate"] == "Bearer"
    poor = project.key(*(ALL_SCOPES - {ROUTES[route]}))
    refused = ask_with(world, route, poor, project.id)
    expected = ask(world, route, poor, project.id)
    assert (refused.status_code, refused.content) == (403, expected.content)


def ask_with(world, route, key, project_id):
    method, path = route.split(" ")
    names = dict.fromkeys(re.findall(r"{(\w+)", path), "x") | {"project_id": project_id}
    filled = path.replace(":path", "").format(**names)
    return world.http.request(method, filled + "/", json={"personal_api_key": key})


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ({"header": "right", "body": "wrong", "query": "wrong"}, None),
        ({"header": "wrong", "body": "right", "query": "right"}, "request Authorization header"),
        ({"body": "right", "query": "wrong"}, None),
        ({"body": "wrong", "query": "right"}, "body"),
        ({"query": "right"}, None),
        ({"query": "wrong"}, "query string"),
    ],
    ids=str,
)
def test_the_first_place_that_has_a_key_decides(send, admin, places, expected):
    keys = {place: admin if given == "right" else "wrong" for place, given in places.items()}
    body = QUERY | ({"personal_api_key": keys["body"]} if "body" in keys else {})
    answer = send(body, header=keys.get("header"), query=keys.get("query"))
    if expected is None:
        assert answer.status_code == 200
    else:
        assert told(answer) == (401, INVALID.format(expected))


@pytest.mark.parametrize("key", [5, 0, True, False, 1.5, [], ["x"], {}, "x" * 5000, "é", "\0"])
def test_what_can_be_no_key_is_an_invalid_one(send, admin, key):
    answer = send(QUERY | {"personal_api_key": key}, query=admin)
    assert told(answer) == (401, INVALID.format("body"))


@pytest.mark.parametrize("key", [None, "", "  "])
def test_an_empty_member_is_no_key(send, admin, key):
    body = QUERY | {"personal_api_key": key}
    assert told(send(body)) == (401, NOT_GIVEN)
    assert send(body, query=admin).status_code == 200
    assert send(body, header=admin).status_code == 200


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b"[" * 50_000, b"[]", b'"personal_api_key"', b"null", b"1"]
)
def test_a_body_that_is_no_object_has_no_key_and_is_refused_only_to_who_has_one(
    send, admin, content
):
    assert told(send(content=content)) == (401, NOT_GIVEN)
    for place in ("header", "query"):
        known = send(content=content, **{place: admin})
        assert known.status_code == 400
        assert "body is larger" not in known.text


def test_a_body_too_large_is_not_searched(send, admin):
    content = json.dumps(QUERY | {"x": "x" * 2_200_000, "personal_api_key": admin})
    assert told(send(content=content)) == (401, NOT_GIVEN)
    assert told(send(content=content, query=admin)) == (
        400,
        "The body is larger than 2097152 bytes.",
    )


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonp", "json"]
)
def test_only_a_body_that_says_it_is_json_is_searched(send, admin, kind):
    headers = {} if kind is None else {"Content-Type": kind}
    assert told(send(QUERY | {"personal_api_key": admin}, headers=headers)) == (401, NOT_GIVEN)


def test_the_type_may_have_parameters_and_any_case(send, admin):
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert send(QUERY | {"personal_api_key": admin}, headers=headers).status_code == 200


def test_a_key_of_the_wrong_type_beside_a_right_header_is_a_wrong_body(send, admin):
    answer = send(QUERY | {"personal_api_key": 5}, header=admin)
    assert (answer.status_code, answer.json()["attr"]) == (400, "personal_api_key")


def test_the_key_is_never_in_an_answer_nor_in_the_audit_log(world, send, project, admin):
    answers = [
        send({"query": {"query": "SELECT nothing"}, "personal_api_key": admin}),
        send({"query": 1, "personal_api_key": admin}),
        send({"personal_api_key": [admin]}, header=admin),
        send({"personal_api_key": admin, "name": "n", "naem": 1}, path="keys/"),
        send({"personal_api_key": admin, "name": "n"}, path="keys/"),
        send({"personal_api_key": admin}, query="x", path="events/"),
        world.get("/api/organizations/@current/audit_log/", admin),
    ]
    statuses = [answer.status_code for answer in answers]
    assert statuses == [400, 400, 400, 400, 201, 405, 200]
    assert not any(admin in answer.text for answer in answers)
    assert "key.create" in answers[-1].text


def test_a_revoked_key_is_a_wrong_key_here_too(world, send, project):
    token = project.key(Scope.READ)
    world.accounts.keys.revoke(world.accounts.keys.list(project.id)[-1].key_id)
    revoked = send(QUERY | {"personal_api_key": token})
    wrong = send(QUERY | {"personal_api_key": "wrong"})
    assert (revoked.status_code, revoked.content) == (401, wrong.content)


def test_guesses_in_bodies_and_in_queries_are_counted(world, send, admin, monkeypatch):
    monkeypatch.setattr(world.services.keyring, "_guesses", GuessLimiter(clock=lambda: 0))
    assert send(QUERY, header=admin).status_code == 200
    guesses = [{"body": QUERY | {"personal_api_key": f"b{n}"}} for n in range(BURST // 2)]
    guesses += [{"body": QUERY, "query": f"q{n}"} for n in range(BURST // 2)]
    assert {send(**guess).status_code for guess in guesses} == {401}
    assert send(QUERY | {"personal_api_key": "one more"}).status_code == 429
    assert send(QUERY, query="one more").status_code == 429
    assert send(QUERY | {"personal_api_key": admin}).status_code == 200  # known from before


@contextmanager
def waiting(world, tmp_path, seconds):
    """The API, but one that waits so long for a body whose sender it does not know."""
    settings = Settings(data_dir=tmp_path, body_idle_timeout=seconds)
    app = create_app(dataclasses.replace(world.services, settings=settings))
    with served(app) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client
    app.state.context.close()


@pytest.fixture
def hasty(world, tmp_path):
    with waiting(world, tmp_path, 1) as client:
        yield client


@pytest.fixture
def patient(world, tmp_path):
    """One that gives up no body before a test is through, however slow the machine is."""
    with waiting(world, tmp_path, 300) as client:
        yield client


HALF = (
    b"POST /api/projects/@current/query/ HTTP/1.1\r\nHost: localhost\r\n"
    b'Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"'
)


def halves(url, count, stack):
    """Connections that send a part of a body, and no more."""
    address = (url.host, url.port)
    opened = [stack.enter_context(socket.create_connection(address)) for _ in range(count)]
    for connection in opened:
        connection.settimeout(20)
        connection.sendall(HALF)
    return opened


def test_a_body_that_does_not_come_is_given_up(hasty):
    with ExitStack() as stack:
        (connection,) = halves(hasty.base_url, 1, stack)
        answer = b""
        while b"request_timeout" not in answer and (piece := connection.recv(4096)):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"request_timeout" in answer


def test_many_slow_bodies_keep_nobody_out_who_sends_the_key_ahead(patient, project, admin):
    def full():
        with_key = patient.post(project.path("query/"), json=QUERY | {"personal_api_key": admin})
        return with_key if with_key.status_code == 503 else None

    with ExitStack() as stack:
        halves(patient.base_url, 40, stack)
        busy = wait_until(full)
        headers = {"Authorization": f"Bearer {admin}"}
        known = patient.post(project.path("query/"), json=QUERY, headers=headers)
        in_query = patient.post(
            project.path("query/"), json=QUERY, params={"personal_api_key": admin}
        )
        wrong = patient.post(
            project.path("query/"), json=QUERY, params={"personal_api_key": "wrong"}
        )
    assert (busy.json()["code"], busy.headers["Retry-After"]) == ("busy", "1")
    assert (known.status_code, in_query.status_code) == (200, 200)
    assert wrong.status_code == 503

    def room():
        answer = patient.post(project.path("query/"), json=QUERY | {"personal_api_key": admin})
        return answer.status_code == 200

    wait_until(room)


def test_a_client_that_goes_in_the_middle_is_not_told_of_as_a_defect(hasty, caplog, admin):
    with ExitStack() as stack:
        halves(hasty.base_url, 3, stack)
    headers = {"Authorization": f"Bearer {admin}"}
    assert hasty.get("/api/projects/", headers=headers).status_code == 200
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
