"""`nilometer traces dead-letters`: records of trace files that could not be read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nilometer.cli.output import show_json, show_table, visible
from nilometer.cli.traces_ingest import DB, Db, Developer, Repo
from nilometer.cli.usage_source import PricesFile

if TYPE_CHECKING:
    from nilometer.importers.store import TraceStore
    from nilometer.importers.store.letters import Letter

letters = typer.Typer(
    no_args_is_help=True, help="Records of trace files that could not be read: see, replay, purge."
)

Reason = Annotated[str | None, typer.Option(help="Only those with this reason code.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document, for machines.")]
_FACTS = ("id", "reason", "detail", "source", "line", "offset", "raw_bytes", "source_hash")


@letters.command("list")
def list_letters(
    reason: Reason = None,
    limit: Annotated[int, typer.Option(min=1, help="So many, the oldest.")] = 50,
    db: Db = DB,
    as_json: AsJson = False,
) -> None:
    """List dead letters, in the order in which they came."""
    with _existing(db) as store:
        found = list(store.letters.list(reason=reason, limit=limit))
    if as_json:
        show_json({"results": [_facts(each) for each in found]})
        return
    columns = ("id", "reason", "source", "line", "byte", "bytes", "first seen", "detail")
    show_table(columns, map(_row, found))


@letters.command("show")
def show(
    letter_id: Annotated[int, typer.Argument(metavar="ID")], db: Db = DB, as_json: AsJson = False
) -> None:
    """Show one dead letter with its record. The record may hold prompts."""
    with _existing(db) as store:
        letter = store.letters.get(letter_id)
    text = letter.raw.decode(errors="backslashreplace")
    if as_json:
        show_json(_facts(letter) | {"raw": text})
        return
    show_table(("dead letter", ""), _facts(letter).items())
    typer.echo(visible(text))


@letters.command("replay")
def replay(
    letter_ids: Annotated[list[int] | None, typer.Argument(metavar="[ID]...")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every one.")] = False,
    reason: Reason = None,
    repo: Repo = None,
    developer: Developer = None,
    db: Db = DB,
    prices_file: PricesFile = None,
) -> None:
    """Read records again, as this release of Nilometer does; those that can be read now are kept
    as calls, and their letters are gone."""
    from nilometer.cli.traces_ingest import options
    from nilometer.importers.ingestion import Work
    from nilometer.importers.replaying import replay as replayed

    if bool(letter_ids) is every:
        raise typer.BadParameter("name the dead letters, or give --all")
    work = Work(options(repo, developer), prices_file)
    with _existing(db) as store, store.run(reprices=prices_file is not None) as run:
        chosen = (
            map(store.letters.get, letter_ids) if letter_ids else store.letters.list(reason=reason)
        )
        done = replayed(run, chosen, work)
    typer.echo(f"{done.read:,} dead letters were read, {done.left:,} are left.")


@letters.command("purge")
def purge(
    letter_ids: Annotated[list[int] | None, typer.Argument(metavar="[ID]...")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every one.")] = False,
    reason: Reason = None,
    db: Db = DB,
) -> None:
    """Delete dead letters."""
    if bool(letter_ids) is every:
        raise typer.BadParameter("name the dead letters, or give --all")
    with _existing(db) as store, store.transaction():
        if letter_ids:
            count = store.letters.remove(letter_ids)
        else:
            count = store.letters.purge(reason=reason)
    typer.echo(f"Purged {count:,} dead letter{'' if count == 1 else 's'}.")


def _existing(db: Path) -> TraceStore:
    from nilometer.importers.store import TraceStore

    return TraceStore(db, create=False)


def _facts(letter: Letter) -> dict[str, object]:
    told: dict[str, object] = {name: getattr(letter, name) for name in _FACTS}
    return told | {"first_seen": letter.first_seen, "attempts": letter.attempts}


def _row(letter: Letter) -> tuple[object, ...]:
    return (
        *(letter.id, letter.reason, letter.source, letter.line, letter.offset, letter.raw_bytes),
        *(letter.first_seen, letter.detail),
    )
