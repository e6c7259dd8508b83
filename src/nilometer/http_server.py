"""The HTTP server of a process: uvicorn, as bounded as the settings say, ended by our signals."""

from __future__ import annotations

import socket
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager

import uvicorn

from nilometer.capture.http_protocol import bounded_protocol
from nilometer.front import Asgi
from nilometer.listening import BACKLOG, listening
from nilometer.settings import CAPTURES, Settings


class HttpServer(uvicorn.Server):
    """uvicorn, but for its signal handling, which ends the process by the signal: exit code 143."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Nothing is caught here: `nilometer.signals` does it."""
        yield


def server_config(settings: Settings, app: Asgi) -> uvicorn.Config:
    """How the application is served."""
    return uvicorn.Config(
        app,
        interface="asgi3",
        loop="uvloop",
        http=bounded_protocol(
            header_timeout=settings.header_timeout,
            drain_bytes=settings.max_wire_bytes,
            drain_timeout=settings.body_idle_timeout,
            max_connections=settings.max_connections,
        ),
        backlog=BACKLOG,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=max(1, round(settings.shutdown_grace)),
    )


def listen(settings: Settings, stack: ExitStack) -> Sequence[socket.socket]:
    """The socket of everything, and that of capture alone if it is asked for."""
    captures = settings.role in CAPTURES
    if captures and settings.otlp_grpc_port:  # gRPC opens it itself, later: it is seen to be free
        remedy = "Choose another with NILOMETER_OTLP_GRPC_PORT; 0 turns OTLP over gRPC off."
        with listening(settings.host, settings.otlp_grpc_port, remedy=remedy):
            pass
    ports = [(settings.port, "--port or NILOMETER_PORT")]
    if captures and settings.capture_port is not None:
        ports.append((settings.capture_port, "NILOMETER_CAPTURE_PORT"))
    return [
        stack.enter_context(
            listening(settings.host, port, remedy=f"Choose another with {setting}.")
        )
        for port, setting in ports
    ]
