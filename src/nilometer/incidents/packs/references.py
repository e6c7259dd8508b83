"""What the members of a pack say of each other: names that must be unique, and names that must be.

It looks at the document and not at a pack, so that its problems are told together with those of
the document's form. What is of the wrong form is passed over here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from nilometer.errors import NilometerError
from nilometer.incidents.expressions import expression
from nilometer.incidents.playbooks.templates import template_of

Found = tuple[str, str]
"""A path and what to change there."""

_RESERVED = ("stop", "continue")
_ACTIONS = ("tool", "manual", "comment", "assign", "escalate")


def problems(document: Mapping[str, Any]) -> Iterator[Found]:
    """Every problem, as (path, sentence)."""
    yield from _types(document)
    for path in ("triage.classify", "triage.rules", "policy.rules", "policy.rates", "playbooks"):
        yield from _unique(_at(document, path), path, "name")
    for path, playbook in _objects(document.get("playbooks"), "playbooks"):
        yield from _playbook(playbook, path)
    yield from _tenants(document)
    yield from _thresholds(document)


def _types(document: Mapping[str, Any]) -> Iterator[Found]:
    seen: dict[str, str] = {}
    for path, each in _objects(document.get("exceptions"), "exceptions"):
        names = [(f"{path}.type", each.get("type"))]
        aliases = enumerate(_list(each.get("aliases")))
        names += [(f"{path}.aliases.{place}", alias) for place, alias in aliases]
        for at, name in names:
            if isinstance(name, str) and name in seen:
                yield at, f"{name!r} is at {seen[name]} already; name each type once."
            elif isinstance(name, str):
                seen[name] = at


def _unique(items: object, path: str, member: str) -> Iterator[Found]:
    seen: set[str] = set()
    for at, each in _objects(items, path):
        name = each.get(member)
        if isinstance(name, str) and name in seen:
            yield f"{at}.{member}", f"Another one has the name {name!r}; give each its own."
        elif isinstance(name, str):
            seen.add(name)


def _playbook(playbook: Mapping[str, Any], path: str) -> Iterator[Found]:
    both = [
        *_objects(playbook.get("steps"), f"{path}.steps"),
        *_objects(playbook.get("recovery"), f"{path}.recovery"),
    ]
    recovery = {str(each.get("name")) for at, each in both if ".recovery." in at}
    earlier: set[str] = set()
    for at, step in both:
        yield from _step(step, at, earlier, recovery)
        if isinstance(step.get("name"), str):
            earlier.add(step["name"])


def _step(
    step: Mapping[str, Any], path: str, earlier: set[str], recovery: set[str]
) -> Iterator[Found]:
    name = step.get("name")
    if name in _RESERVED:
        yield f"{path}.name", f"{name!r} means something in on_failure; choose another name."
    if isinstance(name, str) and name in earlier:
        yield f"{path}.name", f"Another step has the name {name!r}; give each its own."
    given = [each for each in _ACTIONS if step.get(each) is not None]
    if len(given) != 1:
        has = f"it has {', '.join(given)}" if given else "it has none"
        yield path, f"Give exactly one of {', '.join(_ACTIONS)}; {has}."
    if step.get("params") and "tool" not in given:
        yield f"{path}.params", "Only a step with a tool has parameters; remove them."
    yield from _failure(step, path, recovery)
    yield from _steps_named(step, path, earlier)


def _failure(step: Mapping[str, Any], path: str, recovery: set[str]) -> Iterator[Found]:
    target = step.get("on_failure")
    if not isinstance(target, str) or target in _RESERVED:
        return
    if ".recovery." in path:
        yield f"{path}.on_failure", "A step of recovery can only stop; remove it."
    elif target not in recovery:
        known = f" (there are {', '.join(sorted(recovery))})" if recovery else ""
        yield (
            f"{path}.on_failure",
            (f"Recovery has no step {target!r}{known}; add it, or say stop or continue."),
        )


def _steps_named(step: Mapping[str, Any], path: str, earlier: set[str]) -> Iterator[Found]:
    """Expressions can only name steps before this one: later ones have come to nothing yet."""
    for member in ("when", "params", *_ACTIONS):
        for name in sorted(_step_names(step.get(member), as_expression=member == "when")):
            if name not in earlier:
                yield f"{path}.{member}", f"No earlier step has the name {name!r}."


def _step_names(value: object, *, as_expression: bool) -> set[str]:
    try:
        texts = (value,) if as_expression and isinstance(value, str) else template_of(value)
        members = [expression(text).members for text in texts]
    except NilometerError:  # told where the form is checked
        return set()
    return {name for found in members for part, name in found if part == "steps"}


def _tenants(document: Mapping[str, Any]) -> Iterator[Found]:
    seen: dict[int, str] = {}
    for path, each in _objects(document.get("overrides"), "overrides"):
        for place, tenant in enumerate(_list(each.get("tenants"))):
            at = f"{path}.tenants.{place}"
            if isinstance(tenant, int) and tenant in seen:
                yield at, f"Tenant {tenant} is at {seen[tenant]} already; name each tenant once."
            elif isinstance(tenant, int):
                seen[tenant] = at


def _thresholds(document: Mapping[str, Any]) -> Iterator[Found]:
    overrides = _objects(document.get("overrides"), "overrides")
    places = [(f"{path}.confidence", each.get("confidence")) for path, each in overrides]
    for path, given in [("policy.confidence", _at(document, "policy.confidence")), *places]:
        low, high = _member(given, "escalate_below"), _member(given, "approval_below")
        if not isinstance(low, int | float) or not isinstance(high, int | float):
            continue
        if high and low > high:
            yield f"{path}.escalate_below", "It must not be above approval_below."


def _at(document: Mapping[str, Any], path: str) -> object:
    found: object = document
    for part in path.split("."):
        found = _member(found, part)
    return found


def _member(value: object, name: str) -> object:
    return cast("dict[str, object]", value).get(name) if isinstance(value, dict) else None


def _list(value: object) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _objects(value: object, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for place, each in enumerate(_list(value)):
        if isinstance(each, Mapping):
            yield f"{path}.{place}", cast("Mapping[str, Any]", each)
