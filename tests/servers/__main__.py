"""`scripts/services`: the servers that tests share, on the ports that the documentation names."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import typer

from tests.servers import shared
from tests.servers.process import ServerError
from tests.servers.server import SERVICES, Server

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
Names = Annotated[
    list[str] | None, typer.Argument(help=f"Of {', '.join(shared.KINDS)}; all when none is named.")
]


def _named(names: Sequence[str] | None) -> list[str]:
    if unknown := [name for name in names or [] if name not in shared.KINDS]:
        raise ServerError(f"No such server: {unknown[0]}. There are {', '.join(shared.KINDS)}.")
    return list(names or shared.KINDS)


def _each(act: Callable[[str], Server], names: list[str]) -> list[Server]:
    """Do it to all at once; the first error is raised after the last has ended."""
    with ThreadPoolExecutor(len(names)) as pool:
        return list(pool.map(act, names))


def _line(server: Server) -> str:
    if not server.running:
        return f"{server.name:<12}stopped"
    state = "running" if server.healthy() else "not answering"
    return f"{server.name:<12}{state:<15}{server.address:<60}pid {server.process.pid}"


@app.command()
def start(names: Names = None) -> None:
    """Start them and wait until they are healthy; what runs already is left as it is."""
    shared.end_orphans()
    for server in _each(shared.start, _named(names)):
        typer.echo(_line(server))
    typer.echo(f"Data and logs: {SERVICES}. To stop: make services stop")


@app.command()
def stop(names: Names = None) -> None:
    """Stop them; their data stay."""
    shared.end_orphans()
    for server in _each(shared.stop, _named(names)):
        typer.echo(_line(server))


@app.command()
def clear(names: Names = None) -> None:
    """Stop them and remove what they stored."""
    for server in _each(shared.stop, _named(names)):
        server.wipe()


@app.command()
def status(names: Names = None) -> None:
    """Say which run; exit 3 when one does not answer."""
    servers = [shared.server(name) for name in _named(names)]
    for server in servers:
        typer.echo(_line(server))
    if not all(server.running and server.healthy() for server in servers):
        raise typer.Exit(3)


@app.command(context_settings={"ignore_unknown_options": True})
def run(
    command: Annotated[list[str], typer.Argument(help="The program and its arguments.")],
) -> None:
    """Run a command while those that tests share are up. One that does not run is started empty, on
    a free port where another program has its own, and stopped when the last such command has
    ended."""
    shared.end_orphans()
    with shared.in_use(), contextlib.ExitStack() as after:
        _each(shared.start_empty, [name for name, kind in shared.KINDS.items() if kind.for_tests])
        child = subprocess.Popen(command)
        # A terminal sends its interrupt to the command too, whose end is then waited for.
        after.callback(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, lambda *_: None))
        passed_on = signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        after.callback(signal.signal, signal.SIGTERM, passed_on)
        code = child.wait()
    raise typer.Exit(code if code >= 0 else 128 - code)


def main() -> None:
    try:
        app()
    except ServerError as error:
        sys.exit(str(error))


main()
