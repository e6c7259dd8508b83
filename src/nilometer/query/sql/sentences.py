"""What is said of each of the engine's errors, and of the kinds of one error."""

from __future__ import annotations

# ClickHouse's errors (src/Common/ErrorCodes.cpp) that a query can cause, as what to change.
SENTENCES = {
    "UNKNOWN_IDENTIFIER": "There is no such column here: {name}.{hint}",
    "AMBIGUOUS_IDENTIFIER": "Say which table's column is meant: {name}.",
    "UNKNOWN_TABLE": "There is no such table.",
    "NOT_AN_AGGREGATE": "Put {name} into GROUP BY, or into an aggregate such as max().",
    "ILLEGAL_AGGREGATION": "An aggregate stands where none may; use HAVING, or a subquery.",
    "ILLEGAL_TYPE_OF_ARGUMENT": "{name} cannot take an argument of this type; convert it first: "
    "a value that may be NULL with ifNull(x, ''), a decimal with toFloat64(), a timestamp with "
    "toDateTime(), another with toString().",
    "NUMBER_OF_ARGUMENTS_DOESNT_MATCH": "{name} has too many or too few arguments.",
    "TOO_MANY_ARGUMENTS_FOR_FUNCTION": "{name} has too many arguments.",
    "TOO_FEW_ARGUMENTS_FOR_FUNCTION": "{name} has too few arguments.",
    "UNKNOWN_FUNCTION": "There is no such function: {name}.",
    "NO_COMMON_TYPE": "Two values that must be of one type are not; convert one of them.",
    "TYPE_MISMATCH": "A value is not of the type that is needed; convert it. A time is written "
    "2025-07-01 12:00:00, or 2025-07-01T12:00:00Z.",
    "CANNOT_CONVERT_TYPE": "A value cannot be converted to this type.",
    "ILLEGAL_COLUMN": "{name} cannot take such a value.",
    "CANNOT_PARSE_TEXT": "A text is not what it is converted to; use a function ending in OrNull.",
    "CANNOT_PARSE_DATETIME": "A text is not a time, which is written 2025-07-01 12:00:00, or "
    "2025-07-01T12:00:00Z; parseDateTimeBestEffortOrNull() reads other forms.",
    "CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN": "A value that is NULL is converted to a type that has "
    "none; write x::Nullable(Int64) for x::Int64, or toInt64OrNull(x).",
    "CANNOT_PARSE_DATE": "A text is not a date; use toDateOrNull().",
    "CANNOT_PARSE_NUMBER": "A text is not a number; use toFloat64OrNull() or toInt64OrNull().",
    "CANNOT_PARSE_UUID": "A text is not a UUID; use toUUIDOrNull().",
    "CANNOT_PARSE_INPUT_ASSERTION_FAILED": "A text is not what it is converted to.",
    "ILLEGAL_DIVISION": "Something is divided by zero, or the least number of its type by "
    "-1; use nullIf() on the divisor.",
    "DECIMAL_OVERFLOW": "A number does not fit its decimal type; use toFloat64().",
    "ARGUMENT_OUT_OF_BOUND": "An argument is out of its bounds.",
    "BAD_ARGUMENTS": "An argument is not one that {name} takes; if it may be NULL, as no key of a "
    "map may, try assumeNotNull().",
    "TOO_LARGE_ARRAY_SIZE": "An array grows too large.",
    "TOO_LARGE_STRING_SIZE": "A text grows too large.",
    "CANNOT_COMPILE_REGEXP": "A regular expression cannot be read.",
    "UNION_ALL_RESULT_STRUCTURES_MISMATCH": "The parts of a UNION differ in their columns.",
    "NUMBER_OF_COLUMNS_DOESNT_MATCH": "The two sides differ in how many columns they have.",
    "SET_SIZE_LIMIT_EXCEEDED": "The right side of IN has too many values.",
    "INVALID_JOIN_ON_EXPRESSION": "Join ON an equality of a column of each table.",
    "UNSUPPORTED_METHOD": "This is not supported here; write it another way.",
    "NOT_IMPLEMENTED": "This is not supported here; write it another way.",
    "INCORRECT_RESULT_OF_SCALAR_SUBQUERY": "A subquery used as a value gives more than one row; "
    "add LIMIT 1 or an aggregate.",
    "MULTIPLE_EXPRESSIONS_FOR_ALIAS": "Two expressions have one name; rename one: {name}.",
    "CYCLIC_ALIASES": "A name refers to itself; rename it: {name}.",
    "BAD_QUERY_PARAMETER": "The value of {name} does not fit the type of this parameter; a "
    "DateTime is written 2025-07-01 12:00:00, or 2025-07-01T12:00:00Z.",
    "UNKNOWN_QUERY_PARAMETER": "A parameter has no value; send it in `values`.",
    "TOO_MANY_ROWS_OR_BYTES": "The result is too large; select fewer rows or narrower columns.",
    "TIMEOUT_EXCEEDED": "This takes too long; narrow it, for example to a shorter time.",
    "MEMORY_LIMIT_EXCEEDED": "This takes too much memory; narrow it, or group by fewer values.",
    "TOO_DEEP_AST": "The query is nested too deeply.",
    "TOO_BIG_AST": "The query is too large.",
    "TOO_DEEP_RECURSION": "The query is nested too deeply.",
}
KINDS = {
    "Array of NULL": "{name} makes an array of a value that may be NULL, as no array may be; give "
    "it ifNull(x, '[]').",
    "Frame": "RANGE cannot count in a time; ORDER BY toUnixTimestamp(timestamp) RANGE BETWEEN 3600 "
    "PRECEDING AND CURRENT ROW is an hour.",
    "Variant": "{name} is given values of two types, such as a decimal and a fraction; write 0 for "
    "0.0, or toFloat64(x) for the decimal.",
}
UNKNOWN = "The query cannot run; check the types and the arguments of its functions."
