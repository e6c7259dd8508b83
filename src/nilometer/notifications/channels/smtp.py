"""Mail, over SMTP with TLS."""

from __future__ import annotations

import io
import smtplib
import socket
import ssl
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import format_datetime
from enum import StrEnum
from functools import cache
from typing import Any

from nilometer.notifications.channels.limits import ATTEMPT_SECONDS, CONNECT_SECONDS
from nilometer.notifications.failures import DeliveryFailure, PermanentFailure, TemporaryFailure
from nilometer.notifications.notification import Notification
from nilometer.notifications.reach import PUBLIC, Place, Reach

_MAX_ANSWERS = 64 * 1024
_READY = 220


class Security(StrEnum):
    """How the connection is encrypted: from its beginning; after the greeting; or not, which only
    goes to networks that the operator named, and never with a password."""

    TLS = "tls"
    STARTTLS = "starttls"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Smtp:
    """Sends a mail by one server, to all recipients in one message."""

    host: str
    port: int
    sender: str
    recipients: tuple[str, ...]
    security: Security = Security.STARTTLS
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    reach: Reach = PUBLIC

    def send(self, notification: Notification) -> None:
        """Send it; see `nilometer.notifications.channels.Channel`.

        When only some recipients can be reached now, all get it again later, under the same
        Message-ID, by which mail programs know it. When some never can, the others have it, and
        PermanentFailure says how many have not.
        """
        places = self.reach.places(self.host, self.port)
        if self.security is Security.NONE and not all(place.named for place in places):
            raise PermanentFailure(
                "Without TLS nothing is sent but to networks that the operator named.",
                code="not_encrypted",
            )
        try:
            with self._connected(places) as server:
                refused = server.send_message(mail(notification, self.sender, self.recipients))
        except smtplib.SMTPRecipientsRefused as error:
            refused = error.recipients
        except (smtplib.SMTPException, OSError, UnicodeError) as error:
            raise _failure(error) from None
        _check(refused, len(self.recipients))

    @contextmanager
    def _connected(self, places: list[Place]) -> Generator[smtplib.SMTP]:
        """A server that has been greeted and knows who we are."""
        own = self.sender.rpartition("@")[2]
        server = _Server(self.host, own, self.security, places)
        # The library bounds each answer; a server that writes a byte at a time needs this as well.
        timer = threading.Timer(ATTEMPT_SECONDS, server.cut)
        timer.daemon = True
        timer.start()
        try:
            code, said = server.connect(self.host, self.port)
            if code != _READY:
                raise smtplib.SMTPConnectError(code, said)
            if self.security is Security.STARTTLS:
                server.starttls(context=_trusted())
            if self.username is not None and self.security is not Security.NONE:
                server.log_in(self.username, self.password or "")
            yield server
            with suppress(smtplib.SMTPException, OSError):  # it was taken already
                server.quit()
        finally:
            timer.cancel()
            server.close()


class _Server(smtplib.SMTP):
    """Connects to addresses that were looked at, and reads so much of the answers and no more."""

    def __init__(self, host: str, own: str, security: Security, places: list[Place]) -> None:
        """`host` is whose certificate is expected, and `own` who greets."""
        self._security = security
        self._places = places
        self._over = False
        super().__init__(local_hostname=own, timeout=CONNECT_SECONDS)
        self._host = host

    def log_in(self, username: str, password: str) -> None:
        """Once, in one way: the library's `login` tries each that is offered, and a password that
        has become wrong would soon lock its user out. Raises SMTPException."""
        self.ehlo_or_helo_if_needed()
        offered = self.esmtp_features.get("auth", "").upper().split()
        self.user, self.password = username, password
        if "PLAIN" in offered:
            self.auth("PLAIN", self.auth_plain)
        elif "LOGIN" in offered:
            self.auth("LOGIN", self.auth_login)
        else:
            raise smtplib.SMTPNotSupportedError

    def cut(self) -> None:
        """End the connection, from another thread: whoever waits on it gets an error."""
        self._over = True
        if self.sock is not None:
            with suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)

    def getreply(self) -> tuple[int, bytes]:
        """As the library's, of a bounded file."""
        if self._over:
            raise smtplib.SMTPServerDisconnected("it took too long")
        if self.file is None and self.sock is not None:
            self.file = _Bounded(self.sock.makefile("rb"))
        return super().getreply()

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        """What `connect` of the library connects with."""
        opened = self._reached(port, timeout)
        opened.settimeout(ATTEMPT_SECONDS)
        if self._security is Security.TLS:
            return _trusted().wrap_socket(opened, server_hostname=host)
        return opened

    def _reached(self, port: int, timeout: float) -> socket.socket:
        for place in self._places[:-1]:
            with suppress(OSError):
                return socket.create_connection((place.address, port), timeout)
        return socket.create_connection((self._places[-1].address, port), timeout)


class _Bounded:
    """A file of answers that ends when there have been too many."""

    def __init__(self, file: io.BufferedReader[Any]) -> None:
        self._file = file
        self._left = _MAX_ANSWERS

    def readline(self, size: int) -> bytes:
        """A line. Raises OSError, which ends the connection, after too much."""
        line = self._file.readline(size)
        self._left -= len(line)
        if self._left < 0:
            raise OSError("the server answers at too great a length")
        return line

    def close(self) -> None:
        """Close it."""
        self._file.close()


def mail(notification: Notification, sender: str, recipients: tuple[str, ...]) -> EmailMessage:
    """The message: plain text, with an id that stays the same however often it is sent."""
    message = EmailMessage()
    message["Subject"] = f"[Nilometer] {notification.title}"
    message["From"] = sender
    message["To"] = ", ".join(recipients)
    message["Date"] = format_datetime(notification.occurred_at)
    message["Message-ID"] = f"<{notification.id}@{sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message["X-Nilometer-Kind"] = notification.kind
    message["X-Nilometer-Severity"] = notification.severity.value
    message.set_content(plain_text(notification))
    return message


def plain_text(notification: Notification) -> str:
    """All of a notification as text."""
    width = max(map(len, notification.facts), default=0)
    facts = [f"{name.ljust(width)}  {value}" for name, value in notification.facts.items()]
    end = [notification.link] if notification.link else []
    end.append(f"{notification.occurred_at:%Y-%m-%d %H:%M:%S} UTC · {notification.kind}")
    paragraphs = [notification.title, notification.text, "\n".join(facts), "\n".join(end)]
    return "\n\n".join(each for each in paragraphs if each) + "\n"


@cache
def _trusted() -> ssl.SSLContext:
    return ssl.create_default_context()


def _failure(error: Exception) -> DeliveryFailure:
    if isinstance(error, smtplib.SMTPResponseException):
        sentence, code = f"The mail server answered {error.smtp_code}.", f"smtp_{error.smtp_code}"
        if isinstance(error, smtplib.SMTPAuthenticationError):
            sentence = f"The mail server refused the login with {error.smtp_code}."
        kind = PermanentFailure if error.smtp_code >= 500 else TemporaryFailure
        return kind(sentence, code=code)
    if isinstance(error, smtplib.SMTPNotSupportedError | UnicodeError):
        return PermanentFailure(
            "The mail server lacks what is needed: STARTTLS or a login.", code="not_supported"
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        return TemporaryFailure(
            "The mail server's certificate cannot be verified.", code="certificate_refused"
        )
    return TemporaryFailure(
        f"The mail server does not answer as one ({type(error).__name__}).", code="unreachable"
    )


def _check(refused: dict[str, tuple[int, bytes]], recipients: int) -> None:
    """Raise for recipients that the server would not take; which they are, is theirs to know."""
    if not refused:
        return
    sentence = f"The mail server refused {len(refused)} of {recipients} recipients."
    if any(code < 500 for code, _ in refused.values()):
        raise TemporaryFailure(sentence, code="recipients_refused")
    raise PermanentFailure(sentence, code="recipients_refused")
