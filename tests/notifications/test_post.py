"""What webhooks and Slack have in common: one bounded POST, never led elsewhere."""

import json
import socket
import threading
import time
from contextlib import contextmanager, suppress
from email.utils import format_datetime

import httpx
import pytest

from nilometer.domain import clock
from nilometer.errors import InvalidInput
from nilometer.notifications import exchange, signature
from nilometer.notifications.channels import http_post
from nilometer.notifications.channels.slack import Slack, message
from nilometer.notifications.channels.webhook import Webhook
from nilometer.notifications.failures import PermanentFailure, TemporaryFailure
from nilometer.notifications.notification import Severity
from nilometer.notifications.reach import Reach
from tests.notifications.receivers import certified, receiving
from tests.notifications.telling import LOOPBACK, SECRET, told


def webhook(url, **more):
    return Webhook(url, (SECRET,), **({"reach": LOOPBACK} | more))


def test_a_webhook_is_signed_json(receiver):
    notification = told()
    Webhook(f"{receiver.url}/hook?a=b", (SECRET, signature.new_secret()), LOOPBACK).send(
        notification
    )
    [sent] = receiver.received
    assert sent.path == "/hook?a=b"
    assert sent.headers["host"] == receiver.url.removeprefix("http://")
    signature.verify(SECRET, sent.headers, sent.body)
    assert len(sent.headers["webhook-signature"].split()) == 2
    assert sent.headers["webhook-id"] == notification.id
    assert json.loads(sent.body) == {
        "type": "budget.threshold",
        "timestamp": "2026-11-21T12:00:00.000005Z",
        "data": {
            "id": notification.id,
            "project_id": 7,
            "severity": "warning",
            "title": "Budget research: 80 % of 100 USD",
            "text": "80.000000000000000001 USD were spent.",
            "facts": {"spent": "80.000000000000000001", "limit": "100"},
            "link": "https://nilometer.example/budgets/1",
        },
    }


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 599])
def test_what_may_pass_is_a_temporary_failure(receiver, status):
    receiver.answer(status, "a secret of theirs")
    with pytest.raises(TemporaryFailure) as failed:
        webhook(receiver.url).send(told())
    assert (failed.value.code, failed.value.retry_after) == (f"http_{status}", None)
    assert failed.value.detail == f"The receiver answered {status}."


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 403, 404, 410, 413, 422])
def test_any_other_answer_is_final_and_no_redirect_is_followed(receiver, status):
    receiver.answer(status, Location=f"{receiver.url}/elsewhere")
    with pytest.raises(PermanentFailure) as failed:
        webhook(receiver.url).send(told())
    assert failed.value.code == f"http_{status}"
    assert len(receiver.received) == 1


@pytest.mark.parametrize(
    "value",
    [
        "Fri, 01 Jan 99999999999999999999 00:00:00 GMT",  # no integer of C holds it
        "Fri, 01 Jan 99999 00:00:00 GMT",
        "Fri, 01 Jan 2027 00:00:00 +99999999999999999999",
        "9" * 5000 + " Jan 2027 00:00:00 GMT",
    ],
)
def test_a_time_that_is_none_changes_nothing_of_what_was_answered(receiver, value):
    receiver.answer(204, Retry_After=value)
    webhook(receiver.url).send(told())
    receiver.answer(503, Retry_After=value)
    with pytest.raises(TemporaryFailure) as failed:
        webhook(receiver.url).send(told())
    assert (failed.value.code, failed.value.retry_after) == ("http_503", None)


def test_retry_after_is_read_as_seconds_and_as_a_date(receiver):
    until = clock.now().replace(microsecond=0).timestamp() + 100
    date = format_datetime(clock.from_micros(int(until * 1e6)), usegmt=True)
    for value, seconds in [("7", 7), (date, 100), ("soon", None), ("-1", None), ("9" * 30, 86400)]:
        receiver.answer(503, Retry_After=value)
        with pytest.raises(TemporaryFailure) as failed:
            webhook(receiver.url).send(told())
        assert failed.value.retry_after == pytest.approx(seconds, abs=2), value
    assert http_post.retry_after("Mon, 01 Jan 2001 00:00:00 GMT") == 0


@pytest.mark.parametrize("reach", [Reach(), Reach.parse("10.0.0.0/8")])
def test_loopback_is_refused_unless_the_operator_named_it(receiver, reach):
    with pytest.raises(PermanentFailure) as failed:
        webhook(receiver.url, reach=reach).send(told())
    assert failed.value.code == "address_refused"
    assert receiver.received == []


def test_without_tls_nothing_leaves_the_networks_of_the_operator(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", _leading_to("8.8.8.8"))
    with pytest.raises(PermanentFailure) as failed:
        webhook("http://receiver.example/").send(told())
    assert failed.value.code == "not_encrypted"


def _leading_to(*answers):
    """A name that leads to these addresses, and then to a private one."""
    left = list(answers)

    def look_up(host, port, *_, **__):
        address = left.pop(0) if left else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    return look_up


def test_the_address_that_was_looked_at_is_the_one_that_is_used(receiver, monkeypatch):
    """A second lookup would lead to another address, as that of a rebinding name does."""
    port = receiver.url.rpartition(":")[2]
    monkeypatch.setattr(socket, "getaddrinfo", _leading_to("127.0.0.1", "127.9.9.9"))
    webhook(f"http://receiver.example:{port}/").send(told())
    [sent] = receiver.received
    assert sent.headers["host"] == f"receiver.example:{port}"


@pytest.fixture
def trusting(monkeypatch):
    """Trust a certificate of a test."""

    def trust(path):
        context = httpx.create_ssl_context()
        context.load_verify_locations(path)
        monkeypatch.setattr(exchange, "_trusted", lambda: context)

    return trust


def test_a_certificate_is_verified_against_the_name_that_was_given(tmp_path, monkeypatch, trusting):
    certificate = certified(tmp_path, "receiver.example")
    monkeypatch.setattr(socket, "getaddrinfo", _leading_to(*["127.0.0.1"] * 9))
    with receiving(certificate) as receiver:
        port = receiver.url.rpartition(":")[2]
        unknown = pytest.raises(TemporaryFailure)
        with unknown as failed:
            webhook(f"https://receiver.example:{port}/").send(told())
        assert failed.value.code == "certificate_refused"
        trusting(certificate)
        webhook(f"https://receiver.example:{port}/").send(told())
        with pytest.raises(TemporaryFailure) as failed:
            webhook(f"https://other.example:{port}/").send(told())
        assert failed.value.code == "certificate_refused"
        assert len(receiver.received) == 1


@contextmanager
def speaking(*pieces: bytes, every: float = 0.02):
    """A server that answers these bytes, then the last of them again and again."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ended = threading.Event()

        def serve() -> None:
            try:
                connection, _ = listener.accept()
            except OSError:
                return  # nobody came in time
            with connection:
                try:
                    connection.recv(65536)
                    for piece in pieces:
                        connection.sendall(piece)
                    while not ended.wait(every):
                        connection.sendall(pieces[-1])
                except OSError:
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            ended.set()
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_a_receiver_that_writes_a_byte_at_a_time_is_given_up(monkeypatch):
    monkeypatch.setattr(http_post, "ATTEMPT_SECONDS", 3)
    started = time.monotonic()
    with (
        speaking(b"HTTP/1.1 200 OK\r\nX: ", b"x") as url,
        pytest.raises(TemporaryFailure) as failed,
    ):
        webhook(url).send(told())
    assert failed.value.code == "timeout"
    assert time.monotonic() - started < 40


def test_no_more_of_an_answer_is_read_than_says_what_became_of_it():
    """An endless one would be read until the time is over, and into memory."""
    started = time.monotonic()
    with speaking(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536, every=0) as url:
        webhook(url).send(told())
    assert time.monotonic() - started < 15


@pytest.mark.parametrize(
    "answer", [b"", b"\r\n\r\n", b"SSH-2.0-x\r\n", b"HTTP/1.1 999999 x\r\n\r\n"]
)
def test_what_is_no_http_is_a_temporary_failure(answer, monkeypatch):
    monkeypatch.setattr(http_post, "ATTEMPT_SECONDS", 3)
    with speaking(answer or b"x") as url, pytest.raises(TemporaryFailure):
        webhook(url).send(told())


def test_nobody_there_is_a_temporary_failure():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(TemporaryFailure) as failed:
        webhook(f"http://127.0.0.1:{port}/").send(told())
    assert failed.value.code == "unreachable"


@pytest.mark.parametrize(
    "url",
    [
        *("", "receiver", "ftp://r.example/", "https://", "file:///etc/passwd", "https://r:x/"),
        *(
            "https://user:secret@r.example/",
            "https://r.example/#secret",
            "https://r.e/" + "x" * 2000,
        ),
    ],
)
def test_what_is_no_url_is_refused_and_not_repeated(url):
    with pytest.raises(InvalidInput) as refused:
        http_post.checked_url(url)
    assert "secret" not in refused.value.detail


def test_slack_gets_blocks_and_a_text(receiver):
    Slack(f"{receiver.url}/services/T0/B0/secret", LOOPBACK).send(told())
    [sent] = receiver.received
    body = json.loads(sent.body)
    assert body["text"] == "⚠️ Budget research: 80 % of 100 USD"
    header, text, fields, context = body["blocks"]
    assert header["text"] == {"type": "plain_text", "text": body["text"]}
    assert text["text"]["text"] == "80.000000000000000001 USD were spent."
    assert fields["fields"][0]["text"] == "*spent*\n80.000000000000000001"
    assert context["elements"][0]["text"] == (
        "2026-11-21 12:00 UTC · budget.threshold · "
        "<https://nilometer.example/budgets/1|Open in Nilometer>"
    )


def test_slack_can_be_told_nothing_that_mentions_or_links():
    body = message(told(title="<!channel>", text="<https://evil|here> & <@U1>", facts={"<a>": ">"}))
    texts = json.dumps(body["blocks"][1:3])
    assert "<" not in texts
    assert body["text"] == "⚠️ &lt;!channel&gt;"
    assert "&lt;https://evil|here&gt; &amp; &lt;@" in texts
    body = message(told(text="@channel https://evil.example", facts={"user": "ada@example.org"}))
    sections = [block for block in body["blocks"] if block["type"] == "section"]
    shown = [sections[0]["text"], *sections[1]["fields"]]
    assert all(each["verbatim"] for each in shown)  # or Slack makes links of what looks like one
    assert "@channel" not in shown[0]["text"]  # which others that take the format would do
    assert shown[1]["text"] == "*user*\nada@example.org"


def test_slacks_limits_are_kept_and_no_escape_is_cut_in_two():
    facts = {f"name {number}": "&" * 1000 for number in range(40)}
    body = message(told(title="t" * 200, text="&" * 4000, facts=facts, severity=Severity.CRITICAL))
    header, text, *rest, _ = body["blocks"]
    assert len(header["text"]["text"]) == 150
    assert len(text["text"]["text"]) <= 3000
    assert text["text"]["text"].removesuffix("…").replace("&amp;", "") == ""
    assert [len(each["fields"]) for each in rest] == [10, 10, 10, 10]
    assert all(len(each["text"]) <= 2000 for block in rest for each in block["fields"])


def test_a_channel_shows_no_secret_when_it_is_printed():
    for channel in (webhook("https://r.example/secret"), Slack("https://r.example/secret")):
        assert "secret" not in repr(channel).replace("secrets", "")
        assert SECRET not in repr(channel)
