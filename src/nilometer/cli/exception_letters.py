"""`nilometer exceptions`: see what was given up of them, and decide about it, one or many."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from nilometer.cli.client import (
    DEFAULT_URL,
    AsJson,
    Client,
    Key,
    Url,
    connected,
    segment,
    show_document,
)
from nilometer.cli.exception_decisions import Why, exceptions
from nilometer.cli.output import show_table, visible
from nilometer.errors import NotFound

_ALL = 1_000_000
_AT_ONCE = 1000
_LETTERS = "/ops/dlq/"

Named = Annotated[
    list[str] | None, typer.Argument(metavar="[ID]...", help="Of dead letters, or of exceptions.")
]
Every = Annotated[bool, typer.Option("--all", help="Every open one.")]
Stage = Annotated[str | None, typer.Option(help="Every one of this stage, such as tool.")]
Code = Annotated[str | None, typer.Option(help="Every one with this error code: http_503.")]
OfType = Annotated[str | None, typer.Option("--type", help="Every one of exceptions of this type.")]
Since = Annotated[str | None, typer.Option("--from", help="Given up at this time or later.")]
Limit = Annotated[int, typer.Option(min=1, help="So many at most, the oldest.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say how many they are; change nothing.")]


@exceptions.command("dead-letters")
def list_dead_letters(
    stage: Annotated[str | None, typer.Option(help="Only those of this stage.")] = None,
    state: Annotated[str | None, typer.Option(help="open or discarded.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="So many, the newest.")] = 50,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """List the tasks of exceptions that were given up."""
    with connected(url, key) as client:
        found = client.pages(_LETTERS, {"stage": stage, "state": state}, limit)
    if as_json:
        show_document(found.text())
        return
    columns = ("letterId", "deadAt", "stage", "kind", "attempts", "errorCode", "error")
    show_table(columns, ([each[name] for name in columns] for each in found.values()))


@exceptions.command("replay")
def replay(
    reason: Why,
    letters: Named = None,
    every: Every = False,
    stage: Stage = None,
    code: Code = None,
    kind: OfType = None,
    since: Since = None,
    limit: Limit = _ALL,
    dry_run: DryRun = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Have tasks that were given up done again, by the stages that failed and no others."""
    which = _Which(letters, every, limit, dry_run, stage, code, kind, since).checked()
    with connected(url, key) as client:
        texts = which.decided(client, "replay", reason)
    _tell_decided("Replayed", texts, limit, as_json=as_json)


@exceptions.command("discard")
def discard(
    reason: Why,
    letters: Named = None,
    every: Every = False,
    stage: Stage = None,
    code: Code = None,
    kind: OfType = None,
    since: Since = None,
    limit: Limit = _ALL,
    dry_run: DryRun = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Have tasks that were given up left out for good. The exceptions are then a person's."""
    which = _Which(letters, every, limit, dry_run, stage, code, kind, since).checked()
    with connected(url, key) as client:
        texts = which.decided(client, "discard", reason)
    _tell_decided("Discarded", texts, limit, as_json=as_json)


@dataclass(frozen=True)
class _Which:
    """The dead letters that are to be decided about: those that are named, or those that have
    something in common."""

    named: list[str] | None
    every: bool
    limit: int
    dry_run: bool
    stage: str | None
    code: str | None
    exception_type: str | None
    since: str | None

    def checked(self) -> _Which:
        """Itself, if it says either."""
        if bool(self.named) is (self.every or bool(self._members())):
            choices = "give --all, --stage, --code, --type or --from"
            raise typer.BadParameter(f"name the dead letters, or {choices}")
        if self.named and self.dry_run:
            raise typer.BadParameter("--dry-run is for those that are not named")
        return self

    def decided(self, client: Client, verb: str, reason: str) -> list[str]:
        """What came of it, answer by answer."""
        if not self.named:
            return self._together(client, verb, reason)
        chosen = [each for name in self.named for each in _letters(client, name)]
        body = {"reason": reason}
        return [client.post(f"{_LETTERS}{segment(each)}/{verb}/", body) for each in chosen]

    def _together(self, client: Client, verb: str, reason: str) -> list[str]:
        """A request for each thousand, about what had died up to the first of them."""
        body: dict[str, Any] = {"reason": reason, "dry_run": self.dry_run, **self._members()}
        texts: list[str] = []
        limit = self.limit
        while True:
            body["limit"] = min(limit, _AT_ONCE)
            texts.append(client.post(f"{_LETTERS}{verb}/", body))
            told = json.loads(texts[-1])
            limit -= told["decided"]
            if self.dry_run or not (limit and told["decided"] and told["left"]):
                return texts
            body["before"] = told["before"]

    def _members(self) -> dict[str, str]:
        named = {
            "stage": self.stage,
            "code": self.code,
            "exception_type": self.exception_type,
            "from": self.since,
        }
        return {name: value for name, value in named.items() if value is not None}


def _letters(client: Client, name: str) -> list[str]:
    """The ids of the open dead letters of an exception; or the one that is named. Raises NotFound
    where there is none."""
    if "." in name:
        return [name]
    filters = {"state": "open", "exception_id": name}
    found = [each["letterId"] for each in client.pages(_LETTERS, filters, _ALL).values()]
    if not found:
        raise NotFound(f"there is no open dead letter of an exception {visible(name)}")
    return found


def _tell_decided(done: str, texts: list[str], limit: int, *, as_json: bool) -> None:
    if as_json:
        results = ",".join(json.dumps(json.loads(text)) for text in texts)
        show_document(f'{{"results":[{results}]}}')
        return
    told = [json.loads(text) for text in texts]
    count = sum(each.get("decided", 1) for each in told)
    left = told[-1].get("left", 0) if told else 0
    if told and told[-1].get("dryRun"):
        done, count, left = f"Would have {done.lower()}", min(limit, count + left), 0
    sentence = f"{done} {count} dead letter{'' if count == 1 else 's'}."
    typer.echo(f"{sentence} {left} {'is' if left == 1 else 'are'} left." if left else sentence)
