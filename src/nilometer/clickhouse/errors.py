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
# The statement is at fault, whatever is stored and however the machine is: what is not in it, or
# not allowed, or more than any statement may ask.
STATEMENT_CODES = {
    1: "UNSUPPORTED_METHOD",
    15: "DUPLICATE_COLUMN",
    16: "NO_SUCH_COLUMN_IN_TABLE",
    34: "TOO_MANY_ARGUMENTS_FOR_FUNCTION",
    35: "TOO_FEW_ARGUMENTS_FOR_FUNCTION",
    36: "BAD_ARGUMENTS",
    42: "NUMBER_OF_ARGUMENTS_DOESNT_MATCH",
    43: "ILLEGAL_TYPE_OF_ARGUMENT",
    44: "ILLEGAL_COLUMN",
    46: "UNKNOWN_FUNCTION",
    47: "UNKNOWN_IDENTIFIER",
    48: "NOT_IMPLEMENTED",
    50: "UNKNOWN_TYPE",
    52: "COLUMN_QUERIED_MORE_THAN_ONCE",
    57: "TABLE_ALREADY_EXISTS",
    59: "ILLEGAL_TYPE_OF_COLUMN_FOR_FILTER",
    60: "UNKNOWN_TABLE",
    62: "SYNTAX_ERROR",
    63: "UNKNOWN_AGGREGATE_FUNCTION",
    80: "INCORRECT_QUERY",
    81: "UNKNOWN_DATABASE",
    115: "UNKNOWN_SETTING",
    121: "UNSUPPORTED_JOIN_KEYS",
    125: "INCORRECT_RESULT_OF_SCALAR_SUBQUERY",
    133: "AGGREGATE_FUNCTION_DOESNT_ALLOW_PARAMETERS",
    134: "PARAMETERS_TO_AGGREGATE_FUNCTIONS_MUST_BE_LITERALS",
    153: "ILLEGAL_DIVISION",
    158: "TOO_MANY_ROWS",
    161: "TOO_MANY_COLUMNS",
    162: "TOO_DEEP_SUBQUERIES",
    164: "READONLY",
    167: "TOO_DEEP_AST",
    168: "TOO_BIG_AST",
    174: "CYCLIC_ALIASES",
    179: "MULTIPLE_EXPRESSIONS_FOR_ALIAS",
    181: "ILLEGAL_FINAL",
    182: "ILLEGAL_PREWHERE",
    183: "UNEXPECTED_EXPRESSION",
    184: "ILLEGAL_AGGREGATION",
    190: "SIZES_OF_ARRAYS_DONT_MATCH",
    191: "SET_SIZE_LIMIT_EXCEEDED",
    206: "ALIAS_REQUIRED",
    207: "AMBIGUOUS_IDENTIFIER",
    211: "EMPTY_QUERY",
    215: "NOT_AN_AGGREGATE",
    223: "UNEXPECTED_AST_STRUCTURE",
    229: "QUERY_IS_TOO_LARGE",
    258: "UNION_ALL_RESULT_STRUCTURES_MISMATCH",
    264: "INCOMPATIBLE_TYPE_OF_JOIN",
    284: "WRONG_GLOBAL_SUBQUERY",
    306: "TOO_DEEP_RECURSION",
    307: "TOO_MANY_BYTES",
    309: "FUNCTION_CANNOT_HAVE_PARAMETERS",
    352: "AMBIGUOUS_COLUMN_NAME",
    353: "INDEX_OF_POSITIONAL_ARGUMENT_IS_OUT_OF_RANGE",
    386: "NO_COMMON_TYPE",
    392: "QUERY_IS_PROHIBITED",
    395: "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO",
    396: "TOO_MANY_ROWS_OR_BYTES",
    403: "INVALID_JOIN_ON_EXPRESSION",
    427: "CANNOT_COMPILE_REGEXP",
    440: "INVALID_LIMIT_EXPRESSION",
    446: "FUNCTION_NOT_ALLOWED",
    456: "UNKNOWN_QUERY_PARAMETER",
    457: "BAD_QUERY_PARAMETER",
    471: "INVALID_SETTING_VALUE",
    497: "ACCESS_DENIED",
    596: "INTERSECT_OR_EXCEPT_RESULT_STRUCTURES_MISMATCH",
    620: "QUERY_NOT_ALLOWED",
}
# What a statement's own limits (`max_execution_time`, `max_memory_usage`) end it with.
LIMIT_CODES = {159: "TIMEOUT_EXCEEDED", 241: "MEMORY_LIMIT_EXCEEDED"}
_MOST_SOURCES = 20
_CODE = re.compile(r"Code: (\d+)\.")
_NAME = re.compile(r"\(([A-Z][A-Z0-9_]+)\)(?: \(version [^()]*(?:\([^()]*\))?\))?\s*\Z")


# What stands between here and a server, by the names of urllib3's and the system's errors: the
# first that is found in an error or in what it came from. Their texts have URLs and are not kept.
_TRANSPORT = {
    "NameResolutionError": "its name is not known",
    "ConnectTimeoutError": "no connection in time",
    "ConnectionRefusedError": "connection refused",
    "SSLError": "TLS was not agreed on, or its certificate is not trusted",
    "SSLCertVerificationError": "its certificate is not trusted",
    "ReadTimeoutError": "no answer in time",
    "IncompleteRead": "the connection was cut",
    "InvalidChunkLength": "the connection was cut",
    "RemoteDisconnected": "the connection was cut",
    "ConnectionResetError": "the connection was cut",
    "BrokenPipeError": "the connection was cut",
    "ProtocolError": "the connection was cut",
    "NewConnectionError": "no connection",
}


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


def engine_text(error: Exception) -> str:
    """What the engine said. chDB cannot read a text that quotes bytes which are no UTF-8: it raises
    UnicodeDecodeError, or from it, and that has the bytes."""
    for each in (error, error.__cause__):
        if isinstance(each, UnicodeDecodeError):
            return each.object.decode(errors="replace")
    return str(error)


def engine_error(error: Exception) -> tuple[int, str]:
    """ClickHouse's number and name of an engine error; (0, "") when it carries none.

    A driver's error has them as attributes, where a server told them apart from its text.
    """
    text = engine_text(error)
    code = _CODE.search(text)
    name = _NAME.search(text)
    number: int | None = getattr(error, "code", None) or (int(code[1]) if code else 0)
    return number or 0, (name[1] if name else getattr(error, "name", None)) or ""


def what_failed(error: Exception) -> str:
    """Why, in a few words: the engine's number and name, or what hindered the way to it."""
    code, name = engine_error(error)
    if code:
        return f"error {code}, {name}"
    found = {type(each).__name__ for each in _sources(error)}
    known = next((words for kind, words in _TRANSPORT.items() if kind in found), None)
    return known or f"unknown: {type(error).__name__}"


def _sources(error: BaseException) -> list[BaseException]:
    """The error, what it was raised from, and what urllib3 keeps as a `reason`."""
    found: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting and len(found) < _MOST_SOURCES:
        each = waiting.pop(0)
        if isinstance(each, BaseException) and each not in found:
            found.append(each)
            waiting += [each.__cause__, each.__context__, getattr(each, "reason", None)]
            waiting += each.args
    return found


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
    return StoreUnavailable(f"the store did not take rows of {table} ({what_failed(error)})")


def of_statement(error: Exception) -> StoreUnavailable | StoreRejected:
    """The error of a query or command: rejected only when the statement or one of its values is
    known to be at fault. Whatever else the engine says (a full poll, a broken part, an error that
    a later version adds) is not for its caller to mend."""
    code, name = engine_error(error)
    if code in LIMIT_CODES:
        return StatementTooCostly(
            "this needs more time or memory than one read may take; narrow it, for example to a "
            f"shorter time (error {code}, {name})"
        )
    if code in STATEMENT_CODES or code in DATA_CODES:
        return StoreRejected(
            f"the store refused a statement (error {code}, {name})",
            engine_code=code,
            engine_name=name,
        )
    return StoreUnavailable(f"the store did not answer ({what_failed(error)})")


def of_open(error: Exception) -> StoreUnavailable:
    """The error of opening the engine: another process may have it, or its disk be away."""
    return StoreUnavailable(f"the store's engine cannot be opened ({what_failed(error)})")
