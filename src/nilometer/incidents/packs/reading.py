"""From a document to a pack: checked whole, and every problem told at once with its place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, cast

import orjson
from pydantic import ValidationError

from nilometer.errors import InvalidInput
from nilometer.incidents import pack_bounds
from nilometer.incidents.packs import references
from nilometer.incidents.packs.pack import Pack

MAX_BYTES = 256 * 1024
"""Of a pack as it is sent: of its text, or of its object as JSON text."""
MAX_PROBLEMS = 100
MAX_DEPTH = 40
MAX_VALUES = 20_000
"""Of a document, the names of its members among them."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong and where: `path` is as `playbooks.0.steps.2.when`, the sentence says what to
    change. `line` is that of the text that was read, where it is known."""

    path: str
    sentence: str
    line: int | None = None

    def __str__(self) -> str:
        place = f"{self.path or 'pack'}" + (f" (line {self.line})" if self.line else "")
        return f"{place}: {self.sentence}"


class PackInvalid(InvalidInput):
    """The document is no pack. `problems` has everything that is wrong with it (a hundred at most),
    in the order of the document."""

    code = "invalid_pack"

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        first, *others = problems
        more = f" (and {len(others)} more)" if others else ""
        super().__init__(f"{first}{more}", attr=first.path or None)
        self.problems = problems


_SENTENCES: Final[Mapping[str, str]] = {
    "missing": "It is missing; add it.",
    "extra_forbidden": "There is no such member here; remove it or correct its name.",
    "string_type": "It must be a text; put it in quotes.",
    "int_type": "It must be a whole number.",
    "int_from_float": "It must be a whole number.",
    "float_type": "It must be a number.",
    "bool_type": "It must be true or false.",
    "tuple_type": "It must be a list.",
    "dict_type": "It must be an object.",
    "model_type": "It must be an object.",
    "model_attributes_type": "It must be an object.",
}


def parse_pack(document: object, *, max_bytes: int | None = None) -> Pack:
    """The pack of a document (JSON values). Raises PackInvalid with all of its problems.

    `max_bytes` bounds the document as JSON text. What was read of a text, or is kept, has no such
    bound: as JSON it may be longer than the text that was let in."""
    text = _as_json(document)
    if max_bytes is not None:
        check_bytes(text, max_bytes)
    problems = list(islice(_referred(document), MAX_PROBLEMS))
    pack: Pack | None = None
    try:
        with pack_bounds.counting():
            pack = Pack.model_validate_json(text)
    except ValidationError as error:
        problems += islice(_of_the_form(error), MAX_PROBLEMS)
    if pack is None or problems:
        raise PackInvalid(_ordered(problems, document))
    return pack


def check_bytes(text: bytes, most: int) -> None:
    """Raises PackInvalid for a text that is longer."""
    if len(text) > most:
        told = f"The text has {len(text):,} bytes; at most {most:,} are taken."
        raise PackInvalid((Problem("", told),))


def _referred(document: object) -> Iterator[Problem]:
    if isinstance(document, dict):
        for path, sentence in references.problems(cast("dict[str, Any]", document)):
            yield Problem(path, sentence)


def _of_the_form(error: ValidationError) -> Iterator[Problem]:
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    around = {each["loc"][:length] for each in errors for length in range(len(each["loc"]))}
    for each in errors:
        # A list whose elements are wrong is not told to be too short besides.
        if not (each["type"] == "too_short" and each["loc"] in around):
            yield _problem(each)


def _as_json(document: object) -> bytes:
    _check_size(document)
    try:
        return orjson.dumps(document)
    except (TypeError, orjson.JSONEncodeError) as error:
        sentence = f"It has a value that is not JSON: {error}."
        raise PackInvalid((Problem("", sentence),)) from None


def _check_size(document: object) -> None:
    values, depth, level = 0, 0, [document]
    while level:
        objects = [cast("dict[Any, object]", each) for each in level if isinstance(each, dict)]
        values += len(level) + sum(len(each) for each in objects)
        if depth > MAX_DEPTH:
            raise PackInvalid((Problem("", f"It is nested deeper than {MAX_DEPTH} levels."),))
        if values > MAX_VALUES:
            raise PackInvalid((Problem("", f"It has more than {MAX_VALUES:,} values."),))
        level = [inner for each in level for inner in _members(each)]
        depth += 1


def _members(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(cast("dict[Any, object]", value).values())
    return cast("list[object]", value) if isinstance(value, list) else []


def _problem(error: Any) -> Problem:
    kind = str(error["type"])
    sentence = _SENTENCES.get(kind) or _sentence(str(error["msg"]))
    path = ".".join(str(part) for part in error["loc"] if part != "[key]")
    return Problem(path, sentence)


def _sentence(message: str) -> str:
    message = re.sub(r"^Input should", "It must", message)
    message = re.sub(r"^String should", "It must", message)
    return message if message.endswith(".") else f"{message}."


def _ordered(problems: list[Problem], document: object) -> tuple[Problem, ...]:
    """Each once, as the document has their places."""
    once = dict.fromkeys(problems)
    return tuple(sorted(once, key=lambda each: _place(each.path, document)))[:MAX_PROBLEMS]


def _place(path: str, document: object) -> tuple[int, ...]:
    place: list[int] = []
    here = document
    for part in path.split(".") if path else ():
        if isinstance(here, dict):
            members = cast("dict[str, object]", here)
            names = list(members)
            place.append(names.index(part) if part in members else len(names))
            here = members.get(part)
        elif isinstance(here, list) and part.isdigit():
            elements = cast("list[object]", here)
            place.append(int(part))
            here = elements[int(part)] if int(part) < len(elements) else None
    return tuple(place)
