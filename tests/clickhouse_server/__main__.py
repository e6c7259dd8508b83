"""`python -m tests.clickhouse_server --data DIR [--port 8123] [--user name:password:access …]`

With `--certificate FILE` it speaks TLS. It says where it listens on its first line and
answers until SIGTERM.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import ssl
import sys
import threading
import time
import uuid
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from typing import Any

from tests.clickhouse_server import users
from tests.clickhouse_server.engine import Answer, Engine
from tests.clickhouse_server.faults import Refused
from tests.clickhouse_server.requests import Asked, asked, encoded
from tests.clickhouse_server.users import User


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], engine: Engine, known: Mapping[str, User]) -> None:
        super().__init__(address, _Handler)
        self.engine = engine
        self.users = known

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news; anything else is."""
        if not isinstance(sys.exception(), (ConnectionError, ssl.SSLError)):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body in one piece

    def do_GET(self) -> None:
        if self.path in ("/ping", "/"):
            self._send(200, b"Ok.\n", {})
        else:
            self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing: the fixture's output is read by tests."""

    def _answer(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        started = time.perf_counter()
        body = self._body(headers)
        query_id = str(uuid.uuid4())
        common = {
            "X-ClickHouse-Query-Id": query_id,
            "X-ClickHouse-Timezone": self.server.engine.timezone,
            "X-ClickHouse-Server-Display-Name": "fixture",
        }
        try:
            request = asked(self.command, self.path, headers, body)
            user = users.authenticated(self.server.users, request.user, request.password)
            users.check(
                user,
                request.text[:1000].decode(errors="replace"),
                names_project="SQL_nilometer_project" in request.settings,
            )
            answer = self.server.engine.run(request, user)
        except Refused as refused:
            common["X-ClickHouse-Exception-Code"] = str(refused.code)
            self._send(refused.status, str(refused).encode(), common)
            return
        self._send_answer(request, answer, common, time.perf_counter() - started)

    def _send_answer(
        self, request: Asked, answer: Answer, headers: dict[str, str], seconds: float
    ) -> None:
        headers["X-ClickHouse-Summary"] = json.dumps(
            {
                "read_rows": "0",
                "written_rows": str(answer.written_rows),
                "result_bytes": str(len(answer.body)),
                "elapsed_ns": str(int(seconds * 1e9)),
            }
        )
        if answer.format:
            headers["X-ClickHouse-Format"] = answer.format
        data, encoding = encoded(answer.body, request)
        if encoding:
            headers["Content-Encoding"] = encoding
        self._send(200, data, headers)

    def _body(self, headers: Mapping[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(headers.get("content-length", 0)))
        chunks: list[bytes] = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(chunks)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=UTF-8")
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument(
        "--until-eof", action="store_true", help="end when standard input does, as with its parent"
    )
    parser.add_argument("--certificate", type=Path, help="a PEM file with its key: serve over TLS")
    parser.add_argument("--user", action="append", type=User.parse, default=[])
    return parser.parse_args()


def _end_with_input() -> None:
    while os.read(0, 4096):  # not sys.stdin, whose lock would be held at exit
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Serve until SIGTERM."""
    arguments = _arguments()
    arguments.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    known = arguments.user or [User.parse("default::all")]
    engine = Engine(arguments.data)
    server = _Server((arguments.host, arguments.port), engine, {user.name: user for user in known})

    if arguments.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(arguments.certificate)
        # The handshake is the handler's: a client that never finishes it holds up nobody.
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )

    def stop(_: int, __: FrameType | None) -> None:
        raise SystemExit

    signal.signal(signal.SIGTERM, stop)
    if arguments.until_eof:
        threading.Thread(target=_end_with_input, daemon=True).start()
    sys.stdout.write(f"listens on {arguments.host}:{server.server_port}\n")
    sys.stdout.flush()
    try:
        server.serve_forever()
    except (SystemExit, KeyboardInterrupt):
        server.server_close()
        engine.close()


if __name__ == "__main__":
    main()
