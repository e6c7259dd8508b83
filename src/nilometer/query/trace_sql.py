"""What sums up the events of one trace or session, as SQL over the table `events`."""

from __future__ import annotations

# So many models of a trace are named.
MAX_MODELS = 20

# Spans repeat what the calls below them report: only calls are added up.
CALL = "event IN ('$ai_generation', '$ai_embedding')"
ERRORS = "countIf(is_error)"
KEPT_MODELS = (
    f"arraySort(groupUniqArrayIf({MAX_MODELS})(assumeNotNull(model), model IS NOT NULL AND {CALL}))"
)
# Orders events as (timestamp, uuid) does, in a third of the time: the engine compares a tuple value
# by value, and a UUID as the number that its bytes are.
MOMENT = (
    "(bitShiftLeft(toInt256(toUnixTimestamp64Micro(timestamp)), 128) + reinterpretAsUInt128(uuid))"
)


def total(value: str) -> str:
    """A sum over calls, NULL when none reports it, and the greatest Int64 rather than beyond."""
    added = f"sumIf(toInt128({value}), {CALL} AND {value} IS NOT NULL)"
    reported = f"countIf({CALL} AND {value} IS NOT NULL) > 0"
    bounded = f"toInt64(greatest(least({added}, 9223372036854775807), -9223372036854775808))"
    return f"if({reported}, {bounded}, NULL)"


def first(value: str, condition: str) -> str:
    """The value of the earliest event for which the condition holds; NULL when there is none."""
    return f"argMinIf({value}, {MOMENT}, {condition} AND {value} IS NOT NULL)"
