"""The commands of `nilometer`, and how each of them fails.

A module of this room registers its commands on `app` and is imported at the bottom of this file.
Its own imports stay light (typer and the standard library); what the `server` extra brings is
imported inside the commands, so that `nilometer --help` answers at once and without it.

A command prints its result on stdout (`--json`: one JSON document), and raises a `NilometerError`
when it cannot; the sentence then goes to stderr and the exit code is 1. Wrong usage exits with 2.
"""

from __future__ import annotations

from typing import Annotated, Any, Protocol

import typer
from typer.core import TyperGroup

from nilometer import __version__
from nilometer.errors import NilometerError

# What `pip install nilometer[server]` brings, by import name.
SERVER_MODULES = frozenset(
    {
        "alembic",
        "chdb",
        "clickhouse_connect",
        "fastapi",
        "httptools",
        "jsonschema_rs",
        "multipart",
        "obstore",
        "orjson",
        "prometheus_client",
        "pydantic",
        "pydantic_settings",
        "sqlalchemy",
        "uvicorn",
        "uvloop",
    }
)


class _Invocation(Protocol):
    def __call__(self, ctx: Any) -> Any: ...


class SentenceGroup(TyperGroup):
    """Ends a command that cannot do its work with one sentence instead of a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; a NilometerError, or a missing server part, ends it with code 1."""
        run: _Invocation = super().invoke
        try:
            return run(ctx)
        except NilometerError as error:
            _stop(error.detail)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in SERVER_MODULES:
                raise
            _stop(
                "this command needs the server part, which is not installed; "
                "install it with: pip install 'nilometer[server]'"
            )


def _stop(sentence: str) -> None:
    typer.echo(f"nilometer: {sentence}", err=True)
    raise typer.Exit(1)


app = typer.Typer(
    cls=SentenceGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Capture every call to language models, keep it without loss, and read it back.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"nilometer {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Capture every call to language models, keep it without loss, and read it back."""


# Each module registers its commands when it is imported. Add yours here, in the order of the help.
from nilometer.cli import config as config  # noqa: E402
from nilometer.cli import keys as keys  # noqa: E402
from nilometer.cli import projects as projects  # noqa: E402
