"""What one untrusted query may take, and how the engine is told."""

from __future__ import annotations

import os
from collections.abc import Mapping

from nilometer.query.sql import tables
from nilometer.query.sql.selects import Rows

MIB = 1024**2

ANSWER = Rows(default=100, most=50_000, extra=1)
# An export is streamed, so it is bounded by time and bytes more than by memory.
EXPORT = Rows(default=1_000_000, most=1_000_000)
LONGEST_QUERY = 64 * 1024
MOST_RESULT_BYTES = 64 * MIB
MOST_SECONDS = 10

# The first group is the fence; the rest bounds what a query costs.
_SETTINGS: Mapping[str, object] = {
    # A condition that the engine moves into PREWHERE would see other projects' rows.
    "optimize_move_to_prewhere": 0,
    "query_plan_optimize_prewhere": 0,
    # Remembers per granule, so that the time of a query would tell of earlier ones.
    "use_query_condition_cache": 0,
    "allow_introspection_functions": 0,
    "allow_ddl": 0,
    "allow_experimental_correlated_subqueries": 0,
    # Half of the processors: acknowledgements keep the others.
    "max_threads": max(1, (os.cpu_count() or 1) // 2),
    "max_memory_usage": 1024 * MIB,
    "max_bytes_in_join": 512 * MIB,
    "max_bytes_in_set": 256 * MIB,
    "function_range_max_elements_in_block": 10_000_000,
    "max_subquery_depth": 64,
    "max_ast_depth": 500,
    "max_expanded_ast_elements": 100_000,
    "max_query_size": 1 * MIB,
    "timeout_overflow_mode": "throw",
    "result_overflow_mode": "throw",
    "optimize_read_in_order": 1,
    # Decimals as text: JSON numbers would lose digits.
    "output_format_json_quote_64bit_integers": 0,
    "output_format_json_quote_decimals": 1,
    "output_format_json_validate_utf8": 1,
    "output_format_json_named_tuples_as_objects": 1,
    "output_format_arrow_string_as_string": 1,
    "output_format_parquet_string_as_string": 1,
    "session_timezone": "UTC",
}


def settings(project_id: int, *, seconds: int, result_bytes: int) -> dict[str, object]:
    """The engine's settings for one query of one project."""
    return {
        **_SETTINGS,
        "additional_table_filters": tables.filters(project_id),
        "max_execution_time": seconds,
        "max_result_bytes": result_bytes,
    }
