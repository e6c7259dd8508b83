"""Every function that takes a text, on every text of every virtual table: the rows of a neighbour,
in the same part of the store, change nothing.

A function is given what it takes without an error: OURS, or a date or UUID made of it. Made of the
neighbour's text, those are neither, so that a function that saw one would fail or say otherwise.
"""

import re

import pytest

from nilometer.query.sql import functions, limits
from nilometer.query.sql.tables import TABLES
from tests.query_sql import neighbours
from tests.query_sql.neighbours import OURS

# What a text is made into; a column that is encoded stays so.
TEXT = "{0}"
DATE = "concat('2025-01-0', left({0}, 1))"
UUID = "concat('61f0c404-5cb3-11e7-907b-a6006ad3dba', left({0}, 1))"
JSON = "concat('{{\"a\":', {0}, '}}')"
# How each function takes a text: the call, what the text is made into, and the functions.
TAKES = {
    ("f('a', x)", TEXT): "format splitByChar splitByString splitByRegexp",
    ("f(1, x)", TEXT): "ifNotFinite",
    ("f([x])", TEXT): (
        "arrayStringConcat arrayMin arrayMax arraySort arrayReverseSort arrayReverse "
        "arrayDistinct arrayUniq arrayConcat arrayFlatten arrayCompact arrayPopBack "
        "arrayPopFront arrayIntersect arrayUnion arrayEnumerate arrayEnumerateUniq arrayZip"
    ),
    ("f(x)", TEXT): (
        "coalesce isNull isNotNull assumeNotNull toNullable greatest least bitNot bitCount "
        "toString toTypeName toInt8 toInt16 toInt32 toInt64 toInt128 toInt8OrNull toInt16OrNull "
        "toInt32OrNull toInt64OrNull toInt64OrZero toInt64OrDefault toUInt8 toUInt16 toUInt32 "
        "toUInt64 toUInt8OrNull toUInt16OrNull toUInt32OrNull toUInt64OrNull toUInt64OrZero "
        "toFloat32 toFloat64 toFloat32OrNull toFloat64OrNull toFloat64OrZero toFloat64OrDefault "
        "toUUIDOrNull toUUIDOrZero toDateOrNull toDateTime toDateTimeOrNull toDateTime64OrNull "
        "parseDateTimeOrNull parseDateTimeBestEffort parseDateTimeBestEffortOrNull "
        "parseDateTime64BestEffort parseDateTime64BestEffortOrNull toLowCardinality toWeek "
        "toDayOfWeek toUnixTimestamp toIntervalSecond toIntervalMinute toIntervalHour "
        "toIntervalDay toIntervalWeek toIntervalMonth toIntervalQuarter toIntervalYear "
        "toIntervalMillisecond toIntervalMicrosecond length lengthUTF8 empty notEmpty lower "
        "upper lowerUTF8 upperUTF8 reverse reverseUTF8 concat concatWithSeparator trim trimLeft "
        "trimRight trimBoth regexpQuoteMeta splitByWhitespace splitByNonAlpha alphaTokens "
        "initcap initcapUTF8 ascii hex unhex bin base64Encode base64Decode tryBase64Decode "
        "encodeURLComponent decodeURLComponent isValidUTF8 toValidUTF8 normalizeUTF8NFC "
        "toStringCutToZero domain domainWithoutWWW topLevelDomain protocol path queryString "
        "cutQueryString extractTextFromHTML JSONExtractString JSONExtractInt JSONExtractUInt "
        "JSONExtractFloat JSONExtractBool JSONExtractRaw JSONExtractArrayRaw JSONExtractKeys "
        "JSONExtractKeysAndValuesRaw JSONHas JSONLength JSONType JSONKey JSONArrayLength "
        "isValidJSON toJSONString array tuple cityHash64 sipHash64 sipHash128 xxHash64 "
        "murmurHash3_64 halfMD5 MD5 SHA1 SHA256"
    ),
    (
        "f(x, '4', '5')",
        TEXT,
    ): "clamp replace replaceOne replaceAll replaceRegexpOne replaceRegexpAll translate",
    ("f(x, 'Int64')", TEXT): "CAST accurateCastOrNull JSONExtract JSONExtractKeysAndValues",
    ("f(x, 'a')", TEXT): (
        "equals notEquals less greater lessOrEquals greaterOrEquals isDistinctFrom "
        "isNotDistinctFrom like notLike ilike notILike ifNull nullIf startsWith endsWith "
        "position locate positionUTF8 positionCaseInsensitive positionCaseInsensitiveUTF8 "
        "countSubstrings countSubstringsCaseInsensitive hasToken hasTokenCaseInsensitive "
        "hasSubsequence match extract extractAll countMatches regexpExtract "
        "ngramDistance extractURLParameter simpleJSONExtractString "
        "simpleJSONExtractInt simpleJSONExtractFloat simpleJSONExtractBool simpleJSONExtractRaw "
        "simpleJSONHas visitParamExtractString map"
    ),
    ("f(x, 1)", TEXT): (
        "bitShiftLeft bitShiftRight toDecimal32 toDecimal64 toDecimal128 toDecimal256 "
        "toDecimal32OrNull toDecimal64OrNull toDecimal128OrNull toDateTime64 addYears "
        "addQuarters addMonths addWeeks addDays addHours addMinutes addSeconds addMilliseconds "
        "subtractYears subtractQuarters subtractMonths subtractWeeks subtractDays subtractHours "
        "subtractMinutes subtractSeconds substring substr substringUTF8 left right leftUTF8 "
        "rightUTF8 leftPad rightPad repeat ngrams"
    ),
    ("f(y -> y, [x])", TEXT): "arrayMap",
    ("f(x)", DATE): "toDate DATE toDate32",
    ("f(x)", UUID): "toUUID",
}
# Those that take none, or nothing that a text can be made into here.
OTHERS = (
    "and or not xor if multiIf caseWithExpression isZeroOrNull transform grouping plus minus "
    "multiply divide intDiv intDivOrZero intDivOrNull modulo moduloOrZero positiveModulo "
    "negate abs sign gcd lcm divideDecimal multiplyDecimal divideOrNull isFinite isInfinite "
    "isNaN bitAnd bitOr bitXor bitTest sqrt cbrt exp exp2 exp10 log ln log2 log10 log1p pow "
    "power sin cos tan asin acos atan atan2 sinh cosh tanh degrees radians pi e hypot sigmoid "
    "widthBucket erf ceil ceiling floor round roundBankers roundDown roundToExp2 trunc "
    "truncate toBool toDecimalString parseDateTime toYear toQuarter toMonth toISOWeek "
    "toISOYear toDayOfYear toDayOfMonth toHour toMinute toSecond toMillisecond toMonday "
    "toStartOfYear toStartOfQuarter toStartOfMonth toStartOfWeek toStartOfDay toStartOfHour "
    "toStartOfMinute toStartOfSecond toStartOfFiveMinutes toStartOfTenMinutes "
    "toStartOfFifteenMinutes toStartOfInterval toLastDayOfMonth toLastDayOfWeek toDaysInMonth "
    "dateTrunc date_trunc dateDiff date_diff age formatDateTime fromUnixTimestamp "
    "fromUnixTimestamp64Milli fromUnixTimestamp64Micro toUnixTimestamp64Milli "
    "toUnixTimestamp64Micro toTimezone toTimeZone toYYYYMM toYYYYMMDD toYYYYMMDDhhmmss "
    "makeDate makeDateTime monthName dateName timeSlot multiSearchAny "
    "multiSearchAnyCaseInsensitive multiMatchAny extractAllGroups extractGroups "
    "substringIndex char formatReadableSize formatReadableQuantity formatReadableDecimalSize "
    "formatReadableTimeDelta bar arrayElement "
    "arrayElementOrNull arrayFilter arrayExists arrayAll arrayCount arrayFirst "
    "arrayFirstOrNull arrayFirstIndex arrayLast arrayLastIndex arraySum arrayAvg arrayProduct "
    "arraySlice arrayPushBack arrayPushFront arrayResize arrayExcept arrayCumSum "
    "arrayDifference arraySplit arrayFill arrayFold has hasAll hasAny hasSubstr indexOf "
    "countEqual range emptyArrayString tupleElement mapFromArrays mapKeys mapValues "
    "mapContains mapContainsKey mapAdd mapSubtract mapFilter mapApply mapExists mapAll "
    "mapConcat mapUpdate mapSort UUIDv7ToDateTime "
)
# They differ from call to call, or are no functions of a row.
DIFFERING = (
    "rand rand64 randCanonical generateUUIDv4 generateUUIDv7 now now64 today yesterday arrayJoin "
    "untuple"
)
OTHERWISE = {
    "event": "substring(event, 5)",
    "properties": f"if(startsWith(properties, '{{'), {OURS!r}, properties)",
}
TEXTS = ("String", "Nullable(String)")
MOST = 500  # expressions in one query


@pytest.fixture(scope="module")
def projects(store):
    return neighbours.new(store)


def expressions():
    """Each function's calls, with {0} for the text."""
    return [
        name + re.sub(r"\bx\b", lambda _, made=made: made, call[1:])
        for (call, made), names in TAKES.items()
        for name in names.split()
    ]


def test_no_function_is_forgotten():
    known = {name for names in (*TAKES.values(), OTHERS, DIFFERING) for name in names.split()}
    allowed = {name for group in functions.FUNCTIONS for name in functions.FUNCTIONS[group]}
    assert known == allowed - {*functions.FUNCTIONS["Windows"]}


def columns(table):
    """Its texts, as arguments that are OURS in our rows."""
    for column in table.columns:
        if column.type in TEXTS:
            text = column.name if column.type == "String" else f"assumeNotNull({column.name})"
            yield OTHERWISE.get(column.name, text)


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_neighbour_changes_no_answer_of_any_function(store, projects, table):
    calls = [each.format(text) for text in columns(table) for each in expressions()]
    for start in range(0, len(calls), MOST):
        some = calls[start : start + MOST]
        alone, beside = (
            answer(store, project_id, table, some)
            for project_id in (projects.alone, projects.beside)
        )
        assert alone == beside


def answer(store, project_id, table, calls):
    """A number for all that these calls give on the table's rows. Fails where one of them does."""
    sums = ", ".join(f"sum(cityHash64(toString({call})))" for call in calls)
    fenced = table.fenced(project_id)
    with store.sandbox(limits.settings(project_id, seconds=60, result_bytes=1 << 24)) as handle:
        return handle.read(f"SELECT {sums} FROM {fenced} AS {table.name}", "TSV")
