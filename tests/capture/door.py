"""The real door on loopback: uvicorn with our protocol in a thread, real keys, real blobs."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import requests
import uvicorn

from nilometer.access.accounts import Accounts
from nilometer.access.keyring import Keyring
from nilometer.access.types import CaptureMode, KeyKind, Scope
from nilometer.blobs.store import BlobStore, open_store
from nilometer.capture.app import CaptureApp
from nilometer.capture.http_protocol import bounded_protocol
from nilometer.database.engine import Database
from nilometer.domain import ai_record, clock
from nilometer.domain.ai_record import AiRecord
from nilometer.log.envelope import Envelope
from nilometer.log.port import LogFull, LogState, Position
from nilometer.settings import Settings
from tests.patience import within

T = TypeVar("T")
BUCKET = "test-bucket"


def wait_until(condition: Callable[[], T], what: str, seconds: float = 10) -> T:
    """The first true value of the condition; AssertionError when the time is over."""
    value = within(seconds, condition, interval=0.005)
    assert value, f"not within {seconds} s: {what}"
    return value


class MemoryLog:
    """What was appended, in memory; or the error that every append raises."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []
        self.error: Exception | None = None

    async def append(self, envelope: Envelope) -> Position:
        return self.append_blocking(envelope)

    def append_blocking(self, envelope: Envelope) -> Position:
        if self.error:
            raise self.error
        self.envelopes.append(envelope)
        return Position(0, len(self.envelopes) - 1)

    def state(self) -> LogState:
        ready = self.error is None
        return LogState(ready, "", 0, 0, full=isinstance(self.error, LogFull))

    @property
    def records(self) -> list[AiRecord]:
        return [ai_record.decode(envelope.payload) for envelope in self.envelopes]

    def only(self) -> AiRecord:
        [record] = self.records
        return record


class Access:
    """A real database of keys, one project per call."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.accounts = Accounts(database)
        self.keyring = Keyring(database, default_retention_days=30)

    def project(
        self, mode: CaptureMode = CaptureMode.ACCEPT, dropped: Collection[str] = ()
    ) -> tuple[int, str]:
        """A new project with these rules: its id and a project key."""
        project = self.accounts.create_project("tests").project_id
        self.accounts.projects.change(project, mode=mode, dropped_distinct_ids=dropped)
        return project, self.key(project)

    def key(
        self, project: int, kind: KeyKind = KeyKind.PROJECT, scopes: Collection[Scope] = ()
    ) -> str:
        granted = scopes or (Scope.CAPTURE,)
        return self.accounts.keys.create(
            kind=kind, project_id=project, name="tests", scopes=granted
        ).token


@dataclass
class Door:
    """A running door."""

    port: int
    log: MemoryLog
    blobs: BlobStore
    access: Access
    app: CaptureApp
    project: int
    key: str
    server: uvicorn.Server

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/i/v0/ai"

    def post(
        self, parts: list[Any] | None = None, *, key: str | None = None, **options: Any
    ) -> requests.Response:
        """A form as plain `requests` sends it."""
        headers = {"Authorization": f"Bearer {key or self.key}"} | options.pop("headers", {})
        return requests.post(
            options.pop("url", self.url), files=parts, headers=headers, timeout=30, **options
        )

    def post_body(self, body: bytes, *, boundary: str = "b", **headers: str) -> requests.Response:
        """Raw bytes as a multipart body."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        content_type = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        return self.post(data=body, headers=content_type | named)

    def request_head(self, length: int, **headers: str) -> bytes:
        """The head of a valid POST, for tests that speak to the socket themselves."""
        lines = {
            "Host": "test",
            "Authorization": f"Bearer {self.key}",
            "Content-Type": "multipart/form-data; boundary=b",
            "Content-Length": str(length),
        } | {name.replace("_", "-"): value for name, value in headers.items()}
        text = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
        return f"POST /i/v0/ai HTTP/1.1\r\n{text}\r\n".encode()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)


@contextmanager
def open_door(
    access: Access,
    directory: Path,
    *,
    now: Callable[[], int] | None = None,
    log: Any = None,
    blobs: BlobStore | None = None,
    keyring: Any = None,
    drain_timeout: float = 10,
    project: tuple[int, str] | None = None,
    **settings: Any,
) -> Iterator[Door]:
    """A door with these settings until the context ends."""
    configured = Settings(data_dir=directory, **settings)
    log = log or MemoryLog()
    with closing(blobs or open_store(directory.joinpath("blobs").as_uri(), bucket=BUCKET)) as store:
        app = CaptureApp(
            log=log,
            blobs=store,
            keyring=keyring or access.keyring,
            settings=configured,
            clock=now or (lambda: clock.to_micros(clock.now())),
        )
        protocol = bounded_protocol(
            header_timeout=configured.header_timeout,
            drain_bytes=configured.max_wire_bytes,
            drain_timeout=drain_timeout,
            max_connections=configured.max_connections,
        )
        number, key = project or access.project()
        with _served(app, protocol) as (port, server):
            yield Door(port, log, store, access, app, number, key, server)


@contextmanager
def _served(app: Any, protocol: Any) -> Iterator[tuple[int, uvicorn.Server]]:
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=protocol,
            ws="none",
            proxy_headers=False,
            lifespan="off",
            log_config=None,
            access_log=False,
            loop="uvloop",
            timeout_keep_alive=75,  # as Nilometer's own server has it
            timeout_graceful_shutdown=5,
        )
    )
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        factory = server.config.get_loop_factory()

        def run() -> None:
            with asyncio.Runner(loop_factory=factory) as runner:
                runner.run(server.serve(sockets=[listener]))

        thread = threading.Thread(target=run)
        thread.start()
        try:
            wait_until(lambda: server.started, "the door listens")
            yield listener.getsockname()[1], server
        finally:
            server.should_exit = True
            thread.join(90)
            assert not thread.is_alive()


def new_uuid() -> str:
    return str(uuid.uuid4())


def form(
    event: dict[str, Any] | bytes, properties: Any = None, **blobs: tuple[str | None, bytes]
) -> list[Any]:
    """The parts of a request, as `requests` takes them. A blob is (content type, body)."""
    parts: list[Any] = [("event", (None, _json(event), "application/json"))]
    if properties is not None:
        parts.append(("event.properties", (None, _json(properties), "application/json")))
    for name, (content_type, body) in blobs.items():
        parts.append((f"event.properties.{name}", (None, body, content_type)))
    return parts


def _json(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    return json.dumps(value, separators=(",", ":")).encode()


def event(**fields: Any) -> dict[str, Any]:
    """A small valid event without properties."""
    return {"uuid": new_uuid(), "event": "$ai_generation", "distinct_id": "test_user"} | fields


def whole_event(**properties: Any) -> dict[str, Any]:
    """A small valid event with embedded properties."""
    return event(properties={"$ai_model": "test-model"} | properties)


def raw_form(
    *parts: tuple[str, bytes] | bytes, boundary: str = "b", end: bytes = b"--\r\n"
) -> bytes:
    """A multipart body by hand: (name, body) parts, or the whole bytes of a part."""
    body = b""
    for part in parts:
        if isinstance(part, tuple):
            name, content = part
            head = f'Content-Disposition: form-data; name="{name}"\r\n'
            if name.startswith("event.properties."):
                head += "Content-Type: text/plain\r\n"
            part = head.encode() + b"\r\n" + content  # noqa: PLW2901
        body += b"--" + boundary.encode() + b"\r\n" + part + b"\r\n"
    return body + b"--" + boundary.encode() + end


def valid_body(boundary: str = "b", **blobs: bytes) -> bytes:
    """A valid body with embedded properties and text blobs."""
    parts = [(f"event.properties.{name}", content) for name, content in blobs.items()]
    return raw_form(("event", _json(whole_event())), *parts, boundary=boundary)


BLOB = "event.properties.$ai_input"


def with_part(name: str, content: bytes, head: bytes = b"Content-Type: text/plain") -> bytes:
    """A valid event with one more part."""
    part = b'Content-Disposition: form-data; name="%s"\r\n' % name.encode()
    return raw_form(
        ("event", json.dumps(event()).encode()),
        ("event.properties", b'{"$ai_model":"test","taken":null}'),
        part + head + b"\r\n\r\n" + content,
    )


def refused(door: Door, response: requests.Response, status: int, text: str) -> None:
    """Assert that the request was refused so, and that nothing was appended."""
    assert (response.status_code, text in response.text) == (status, True), response.text
    assert door.log.envelopes == []
