"""Exceptions over HTTP: raised, read, decided about, and kept apart by tenant."""

import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import select

from nilometer.access.types import ALL_SCOPES, CaptureMode, Scope
from nilometer.database.fence import EVERY_ROW
from nilometer.incidents.events import CommentAdded
from nilometer.incidents.incident import Deadline, Severity, Status
from nilometer.incidents.packs.store import Packs
from nilometer.incidents.tables import IncidentEventRow, IncidentRow
from nilometer.observability import tracing
from nilometer.workflows.tables import TaskRow

TASKS = TaskRow.__table__
LEAST = {"exception_type": "Failed", "source_system": "billing"}


@pytest.fixture(scope="module")
def project(world):
    return world.project()


@pytest.fixture(scope="module")
def key(project):
    return project.key(*ALL_SCOPES)


def post(project, body, key=None, path="/exceptions", **headers):
    token = key or project.key()
    return project.world.http.post(
        path, json=body, headers={"Authorization": f"Bearer {token}", **headers}
    )


def path(project, *rest):
    return "/".join(("/exceptions", str(project.id), *rest))


def shown(project, exception_id, *rest, **parameters):
    answer = project.world.get(path(project, exception_id, *rest), project.reader, **parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def listed(project, **parameters):
    """The ids of every page."""
    ids, url = [], path(project)
    while url:
        answer = project.world.get(url, project.reader, **parameters)
        assert answer.status_code == 200, answer.text
        ids += [each["exceptionId"] for each in answer.json()["results"]]
        url, parameters = answer.json()["next"], {}
    return ids


@pytest.mark.parametrize("encoding", ["gzip", "br, identity"])
def test_a_body_that_says_it_is_compressed_is_refused(project, encoding):
    answer = post(project, LEAST, **{"Content-Encoding": encoding})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_content_encoding")
    assert post(project, LEAST, **{"Content-Encoding": "identity"}).status_code == 202


def test_what_was_accepted_is_there_at_once_under_its_id(project):
    sent = {**LEAST, "severity": "high", "payload": {"order": 7, "total": 1.1}}
    answer = post(project, sent)
    assert answer.status_code == 202, answer.text
    exception_id = answer.json()["exceptionId"]
    assert answer.json() == {"exceptionId": exception_id, "status": "accepted"}
    assert answer.headers["location"] == f"/exceptions/{project.id}/{exception_id}/"
    found = shown(project, exception_id)
    assert (found["exceptionId"], found["tenantId"]) == (exception_id, project.id)
    assert (found["status"], found["exceptionType"], found["sourceSystem"]) == (
        *("received", "Failed", "billing"),
    )
    assert (found["statedSeverity"], found["payload"]) == ("high", {"order": 7, "total": 1.1})
    assert found["playbook"] is None
    [event] = found["events"]
    assert (event["type"], event["sequence"]) == ("ExceptionIngested", 1)
    assert event["actor"]["kind"] == "key"
    assert event["causationId"] is None
    assert event["summary"]


def test_a_tenant_may_be_named_in_the_path(project):
    for named in (project.id, "@current"):
        assert post(project, LEAST, path=f"/exceptions/{named}").status_code == 202


def test_the_trace_of_the_caller_goes_along(project):
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    exception_id = post(project, LEAST, traceparent=parent).json()["exceptionId"]
    found = shown(project, exception_id)
    assert found["traceparent"] == found["events"][0]["traceparent"] == parent
    broken = post(project, LEAST, traceparent=parent.upper()).json()["exceptionId"]
    assert shown(project, broken)["traceparent"] is None


def test_every_item_of_a_list_is_handled_and_answered(project):
    items = [LEAST, {"exception_type": "x"}, {**LEAST, "exception_type": "Other"}]
    answer = post(project, {"exceptions": items})
    assert answer.status_code == 202
    said = answer.json()
    assert (said["status"], said["accepted"], said["rejected"]) == ("partial", 2, 1)
    first, second, third = said["results"]
    assert second == {
        "status": "rejected",
        "error": {
            "type": "validation_error",
            "code": "missing",
            "detail": "source_system is missing.",
            "attr": "source_system",
        },
    }
    assert shown(project, first["exceptionId"])["exceptionType"] == "Failed"
    assert shown(project, third["exceptionId"])["exceptionType"] == "Other"


def test_a_list_of_which_nothing_can_be_accepted_is_refused_with_its_reasons(project):
    answer = post(project, {"exceptions": [{}, 5]})
    assert (answer.status_code, answer.json()["code"]) == (400, "none_accepted")
    assert [each["status"] for each in answer.json()["results"]] == ["rejected"] * 2


def test_a_key_of_idempotency_gives_the_first_answer_again(project):
    headers = {"Idempotency-Key": f"order-{uuid4()}"}
    first = post(project, LEAST, **headers)
    again = post(project, LEAST, **headers)
    assert (again.status_code, again.json()) == (202, first.json())
    other = post(project, {**LEAST, "severity": "low"}, **headers)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")
    assert listed(project).count(first.json()["exceptionId"]) == 1
    neighbour = project.world.project()
    assert post(neighbour, LEAST, **headers).json() != first.json()


def test_a_request_is_refused_alone_among_many_at_once(world):
    project = world.project()
    token = project.key()
    used = f"used-{uuid4()}"
    assert post(project, LEAST, token, **{"Idempotency-Key": used}).status_code == 202
    other = {**LEAST, "exception_type": "Other"}
    barrier = threading.Barrier(16)

    def ask(number):
        barrier.wait(30)
        headers = {"Idempotency-Key": used} if number % 2 else {}
        return post(project, other, token, **headers).status_code

    with ThreadPoolExecutor(16) as threads:
        codes = list(threads.map(ask, range(16)))
    assert codes == [202, 409] * 8
    assert len(listed(project)) == 9


def test_a_suspended_project_takes_nothing(world):
    project = world.project()
    token = project.key()
    for mode in (CaptureMode.DROP, CaptureMode.OVER_QUOTA):
        world.accounts.projects.change(project.id, mode=mode)
        answer = post(project, LEAST, token)
        assert (answer.status_code, answer.json()["code"]) == (429, "project_paused")
        assert int(answer.headers["retry-after"]) > 0
    assert listed(project) == []


@pytest.mark.parametrize(
    "other", ["1", "0", "x", "987654321000", "%00", "@other", "9" * 40], ids=lambda each: each[:12]
)
@pytest.mark.parametrize("rest", ["", "/" + "0" * 36, "/x/events", "/x/trace", "/x/playbook"])
def test_another_tenant_in_the_path_is_refused_whatever_there_is(project, other, rest):
    answer = project.world.get(f"/exceptions/{other}{rest}", project.reader)
    assert (answer.status_code, answer.json()["attr"]) == (403, "tenant")


def test_a_neighbour_in_the_same_organization_is_another_tenant(world, project):
    exception_id = project.exception()
    neighbour = world.project()
    token = neighbour.key(*ALL_SCOPES)
    refused = world.get(path(project, exception_id), token)
    assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied")
    assert world.get(path(project, "none"), token).content == refused.content
    theirs = world.get(path(neighbour, exception_id), token)
    none = world.get(path(neighbour, str(uuid4())), token)
    assert (theirs.status_code, theirs.content) == (404, none.content)
    assert post(neighbour, LEAST, token, path=path(project)).status_code == 403


def test_filters_let_through_what_they_name(world):
    project = world.project()
    made = {name: project.exception(exception_type=name) for name in ("a", "b", "c")}
    elsewhere = project.exception(source_system="erp")
    project.change_exception(made["a"], to=Status.OPEN, severity=Severity.HIGH, owner="ada")
    everything = [elsewhere, *reversed(made.values())]
    assert sorted(listed(project)) == sorted(everything)
    assert listed(project, type="b") == [made["b"]]
    assert listed(project, source="erp") == [elsewhere]
    assert listed(project, status="open") == [made["a"]]
    assert listed(project, severity="high") == [made["a"]]
    assert listed(project, owner="ada", status="open") == [made["a"]]
    assert listed(project, owner="ada", status="received") == []
    received = shown(project, made["b"])["receivedAt"]
    assert made["b"] in listed(project, **{"from": received})
    assert made["b"] not in listed(project, to=received)
    assert listed(project, to="2001-01-01T00:00:00Z") == []
    assert listed(project, **{"from": "2250-01-01T00:00:00Z"}) == []


@pytest.mark.parametrize(
    "parameters",
    [
        *({"status": "gone"}, {"severity": "HIGHEST"}, {"from": "x"}, {"cursor": "x"}),
        *({"to": "2026-01-01T00:00:00"}, {"limit": 0}, {"limit": 501}, {"colour": "red"}),
    ],
    ids="".join,
)
def test_a_filter_that_cannot_be_is_refused(project, parameters):
    answer = project.world.get(path(project), project.reader, **parameters)
    assert (answer.status_code, answer.json()["attr"]) == (400, next(iter(parameters)))


def test_pages_give_every_exception_once_while_others_arrive(world):
    project = world.project()
    made = [project.exception() for _ in range(5)]
    answer = world.get(path(project), project.reader, limit=2).json()
    project.exception()
    seen = [each["exceptionId"] for each in answer["results"]]
    while answer["next"]:
        answer = world.get(answer["next"], project.reader).json()
        seen += [each["exceptionId"] for each in answer["results"]]
    assert sorted(seen) == sorted(made)
    assert seen == sorted(seen, reverse=True)


def test_a_cursor_is_for_its_own_list(world):
    project, other = world.project(), world.project()
    for _ in range(2):
        project.exception()
    link = world.get(path(project), project.reader, limit=1, status="received").json()["next"]
    cursor = link.rpartition("cursor=")[2]
    for reader, url, filters in (
        (project.reader, path(project), {}),
        (project.reader, path(project), {"status": "open"}),
        (other.reader, path(other), {"status": "received"}),
        (project.reader, f"/approvals/{project.id}", {}),
    ):
        answer = world.get(url, reader, cursor=cursor, **filters)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")


def test_events_come_in_order_and_in_pages(project):
    exception_id = project.exception()
    for number in range(4):
        project.change_exception(exception_id, CommentAdded(str(number)))
    first = shown(project, exception_id, "events", limit=3)
    assert [each["sequence"] for each in first["results"]] == [1, 2, 3]
    rest = project.world.get(first["next"], project.reader).json()
    assert [each["sequence"] for each in rest["results"]] == [4, 5]
    assert rest["next"] is None
    texts = [each["payload"].get("text") for each in first["results"] + rest["results"]]
    assert texts == [None, "0", "1", "2", "3"]
    trace = shown(project, exception_id, "trace")
    assert trace["eventTypes"] == {"ExceptionIngested": 1, "CommentAdded": 4}
    assert trace["eventCount"] == 5
    assert trace["durationSeconds"] >= 0


def test_a_long_history_goes_on_under_events(project, monkeypatch):
    exception_id = project.exception()
    for number in range(3):
        project.change_exception(exception_id, CommentAdded(str(number)))
    monkeypatch.setattr("nilometer.api.routes.exceptions._SHOWN_EVENTS", 2)
    found = shown(project, exception_id)
    assert [each["sequence"] for each in found["events"]] == [1, 2]
    rest = project.world.get(found["nextEvents"], project.reader).json()
    assert [each["sequence"] for each in rest["results"]] == [3, 4]


def test_comments_and_owners_are_kept_with_who_and_when(project, key):
    exception_id = project.exception()
    url = path(project, exception_id)
    world = project.world
    said = world.ask("POST", f"{url}/comments", key, json={"text": "Looking."})
    assert said.status_code == 201, said.text
    owned = world.ask("PUT", f"{url}/owner", key, json={"owner": "ada"})
    assert (owned.status_code, owned.json()["owner"]) == (200, "ada")
    again = world.ask("PUT", f"{url}/owner", key, json={"owner": "ada"})
    assert again.json()["version"] == owned.json()["version"]
    freed = world.ask("PUT", f"{url}/owner", key, json={"owner": None})
    assert freed.json()["owner"] is None
    events = shown(project, exception_id)["events"]
    assert [each["type"] for each in events] == [
        *("ExceptionIngested", "CommentAdded", "OwnerAssigned", "OwnerAssigned")
    ]
    assert {each["actor"]["kind"] for each in events} == {"key"}


def test_an_exception_is_reprocessed_but_not_while_it_is_worked_on(project, key):
    exception_id = project.exception()
    url = path(project, exception_id, "reprocess")
    busy = project.world.ask("POST", url, key)
    assert (busy.status_code, busy.json()["code"]) == (409, "being_processed")
    for status in (Status.OPEN, Status.TRIAGED, Status.RESOLVED):
        project.change_exception(exception_id, to=status)
    answer = project.world.ask("POST", url, key, json={"reason": "The pack was mended."})
    assert answer.status_code == 202, answer.text
    assert answer.json() == {"exceptionId": exception_id, "status": "accepted"}
    found = shown(project, exception_id)
    assert (found["status"], found["run"]) == ("received", 2)
    assert found["events"][-1]["payload"]["reason"] == "The pack was mended."


def test_what_waits_for_a_person_is_resolved_with_a_reason(project, key):
    exception_id = project.exception()
    for status in (Status.OPEN, Status.TRIAGED, Status.ESCALATED):
        project.change_exception(exception_id, to=status)
    url = path(project, exception_id, "resolve")
    assert project.world.ask("POST", url, key, json={}).status_code == 400
    answer = project.world.ask("POST", url, key, json={"reason": "Paid by hand."})
    assert (answer.status_code, answer.json()["status"]) == (200, "resolved")
    again = project.world.ask("POST", url, key, json={"reason": "Again."})
    assert (again.status_code, again.json()["code"]) == (409, "not_resolvable")


def test_the_manual_step_that_is_waited_for_is_completed(project, key):
    exception_id = project.exception()
    for status in (Status.OPEN, Status.TRIAGED, Status.IN_PROGRESS, Status.WAITING):
        project.change_exception(exception_id, to=status)
    project.change_exception(exception_id, step="call the bank", playbook="settlement")
    url = path(project, exception_id, "playbook", "steps")
    other = project.world.ask("POST", f"{url}/other/complete", key)
    assert (other.status_code, other.json()["code"]) == (409, "another_step")
    answer = project.world.ask(
        "POST", f"{url}/call%20the%20bank/complete", key, json={"note": "Done."}
    )
    assert (answer.status_code, answer.json()["status"]) == (200, "in_progress")
    assert shown(project, exception_id)["steps"]["call the bank"]["status"] == "succeeded"


def test_a_playbook_is_shown_with_the_steps_that_are_to_come(world):
    project = world.project()
    writer = project.key(Scope.WRITE, Scope.READ)
    steps = [
        {"name": "look", "comment": "Looking."},
        {"name": "ask", "manual": {"instructions": "Ask the bank."}},
        {"name": "tell", "comment": "Told."},
    ]
    late = [{"name": "recover", "comment": "It went wrong."}]
    playbook = {"name": "settle", "steps": steps, "recovery": late}
    pack = {"format": 1, "name": "orders", "playbooks": [playbook]}
    Packs(world.database).add(project.id, pack)
    exception_id = project.exception()
    url = path(project, exception_id, "playbook")
    assert world.get(url, writer).json()["steps"] == []
    for status in (Status.OPEN, Status.TRIAGED, Status.IN_PROGRESS, Status.WAITING):
        project.change_exception(exception_id, to=status)
    of_pack = {"pack": "orders", "pack_version": 1, "playbook": "settle", "step": "ask"}
    came_to = {"look": {"status": "succeeded"}, "ask": {"status": "waiting"}}
    project.change_exception(exception_id, steps=came_to, **of_pack)
    found = world.get(url, writer).json()
    assert [(each["number"], each["step"], each["status"]) for each in found["steps"]] == [
        *((1, "look", "succeeded"), (2, "ask", "waiting"), (3, "tell", "pending"))
    ]
    assert (found["playbook"], found["currentStep"]) == ("settle", "ask")
    for number, status in (("1", 409), ("4", 404), ("0", 404), ("2", 200)):
        answer = world.ask("POST", f"{url}/steps/{number}/complete", writer)
        assert answer.status_code == status, (number, answer.text)
    assert shown(project, exception_id)["steps"]["ask"]["status"] == "succeeded"


def test_an_approval_is_decided_once(project, key):
    exception_id = project.exception()
    approval_id = project.approval(exception_id)
    world = project.world
    url = f"/approvals/{project.id}"
    found = world.get(f"{url}/{approval_id}", project.reader).json()
    assert (found["state"], found["exceptionId"]) == ("pending", exception_id)
    asked = world.get(url, project.reader, state="pending", exception_id=exception_id).json()
    assert [each["approvalId"] for each in asked["results"]] == [approval_id]
    decided = world.ask("POST", f"{url}/{approval_id}/approve", key, json={"note": "Fine."})
    assert (decided.status_code, decided.json()["state"]) == (200, "approved")
    assert decided.json()["note"] == "Fine."
    late = world.ask("POST", f"{url}/{approval_id}/reject", key)
    assert (late.status_code, late.json()["code"]) == (409, "approval_decided")
    assert shown(project, exception_id)["status"] == "triaged"


def test_of_many_who_decide_at_once_one_does(project):
    approval_id = project.approval()
    tokens = [project.key(Scope.APPROVE) for _ in range(8)]
    barrier = threading.Barrier(8)

    def decide(number):
        barrier.wait(30)
        verb = "approve" if number % 2 else "reject"
        url = f"/approvals/{project.id}/{approval_id}/{verb}"
        return project.world.ask("POST", url, tokens[number]).status_code

    with ThreadPoolExecutor(8) as threads:
        assert sorted(threads.map(decide, range(8))) == [200] + [409] * 7


def test_who_raised_it_may_not_decide_where_the_rule_keeps_them_apart(project, key):
    raised = post(project, LEAST, key).json()["exceptionId"]
    url = f"/approvals/{project.id}/{project.approval(raised, separate=True)}/approve"
    refused = project.world.ask("POST", url, key)
    assert (refused.status_code, refused.json()["code"]) == (403, "separation_of_duties")
    assert project.world.ask("POST", url, project.key(Scope.APPROVE)).status_code == 200


def test_a_dead_letter_is_shown_with_what_asked_for_it_and_replayed(world):
    project = world.project()
    letter = project.exception_dead_letter()
    exception_id = letter.rpartition(".")[0]
    operator = project.operator
    [found] = world.get("/ops/dlq", operator).json()["results"]
    assert (found["letterId"], found["exceptionId"], found["stage"]) == (
        *(letter, exception_id, "intake"),
    )
    assert (found["errorCode"], found["attempts"]) == ("refused", 3)
    detail = world.get(f"/ops/dlq/{letter}", operator).json()
    assert detail["event"]["type"] == "ExceptionIngested"
    assert detail["payload"]["exceptionType"] == "Failed"
    stats = world.get("/ops/dlq/stats", operator).json()
    assert (stats["open"], stats["stages"]) == (1, {"intake": {"refused": 1}})
    url = f"/ops/dlq/{letter}/replay"
    assert world.ask("POST", url, operator, json={}).json()["attr"] == "reason"
    done = world.ask("POST", url, operator, json={"reason": "It is up again."}).json()
    assert (done["state"], done["status"]) == ("replayed", "received")
    assert world.get("/ops/dlq", operator).json()["results"] == []
    event = shown(project, exception_id)["events"][-1]
    assert (event["type"], event["payload"]["reason"]) == (
        *("DeadLetterReplayed", "It is up again."),
    )
    assert world.ask("POST", url, operator, json={"reason": "Again."}).status_code == 404


def test_a_payload_is_shown_once_the_packs_redaction_was_applied(world):
    project = world.project()
    exception_id = project.exception()
    assert shown(project, exception_id)["payload"] is not None
    packs = Packs(world.database)
    packs.add(
        project.id,
        {"format": 1, "name": "p", "normalisation": {"redaction": {"paths": ["who"]}}},
    )
    assert shown(project, exception_id)["payload"] is not None
    packs.activate(project.id, "p", 1)
    assert shown(project, exception_id)["payload"] is None


def test_a_discarded_dead_letter_keeps_its_reason(world):
    project = world.project()
    letters = [project.exception_dead_letter() for _ in range(3)]
    operator = project.operator
    for letter in letters[:2]:
        url = f"/ops/dlq/{letter}/discard"
        done = world.ask("POST", url, operator, json={"reason": "A test."}).json()
        assert (done["state"], done["status"]) == ("discarded", "escalated")
    first = world.get("/ops/dlq", operator, state="discarded", limit=1).json()
    rest = world.get(first["next"], operator).json()
    found = first["results"] + rest["results"]
    assert [each["letterId"] for each in found] == letters[1::-1]
    assert {each["reason"] for each in found} == {"A test."}
    assert rest["next"] is None
    assert world.get("/ops/dlq", operator, stage="tool").json()["results"] == []


def test_dead_letters_come_in_pages(world):
    project = world.project()
    letters = [project.exception_dead_letter() for _ in range(3)]
    seen, url = [], "/ops/dlq?limit=2"
    while url:
        answer = world.get(url, project.operator).json()
        seen += [each["letterId"] for each in answer["results"]]
        url = answer["next"]
    assert seen == letters[::-1]


def test_dead_letters_of_another_tenant_are_none(world, project):
    letter = project.exception_dead_letter()
    stranger = world.project()
    answer = world.get(f"/ops/dlq/{letter}", stranger.operator)
    assert answer.status_code == 404
    assert answer.content == world.get(f"/ops/dlq/{uuid4()}.1", stranger.operator).content
    for verb in ("replay", "discard"):
        url = f"/ops/dlq/{letter}/{verb}"
        assert world.ask("POST", url, stranger.operator, json={"reason": "r"}).status_code == 404
    named = world.get("/ops/dlq", stranger.operator, tenant_id=project.id)
    assert (named.status_code, named.json()["attr"]) == (403, "tenant")
    assert world.get("/ops/dlq", stranger.operator, tenant_id=stranger.id).status_code == 200


def together(project, verb, key=None, **body):
    url = f"/ops/dlq/{verb}"
    return project.world.ask("POST", url, key or project.operator, json={"reason": "Up.", **body})


@pytest.mark.parametrize(("verb", "status"), [("replay", "received"), ("discard", "escalated")])
def test_many_dead_letters_are_decided_about_at_once(world, verb, status):
    project, stranger = world.project(), world.project()
    other = project.exception_dead_letter()
    theirs = stranger.exception_dead_letter(stranger.exception(exception_type="Late"))
    letters = [
        project.exception_dead_letter(project.exception(exception_type="Late")) for _ in range(3)
    ]
    late = {"exception_type": "Late", "stage": "intake", "code": "refused"}
    seen = together(project, verb, **late, limit=2, dry_run=True).json()
    assert (seen["dryRun"], seen["letterIds"], seen["left"]) == (True, letters[:2], 1)
    assert len(world.get("/ops/dlq", project.operator).json()["results"]) == 4
    done = together(project, verb, **late, limit=2).json()
    assert (done["letterIds"], done["decided"], done["left"]) == (letters[:2], 2, 1)
    # One that dies again is not among those of before.
    again = project.exception_dead_letter(project.exception(exception_type="Late"))
    rest = together(project, verb, **late, before=done["before"]).json()
    assert (rest["letterIds"], rest["left"]) == (letters[2:], 0)
    left = {each["letterId"] for each in world.get("/ops/dlq", project.operator).json()["results"]}
    assert left == {other, again}
    assert world.get(f"/ops/dlq/{theirs}", stranger.operator).json()["state"] == "open"
    key_id = world.accounts.keys.list(project.id)
    for letter in letters:
        found = shown(project, letter.rpartition(".")[0])
        assert found["status"] == status
        [event] = [each for each in found["events"] if each["type"] == "DeadLetterReplayed"]
        assert event["payload"]["reason"] == "Up."
        assert event["actor"]["id"] in {each.key_id for each in key_id}


def test_many_that_were_decided_about_meanwhile_are_left_alone(world):
    project = world.project()
    first, second = (project.exception_dead_letter() for _ in range(2))
    url = f"/ops/dlq/{first}/discard"
    assert world.ask("POST", url, project.operator, json={"reason": "No."}).status_code == 200
    assert together(project, "replay").json()["letterIds"] == [second]
    assert together(project, "replay").json()["decided"] == 0


def test_of_an_exception_only_those_of_the_filter_are_decided_about(world):
    project = world.project()
    letter = project.exception_dead_letter()
    exception_id = letter.rpartition(".")[0]
    with world.database.concurrent(EVERY_ROW) as session:
        [row] = session.execute(select(TASKS).where(TASKS.c.lane == exception_id)).mappings()
        other = {**row, "sequence": row["sequence"] + 50, "error_code": "busy"}
        session.execute(TASKS.insert().values(other))
        # Of one that there is no more, nothing can be decided.
        session.execute(TASKS.insert().values({**row, "lane": str(uuid4())}))
    done = together(project, "discard", code="refused").json()
    assert (done["letterIds"], done["left"]) == ([letter], 1)
    assert together(project, "discard", code="busy", dry_run=True).json()["decided"] == 1


@pytest.mark.parametrize(
    ("body", "attr"),
    [
        ({"reason": " "}, "reason"),
        ({"limit": 1001}, "limit"),
        ({"before": "yesterday"}, "before"),
        ({"from": "2026-01-01"}, "from"),
        ({"state": "open"}, "state"),
    ],
)
def test_a_filter_that_cannot_be_decides_about_nothing(world, body, attr):
    project = world.project()
    letter = project.exception_dead_letter()
    for verb in ("replay", "discard"):
        answer = together(project, verb, **body)
        assert (answer.status_code, answer.json()["attr"]) == (400, attr)
    assert world.get(f"/ops/dlq/{letter}", project.operator).json()["state"] == "open"


def test_deadlines_are_counted_and_listed(world):
    project = world.project()
    late, near, met = (project.exception() for _ in range(3))
    project.change_exception(late, sla_state=Deadline.EXPIRED)
    project.change_exception(near, sla_state=Deadline.IMMINENT)
    project.change_exception(met, sla_state=Deadline.MET)
    said = world.get("/ops/sla/compliance", project.reader, hours=1).json()
    assert said["deadlines"] == {"none": 0, "running": 0, "imminent": 1, "expired": 1, "met": 1}
    assert said["compliance"] == 0.5
    for path_, expected in (("breaches", late), ("at-risk", near)):
        results = world.get(f"/ops/sla/{path_}", project.reader).json()["results"]
        assert [each["exceptionId"] for each in results] == [expected]
    assert world.get("/ops/sla/compliance", world.project().reader).json()["compliance"] is None


def test_the_time_to_a_resolution_is_told(world, key):
    project = world.project()
    for _ in range(2):
        exception_id = project.exception()
        for status in (Status.OPEN, Status.TRIAGED, Status.ESCALATED):
            project.change_exception(exception_id, to=status)
        writer = project.key(Scope.WRITE)
        url = path(project, exception_id, "resolve")
        assert world.ask("POST", url, writer, json={"reason": "Done."}).status_code == 200
    said = world.get("/ops/sla/resolution-time", project.reader).json()
    assert (said["received"], said["resolved"], said["automaticResolution"]) == (2, 2, 0)
    assert said["secondsToResolution"]["count"] == 2
    assert 0 < said["secondsToResolution"]["p50"] <= said["secondsToResolution"]["p95"]
    none = world.get("/ops/sla/resolution-time", world.project().reader).json()
    assert none["secondsToResolution"] == {"count": 0, "mean": None, "p50": None, "p95": None}


def test_the_stages_tell_the_operator_what_waits(world, project):
    project.exception()
    project.exception_dead_letter()
    answer = world.get("/ops/workers/health", project.operator)
    assert answer.status_code == 200, answer.text
    stages = answer.json()["workers"]
    assert set(stages) >= {"intake", "triage", "policy", "playbook", "tool", "feedback"}
    assert stages["intake"]["due"] >= 1
    assert stages["intake"]["dead"] >= 1
    assert stages["intake"]["secondsBehind"] > 0
    assert answer.json()["untold"] >= 1


def test_what_cannot_be_an_id_is_an_exception_that_there_is_not(project):
    for name in ("x", "%00", "%20", "é", "x" * 2000):
        answer = project.world.get(path(project, name), project.reader)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), name


def test_reads_name_their_project_in_every_statement(world, project):
    """Two incidents with one id, as a restored copy may have, stay apart."""
    exception_id = project.exception()
    twin = world.project()
    with world.database.session(EVERY_ROW) as session:
        row = session.get_one(IncidentRow, (project.id, exception_id))
        copied = {column.name: getattr(row, column.name) for column in row.__table__.columns}
        session.add(IncidentRow(**{**copied, "project_id": twin.id, "owner": "twin"}))
        session.flush()
        event = session.get_one(IncidentEventRow, (project.id, exception_id, 1))
        copied = {column.name: getattr(event, column.name) for column in event.__table__.columns}
        session.add(IncidentEventRow(**{**copied, "project_id": twin.id, "actor_id": "twin"}))
    assert shown(project, exception_id)["owner"] is None
    assert shown(project, exception_id)["events"][0]["actor"]["id"] != "twin"
    assert shown(twin, exception_id)["owner"] == "twin"
    assert [each["actor"]["id"] for each in shown(twin, exception_id)["events"]] == ["twin"]


def test_a_request_is_a_span_below_the_callers_and_says_why_it_failed(project):
    told = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(told))
    trace, caller = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    more = {"traceparent": f"00-{trace}-{caller}-01", "Idempotency-Key": "traced"}
    tracing.use(provider)
    try:
        answer = post(project, LEAST, **more)
        assert post(project, {**LEAST, "domain": "other"}, **more).status_code == 409
    finally:
        tracing.use(None)
    first, second = told.get_finished_spans()
    for span in (first, second):
        assert (span.name, span.kind.name) == ("POST /exceptions", "SERVER")
        assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (trace, caller)
    assert (first.status.is_ok, first.status.description) == (True, None)
    assert (second.status.is_ok, second.status.description) == (False, "idempotency_key_reused")
    found = shown(project, answer.json()["exceptionId"])
    assert found["traceparent"] == f"00-{trace}-{first.context.span_id:016x}-01"
