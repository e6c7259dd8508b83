"""What sums up the events of one trace or session, as SQL over the table `events`."""

from __future__ import annotations

from collections.abc import Sequence

# So many models of a trace are named.
MAX_MODELS = 20

ERRORS = "countIf(is_error)"
# Orders events as (timestamp, uuid) does, in a third of the time: the engine compares a tuple value
# by value, and a UUID as the number that its bytes are.
MOMENT = (
    "(bitShiftLeft(toInt256(toUnixTimestamp64Micro(timestamp)), 128) + reinterpretAsUInt128(uuid))"
)


# Of several events about one call the best source's row, in the order of the stored table, whose
# first column is fixed: no sort, 3 times as fast.
BEST = (
    " ORDER BY calls.call_id, source_rank, calls.accepted_at, calls.event_uuid "
    "LIMIT 1 BY calls.call_id"
)


def best_calls(table: str, fence: str, columns: Sequence[str]) -> str:
    """Every call once, with these columns and those that `CALL_TOTALS` add up. `fence` is the
    PREWHERE of the project."""
    names = (*columns, *SUMMED)
    return f"SELECT {', '.join(names)} FROM {table} FINAL {fence}{BEST}"  # noqa: S608  (our own)


def _total(value: str) -> str:
    """A sum, NULL when there is none, and the greatest Int64 rather than beyond."""
    bounded = f"toInt64(least(sum(toInt128(ifNull({value}, 0))), 9223372036854775807))"
    return f"if(count({value}) > 0, {bounded}, NULL)"


SUMMED = ("model", "vector_input", "vector_output", "cost_total", "reported_total_cost_usd")
CALL_TOTALS: tuple[tuple[str, str, str, str], ...] = (
    ("call_count", "UInt64", "Its calls to providers, each once however many events report it.",
     "count()"),
    ("input_tokens", "Nullable(Int64)", "All input tokens of its calls, cached or not.",
     _total("vector_input")),
    ("output_tokens", "Nullable(Int64)", "All output tokens of its calls.",
     _total("vector_output")),
    ("total_cost_usd", "Nullable(Decimal(76, 18))", "Computed cost of its calls that have one.",
     "sum(toDecimal256(cost_total, 18))"),
    ("reported_total_cost_usd", "Nullable(Decimal(76, 18))", "Cost as its calls report it.",
     "sum(toDecimal256(best.reported_total_cost_usd, 18))"),
    ("unpriced_call_count", "UInt64", "Its calls without a computed cost.",
     "countIf(cost_total IS NULL)"),
    ("models", "Array(String)", f"Its calls' models, at most {MAX_MODELS}.",
     f"arraySort(groupUniqArrayIf({MAX_MODELS})(assumeNotNull(model), model IS NOT NULL))"),
)  # fmt: skip
"""What is added up over the calls of a trace or session: name, type, description and SQL."""


def first(value: str, condition: str) -> str:
    """The value of the earliest event for which the condition holds; NULL when there is none."""
    return f"argMinIf({value}, {MOMENT}, {condition} AND {value} IS NOT NULL)"
