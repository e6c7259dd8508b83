"""Runs one process of either profile until it is asked to stop."""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from nilometer import failpoints
from nilometer.announcement import announce
from nilometer.http_server import HttpServer, listen, server_config
from nilometer.listening import port_of
from nilometer.observability import logs, tracing
from nilometer.process import Process
from nilometer.settings import Settings
from nilometer.signals import StopSignals

if TYPE_CHECKING:
    from nilometer.capture.otlp_grpc import OtlpGrpcServer

logger = logging.getLogger(__name__)

# Who writes a row lets other threads in and waits for its turn again: ten times shorter than
# Python's own, or one that computes for long holds the database's only writer up at every row.
_TURN_SECONDS = 0.0005


def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT, then finish what is in flight.

    Raises ConfigurationError when it cannot start as configured.
    """
    settings.check_profile()
    logs.configure(settings.log_level)
    failpoints.configure(settings.failpoints)
    sys.setswitchinterval(_TURN_SECONDS)
    with ExitStack() as stack:
        stack.enter_context(tracing.exporting(settings.tracing))
        signals = stack.enter_context(StopSignals())
        listeners = listen(settings, stack)
        _allow_many_files()
        process = stack.enter_context(closing(Process(settings)))
        # Keys can be printed only now that they are made: nothing may fail between the two.
        announce(settings, listeners, process.bootstrap(), place=process.place)
        capture_port = port_of(listeners[1]) if listeners[1:] else None
        config = server_config(settings, process.front(capture_port))
        gc.freeze()  # what is loaded by now stays: collections look at requests only
        grpc_server = _grpc_server(settings, process)
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(
                _until_asked(
                    signals,
                    HttpServer(config),
                    listeners,
                    process,
                    grpc_server,
                    settings.shutdown_grace,
                )
            )
    logger.info("stopped")


async def _until_asked(
    signals: StopSignals,
    server: HttpServer,
    listeners: Sequence[socket.socket],
    process: Process,
    grpc_server: OtlpGrpcServer | None,
    grace: float,
) -> None:
    def stop() -> None:
        server.should_exit = True

    signals.when_asked(stop)
    if grpc_server is not None:
        await grpc_server.start()
    await server.serve(sockets=list(listeners))
    if grpc_server is not None:
        await grpc_server.stop(grace)
    if process.capture is not None:
        await process.capture.drain()


def _grpc_server(settings: Settings, process: Process) -> OtlpGrpcServer | None:
    """The door of OTLP over gRPC, if it is asked for; its library is loaded only then."""
    if process.capture is None or not settings.otlp_grpc_port:
        return None
    from nilometer.capture.otlp_grpc import OtlpGrpcServer

    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return OtlpGrpcServer(process.capture.gate, f"{host}:{settings.otlp_grpc_port}")


def _allow_many_files() -> None:
    """Raise the soft limit of open files, often 1,024, to the hard one: connections, segments and
    the store's parts need more."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
