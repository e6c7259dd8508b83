"""Tools and executions over HTTP, and their commands."""

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import uuid4

import pytest
from typer.testing import CliRunner

from nilometer.access.types import ALL_SCOPES, Scope
from nilometer.cli.app import app
from nilometer.database.fence import EVERY_ROW
from nilometer.domain import clock
from nilometer.incidents.tools import history
from nilometer.incidents.tools.call import Begun, Succeeded, ToolCall, Unknown
from nilometer.incidents.tools.executions import Executions
from nilometer.notifications import signature
from tests.running import wait_until

TOKEN = "the-token-of-a-tenant"
SIGNED = {
    "url": "http://127.0.0.1:1/jobs/{job}",
    "headers": {"Authorization": "Bearer {secrets.token}"},
    "signed": True,
}


class Api:
    """The routes of one project, with a key that may do everything."""

    def __init__(self, project):
        self.project = project
        self.world = project.world
        self.key = project.key(*ALL_SCOPES)

    def ask(self, method, rest, status=200, **more):
        answer = self.world.ask(method, self.project.path(rest), self.key, **more)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    def add(self, status=201, name="stop", kind="http", config=SIGNED, **more):
        body = {"name": name, "kind": kind, "config": config, **more}
        return self.ask("POST", "tools/", status, json=body)

    def executed(self, tool="stop", outcome=None, incident="incident", minutes=0):
        """The id of an execution that was begun, and ended so."""
        call = ToolCall(
            project_id=self.project.id,
            incident_id=incident,
            execution_id=str(uuid4()),
            tool=tool,
            input={"job": "7"},
        )
        now = clock.now() - timedelta(minutes=minutes)
        with self.world.database.concurrent(EVERY_ROW) as session:
            [begun] = Executions().begin(session, [call], now)
            if outcome is not None:
                assert isinstance(begun, Begun)
                Executions().record(session, [(begun.call, outcome)], now)
        return call.execution_id


@pytest.fixture
def api(world):
    return Api(world.project())


def test_a_tool_is_made_shown_changed_and_removed_and_its_secrets_never_come_back(api):
    added = api.add(secrets={"token": TOKEN}, input_schema={"required": ["job"]})
    signature.checked_secret(added.pop("signing_secret"))
    told = [added]
    assert added["secrets"] == ["signing", "token"]
    assert added["breaker"] == {
        "state": "closed",
        "failures": 0,
        "opened_at": None,
        "retry_at": None,
    }
    assert api.ask("GET", "tools/stop/") == added
    listed = api.ask("GET", "tools/")["results"]
    assert added in listed
    assert [each["name"] for each in listed if each["built_in"]] == [
        *("budget_change", "budget_hard_stop", "dead_letters_replay"),
        *("key_revoke", "notify", "report_attach"),
    ]
    changed = api.ask("PATCH", "tools/stop/", json={"enabled": False, "secrets": {"token": "b2"}})
    assert (changed["enabled"], changed["version"], changed["config"]) == (False, 2, SIGNED)
    told += [changed, api.ask("GET", "tools/stop/"), api.ask("GET", "tools/")]
    rotated = api.ask("POST", "tools/stop/rotate/", json={"overlap_seconds": 60})
    signature.checked_secret(rotated.pop("signing_secret"))
    told.append(rotated)
    told.append(api.world.get("/api/organizations/@current/audit_log/", api.key).text)
    for secret in (TOKEN, "whsec_", '"b2"'):
        assert secret not in json.dumps(told)
    api.ask("DELETE", "tools/stop/", 204)
    api.ask("GET", "tools/stop/", 404)
    api.ask("DELETE", "tools/notify/", 404)


@pytest.mark.parametrize(
    ("body", "attr"),
    [
        ({"name": "x", "kind": "dummy"}, "kind"),
        ({"name": "X", "kind": "http"}, "name"),
        ({"name": "x", "kind": "http"}, "config.url"),
        ({"name": "x", "kind": "http", "config": {"url": "http://127.0.0.1/"}, "a": 1}, "a"),
        ({"name": "x", "kind": "notify", "config": {"url": "https://h.example"}}, "config"),
        ({"name": "x", "kind": "notify", "max_concurrency": 0}, "max_concurrency"),
        ({"name": "x", "kind": "notify", "secrets": {"token": "t"}}, "secrets.token"),
        ({"name": "x", "kind": "notify", "enabled": "no"}, "enabled"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(api, body, attr):
    answer = api.ask("POST", "tools/", 400, json=body)
    assert answer["attr"] == attr


def test_of_what_is_not_there_it_says_what_is(api):
    webhook = {"url": "https://h.example/", "method": "GET", "nope": 1}
    for ask, told in (
        (("tools/", {"name": "x", "kind": "notify", "a": 1}), ("a: ", "name and kind.")),
        (("tools/", {"name": "x", "kind": "http", "config": webhook}), ("config.nope: ", "method")),
    ):
        rest, body = ask
        detail = api.ask("POST", rest, 400, json=body)["detail"]
        assert detail.startswith(f"{told[0]}there is no such member here; there are ")
        assert told[1] in detail
        assert "personal_api_key" not in detail
    del webhook["method"]
    refused = api.ask(
        "POST", "tools/", 400, json={"name": "x", "kind": "webhook", "config": webhook}
    )
    assert "signed" not in refused["detail"]
    told = "there is no such parameter here; there are"
    assert api.ask("GET", "tools/?x=1", 400)["detail"] == f"x: {told} none."
    executions = api.ask("GET", "tool_executions/?x=1", 400)["detail"]
    assert executions == f"x: {told} state, tool, incident, limit and cursor."


def test_a_dry_run_tells_and_does_nothing(api):
    api.add(secrets={"token": TOKEN})
    told = api.ask("POST", "tools/stop/dry_run/", json={"input": {"job": "7"}})
    assert told["possible"] is True
    assert told["would"]["url"] == "http://127.0.0.1:1/jobs/7"
    assert told["would"]["headers"]["Authorization"] == "Bearer [secret:token]"
    assert told["would"]["body"] == {"job": "7"}
    told = api.ask("POST", "tools/stop/dry_run/")
    assert (told["possible"], told["error"]["code"]) == (False, "input_invalid")
    budget = api.project.budget(hard_stop=False)
    told = api.ask("POST", "tools/budget_hard_stop/dry_run/", json={"input": {"budget": budget}})
    assert told["would"]["after"]["hard_stop"] is True
    assert not api.world.services.budgets.get(api.project.id, budget).budget.hard_stop
    api.project.dead_letter()
    told = api.ask("POST", "tools/dead_letters_replay/dry_run/", json={"input": {"limit": 5}})
    assert told["would"] == {"replayed": 1, "open": 1}
    told = api.ask("POST", "tools/report_attach/dry_run/", json={"input": {"days": 2}})
    assert told["would"]["markdown"].startswith("# ")
    assert api.ask("GET", "tool_executions/")["results"] == []
    api.ask("POST", "tools/nobody/dry_run/", 404)


def test_dry_runs_of_one_project_whose_names_hang_keep_no_other_waiting(api, world, monkeypatch):
    released, asked = threading.Event(), []
    resolve = socket.getaddrinfo

    def hang(host, *rest, **more):
        if host != "hangs.example":
            return resolve(host, *rest, **more)
        asked.append(host)
        released.wait(30)
        raise OSError

    api.add(config={"url": "https://hangs.example/"})
    monkeypatch.setattr(socket, "getaddrinfo", hang)
    other = Api(world.project())
    other.add(secrets={"token": TOKEN})
    with ThreadPoolExecutor(6) as threads:
        path = "tools/stop/dry_run/"
        waiting = [threads.submit(api.ask, "POST", path) for _ in range(6)]
        try:
            wait_until(lambda: len(asked) >= 2)  # as many as the project may have
            assert other.ask("GET", "traces/")["results"] == []
            assert other.ask("POST", path, json={"input": {"job": "7"}})["possible"]
            assert not any(each.done() for each in waiting)
        finally:
            released.set()
        assert not any(each.result(30)["possible"] for each in waiting)


def test_dead_letters_are_really_replayed_and_counted_by_their_execution(api):
    """The tool over the real log: what the fake in the other tests stands for."""
    letters = [api.project.dead_letter(), api.project.dead_letter(reason="other")]
    executor = api.world.app.state.context.executor
    call = ToolCall(
        project_id=api.project.id,
        incident_id="i",
        execution_id="e1",
        tool="dead_letters_replay",
        input={"reason": "map_failed"},
    )
    for _ in range(2):  # the second is after a crash
        assert executor.execute(call) == Succeeded({"replayed": 1, "refused": 0, "open": 0})
    found = [api.ask("GET", f"dead_letters/{each}/") for each in letters]
    assert [each["state"] for each in found] == ["replayed", "open"]
    assert (found[0]["actor"], found[0]["note"]) == ("incident i", "execution e1")


def test_executions_are_listed_in_pages_and_by_what_they_were_for(api):
    api.add(secrets={"token": TOKEN})
    done = [
        api.executed(outcome=Succeeded({"status": 200}), minutes=3),
        api.executed(
            outcome=Unknown("timeout", "No answer.", True, asked=True), incident="other", minutes=2
        ),
        api.executed("nobody", minutes=1),
    ]
    first = api.ask("GET", "tool_executions/", params={"limit": 2})
    assert [each["id"] for each in first["results"]] == done[:0:-1]
    second = api.world.get(first["next"], api.key).json()
    assert [each["id"] for each in second["results"]] == [done[0]]
    for filters, expected in [
        ({"state": "unknown"}, done[1:2]),
        ({"tool": "nobody"}, done[2:]),
        ({"incident": "other"}, done[1:2]),
        ({"incident": "none"}, []),
    ]:
        found = api.ask("GET", "tool_executions/", params=filters)["results"]
        assert [each["id"] for each in found] == expected
    one = api.ask("GET", f"tool_executions/{done[1]}/")
    assert (one["input"], one["error_code"], one["state"]) == ({"job": "7"}, "timeout", "unknown")
    api.ask("GET", "tool_executions/", 400, params={"cursor": first["next"][-20:]})
    elsewhere = Api(api.world.project())
    elsewhere.ask("GET", f"tool_executions/{done[1]}/", 404)
    assert elsewhere.ask("GET", "tool_executions/")["results"] == []


def test_a_page_of_executions_is_bounded_by_what_they_hold(api, monkeypatch):
    api.add(secrets={"token": TOKEN})
    outcome = Succeeded({"body": "x" * 500})
    done = [api.executed(outcome=outcome, minutes=each) for each in (4, 3, 2, 1)]
    monkeypatch.setattr(history, "MAX_PAGE", 1200)
    first = api.ask("GET", "tool_executions/", params={"limit": 3})
    assert [each["id"] for each in first["results"]] == done[:1:-1]
    monkeypatch.setattr(history, "MAX_PAGE", 1)
    second = api.world.get(first["next"], api.key).json()
    assert [each["id"] for each in second["results"]] == [done[1]]
    before = api.world.get(second["previous"], api.key).json()
    assert [each["id"] for each in before["results"]] == [done[2]]
    last = api.world.get(second["next"], api.key).json()
    assert [each["id"] for each in last["results"]] == [done[0]]
    assert last["next"] is None


@pytest.mark.parametrize("given", [10**30, float("inf"), "\ud800", "\0"])
def test_whatever_a_tool_gave_back_the_pages_can_be_read(api, given):
    api.add(secrets={"token": TOKEN})
    execution = api.executed(outcome=Succeeded({"status": 200, "body": given}))
    [listed] = api.ask("GET", "tool_executions/")["results"]
    assert listed == api.ask("GET", f"tool_executions/{execution}/")


def test_a_rehearsal_with_a_number_that_readers_do_not_keep_shows_it_as_text(api):
    api.add(secrets={"token": TOKEN})
    told = api.ask("POST", "tools/stop/dry_run/", json={"input": {"job": "7", "n": 10**30}})
    assert told["would"]["body"]["n"] == str(10**30)


def test_a_person_decides_about_an_unknown_one_once(api):
    api.add(secrets={"token": TOKEN})
    execution = api.executed(outcome=Unknown("timeout", "No answer.", False, asked=True))
    path = f"tool_executions/{execution}/decide/"
    api.ask("POST", path, 400, json={})
    reason = "their log has it"
    decided = api.ask("POST", path, json={"succeeded": True, "reason": reason})
    assert decided["state"] == "succeeded"
    assert decided["decided_by"].startswith("key:")
    assert api.ask("POST", path, 400, json={"succeeded": False})["code"] == "not_unknown"
    log = api.world.get("/api/organizations/@current/audit_log/", api.key).json()
    [entry] = [each for each in log["results"] if each["action"] == "tool_execution.decide"]
    assert entry["subject"] == execution
    assert entry["detail"] == {"succeeded": True, "reason": reason}


def test_an_operator_closes_a_breaker(api):
    closed = api.ask("POST", "tools/notify/close_breaker/")
    assert closed["breaker"]["state"] == "closed"
    reader = api.project.key(Scope.READ)
    answer = api.world.ask("POST", api.project.path("tools/notify/close_breaker/"), reader)
    assert answer.status_code == 403


def test_the_commands(api):
    api.add(secrets={"token": TOKEN})
    execution = api.executed(outcome=Succeeded({"status": 200}))
    where = ["--url", api.world.url, "--key", api.key, "--project", str(api.project.id)]

    def run(*words, code=0):
        done = CliRunner().invoke(app, ["tools", *words, *where])
        assert done.exit_code == code, done.output
        return done.output

    listed = run("list")
    assert "stop" in listed
    assert "key_revoke" in listed
    assert json.loads(run("list", "--json"))["results"]
    assert "Disabled the tool key_revoke." in run("disable", "key_revoke")
    assert json.loads(run("show", "key_revoke"))["enabled"] is False
    assert "Enabled the tool key_revoke." in run("enable", "key_revoke")
    would = json.loads(run("dry-run", "stop", "--input", '{"job": "7"}'))
    assert would["possible"] is True
    assert "JSON object" in run("dry-run", "stop", "--input", "{", code=1)
    assert execution[:8] in run("executions", "--tool", "stop", "--state", "succeeded")
    assert json.loads(run("executions", "--json", "--state", "failed"))["results"] == []
