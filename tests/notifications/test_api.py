"""Channels and deliveries over HTTP, and their commands."""

import json
import time
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from nilometer.access.types import ALL_SCOPES, Scope
from nilometer.cli.app import app
from nilometer.notifications.claims import Claims
from nilometer.notifications.deliverer import Deliverer
from tests.api.world import EGRESS, Project, World
from tests.notifications.telling import SECRET

PASSWORD = "the-password-of-a-mailbox"
MAIL = {
    "host": "mail.example.com",
    "sender": "nilometer@example.com",
    "recipients": ["ops@example.com"],
    "username": "ada",
    "password": PASSWORD,
}


class Api:
    """The routes of one project, with a key that may do everything."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.key = project.key(*ALL_SCOPES)

    def ask(self, method, rest, status=200, **more):
        answer = self.project.world.ask(method, self.project.path(rest), self.key, **more)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    def add(self, status=201, kind="webhook", name="ops", **config):
        body = {"name": name, "kind": kind, "config": config}
        return self.ask("POST", "notification_channels/", status, json=body)

    def deliver(self) -> None:
        """What a worker does."""
        deliverer = Deliverer(Claims(self.project.world.database), EGRESS)
        while deliverer.run_once():
            pass


@pytest.fixture
def api(world: World) -> Api:
    return Api(world.project())


@pytest.fixture(scope="module")
def url():
    from tests.notifications.receivers import receiving

    with receiving() as receiver:
        yield receiver.url


def test_a_channel_is_added_shown_changed_and_removed(api, url):
    added = api.add(url=f"{url}/a-secret-path")
    secret = added.pop("secret")
    assert secret.startswith("whsec_")
    assert added["config"] == {"url": f"{url}/…"}
    assert added["secrets"] == ["secret", "url"]
    path = f"notification_channels/{added['id']}/"
    assert api.ask("GET", path) == added
    assert api.ask("GET", "notification_channels/")["results"] == [added]
    renamed = api.ask("PATCH", path, json={"name": "on call"})
    assert (renamed["name"], renamed["config"]) == ("on call", added["config"])
    rotated = api.ask("POST", f"{path}rotate/", json={"overlap_seconds": 60})
    assert rotated["secret"] not in (secret, None)
    api.ask("DELETE", path, 204)
    api.ask("GET", path, 404)


def test_no_answer_and_no_audit_entry_repeats_a_secret(api, url):
    mine = {
        "webhook": {"url": f"{url}/hidden-path?token=hidden"},
        "slack": {"url": f"{url}/hidden"},
    }
    mine["smtp"] = MAIL
    keys = {"access_key_id": "AKIA", "secret_access_key": "hidden-key"}
    mine["sns"] = {"topic_arn": "arn:aws:sns:eu-central-1:123456789012:x", **keys}
    for kind, config in mine.items():
        added = api.add(kind=kind, name=kind, **config)
        path = f"notification_channels/{added['id']}/"
        told = [added, api.ask("PATCH", path, json={"name": f"{kind} 2"}), api.ask("GET", path)]
        told.append(api.ask("GET", "notification_channels/"))
        assert "hidden" not in json.dumps(told)
        assert PASSWORD not in json.dumps(told)
        api.ask("DELETE", path, 204)
    path = "/api/organizations/@current/audit_log/"
    log = api.project.world.get(path, api.key).text
    assert "notification_channel.add" in log
    assert "hidden" not in log
    assert PASSWORD not in log


@pytest.mark.parametrize(
    ("kind", "config", "attr"),
    [
        ("webhook", {}, "url"),
        ("webhook", {"url": "https://user:hidden@h.example/"}, "url"),
        ("webhook", {"url": "https://h.example/", "secret": "hidden"}, "secret"),
        ("webhook", {"url": "https://h.example/", "colour": "red"}, "colour"),
        ("webhook", {"url": 7}, "url"),
        ("slack", {"url": "gopher://hidden"}, "url"),
        ("smtp", MAIL | {"recipients": []}, "recipients"),
        ("smtp", MAIL | {"recipients": ["a\r\nBcc: x@y.example"]}, "recipients.0"),
        ("smtp", MAIL | {"host": "h/../x"}, "host"),
        ("smtp", MAIL | {"port": 0}, "port"),
        ("smtp", MAIL | {"password": None}, "password"),
        ("smtp", MAIL | {"security": "none"}, "security"),
        ("smtp", MAIL | {"security": "maybe"}, "security"),
        ("sns", {"topic_arn": "arn:hidden"}, "topic_arn"),
        ("sns", {"topic_arn": "arn:aws:sns:eu-central-1:123456789012:x"}, "access_key_id"),
    ],
)
def test_what_cannot_be_is_refused_by_its_member_and_not_repeated(api, kind, config, attr):
    refused = api.add(400, kind=kind, **config)
    assert refused["attr"] == attr
    assert "hidden" not in refused["detail"]


def test_names_are_of_one_channel(api, url):
    api.add(url=url)
    assert api.add(400, url=url)["attr"] == "name"
    other = api.add(url=url, name="other")
    path = f"notification_channels/{other['id']}/"
    assert api.ask("PATCH", path, 400, json={"name": "ops"})["attr"] == "name"


def test_a_password_goes_nowhere_else_unless_it_is_given_again(api):
    path = f"notification_channels/{api.add(kind='smtp', **MAIL)['id']}/"
    for moved in ({"host": "evil.example"}, {"port": 2525}, {"username": "eve"}):
        refused = api.ask("PATCH", path, 400, json={"config": moved})
        assert (refused["attr"], refused["detail"]) == (
            *("password",),
            "give the password again: it would go elsewhere",
        )
    moved = {"host": "mail2.example.com", "password": "another"}
    assert api.ask("PATCH", path, json={"config": moved})["config"]["host"] == "mail2.example.com"
    told = {"recipients": ["cfo@example.com"]}
    assert api.ask("PATCH", path, json={"config": told})["secrets"] == ["password"]
    none = {"username": None, "password": None}
    assert api.ask("PATCH", path, json={"config": none})["secrets"] == []


def test_a_test_is_sent_once_and_its_delivery_says_what_came_of_it(api, receiver):
    channel = api.add(url=receiver.url)
    path = f"notification_channels/{channel['id']}/test/"
    receiver.answer(503)
    first = api.ask("POST", path, 202)
    assert first["state"] == "waiting"
    api.deliver()
    told = api.ask("GET", f"notification_deliveries/{first['id']}/")
    assert (told["state"], told["error"]) == ("failed", "The receiver answered 503.")
    replayed = api.ask("POST", f"notification_deliveries/{first['id']}/replay/")
    assert replayed["state"] == "waiting"
    api.deliver()
    told = api.ask("GET", f"notification_deliveries/{first['id']}/")
    assert (told["state"], told["error"], told["notification"]["type"]) == (
        *("delivered", None),
        "test",
    )
    assert receiver.ids == [told["notification"]["id"]] * 2


def test_tests_cannot_pile_up(api, url):
    path = f"notification_channels/{api.add(url=url)['id']}/test/"
    for _ in range(10):
        api.ask("POST", path, 202)
    assert api.ask("POST", path, 400)["code"] == "full"


def test_deliveries_are_listed_page_by_page_within_filters(api, receiver):
    one, two = api.add(url=receiver.url, name="one"), api.add(url=receiver.url, name="two")
    receiver.answer(400)
    for channel in (one, two, two, two):
        api.ask("POST", f"notification_channels/{channel['id']}/test/", 202)
        api.deliver()
    every = api.ask("GET", "notification_deliveries/")["results"]
    assert [each["channel_name"] for each in every] == ["two", "two", "two", "one"]
    page = api.ask("GET", "notification_deliveries/?limit=3")
    assert page["results"] == every[:3]
    rest = api.project.world.get(page["next"], api.key).json()
    assert (rest["results"], rest["next"]) == (every[3:], None)
    back = api.project.world.get(rest["previous"], api.key).json()
    assert back["results"] == every[:3]
    failed = api.ask("GET", "notification_deliveries/?state=failed")["results"]
    assert [each["channel_id"] for each in failed] == [one["id"]]
    of_two = api.ask("GET", f"notification_deliveries/?channel={two['id']}")["results"]
    assert of_two == every[:3]
    for wrong in ("channel=x", "cursor=x", "state=open", "sate=failed"):
        api.ask("GET", f"notification_deliveries/?{wrong}", 400)


def command(project: Project, *arguments: str, code: int = 0, text: str = "") -> str:
    options = ["--url", project.world.url, "--project", str(project.id)]
    environment = {"NILOMETER_API_KEY": project.key(*ALL_SCOPES)}
    done = CliRunner().invoke(
        app, ["notifications", *arguments, *options], env=environment, input=text
    )
    assert done.exit_code == code, done.output
    return done.output


def test_the_commands_do_it_too(world, receiver):
    project = world.project()
    secret = command(project, "add", "webhook", "ops", "-", text=f"{receiver.url}/hidden\n")
    assert secret.startswith("whsec_")
    mail = ["--host", "mail.example.com", "--sender", "n@example.com", "--to", "ops@example.com"]
    command(project, "add", "smtp", "mail", *mail)
    command(project, "add", "slack", "chat", "-", text=f"{receiver.url}/hidden\n")
    topic = "arn:aws:sns:eu-central-1:123456789012:x"
    keys = ["--access-key-id", "AKIA", "--secret-access-key", "-"]
    command(project, "add", "sns", "topic", topic, *keys, text="hidden\n")
    listed = command(project, "channels")
    for each in ("ops", f"{receiver.url}/…", "ops@example.com", topic, "secret_access_key"):
        assert each in listed
    assert "hidden" not in listed
    assert command(project, "rotate", "ops") != secret
    api = Api(project)
    channels = api.ask("GET", "notification_channels/")["results"]
    api.ask("POST", f"notification_channels/{channels[0]['id']}/test/", 202)
    receiver.answer(404)
    api.deliver()
    assert "The receiver answered 404." in command(project, "deliveries", "--state", "failed")
    assert command(project, "replay", "--all") == "Replayed 1 delivery.\n"
    api.deliver()
    assert "delivered" in command(project, "deliveries", "--channel", "ops")
    command(project, "remove", "ops")
    assert "ops " not in command(project, "channels")
    assert "no such notification channel" in command(project, "remove", "ops", code=1).lower()


def test_a_channel_is_added_that_is_not_told_of_exceptions(world, receiver):
    project = world.project()
    quiet = "--no-exceptions"
    mail = ["--host", "mail.example.com", "--sender", "n@example.com", "--to", "o@example.com"]
    command(project, "add", "webhook", "hook", receiver.url, quiet)
    command(project, "add", "slack", "chat", receiver.url, quiet)
    command(project, "add", "smtp", "mail", *mail, quiet)
    topic = "arn:aws:sns:eu-central-1:123456789012:x"
    keys = ["--access-key-id", "AKIA", "--secret-access-key", "-"]
    command(project, "add", "sns", "topic", topic, *keys, quiet, text="hidden\n")
    command(project, "add", "slack", "all", receiver.url)
    found = Api(project).ask("GET", "notification_channels/")["results"]
    told = {each["name"]: each["config"].get("exceptions", True) for each in found}
    assert told == {"all": True, **dict.fromkeys(("hook", "chat", "mail", "topic"), False)}
    assert command(project, "channels").count(" no ") == 4


def test_the_test_command_waits_for_the_outcome(world, receiver, monkeypatch):
    project = world.project()
    command(project, "add", "webhook", "ops", receiver.url)
    api = Api(project)
    # A worker: it sends whenever the command looks whether it has. Other threads sleep as ever.
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: api.deliver())
    monkeypatch.setattr("nilometer.cli.notifications.time", clock)
    assert command(project, "test", "ops") == "Delivered.\n"
    receiver.answer(410)
    assert "The receiver answered 410." in command(project, "test", "ops", code=1)


def test_reading_needs_read_and_changing_needs_admin(world, url):
    project = world.project()
    for scope, status in ((Scope.READ, 403), (Scope.WRITE, 403), (Scope.ADMIN, 201)):
        body = {"name": "ops", "kind": "webhook", "config": {"url": url, "secret": SECRET}}
        path = project.path("notification_channels/")
        answer = world.ask("POST", path, project.key(scope), json=body)
        assert answer.status_code == status
