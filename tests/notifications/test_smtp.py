"""Mail, to a real SMTP server on loopback."""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from email import message_from_bytes, policy

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from nilometer.notifications.channels import smtp
from nilometer.notifications.channels.smtp import Security, Smtp
from nilometer.notifications.failures import PermanentFailure, TemporaryFailure
from nilometer.notifications.reach import PUBLIC
from tests.notifications.receivers import certified
from tests.notifications.telling import LOOPBACK, told


class Box:
    """Takes mails; refuses the recipients that it is told to, with these answers."""

    def __init__(self) -> None:
        self.mails = []
        self.refused: dict[str, str] = {}
        self.at_data = ""

    async def handle_RCPT(self, server, session, envelope, address, options):  # noqa: N802
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):  # noqa: N802
        if self.at_data:
            return self.at_data
        mail = message_from_bytes(envelope.content, policy=policy.default)
        self.mails.append((envelope.mail_from, envelope.rcpt_tos, mail, session.ssl is not None))
        return "250 OK"


def authenticate(server, session, envelope, mechanism, data):
    right = (data.login, data.password) == (b"ada", b"right")
    return AuthResult(success=right, handled=False)


class OnFreePort(Controller):
    """The library's, which asks itself at the port that it was given: 0."""

    def _trigger_server(self):
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@contextmanager
def running(**options) -> Iterator[tuple[Box, int]]:
    box = Box()
    controller = OnFreePort(box, hostname="127.0.0.1", port=0, **options)
    controller.start()
    try:
        yield box, controller.port
    finally:
        controller.stop()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return certified(tmp_path_factory.mktemp("smtp"), "localhost")


@pytest.fixture(scope="module")
def serving(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def starttls(serving):
    options = {"tls_context": serving, "require_starttls": True, "auth_require_tls": True}
    with running(**options, authenticator=authenticate, auth_required=True) as opened:
        yield opened


@pytest.fixture
def plain():
    with running() as opened:
        yield opened


@pytest.fixture(autouse=True)
def trusted(monkeypatch, certificate):
    context = ssl.create_default_context()
    context.load_verify_locations(certificate)
    monkeypatch.setattr(smtp, "_trusted", lambda: context)


def channel(port, **more):
    given = {
        "host": "localhost",
        "port": port,
        "sender": "nilometer@sender.example",
        "recipients": ("ops@r.example", "cfo@r.example"),
        "security": Security.NONE,
        "reach": LOOPBACK,
    }
    return Smtp(**(given | more))


ADA = {"username": "ada", "password": "right"}


def test_a_mail_has_all_of_it_and_an_id_that_stays(starttls):
    box, port = starttls
    notification = told(title="Überschritten: 80 %")
    for _ in range(2):
        channel(port, security=Security.STARTTLS, **ADA).send(notification)
    (sender, recipients, mail, encrypted), (*_, again, _) = box.mails
    assert (sender, recipients, encrypted) == (
        *("nilometer@sender.example", ["ops@r.example", "cfo@r.example"]),
        True,
    )
    assert mail["Subject"] == "[Nilometer] Überschritten: 80 %"
    assert mail["To"] == "ops@r.example, cfo@r.example"
    assert mail["Message-ID"] == again["Message-ID"] == f"<{notification.id}@sender.example>"
    assert mail["Auto-Submitted"] == "auto-generated"
    body = mail.get_content()
    for each in (
        "80.000000000000000001 USD were spent.",
        "limit  100",
        "budgets/1",
        "12:00:00 UTC",
    ):
        assert each in body


def test_tls_from_the_beginning(serving):
    with running(ssl_context=serving) as (box, port):
        channel(port, security=Security.TLS).send(told())
        assert len(box.mails) == 1


def test_a_wrong_password_is_final_and_not_repeated(starttls):
    _, port = starttls
    wrong = channel(port, security=Security.STARTTLS, username="ada", password="the-wrong-one")
    with pytest.raises(PermanentFailure) as failed:
        wrong.send(told())
    assert failed.value.code == "smtp_535"
    assert "the-wrong-one" not in failed.value.detail + repr(wrong)


def test_a_server_that_lacks_starttls_gets_nothing(plain):
    box, port = plain
    with pytest.raises(PermanentFailure) as failed:
        channel(port, security=Security.STARTTLS, **ADA).send(told())
    assert (failed.value.code, box.mails) == ("not_supported", [])


@pytest.mark.parametrize("security", [Security.STARTTLS, Security.TLS])
def test_a_certificate_of_another_name_gets_nothing(serving, security):
    option = "ssl_context" if security is Security.TLS else "tls_context"
    with running(**{option: serving}) as (box, port):
        with pytest.raises(TemporaryFailure) as failed:
            channel(port, host="127.0.0.1", security=security).send(told())
        assert (failed.value.code, box.mails) == ("certificate_refused", [])


def test_without_tls_and_to_private_addresses_only_where_the_operator_said_so(plain, monkeypatch):
    box, port = plain
    with pytest.raises(PermanentFailure) as failed:
        channel(port, reach=PUBLIC).send(told())
    assert failed.value.code == "address_refused"
    answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", port))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer)
    with pytest.raises(PermanentFailure) as failed:
        channel(port).send(told())
    assert (failed.value.code, box.mails) == ("not_encrypted", [])


def test_the_servers_word_decides_whether_to_try_again(plain):
    box, port = plain
    for answer, kind in [("452 full", TemporaryFailure), ("554 no", PermanentFailure)]:
        box.at_data = answer
        with pytest.raises(kind) as failed:
            channel(port).send(told())
        assert failed.value.code == f"smtp_{answer[:3]}"


@pytest.mark.parametrize(
    ("refused", "kind", "taken"),
    [
        ({"ops@r.example": "451 greylisted"}, TemporaryFailure, 1),
        ({"ops@r.example": "550 unknown"}, PermanentFailure, 1),
        ({"ops@r.example": "550 no", "cfo@r.example": "450 later"}, TemporaryFailure, 0),
        ({"ops@r.example": "550 no", "cfo@r.example": "550 no"}, PermanentFailure, 0),
    ],
)
def test_that_a_recipient_is_refused_is_never_silent(plain, refused, kind, taken):
    box, port = plain
    box.refused = refused
    with pytest.raises(kind, match=f"refused {len(refused)} of 2 recipients") as failed:
        channel(port).send(told())
    assert len(box.mails) == taken
    assert "example" not in failed.value.detail


@pytest.mark.parametrize(
    ("greeting", "every"),
    [(b"220-", 0.02), (b"220-more of it\r\n" * 100, 0), (b"", 9), (b"SSH-2.0-x\r\n", 9)],
    ids=["drips", "never ends", "says nothing", "another protocol"],
)
def test_a_server_that_never_comes_to_the_point_is_given_up(monkeypatch, greeting, every):
    monkeypatch.setattr(smtp, "ATTEMPT_SECONDS", 0.4)
    started = time.monotonic()
    with speaking(greeting, every) as port, pytest.raises(TemporaryFailure) as failed:
        channel(port).send(told())
    assert time.monotonic() - started < 8  # and one that says nothing would be waited for
    assert greeting.decode().strip("\r\n") == "" or greeting.decode() not in failed.value.detail


@contextmanager
def speaking(piece: bytes, every: float):
    """A server that says this again and again, and a byte at a time where it waits in between."""
    ended = threading.Event()
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                try:
                    connection.sendall(piece)
                    while not ended.wait(every):
                        connection.sendall(piece if not every else b"x")
                except OSError:
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            ended.set()
            thread.join()
