"""What can go wrong between Nilometer and the store, in two types: wait, or do not repeat.

The engine's own text may quote the data that it failed on, so it is dropped here: neither error
carries it, and neither is chained to the error that does.
"""

from __future__ import annotations

import re

from nilometer.errors import NilometerError, Unavailable

# The value is at fault: the same row fails again. ClickHouse's codes (src/Common/ErrorCodes.cpp)
# with which parsing a row, converting a value or a constraint ends; a test asks the engine whether
# the names are still theirs.
DATA_CODES = {
    6: "CANNOT_PARSE_TEXT",
    25: "CANNOT_PARSE_ESCAPE_SEQUENCE",
    26: "CANNOT_PARSE_QUOTED_STRING",
    27: "CANNOT_PARSE_INPUT_ASSERTION_FAILED",
    32: "ATTEMPT_TO_READ_AFTER_EOF",
    38: "CANNOT_PARSE_DATE",
    41: "CANNOT_PARSE_DATETIME",
    53: "TYPE_MISMATCH",
    69: "ARGUMENT_OUT_OF_BOUND",
    70: "CANNOT_CONVERT_TYPE",
    72: "CANNOT_PARSE_NUMBER",
    117: "INCORRECT_DATA",
    128: "TOO_LARGE_ARRAY_SIZE",
    130: "CANNOT_READ_ARRAY_FROM_TEXT",
    131: "TOO_LARGE_STRING_SIZE",
    321: "VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE",
    349: "CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN",
    376: "CANNOT_PARSE_UUID",
    407: "DECIMAL_OVERFLOW",
    467: "CANNOT_PARSE_BOOL",
    469: "VIOLATED_CONSTRAINT",
    632: "UNEXPECTED_DATA_AFTER_PARSED_VALUE",
    675: "CANNOT_PARSE_IPV4",
    676: "CANNOT_PARSE_IPV6",
    691: "UNKNOWN_ELEMENT_OF_ENUM",
}
# The machine or the moment is at fault: the same statement may succeed later.
MOMENT_CODES = {
    3: "UNEXPECTED_END_OF_FILE",
    23: "CANNOT_READ_FROM_ISTREAM",
    24: "CANNOT_WRITE_TO_OSTREAM",
    33: "CANNOT_READ_ALL_DATA",
    74: "CANNOT_READ_FROM_FILE_DESCRIPTOR",
    75: "CANNOT_WRITE_TO_FILE_DESCRIPTOR",
    76: "CANNOT_OPEN_FILE",
    77: "CANNOT_CLOSE_FILE",
    95: "CANNOT_READ_FROM_SOCKET",
    96: "CANNOT_WRITE_TO_SOCKET",
    159: "TIMEOUT_EXCEEDED",
    172: "CANNOT_CREATE_DIRECTORY",
    173: "CANNOT_ALLOCATE_MEMORY",
    202: "TOO_MANY_SIMULTANEOUS_QUERIES",
    203: "NO_FREE_CONNECTION",
    204: "CANNOT_FSYNC",
    209: "SOCKET_TIMEOUT",
    210: "NETWORK_ERROR",
    225: "NO_ZOOKEEPER",
    236: "ABORTED",
    241: "MEMORY_LIMIT_EXCEEDED",
    242: "TABLE_IS_READ_ONLY",
    243: "NOT_ENOUGH_SPACE",
    252: "TOO_MANY_PARTS",
    285: "TOO_FEW_LIVE_REPLICAS",
    286: "UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE",
    294: "CANNOT_WRITE_TO_FILE",
    319: "UNKNOWN_STATUS_OF_INSERT",
    394: "QUERY_WAS_CANCELLED",
    439: "CANNOT_SCHEDULE_TASK",
    499: "S3_ERROR",
    519: "NO_REMOTE_SHARD_AVAILABLE",
    999: "KEEPER_EXCEPTION",
    1000: "POCO_EXCEPTION",
    1001: "STD_EXCEPTION",
    1002: "UNKNOWN_EXCEPTION",
}
# Of these, what a statement's own limits (`max_execution_time`, `max_memory_usage`) end it with.
LIMIT_CODES = frozenset({159, 241})
_CODE = re.compile(r"Code: (\d+)\.")
_NAME = re.compile(r"\(([A-Z][A-Z0-9_]+)\)(?: \(version [^()]*(?:\([^()]*\))?\))?\s*\Z")


class StoreUnavailable(Unavailable):
    """The store did not do it now; the same statement may succeed later."""

    code = "store_unavailable"


class StatementTooCostly(StoreUnavailable):
    """A statement needed more time or memory than it may take. The store itself is well; narrowed,
    or in a quieter moment, the statement may succeed."""

    code = "too_costly"


class StoreRejected(NilometerError):
    """The store refused the statement or its data; repeating it unchanged fails again.

    `engine_code` and `engine_name` are ClickHouse's number and name of the error.
    """

    code = "store_rejected"

    def __init__(self, detail: str, *, engine_code: int, engine_name: str) -> None:
        super().__init__(detail)
        self.engine_code = engine_code
        self.engine_name = engine_name


def engine_error(error: Exception) -> tuple[int, str]:
    """ClickHouse's number and name of an engine error; (0, "") when it carries none."""
    text = str(error)
    code = _CODE.search(text)
    name = _NAME.search(text)
    return int(code[1]) if code else 0, name[1] if name else ""


def of_insert(error: Exception, table: str) -> StoreUnavailable | StoreRejected:
    """The error of an insert: rejected only when the data is known to be at fault, because what is
    rejected ends in the dead letters and what is unavailable waits."""
    code, name = engine_error(error)
    if code in DATA_CODES:
        return StoreRejected(
            f"the store refused a row of {table} (error {code}, {name})",
            engine_code=code,
            engine_name=name,
        )
    return StoreUnavailable(f"the store did not take rows of {table} (error {code}, {name})")


def of_statement(error: Exception) -> StoreUnavailable | StoreRejected:
    """The error of a query or command: unavailable when the moment is at fault."""
    code, name = engine_error(error)
    if code in LIMIT_CODES:
        return StatementTooCostly(
            "this needs more time or memory than one read may take; narrow it, for example to a "
            f"shorter time (error {code}, {name})"
        )
    if code in MOMENT_CODES or code == 0:
        return StoreUnavailable(f"the store did not answer (error {code}, {name})")
    return StoreRejected(
        f"the store refused a statement (error {code}, {name})", engine_code=code, engine_name=name
    )


def of_open(error: Exception) -> StoreUnavailable:
    """The error of opening the engine: another process may have it, or its disk be away."""
    code, name = engine_error(error)
    return StoreUnavailable(f"the store's engine cannot be opened (error {code}, {name})")
