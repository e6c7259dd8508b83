"""The commands of `nilometer`, and how each of them fails.

A module of this room registers its commands on `app` when it is imported, and is listed in
`MODULES`, from where it is imported when one of its commands (or the help) is asked for. What the
`server` extra brings is imported inside the commands: the rest works without it.

A command prints its result on stdout (`--json`: one JSON document), and raises a `NilometerError`
when it cannot; the sentence then goes to stderr and the exit code is 1. Wrong usage exits with 2.
"""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any, Protocol

import typer
from typer.core import TyperGroup

from nilometer import __version__
from nilometer.errors import NilometerError

# What `pip install nilometer[server]` brings, by import name (pydantic comes with typer).
SERVER_MODULES = frozenset(
    {
        "alembic",
        "cel_expr_python",
        "chdb",
        "clickhouse_connect",
        "fastapi",
        "genai_prices",
        "grpc",
        "httptools",
        "jsonschema_rs",
        "multipart",
        "obstore",
        "opentelemetry",
        "orjson",
        "prometheus_client",
        "pydantic_settings",
        "re2",
        "sqlalchemy",
        "sqlglot",
        "uvicorn",
        "uvloop",
        "yaml",
        "zstandard",
    }
)

_SERVER = ("the server part", "server")
_PARTS = {"traces": ("what reads trace files", "traces")}
"""What a command lacks that needs a smaller part of them, and the extra that brings it."""


# Each command and the module that registers it, in the order of the help.
MODULES = {
    "serve": "nilometer.cli.serve",
    "demo": "nilometer.cli.demo",
    "config": "nilometer.cli.config",
    "doctor": "nilometer.cli.doctor",
    "migrate-data": "nilometer.cli.migrate_data",
    "orgs": "nilometer.cli.orgs",
    "projects": "nilometer.cli.projects",
    "keys": "nilometer.cli.keys",
    "events": "nilometer.cli.events",
    "traces": "nilometer.cli.traces",
    "trace": "nilometer.cli.trace",
    "query": "nilometer.cli.query",
    "prices": "nilometer.cli.prices",
    "reprice": "nilometer.cli.rewrites",
    "remap": "nilometer.cli.rewrites",
    "rewrites": "nilometer.cli.rewrites",
    "dead-letters": "nilometer.cli.dead_letters",
    "log": "nilometer.cli.log",
    "blobs": "nilometer.cli.blobs",
    "usage": "nilometer.cli.usage",
    "budgets": "nilometer.cli.budgets",
    "alert-rules": "nilometer.cli.alert_rules",
    "notifications": "nilometer.cli.notifications",
    "exceptions": "nilometer.cli.exceptions",
    "packs": "nilometer.cli.packs",
    "playbook": "nilometer.cli.playbooks",
    "tools": "nilometer.cli.tools",
    "report": "nilometer.cli.report",
}


class _Invocation(Protocol):
    def __call__(self, ctx: Any) -> Any: ...


class CommandGroup(TyperGroup):
    """Loads commands when they are asked for, and ends one that fails with one sentence."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        """Every command, loaded or not."""
        return list(MODULES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        """The command of this name, or None; for a misspelt name all load, to suggest from."""
        wanted = [MODULES[cmd_name]] if cmd_name in MODULES else MODULES.values()
        for module in wanted:
            import_module(module)
        self.commands.update(typer.main.get_group(app).commands)
        return self.commands.get(cmd_name)

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
            part, extra = _PARTS.get(ctx.invoked_subcommand, _SERVER)
            _stop(
                f"this command needs {part}, which is not installed; "
                f"install it with: pip install 'nilometer[{extra}]'"
            )


def _stop(sentence: str) -> None:
    typer.echo(f"nilometer: {sentence}", err=True)
    raise typer.Exit(1)


app = typer.Typer(
    cls=CommandGroup,
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
