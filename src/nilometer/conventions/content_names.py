"""Which names are of content, and which are of a call's identity: what redaction goes by.

Derived from the dictionary and the conventions' table. Without content only what is known to hold
none is kept: numbers, and what a row of a table reads as a name, an id, a count, a cost or a time.
An attribute that no table knows may hold anything, and goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, cast

from nilometer.conventions.ai_properties import PROPERTIES, STANDARD
from nilometer.conventions.kinds import ID, NAME
from nilometer.conventions.loose_values import mapping
from nilometer.conventions.spans import shapes
from nilometer.conventions.spans.litellm_spans import PHOENIX_MARK
from nilometer.conventions.spans.row import DISTINCT_ID
from nilometer.conventions.spans.table import EXACT, STEMS, Entry
from nilometer.domain.redaction.layout import Layout

_CALL_IDS = frozenset({"$ai_response_id", "litellm_call_id", "$ai_trace_id", "$ai_span_id"})
_IDS = frozenset(known.name for known in PROPERTIES if known.kind is ID) | _CALL_IDS
_PEOPLE = frozenset(
    {"distinct_id", "$distinct_id", "$session_id", "$ai_session_id", "$ai_user_id", "$ai_developer"}
)

_SHAPES = (
    *(shapes.ID, shapes.NAME, shapes.LOWER, shapes.USER, shapes.SESSION, shapes.PROVIDER),
    *(shapes.URL, shapes.COUNT, shapes.USD, shapes.SECONDS, shapes.MILLIS, shapes.MOMENT),
    *(shapes.FLAG, shapes.IF_TRUE, shapes.STATUS, shapes.FIRST),
)
# What decides how a span is read, and is in no row.
_MARKS = frozenset(
    {
        *("logfire.span_type", "span.type", "model", "langfuse.observation.level", PHOENIX_MARK),
        *("exception.type", "event.name", "gen_ai.message.index"),
    }
)
_TARGETS = frozenset(
    entry.row.target
    for entries in EXACT.values()
    for entry in entries
    if entry.row.shape in _SHAPES and not entry.row.build and not entry.row.target.endswith("*")
)
_COMMAND = "process.command"

_KEPT_PROPERTIES = (
    frozenset(known.name for known in PROPERTIES if known.kind in (ID, NAME))
    | STANDARD
    | _TARGETS
    | _PEOPLE
    | {"litellm_team_id", "litellm_key_alias", "litellm_user_id", "litellm_org_id"}
    | {"litellm_project_id", "litellm_model_group", "litellm_model_id", "litellm_request_model"}
    | {"user_api_key_request_route", "$ai_ingestion_source"}
)
_NUMBERS = Layout(keeps=frozenset())

PROPERTIES_LAYOUT = Layout(fixed=_IDS - _PEOPLE, named=_PEOPLE)
"""The properties of an event."""
PROPERTIES_WITHOUT_CONTENT = Layout(
    fixed=_IDS - _PEOPLE,
    named=_PEOPLE,
    keeps=_KEPT_PROPERTIES,
    whole=frozenset({"$ai_usage"}),
    inner={"$ai_model_parameters": _NUMBERS},
)
"""The same, of a project that keeps no content."""

_EVENT_FIXED = frozenset({"uuid", "event", "timestamp", "sent_at", "offset"})
_EVENT_NAMED = frozenset({"distinct_id", "$distinct_id", "session_id"})
EVENT_LAYOUT = Layout(
    fixed=_EVENT_FIXED, named=_EVENT_NAMED, inner={"properties": PROPERTIES_LAYOUT}
)
"""An event of PostHog's protocols, the ai door's among them."""
EVENT_WITHOUT_CONTENT = Layout(
    fixed=_EVENT_FIXED,
    named=_EVENT_NAMED,
    keeps=_EVENT_FIXED | _EVENT_NAMED | {"type", "window_id", "library", "library_version"},
    inner={
        "properties": PROPERTIES_WITHOUT_CONTENT,
        "options": Layout(keeps=frozenset({"product_tour_id", "process_person_profile"})),
    },
)
"""The same, of a project that keeps no content."""

_LITELLM_FIXED = frozenset(
    {"id", "litellm_call_id", "trace_id", "status", "call_type", "startTime", "endTime"}
)
_LITELLM_NAMED = frozenset({"end_user", "session_id", "user_api_key_user_id"})
_LITELLM_PEOPLE = frozenset({"user_api_key_end_user_id", "user_api_key_user_id"})
_REQUESTER = Layout(named=frozenset({"user_id"}))
LITELLM_LAYOUT = Layout(
    fixed=_LITELLM_FIXED,
    named=_LITELLM_NAMED,
    inner={
        "metadata": Layout(named=_LITELLM_PEOPLE, inner={"requester_metadata": _REQUESTER}),
        "response": Layout(fixed=frozenset({"id"})),
    },
)
"""A logging payload of LiteLLM."""
LITELLM_WITHOUT_CONTENT = Layout(
    fixed=_LITELLM_FIXED,
    named=_LITELLM_NAMED,
    keeps=frozenset(
        {
            *("model", "model_group", "model_id", "custom_llm_provider", "api_base", "cache_hit"),
            *(_LITELLM_FIXED | _LITELLM_NAMED),
        }
    ),
    whole=frozenset({"request_tags"}),
    inner={
        "metadata": Layout(
            named=_LITELLM_PEOPLE,
            keeps=_LITELLM_PEOPLE
            | {f"user_api_key_{of}" for of in ("alias", "request_route", "user_email")}
            | {f"user_api_key_{of}_id" for of in ("team", "org", "project")}
            | {f"user_api_key_{of}_alias" for of in ("team", "org", "project")},
            whole=frozenset({"usage_object"}),
            inner={
                "requester_metadata": Layout(
                    named=frozenset({"user_id"}), keeps=frozenset({"user_id"})
                )
            },
        ),
        "response": Layout(
            fixed=frozenset({"id"}),
            keeps=frozenset({"id", "model", "object", "service_tier", "stop_reason"}),
            whole=frozenset({"usage"}),
            inner={"choices": Layout(keeps=frozenset({"finish_reason"}))},
        ),
        "error_information": Layout(
            keeps=frozenset({"error_code", "error_class", "llm_provider"}),
        ),
        "model_parameters": _NUMBERS,
        "cost_breakdown": Layout(keeps=frozenset({"service_tier"})),
    },
)
"""The same, of a project that keeps no content."""


@lru_cache(maxsize=4096)
def is_fixed_attribute(name: str) -> bool:
    """Whether a span's attribute is an identity of its call: what no rule changes."""
    return name == PHOENIX_MARK or bool(_targets(name) & (_IDS - _PEOPLE))


@lru_cache(maxsize=4096)
def is_personal_attribute(name: str) -> bool:
    """Whether it says whom a span is about, or its session: what only a rule that names it
    changes."""
    return bool(_targets(name) & (_PEOPLE | {DISTINCT_ID}))


def is_known_attribute(name: str) -> bool:
    """Whether the table has the name: it then stays, whatever a pattern says of it."""
    return name in EXACT or name in _MARKS or name.startswith((*STEMS, "$"))


@lru_cache(maxsize=4096)
def is_content_attribute(name: str) -> bool:
    """Whether a text or a list under this name may be content."""
    if name.startswith("$ai_"):
        return name not in _KEPT_PROPERTIES and name != "$ai_usage"
    if name in _MARKS or name in STANDARD:
        return False
    entries = EXACT.get(name, ())
    return not entries or not all(map(_holds_no_content, entries))


def is_content_of_resource(name: str) -> bool:
    """Whether an attribute of a resource is: it describes a process, whose command may be one."""
    return name.startswith((_COMMAND, "$"))


def numbers_of(value: Any) -> Any:
    """The numbers of a JSON text or object, under their names, None when there is none."""
    told = mapping(value)
    return None if told is None else _numbers(told) or None


def _numbers(members: Mapping[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in members.items():
        if isinstance(value, (int, float)):
            kept[name] = value
        elif isinstance(value, dict) and (inner := _numbers(cast("dict[str, Any]", value))):
            kept[name] = inner
    return kept


def _holds_no_content(entry: Entry) -> bool:
    return entry.row.shape in _SHAPES and not entry.row.build


def _targets(name: str) -> frozenset[str]:
    own = {name} if name.startswith("$") else set[str]()
    return frozenset(own | {entry.row.target for entry in EXACT.get(name, ())})
