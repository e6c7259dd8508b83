"""Tools of a project: what they may be, and that nothing secret of them comes back."""

import json
import logging
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import inspect, select, text

from nilometer.access.tables import AuditEntry, Project
from nilometer.database.fence import EVERY_ROW
from nilometer.errors import InvalidInput, NotFound
from nilometer.incidents.tools.call import Succeeded
from nilometer.incidents.tools.definitions import MAX_TOOLS, Tools
from nilometer.notifications import signature
from nilometer.notifications.reach import PUBLIC

TOKEN = 's3cr3t-"token"/of+a=tenant'
SIGNING = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
URL = "https://tool.example/v1"


def add(bench, **config):
    more = {name: config.pop(name) for name in ("secrets", "input_schema") if name in config}
    given = {"config": {"url": URL, **config}, **more}
    return bench.tools.add(bench.project, "call", "http", given)


def test_a_project_has_our_own_tools_and_what_it_defined(bench):
    names = [each.tool.name for each in bench.tools.list(bench.project)]
    assert names == [
        *("budget_change", "budget_hard_stop", "dead_letters_replay"),
        *("key_revoke", "notify", "report_attach"),
    ]
    add(bench)
    bench.tools.change(bench.project, "notify", {"enabled": False})
    found = {each.tool.name: each.tool for each in bench.tools.list(bench.project)}
    assert set(found) == {*names, "call"}
    assert (found["notify"].enabled, found["notify"].version) == (False, 1)
    assert (found["key_revoke"].enabled, found["key_revoke"].version) == (True, 0)
    assert bench.tools.get(bench.project, "call").tool == found["call"]
    with pytest.raises(NotFound):
        bench.tools.get(bench.other, "call")
    assert bench.tools.get(bench.other, "notify").tool.enabled


@pytest.mark.parametrize(
    ("config", "attr"),
    [
        ({"url": "http://user:hunter2@h.example/"}, "config.url"),
        ({"url": "ftp://h.example/"}, "config.url"),
        ({"method": "TRACE"}, "config.method"),
        ({"retries": 3}, "config.retries"),
        ({"timeout_seconds": 0}, "config.timeout_seconds"),
        ({"timeout_seconds": 61}, "config.timeout_seconds"),
        ({"timeout_seconds": "20"}, "config.timeout_seconds"),
        ({"max_response_bytes": 1 << 21}, "config.max_response_bytes"),
        ({"headers": {"Host": "x"}}, "config.headers.Host"),
        ({"headers": {"idempotency-key": "x"}}, "config.headers.idempotency-key"),
        ({"headers": {"a b": "x"}}, "config.headers"),
        ({"headers": {"X": "a\r\nY: b"}}, "config.headers.X"),
        ({"headers": {"X": "{input}"}}, "config.headers.X"),
        ({"headers": {"X": "{secrets.token}"}}, "secrets.token"),
        ({"headers": {"X": "{secrets.signing}"}, "signed": True}, "config"),
        ({"secrets": {"token": "t"}}, "secrets.token"),
        ({"secrets": {"Token": "t"}}, "secrets"),
        ({"headers": {"X": "{secrets.a}"}, "secrets": {"a": "hunter2\n"}}, "secrets.a"),
        ({"signed": True, "secrets": {"signing": "hunter2"}}, "secret"),
        ({"event_type": "x"}, "config.event_type"),
        ({"idempotency_header": "Host"}, "config.idempotency_header"),
        ({"method": "GET", "signed": True}, "config.signed"),
        ({"input_schema": {"type": "nothing"}}, "input_schema"),
        ({"input_schema": {"$ref": "https://elsewhere.example/x"}}, "input_schema"),
        ({"input_schema": {"description": "x" * 40_000}}, "input_schema"),
    ],
)
def test_what_a_tool_cannot_be_is_refused(bench, config, attr):
    with pytest.raises(InvalidInput) as refused:
        add(bench, **config)
    assert refused.value.attr == attr
    assert "hunter2" not in refused.value.detail
    with pytest.raises(NotFound):
        bench.tools.get(bench.project, "call")


@pytest.mark.parametrize("name", ["", "Call", "1", "a b", "a/b", "x" * 101, "notify"])
def test_a_name_can_be_called(bench, name):
    with pytest.raises(InvalidInput) as refused:
        bench.tools.add(bench.project, name, "http", {"config": {"url": URL}})
    assert refused.value.attr == "name"


def test_a_name_is_taken_once_in_a_project(bench):
    add(bench)
    with pytest.raises(InvalidInput) as refused:
        add(bench)
    assert refused.value.code == "name_taken"
    bench.tools.add(bench.other, "call", "http", {"config": {"url": URL}})


def test_there_are_not_too_many(bench):
    with bench.database.session(EVERY_ROW) as session:
        session.execute(
            text(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :most) "
                "INSERT INTO tools SELECT :project, 't' || i, 'notify', '', '{}', NULL, NULL, 1, "
                "1, 1, 1, 1, '2026-01-01 00:00:00', '2026-01-01 00:00:00' FROM n"
            ),
            {"most": MAX_TOOLS, "project": bench.project},
        )
    with pytest.raises(InvalidInput, match=str(MAX_TOOLS)):
        add(bench)


def test_without_named_networks_only_tls_is_possible(bench):
    tools = Tools(bench.database, PUBLIC)
    with pytest.raises(InvalidInput, match="https"):
        tools.add(bench.project, "call", "http", {"config": {"url": "http://tool.example/"}})


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "10.0.0.1", "[::1]", "[::ffff:10.0.0.1]", "2852039166", "0x7f.1"]
)
def test_an_address_that_may_not_be_reached_is_refused_when_the_tool_is_defined(bench, host):
    tools = Tools(bench.database, PUBLIC)
    with pytest.raises(InvalidInput) as refused:
        tools.add(bench.project, "call", "http", {"config": {"url": f"https://{host}/"}})
    assert refused.value.attr == "config.url"
    for number, public in enumerate(("8.8.8.8", "[2606:4700::1111]", "tool.example")):
        config = {"url": f"https://{public}/"}
        tools.add(bench.project, f"public-{number}", "http", {"config": config})


def test_a_change_keeps_what_it_does_not_name(bench):
    add(bench, headers={"X": "{secrets.token}"}, secrets={"token": TOKEN}, method="PUT")
    changed = bench.tools.change(bench.project, "call", {"config": {"timeout_seconds": 5}})
    assert changed.tool.config["method"] == "PUT"
    assert changed.tool.config["timeout_seconds"] == 5
    assert (changed.tool.secrets, changed.tool.version) == (("token",), 2)
    changed = bench.tools.change(bench.project, "call", {"config": {"method": None}})
    assert "method" not in changed.tool.config
    with pytest.raises(InvalidInput, match="token"):
        bench.tools.change(bench.project, "call", {"secrets": {"token": None}})
    given = {"config": {"headers": None}, "secrets": {"token": None}}
    assert bench.tools.change(bench.project, "call", given).tool.secrets == ()


def test_secrets_do_not_follow_a_tool_to_another_host(bench):
    add(bench, headers={"X": "{secrets.token}"}, secrets={"token": TOKEN})
    moved = {"config": {"url": "https://mine.example/"}}
    with pytest.raises(InvalidInput, match="would go elsewhere"):
        bench.tools.change(bench.project, "call", moved)
    for url in ("https://tool.example:8443/", "http://tool.example/"):
        with pytest.raises(InvalidInput, match="would go elsewhere"):
            bench.tools.change(bench.project, "call", {"config": {"url": url}})
    given = {**moved, "secrets": {"token": "another"}}
    assert bench.tools.change(bench.project, "call", given).tool.secrets == ("token",)
    assert bench.tools.change(bench.project, "call", {"config": {"url": "https://mine.example/x"}})


def test_what_signs_gets_a_secret_and_a_new_one_elsewhere(bench):
    made = add(bench, signed=True)
    signature.checked_secret(made.signing_secret)
    assert bench.tools.get(bench.project, "call").signing_secret is None
    moved = bench.tools.change(bench.project, "call", {"config": {"url": "https://mine.example/"}})
    assert moved.signing_secret not in (None, made.signing_secret)
    changed = bench.tools.change(bench.project, "call", {"config": {"signed": False}})
    assert changed.tool.secrets == ()


def test_while_a_secret_is_replaced_both_sign(bench, receiver):
    bench.http(signed=True, secrets={"signing": SIGNING})
    rotated = bench.tools.rotate(bench.project, "call", secret=None, overlap=timedelta(minutes=5))
    bench.run(bench.call())
    bench.later(minutes=5, seconds=1)
    bench.run(bench.call())
    first, second = receiver.received
    for secret in (SIGNING, rotated.signing_secret):
        signature.verify(secret, first.headers, first.body)
    signature.verify(rotated.signing_secret, second.headers, second.body)
    with pytest.raises(signature.SignatureWrong):
        signature.verify(SIGNING, second.headers, second.body)
    with pytest.raises(InvalidInput):
        bench.tools.rotate(bench.project, "call", secret=None, overlap=timedelta(days=8))
    bench.http("unsigned")
    with pytest.raises(InvalidInput, match="signs"):
        bench.tools.rotate(bench.project, "unsigned", secret=None, overlap=timedelta())


def test_a_tool_that_is_removed_takes_its_secrets_along(bench):
    add(bench, signed=True)
    bench.tools.remove(bench.project, "call")
    assert rows_with(bench, "whsec_") == []
    with pytest.raises(NotFound):
        bench.tools.remove(bench.project, "call")
    with pytest.raises(NotFound):
        bench.tools.remove(bench.project, "notify")


def test_all_of_a_project_goes_with_it_and_nothing_of_another(bench, receiver):
    for project in (bench.project, bench.other):
        config = {"url": f"{bench.url}/", "signed": True}
        bench.tools.add(project, "call", "http", {"config": config})
        receiver.answers(500)
        bench.run(bench.call(project=project))
    with bench.database.session(EVERY_ROW) as session:
        bench.executions.forget(session, bench.project)
        tables = ("tools", "tool_secrets", "tool_executions", "tool_breakers")
        for table in tables:
            found = session.scalars(text(f"SELECT project_id FROM {table}")).all()
            assert found == [bench.other], table


# Secrecy.


def rows_with(bench, secret):
    """The columns, of any table, that hold this text."""
    found = []
    with bench.database.read(EVERY_ROW) as session:
        tables = inspect(session.connection())
        for table in tables.get_table_names():
            for row in session.execute(text(f'SELECT * FROM "{table}"')).mappings():
                found += [f"{table}.{name}" for name, value in row.items() if secret in str(value)]
    return found


def echo(handler):
    """A receiver that gives back all that it was sent, in every way in which that comes."""
    body = json.dumps(
        {
            "headers": dict(handler.headers.items()),
            "path": handler.path,
            "text": f"you said {handler.headers['X-Key']}",
            handler.headers["X-Key"]: "a name",
        }
    ).encode()
    handler.send_response(handler.server_status)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@pytest.mark.parametrize("status", [200, 400, 500])
def test_a_secret_is_in_no_answer_row_error_log_or_representation(bench, receiver, status, caplog):
    caplog.set_level(logging.DEBUG)
    shown = [
        bench.http(
            path="/{secrets.token}/do",
            headers={"X-Key": "{secrets.token}"},
            secrets={"token": TOKEN, "signing": SIGNING},
            signed=True,
        )
    ]

    def behave(handler):
        handler.server_status = status
        echo(handler)

    receiver.always = behave
    call = bench.call(note=f"somebody pasted {TOKEN} here")
    [begun] = bench.begin(call)
    performed = bench.executor.execute(begun.call)
    outcome = bench.record(begun.call, performed)
    assert receiver.received[0].headers["x-key"] == TOKEN
    shown += [begun, begun.call, performed, outcome, bench.kept(call)]
    shown += [bench.executor.execute(replace(call, dry_run=True))]
    shown += bench.tools.list(bench.project)
    told = [repr(each) for each in shown] + [record.getMessage() for record in caplog.records]
    told += [repr(outcome.output) if isinstance(outcome, Succeeded) else outcome.detail]
    kept = bench.kept(call)
    told += [json.dumps([dict(kept.input), kept.output], ensure_ascii=False)]
    for secret in (TOKEN, SIGNING, "s3cr3t-%22token", "s3cr3t-\\"):
        assert not [each for each in told if secret in each], secret
    assert rows_with(bench, SIGNING) == ["tool_secrets.value"]
    assert rows_with(bench, "s3cr3t-") == ["tool_secrets.value"]
    assert kept.input == {"note": "somebody pasted [secret:token] here"}
    if status == 200:
        assert kept.output["body"]["headers"]["X-Key"] == "[secret:token]"
        assert kept.output["body"]["path"] == "/[secret:token]/do"


def test_the_audit_log_tells_of_tools_and_of_nothing_secret(bench):
    add(bench, headers={"X": "{secrets.token}"}, secrets={"token": TOKEN})
    bench.tools.change(bench.project, "call", {"secrets": {"token": TOKEN + "2"}})
    bench.tools.remove(bench.project, "call")
    with bench.database.read(EVERY_ROW) as session:
        entries = session.scalars(select(AuditEntry).where(AuditEntry.subject == "call")).all()
        told = [(each.action.value, each.detail) for each in entries]
    assert told == [
        ("tool.add", {"kind": "http"}),
        ("tool.change", {"changed": ["secrets"]}),
        ("tool.remove", {}),
    ]


# What the project redacts.


def redact(bench, **rules):
    with bench.database.session(EVERY_ROW) as session:
        session.get_one(Project, bench.project).redaction = rules


def test_inputs_and_outputs_are_kept_as_the_projects_rules_leave_them(bench, receiver):
    redact(bench, patterns=["email"], keys=["password"])
    bench.http()
    receiver.answers(200, {"to": "ada@example.org", "password": "p", "n": 1.5})
    call = bench.call(mail="ada@example.org", n=2)
    outcome = bench.run(call)
    assert receiver.received[0].json == {"mail": "ada@example.org", "n": 2}
    kept = bench.kept(call)
    assert kept.input == {"mail": "[redacted:email]", "n": 2}
    body = {"to": "[redacted:email]", "password": "[redacted:key:password]", "n": 1.5}
    assert kept.output == outcome.output == {"status": 200, "body": body}


def test_a_project_that_keeps_no_content_keeps_no_texts(bench, receiver):
    redact(bench, content="none")
    bench.http()
    receiver.answers(200, {"answer": "a prompt", "n": 1, "empty": "", "list": ["a", 2]})
    call = bench.call(prompt="a prompt", n=2)
    bench.run(call)
    kept = bench.kept(call)
    assert kept.input == {"prompt": "[redacted:content]", "n": 2}
    mark = "[redacted:content]"
    body = {"answer": mark, "n": 1, "empty": "", "list": [mark, 2]}
    assert kept.output == {"status": 200, "body": body}
