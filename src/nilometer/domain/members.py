"""What is wrong with a document that a model of pydantic describes, as a sentence for a person."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, get_args

if TYPE_CHECKING:  # who only tells what is wrong needs no models
    from pydantic import BaseModel
    from pydantic_core import ErrorDetails


def sentence(error: ErrorDetails, model: type[BaseModel], but: Collection[str] = ()) -> str:
    """What is wrong, without the place, the value that was given, and a full stop. Of a member that
    there is not it says which there are, of the same object; `but` these."""
    if error["type"] != "extra_forbidden":
        return str(error["msg"]).removeprefix("Value error, ")
    names = [name for name in members(model, error["loc"][:-1]) if name not in but]
    return f"there is no such member here; there {listed(names)}"


def members(model: Any, place: Iterable[str | int] = ()) -> list[str]:
    """The names of the members of an object of the model, or of one at a place within it. Of what
    is no model none."""
    found = model
    for part in place:
        if isinstance(part, str):  # a number is of a list, whose items are all alike
            fields: dict[str, Any] = getattr(found, "model_fields", {})
            found = _model_of(fields[part].annotation) if part in fields else None
    return [field.alias or name for name, field in getattr(found, "model_fields", {}).items()]


def listed(names: Sequence[str]) -> str:
    """What there is, after "there"."""
    if not names:
        return "are none"
    if len(names) == 1:
        return f"is {names[0]}"
    return f"are {', '.join(names[:-1])} and {names[-1]}"


def _model_of(annotation: Any) -> Any:
    """The model in a type: `list[M]`, `M | None`, `Annotated[M, …]`."""
    if hasattr(annotation, "model_fields"):
        return annotation
    found = (_model_of(inner) for inner in get_args(annotation))
    return next((each for each in found if each is not None), None)
