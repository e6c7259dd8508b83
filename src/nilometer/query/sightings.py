"""Keys in captured content: which of a project's own were seen, and how often any other was.

The engine compares digests with those that the project keeps, so that what is told of is exact and
of no more things than the project has keys, whatever else stands beside them. No key leaves it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nilometer.domain.redaction.patterns import BUILTINS
from nilometer.query.reader import Condition, Select

SECRETS = ("api_key", "private_key", "jwt", "bearer_token")
"""The patterns of redaction that match what lets somebody in."""
OTHERS = ""
"""Stands for all keys that are not the project's own, where digests stand for these."""

# In JSON a line that ends before a key leaves a letter there, where a word seems to go on.
_SHAPES = BUILTINS["api_key"].regex.removeprefix(r"\b")
_KEY = rf'(?:\b|\\[bfnrt"/\\])({_SHAPES})'
# As `nilometer.access.tokens` makes them: 52 characters, whatever stands around them.
_PREFIX, _REST = "nlm_", r"^(?:proj|user)_[A-Za-z0-9_-]{43}"
_LENGTH = 52

_HIDDEN = " + ".join(f"JSONExtractUInt(redacted, '{name}')" for name in SECRETS)
_DIGESTS = (
    f"arrayMap(key -> lower(hex(SHA256(substring(key, 1, {_LENGTH})))), "
    "arrayDistinct(extractAll(properties, {shape:String})))"
)
# Each place where one may begin: of two that overlap, both are looked at.
_ISSUED = (
    "arrayMap(rest -> lower(hex(SHA256("
    f"concat({{prefix:String}}, substring(rest, 1, {_LENGTH - len(_PREFIX)}))))), "
    "arrayFilter(rest -> match(rest, {rest:String}), "
    "splitByString({prefix:String}, properties)))"
)
_SEEN = (
    "arrayConcat("
    "arrayDistinct(arrayFilter(each -> each IN {live:Array(String)}, issued)), "
    "if(hidden > 0 OR arrayExists("
    "each -> each NOT IN {live:Array(String)} AND each NOT IN {revoked:Array(String)}, digests), "
    f"['{OTHERS}'], []))"
)
_SHOWN = (
    f"id, trace, accepted_at, empty(digests) AS redacted, arrayJoin({_SEEN}) AS digest",
    "",
)
_COUNTED = (
    "digest, count() AS events, argMax((id, trace, redacted), (accepted_at, id)) AS newest",
    "GROUP BY digest ORDER BY digest",
)


@dataclass(frozen=True, slots=True)
class Sighting:
    """In how many events a key was seen, by its `digest`, and the newest of them: `redacted` says
    that the keys in it had been taken out."""

    digest: str
    events: int
    uuid: str
    trace_id: str
    redacted: bool


def select_of(
    within: Sequence[Condition], live: Collection[str], revoked: Collection[str]
) -> Select:
    """The read of events in which keys were seen, given the digests of the project's own keys: of
    each live one, and of all that are none of its own (`OTHERS`)."""
    possible = (
        "(position(properties, {prefix:String}) > 0 OR match(properties, {shape:String}) "
        f"OR (redacted != '{{}}' AND {_HIDDEN} > 0))"
    )
    return Select(
        "toString(uuid) AS id, ifNull(trace_id, '') AS trace, accepted_at, "
        f"{_HIDDEN} AS hidden, {_DIGESTS} AS digests, {_ISSUED} AS issued",
        "events",
        [*within, Condition(possible)],
        parameters={
            "shape": _KEY,
            "prefix": _PREFIX,
            "rest": _REST,
            "live": list(live),
            "revoked": list(revoked),
        },
        around=[_SHOWN, _COUNTED],
    )


def sighting(row: Mapping[str, Any]) -> Sighting:
    """A row of that read."""
    uuid, trace, redacted = row["newest"]
    return Sighting(row["digest"], int(row["events"]), uuid, trace, bool(redacted))
