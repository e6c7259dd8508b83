"""`nilometer notifications`: where notifications go, and what became of them."""

from __future__ import annotations

import json
import sys
import time
from typing import Annotated, Any

import typer

from nilometer.cli.app import app
from nilometer.cli.client import (
    DEFAULT_URL,
    OWN_PROJECT,
    AsJson,
    Client,
    Key,
    Project,
    Url,
    connected,
    segment,
    show_document,
)
from nilometer.cli.output import show_table, visible
from nilometer.errors import NilometerError

_POLL_SECONDS = 0.2
_TEST_SECONDS = 60

notifications = typer.Typer(
    no_args_is_help=True, help="Channels that notifications go to, and what was sent."
)
add = typer.Typer(no_args_is_help=True, help="Add a channel. Give - for a secret to read it.")
notifications.add_typer(add, name="add")
app.add_typer(notifications, name="notifications")

Name = Annotated[str, typer.Argument(help="What you will know it by.")]
Channel = Annotated[str, typer.Argument(metavar="CHANNEL", help="Its name, or its id.")]
SecretUrl = Annotated[str, typer.Argument(metavar="URL", help="Or - to read it from a line.")]
Exceptions = Annotated[
    bool,
    typer.Option(
        "--exceptions/--no-exceptions", help="Whether it is told of exceptions that need a person."
    ),
]


class NotSent(NilometerError):
    """A test notification did not arrive."""

    code = "not_sent"


@notifications.command("channels")
def channels(
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """List the channels. Secrets are never shown."""
    with connected(url, key) as client:
        text = client.get(_channels(project))
    if as_json:
        show_document(text)
        return
    columns = ("id", "name", "kind", "goes to", "exceptions", "secrets", "changed")
    show_table(columns, (_channel_row(each) for each in json.loads(text)["results"]))


@add.command("webhook")
def add_webhook(
    name: Name,
    address: SecretUrl,
    exceptions: Exceptions = True,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """Add a webhook, and print the secret that it is signed with, once."""
    with connected(url, key) as client:
        config = {"url": _secret(address)}
        text = _added(client, project, name, "webhook", config, exceptions=exceptions)
    _tell_secret(text, as_json=as_json)


@add.command("slack")
def add_slack(
    name: Name,
    address: SecretUrl,
    exceptions: Exceptions = True,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """Add an incoming webhook of Slack, or of what takes its format."""
    with connected(url, key) as client:
        config = {"url": _secret(address)}
        text = _added(client, project, name, "slack", config, exceptions=exceptions)
    _tell(text, "Added", as_json=as_json)


@add.command("smtp")
def add_smtp(
    name: Name,
    host: Annotated[str, typer.Option(help="The mail server.")],
    sender: Annotated[str, typer.Option(help="The address that mails are from.")],
    to: Annotated[list[str], typer.Option(help="A recipient. Repeat for several.")],
    port: Annotated[int, typer.Option(min=1, max=65535)] = 587,
    security: Annotated[str, typer.Option(help="starttls, tls or none.")] = "starttls",
    username: Annotated[str | None, typer.Option(help="To log in with.")] = None,
    password: Annotated[str | None, typer.Option(help="Give - to read it from a line.")] = None,
    exceptions: Exceptions = True,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """Add mail, by a server of yours."""
    config: dict[str, Any] = {
        "host": host,
        "port": port,
        "security": security,
        "sender": sender,
        "recipients": to,
        "username": username,
        "password": None if password is None else _secret(password),
    }
    with connected(url, key) as client:
        text = _added(client, project, name, "smtp", config, exceptions=exceptions)
    _tell(text, "Added", as_json=as_json)


@add.command("sns")
def add_sns(
    name: Name,
    topic: Annotated[str, typer.Argument(metavar="ARN", help="The topic.")],
    access_key_id: Annotated[str | None, typer.Option(help="To publish with.")] = None,
    secret_access_key: Annotated[
        str | None, typer.Option(help="Give - to read it from a line.")
    ] = None,
    exceptions: Exceptions = True,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """Add a topic of Amazon SNS."""
    config = {
        "topic_arn": topic,
        "access_key_id": access_key_id,
        "secret_access_key": None if secret_access_key is None else _secret(secret_access_key),
    }
    with connected(url, key) as client:
        text = _added(client, project, name, "sns", config, exceptions=exceptions)
    _tell(text, "Added", as_json=as_json)


@notifications.command("rotate")
def rotate(
    channel: Channel,
    overlap: Annotated[
        int, typer.Option(help="Seconds for which the old one signs as well.")
    ] = 86400,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """Give a webhook a new signing secret, and print it, once."""
    with connected(url, key) as client:
        path = f"{_channels(project)}{_id(client, project, channel)}/rotate/"
        text = client.post(path, {"overlap_seconds": overlap})
    _tell_secret(text, as_json=as_json)


@notifications.command("remove")
def remove(
    channel: Channel,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
) -> None:
    """Remove a channel. What waits for it has then failed."""
    with connected(url, key) as client:
        client.delete(f"{_channels(project)}{_id(client, project, channel)}/")
    typer.echo("Removed.")


@notifications.command("test")
def send_test(
    channel: Channel,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """Send a test notification, and say what came of it."""
    with connected(url, key) as client:
        text = client.post(f"{_channels(project)}{_id(client, project, channel)}/test/")
        path = f"{_deliveries(project)}{json.loads(text)['id']}/"
        deadline = time.monotonic() + _TEST_SECONDS
        while (told := json.loads(text))["state"] == "waiting" and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
            text = client.get(path)
    if as_json:
        show_document(text)
    if told["state"] != "delivered":
        raise NotSent(visible(told["error"] or "no worker has sent it within a minute"))
    if not as_json:
        typer.echo("Delivered.")


@notifications.command("deliveries")
def deliveries(
    state: Annotated[str | None, typer.Option(help="waiting, delivered or failed.")] = None,
    channel: Annotated[str | None, typer.Option(help="Only this channel's, by name or id.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="So many, the newest.")] = 50,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """List what waits, was sent or failed, newest first."""
    with connected(url, key) as client:
        named = None if channel is None else _id(client, project, channel)
        found = client.pages(_deliveries(project), {"state": state, "channel": named}, limit)
    if as_json:
        show_document(found.text())
        return
    columns = ("id", "created", "channel", "kind", "title", "state", "attempts", "error")
    show_table(columns, (_delivery_row(each) for each in found.values()))


@notifications.command("replay")
def replay(
    delivery_ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every one that failed.")] = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
) -> None:
    """Send again, now, what failed or was lost on the way; under the same id."""
    if bool(delivery_ids) is every:
        raise typer.BadParameter("name the deliveries, or give --all")
    with connected(url, key) as client:
        chosen = delivery_ids or _failed(client, project)
        for delivery_id in chosen:
            client.post(f"{_deliveries(project)}{segment(delivery_id)}/replay/")
    typer.echo(f"Replayed {len(chosen)} deliver{'y' if len(chosen) == 1 else 'ies'}.")


def _failed(client: Client, project: str) -> list[str]:
    found = client.pages(_deliveries(project), {"state": "failed"}, 1_000_000)
    return [each["id"] for each in found.values()]


def _channels(project: str) -> str:
    return f"/api/projects/{project}/notification_channels/"


def _deliveries(project: str) -> str:
    return f"/api/projects/{project}/notification_deliveries/"


def _id(client: Client, project: str, named: str) -> str:
    """The id of the channel of this name; what is no name is taken for an id."""
    known = json.loads(client.get(_channels(project)))["results"]
    return segment(next((each["id"] for each in known if each["name"] == named), named))


def _added(
    client: Client, project: str, name: str, kind: str, config: dict[str, Any], *, exceptions: bool
) -> str:
    given = {member: value for member, value in config.items() if value is not None}
    if not exceptions:
        given["exceptions"] = False
    return client.post(_channels(project), {"name": name, "kind": kind, "config": given})


def _secret(text: str) -> str:
    """What was given, or the line that - stands for: other users see command lines."""
    if text != "-":
        return text
    if sys.stdin.isatty():
        return str(typer.prompt("Secret", hide_input=True, err=True))
    return sys.stdin.readline().rstrip("\r\n")


def _tell(text: str, done: str, *, as_json: bool) -> None:
    if as_json:
        show_document(text)
    else:
        told = json.loads(text)
        typer.echo(f"{done} {visible(told['name'])} ({told['id']}).")


def _tell_secret(text: str, *, as_json: bool) -> None:
    """The secret alone goes to stdout, so that a script can take it."""
    if as_json:
        show_document(text)
        return
    told = json.loads(text)
    typer.echo(told["secret"])
    typer.echo(
        f"{visible(told['name'])} ({told['id']}) is signed with it. It is not shown again.",
        err=True,
    )


def _channel_row(channel: dict[str, Any]) -> tuple[object, ...]:
    config = channel["config"]
    where = config.get("url") or config.get("topic_arn") or ", ".join(config.get("recipients", ()))
    return (
        channel["id"],
        channel["name"],
        channel["kind"],
        where,
        "no" if config.get("exceptions") is False else "yes",
        ", ".join(channel["secrets"]),
        channel["updated_at"],
    )


def _delivery_row(delivery: dict[str, Any]) -> tuple[object, ...]:
    told = delivery["notification"]
    return (
        delivery["id"],
        delivery["created_at"],
        delivery["channel_name"],
        told["type"],
        told["title"],
        delivery["state"],
        delivery["attempts"],
        delivery["error"],
    )
