"""`nilometer query`: one SELECT, or a prompt for many."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from nilometer.cli import sql_text
from nilometer.cli.app import app
from nilometer.cli.client import (
    DEFAULT_URL,
    OWN_PROJECT,
    AsJson,
    Client,
    Key,
    Project,
    Url,
    connected,
    show_document,
)
from nilometer.cli.output import show_table, visible
from nilometer.cli.whole_file import written_whole
from nilometer.errors import InvalidInput, NilometerError

_LIMIT = re.compile(r"\bLIMIT \d+(, \d+)?( OFFSET \d+)?\s*$")


class Format(StrEnum):
    """How rows are written."""

    JSONL = "jsonl"
    CSV = "csv"
    ARROW = "arrow"
    PARQUET = "parquet"


@app.command("query")
def query(
    sql: Annotated[
        str | None,
        typer.Argument(
            help="One SELECT; `-` reads it from standard input. Without: a prompt, or all the "
            "queries that are piped in."
        ),
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Option("--value", help="A parameter's value, name=value."),
    ] = None,
    output_format: Annotated[
        Format | None, typer.Option("--format", help="All rows, as a file on standard output.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Where the file goes instead.", dir_okay=False)
    ] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """Ask in SQL; docs/sql.md has the tables, and 20 examples."""
    if output is not None and output_format is None:
        raise InvalidInput("--output needs --format: jsonl, csv, arrow or parquet")
    if output is not None and sql is None:
        raise InvalidInput("--output takes one query; give it, or `-`, as an argument")
    if as_json and output_format is not None:
        raise InvalidInput("--json and --format are two forms of an answer; give one")
    with connected(url, key) as client:
        path = f"/api/projects/{project}/query/"
        asker = _Asker(client, path, values or [], output_format, output, as_json)
        if sql is not None:
            asker.ask(sys.stdin.read() if sql == "-" else sql)
        elif sys.stdin.isatty():
            _prompt(asker)
        else:
            for statement in sql_text.script(sys.stdin.read()):
                asker.ask(statement)


@dataclass(frozen=True, slots=True)
class _Asker:
    """Asks, and shows each answer in the form that the options say."""

    client: Client
    path: str
    values: list[str]
    output_format: Format | None
    output: Path | None
    as_json: bool

    def ask(self, sql: str) -> None:
        """Raises NilometerError; then nothing was written to the file."""
        query = {"kind": "HogQLQuery", "query": sql, "values": sql_text.values(sql, self.values)}
        body = {"query": query}
        if self.output_format is not None:
            self._download(body, self.output_format)
        elif self.as_json:
            show_document(self.client.post(self.path, body))
        else:
            _show(self.client.post(self.path, body))

    def _download(self, body: dict[str, Any], output_format: Format) -> None:
        parameters = {"format": output_format.value}
        if self.output is not None:
            with written_whole(self.output) as file:
                self.client.download(self.path, parameters, body, file)
            return
        if output_format in (Format.ARROW, Format.PARQUET) and sys.stdout.isatty():
            raise InvalidInput("a terminal cannot show this format; give --output FILE")
        sys.stdout.flush()
        self.client.download(self.path, parameters, body, sys.stdout.buffer)
        sys.stdout.buffer.flush()


def _show(text: str) -> None:
    answer: dict[str, Any] = json.loads(text, parse_float=_Number)
    rows = ([_cell(value) for value in row] for row in answer["results"])
    show_table([visible(name) for name in answer["columns"]], rows)
    if answer["hasMore"]:
        asks = "" if _LIMIT.search(answer["hogql"]) else "; LIMIT asks for more"
        typer.echo(f"the first {answer['limit']} rows, and there are others{asks}", err=True)


class _Number(str):
    """A number as it was written: read as a float it could lose digits."""

    __slots__ = ()


def _cell(value: object) -> object:
    """A value in a table: NULL is told from the empty text."""
    if value is None:
        return "NULL"
    return _nested(cast("object", value)) if isinstance(value, list | dict) else value


def _nested(value: object) -> str:
    if isinstance(value, list):
        items = cast("list[object]", value)
        return f"[{', '.join(map(_nested, items))}]"
    if isinstance(value, dict):
        members = cast("dict[str, object]", value).items()
        return f"{{{', '.join(f'{_nested(name)}: {_nested(each)}' for name, each in members)}}}"
    return value if isinstance(value, _Number) else json.dumps(value, ensure_ascii=False)


def _prompt(asker: _Asker) -> None:
    """Queries from the keyboard, each ended by a semicolon, until the end of input. Ctrl-C gives up
    what is being typed, or what is being asked."""
    _complete()
    typed = ""
    while True:
        try:
            typed += input("   ...> " if typed else "query> ") + "\n"
            statements, rest = sql_text.split(typed)
            typed = rest if rest.strip() else ""
            for statement in statements:
                _answer(asker, statement)
        except EOFError:
            typer.echo()
            return
        except KeyboardInterrupt:
            typer.echo()
            typed = ""


def _answer(asker: _Asker, sql: str) -> None:
    try:
        asker.ask(sql)
    except NilometerError as error:
        typer.echo(error.detail, err=True)


def _complete() -> None:
    """Tab completes tables, columns and functions, where Python has readline."""
    try:
        import readline
    except ImportError:
        return
    from nilometer.query.sql.completion import completions

    def complete(text: str, state: int) -> str | None:
        found = completions(text)
        return found[state] if state < len(found) else None

    readline.set_completer_delims(" \t\n,()+-*/=<>.;")
    readline.set_completer(complete)
    readline.parse_and_bind("tab: complete")
