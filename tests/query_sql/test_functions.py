"""Every function that may be called exists and works, and is called as the engine calls it."""

import json

import pytest

from nilometer.query.sql import functions, types
from nilometer.query.sql.errors import SqlError
from nilometer.query.sql.refusal import Refusal

# Arguments by the functions that they suit.
CALLS = {
    "1, 0": "and or xor equals notEquals less greater lessOrEquals greaterOrEquals isDistinctFrom "
    "isNotDistinctFrom plus minus multiply nullIf ifNull coalesce greatest least bitAnd bitOr "
    "bitXor bitShiftLeft bitShiftRight bitTest intDivOrZero intDivOrNull moduloOrZero divideOrNull",
    "7, 2": "divide intDiv modulo positiveModulo gcd lcm pow power atan2 hypot",
    "1": "not isNull isNotNull isZeroOrNull assumeNotNull toNullable negate abs sign isFinite "
    "isInfinite isNaN bitNot bitCount sqrt cbrt exp exp2 exp10 log ln log2 log10 log1p sin cos tan "
    "asin acos atan sinh cosh tanh degrees radians sigmoid erf ceil ceiling floor round "
    "roundBankers roundToExp2 trunc truncate toString toTypeName toBool toInt8 toInt16 toInt32 "
    "toInt64 toInt128 toUInt8 toUInt16 toUInt32 toUInt64 toFloat32 toFloat64 toLowCardinality "
    "toIntervalSecond toIntervalMinute toIntervalHour toIntervalDay toIntervalWeek "
    "toIntervalMonth toIntervalQuarter toIntervalYear toIntervalMillisecond "
    "toIntervalMicrosecond fromUnixTimestamp toDate32 formatReadableSize formatReadableQuantity "
    "formatReadableDecimalSize formatReadableTimeDelta char hex bin array tuple toJSONString",
    "": "pi e now now64 today yesterday rand rand64 randCanonical generateUUIDv4 generateUUIDv7 "
    "emptyArrayString",
    "'12'": "toInt8OrNull toInt16OrNull toInt32OrNull toInt64OrNull toInt64OrZero "
    "toInt64OrDefault toUInt8OrNull toUInt16OrNull toUInt32OrNull toUInt64OrNull toUInt64OrZero "
    "toFloat32OrNull toFloat64OrNull toFloat64OrZero toFloat64OrDefault length lengthUTF8 empty "
    "notEmpty lower "
    "upper lowerUTF8 upperUTF8 reverse reverseUTF8 trim trimLeft trimRight trimBoth initcap "
    "initcapUTF8 ascii base64Encode tryBase64Decode encodeURLComponent decodeURLComponent "
    "isValidUTF8 toValidUTF8 normalizeUTF8NFC toStringCutToZero domain domainWithoutWWW "
    "topLevelDomain protocol path queryString cutQueryString regexpQuoteMeta unhex alphaTokens "
    "splitByWhitespace splitByNonAlpha extractTextFromHTML cityHash64 sipHash64 xxHash64 "
    "murmurHash3_64 halfMD5",
    "'MTI='": "base64Decode",
    "'ab', 'a'": "like notLike ilike notILike startsWith endsWith position locate positionUTF8 "
    "positionCaseInsensitive positionCaseInsensitiveUTF8 countSubstrings "
    "countSubstringsCaseInsensitive hasToken hasTokenCaseInsensitive hasSubsequence match extract "
    "extractAll countMatches concat ngramDistance "
    "extractURLParameter",
    "'12', 1": "substring substr substringUTF8 left right leftUTF8 rightUTF8 leftPad rightPad "
    "repeat ngrams",
    "'1', 2": "toDecimal32 toDecimal64 toDecimal128 toDecimal256 toDecimal32OrNull "
    "toDecimal64OrNull "
    "toDecimal128OrNull",
    "toDecimal64(1.5, 3), 2": "toDecimalString",
    "toDecimal64(1.5, 3), toDecimal64(2, 3)": "divideDecimal multiplyDecimal",
    "1, 0, 2": "clamp",
    "1, 2, 3": "if multiIf",
    "1, 1, 2, 3": "caseWithExpression",
    "1, [1], ['a'], 'b'": "transform",
    "1.5, 0": "ifNotFinite",
    "3.7, [1, 2, 4]": "roundDown",
    "5, 1, 10, 3": "widthBucket",
    "'12', 'Int8'": "CAST accurateCastOrNull",
    "'61f0c404-5cb3-11e7-907b-a6006ad3dba0'": "toUUID toUUIDOrNull toUUIDOrZero",
    "'2025-07-01'": "toDate DATE toDateOrNull toDateTimeOrNull",
    "'2025-07-01 11:00:00'": "toDateTime parseDateTimeBestEffort parseDateTimeBestEffortOrNull "
    "parseDateTime64BestEffort parseDateTime64BestEffortOrNull",
    "'2025-07-01 11:00:00', 3": "toDateTime64 toDateTime64OrNull",
    "'2025-07-01', '%Y-%m-%d'": "parseDateTime parseDateTimeOrNull",
    "now()": "toYear toQuarter toMonth toISOWeek toISOYear toWeek toDayOfYear toDayOfMonth "
    "toDayOfWeek toHour toMinute toSecond toMonday toStartOfYear toStartOfQuarter toStartOfMonth "
    "toStartOfWeek toStartOfDay toStartOfHour toStartOfMinute toStartOfFiveMinutes "
    "toStartOfTenMinutes toStartOfFifteenMinutes toLastDayOfMonth toLastDayOfWeek "
    "toDaysInMonth toUnixTimestamp toYYYYMM "
    "toYYYYMMDD toYYYYMMDDhhmmss monthName timeSlot",
    "now64(3)": "toMillisecond toStartOfSecond toUnixTimestamp64Milli toUnixTimestamp64Micro",
    "toInt64(1)": "fromUnixTimestamp64Milli fromUnixTimestamp64Micro",
    "now(), INTERVAL 1 HOUR": "toStartOfInterval",
    "'day', now()": "dateTrunc date_trunc dateName",
    "'day', now(), now()": "dateDiff date_diff age",
    "now(), 1": "addYears addQuarters addMonths addWeeks addDays addHours addMinutes addSeconds "
    "addMilliseconds subtractYears subtractQuarters subtractMonths subtractWeeks subtractDays "
    "subtractHours subtractMinutes subtractSeconds",
    "now(), '%Y'": "formatDateTime",
    "now(), 'Europe/Berlin'": "toTimezone toTimeZone",
    "2025, 7, 1": "makeDate",
    "2025, 7, 1, 0, 0, 0": "makeDateTime",
    "'-', 'a', 'b'": "concatWithSeparator",
    "'ab', ['a']": "multiSearchAny multiSearchAnyCaseInsensitive multiMatchAny",
    "'a=1', '(\\\\w)=(\\\\w)'": "extractAllGroups extractGroups regexpExtract",
    "'ab', 'a', 'c'": "replace replaceOne replaceAll replaceRegexpOne replaceRegexpAll translate",
    "'{}', 'a'": "format",
    "',', 'a,b'": "splitByChar splitByString splitByRegexp",
    "['a', 'b'], '-'": "arrayStringConcat",
    "'a.b', '.', 1": "substringIndex",
    "1, 0, 10, 5": "bar",
    "'{\"a\":1}', 'a', 'Int8'": "JSONExtract",
    "'{\"a\":1}', 'Int8'": "JSONExtractKeysAndValues",
    "'{\"a\":1}', 'a'": "JSONExtractString JSONExtractInt JSONExtractUInt JSONExtractFloat "
    "JSONExtractBool JSONExtractRaw JSONHas JSONLength JSONType simpleJSONExtractString "
    "simpleJSONExtractInt simpleJSONExtractFloat simpleJSONExtractBool simpleJSONExtractRaw "
    "simpleJSONHas visitParamExtractString",
    "'{\"a\":1}', 1": "JSONKey",
    "'[1]'": "JSONExtractArrayRaw JSONArrayLength",
    "'{\"a\":1}'": "JSONExtractKeys JSONExtractKeysAndValuesRaw isValidJSON",
    "[1, 2], 1": "arrayElement arrayElementOrNull arrayPushBack arrayPushFront arrayResize has "
    "indexOf countEqual arraySlice",
    "x -> x > 1, [1, 2]": "arrayMap arrayFilter arrayExists arrayAll arrayCount arrayFirst "
    "arrayFirstOrNull arrayFirstIndex arrayLast arrayLastIndex arraySplit arrayFill",
    "[2, 1]": "arraySum arrayAvg arrayMin arrayMax arrayProduct arraySort arrayReverseSort "
    "arrayReverse arrayDistinct arrayUniq arrayCompact arrayPopBack arrayPopFront arrayEnumerate "
    "arrayEnumerateUniq arrayCumSum arrayDifference arrayJoin",
    "[1], [2]": "arrayConcat arrayIntersect arrayUnion arrayExcept arrayZip hasAll hasAny "
    "hasSubstr",
    "[[1], [2]]": "arrayFlatten",
    "(a, x) -> a + x, [1, 2], toInt64(0)": "arrayFold",
    "3": "range",
    "(1, 'a'), 1": "tupleElement",
    "(1, 'a')": "untuple",
    "'a', 1": "map",
    "['a'], [1]": "mapFromArrays",
    "map('a', 1)": "mapKeys mapValues mapSort",
    "map('a', 1), 'a'": "mapContains mapContainsKey",
    "map('a', 1), map('a', 2)": "mapAdd mapSubtract mapConcat mapUpdate",
    "(k, v) -> v > 0, map('a', 1)": "mapFilter mapExists mapAll",
    "(k, v) -> (k, v + 1), map('a', 1)": "mapApply",
    "generateUUIDv7()": "UUIDv7ToDateTime",
}
HASHES = "hex({0}('a'))"
WINDOWS = {
    "row_number()": "row_number", "rank()": "rank", "dense_rank()": "dense_rank",
    "denseRank()": "denseRank", "percent_rank()": "percent_rank", "percentRank()": "percentRank",
    "cume_dist()": "cume_dist", "ntile(2)": "ntile", "lag(x)": "lag", "lead(x)": "lead",
    "lagInFrame(x)": "lagInFrame", "leadInFrame(x)": "leadInFrame",
    "nth_value(x, 1)": "nth_value", "first_value(x)": "first_value", "last_value(x)": "last_value",
}  # fmt: skip
AGGREGATES = {
    "x": "count sum avg min max any anyLast anyHeavy any_value uniq uniqExact uniqCombined "
    "uniqCombined64 uniqHLL12 median quantile quantileExact quantileExactInclusive "
    "quantileTDigest quantileTiming quantileBFloat16 stddevPop "
    "stddevSamp stddev_pop stddev_samp varPop varSamp var_pop var_samp sumKahan sumWithOverflow "
    "sumCount groupArray groupUniqArray groupArrayMovingAvg groupArrayMovingSum "
    "groupBitAnd groupBitOr groupBitXor entropy skewPop skewSamp kurtPop kurtSamp deltaSum "
    "singleValueOrNull",
    "x, y": "argMin argMax covarPop covarSamp corr avgWeighted quantileExactWeighted "
    "quantileDeterministic simpleLinearRegression boundingRatio rankCorr",
    "map(x, y)": "sumMap minMap maxMap",
    "toString(x)": "groupConcat",
    "x > 1, y > 1": "retention",
}
PARAMETRIC = {
    "quantiles(0.5, 0.9)(x)": "quantiles", "quantilesExact(0.5)(x)": "quantilesExact",
    "quantilesExactInclusive(0.5)(x)": "quantilesExactInclusive",
    "welchTTest(x, x > 1)": "welchTTest", "mannWhitneyUTest(x, x > 1)": "mannWhitneyUTest",
    "quantilesTDigest(0.5)(x)": "quantilesTDigest", "quantilesTiming(0.5)(x)": "quantilesTiming",
    "groupArrayLast(2)(x)": "groupArrayLast", "maxIntersections(x, x)": "maxIntersections",
    "deltaSumTimestamp(toInt64(x), toInt64(y))": "deltaSumTimestamp",
    "quantileGK(100, 0.5)(x)": "quantileGK", "topK(2)(x)": "topK",
    "topKWeighted(2)(x, y)": "topKWeighted", "approx_top_k(2)(x)": "approx_top_k",
    "groupArraySample(2)(x)": "groupArraySample", "groupArraySorted(2)(x)": "groupArraySorted",
    "histogram(2)(x)": "histogram", "windowFunnel(10)(toDateTime(x), x = 1, x = 2)": "windowFunnel",
    "sequenceMatch('(?1)(?2)')(toDateTime(x), x = 1, x = 2)": "sequenceMatch",
    "sequenceCount('(?1)(?2)')(toDateTime(x), x = 1, x = 2)": "sequenceCount",
    "exponentialMovingAverage(5)(x, y)": "exponentialMovingAverage",
}  # fmt: skip
# Sees nothing but whether the row that it stands in is a total: its arguments are columns of the
# GROUP BY beside it.
TOTALS = "SELECT grouping(x) {} GROUP BY x WITH ROLLUP"
NUMBERS = "FROM (SELECT arrayJoin([1, 2, 3]) AS x, x * 2 AS y)"
HASHED = "MD5 SHA1 SHA256 sipHash128"


def called():
    """Each function and a query that calls it."""
    for arguments, names in CALLS.items():
        yield from ((name, f"SELECT {name}({arguments})") for name in names.split())
    yield from ((name, f"SELECT {HASHES.format(name)}") for name in HASHED.split())
    yield "grouping", TOTALS.format(NUMBERS)
    for call, name in WINDOWS.items():
        yield name, f"SELECT {call} OVER (ORDER BY x) {NUMBERS}"
    for arguments, names in AGGREGATES.items():
        yield from ((name, f"SELECT {name}({arguments}) {NUMBERS}") for name in names.split())
    yield from ((name, f"SELECT {call} {NUMBERS}") for call, name in PARAMETRIC.items())


QUERIES = list(called())
ALLOWED = {name for names in functions.FUNCTIONS.values() for name in names}
ALLOWED |= set(functions.AGGREGATES)


def test_every_allowed_function_is_tried():
    assert {name for name, _ in QUERIES} == ALLOWED


@pytest.mark.parametrize("part", range(8))
def test_an_allowed_function_works(queries, ours, part):
    for name, sql in QUERIES[part::8]:
        assert queries.run(ours, sql).rows, name


def test_a_function_is_found_in_any_letter_case_and_with_combinators(queries, ours):
    sql = (
        "SELECT COUNT(*), Sum(x), sumIf(x, y > 2), uniqExactIf(x, y > 2), TOSTRING(1), "
        f"groupArrayDistinctIf(x, x > 2), avgOrNull(x), sumArray([x]), countDistinct(x) {NUMBERS}"
    )
    assert json.loads(queries.run(ours, sql).rows[0]) == [3, 6, 5, 2, "1", [3], 2, 6, 3]


def test_a_second_name_is_the_engines_own_and_stands_for_an_allowed_function(store):
    found = store.query("SELECT lower(name), alias_to FROM system.functions WHERE alias_to != ''")
    engines = dict(found.rows)
    assert {name: engines.get(name.lower()) for name in functions.ALIASES} == functions.ALIASES
    assert set(functions.ALIASES.values()) <= ALLOWED


def test_a_second_name_runs_as_the_function_that_it_stands_for(queries, ours):
    sql = (
        "SELECT string_agg(toString(x), '-'), ARRAY_AGG(DISTINCT x > 1), stddev(x), max_by(x, y), "
        f"year(toDate('2025-07-01')), REGEXP_REPLACE('a1b', '[0-9]', ''), array_aggIf(x, x > 2) "
        f"{NUMBERS}"
    )
    assert json.loads(queries.run(ours, sql).rows[0]) == [
        "1-2-3", [False, True], 1, 3, 2025, "ab", [3]
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "ours"),
    [("iff", "if"), ("percentile_cont", "quantileExactInclusive"),
     ("listaggDistinct", "groupConcat"), ("toStartOfDey", "toStartOfDay"), ("zzzz", None)],
)  # fmt: skip
def test_a_name_of_another_dialect_leads_to_ours(name, ours):
    assert functions.canonical(name) is None
    assert functions.similar(name) == ours


def test_a_synonym_is_a_function_that_is_allowed_anyway(queries, ours):
    """Each is written as that function, so nothing more can be called by it."""
    assert set(functions.SYNONYMS.values()) <= ALLOWED
    sql = "SELECT NVL(NULL, 1), dayName(toDate('2025-07-01')), dateName('weekday', toDate(0))"
    assert json.loads(queries.run(ours, sql).rows[0]) == [1, "Tuesday", "Thursday"]


@pytest.mark.parametrize("sql", ["SELECT dayName()", "SELECT dayName(now(), 1)"])
def test_a_synonym_takes_what_it_stands_for(queries, ours, sql):
    with pytest.raises(SqlError, match="not available"):
        queries.run(ours, sql)


def test_what_is_left_out_on_purpose_is_left_out():
    assert not [name for name in functions._INSTEAD if functions.canonical(name)]


def test_a_total_is_told_from_a_value(queries, ours):
    sql = (
        "SELECT grouping(d), d, sum(x) FROM (SELECT arrayJoin([1, 2]) AS x, toDate(x) AS d) "
        "GROUP BY d WITH ROLLUP ORDER BY 1, 2"
    )
    assert [json.loads(row) for row in queries.run(ours, sql).rows] == [
        [0, "1970-01-02", 1],
        [0, "1970-01-03", 2],
        [1, "1970-01-01", 3],
    ]


def test_every_name_that_is_proposed_is_allowed():
    assert {functions.canonical(name) for name in functions._ELSEWHERE.values()} <= {
        *ALLOWED,
        "countIf",
    }
    assert not [name for name in functions._ELSEWHERE if functions.canonical(name)]


@pytest.mark.parametrize(
    "name",
    ["countMerge", "sumState", "file", "sumFile", "OrNull", "", "in", "x" * 5000, "countIfState"],
)
def test_a_function_that_is_not_listed_is_none(name):
    assert functions.canonical(name) is None


def test_no_allowed_function_can_reach_outside():
    """By the engine's own list: nothing of these groups is allowed."""
    outside = ("dictGet", "joinGet", "file", "getSetting", "sleep", "throwIf", "hostName", "in")
    assert not [name for name in ALLOWED if name.startswith(outside[:3]) or name in outside]
    assert not [name for name in ALLOWED if name.endswith(("State", "Merge"))]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("int8", "Int8"),
        (" Nullable( String ) ", "Nullable(String)"),
        ("Decimal(38, 18)", "Decimal(38, 18)"),
        ("DateTime64(6, 'UTC')", "DateTime64(6, 'UTC')"),
        ("Array(Tuple(name String, n Map(String, UInt8)))",
         "Array(Tuple(`name` String, `n` Map(String, UInt8)))"),
        ("Tuple(Int8, String)", "Tuple(Int8, String)"),
        ("FixedString(16)", "FixedString(16)"),
        ("INTEGER", "Int32"),
        ("Nullable(bigint)", "Nullable(Int64)"),
        ("DOUBLE PRECISION", "Float64"),
        ("VARCHAR(255)", "String"),
        ("Array(varchar (10))", "Array(String)"),
        ("NUMERIC(10, 2)", "Decimal(10, 2)"),
        ("TIMESTAMP", "DateTime"),
    ],
)  # fmt: skip
def test_a_type_is_written_anew(text, written):
    assert types.parse(text) == written


def test_a_name_of_standard_sql_is_the_engines_own(store):
    found = store.query("SELECT lower(name), alias_to FROM system.data_type_families")
    engines = dict(found.rows)
    assert {name: engines[name] for name in types._STANDARD} == types._STANDARD


@pytest.mark.parametrize(
    "text",
    ["VARCHAR(x)", "INTEGER(11)", "FLOAT(3) --", "DOUBLE PRECISION PRECISION", "CHAR(1)(2)",
     "", "AggregateFunction(count)", "Enum8('a' = 1)", "Int8)", "Nullable(", "Array()", "Int8 Int8",
     "DateTime64(6, 'UTC') -- ", "Array(" * 30 + "Int8" + ")" * 30, "JSON", "Dynamic",
     "Object('x')", "Int8(1)", "Nullable", "Identifier", "Tuple(a b c)", "Map(String, Int8, Int8)",
     "Decimal(x)",
     "String\0", "Str`ing", "Nested(a Int8)", "x" * 5000],
)  # fmt: skip
def test_another_type_is_refused(text):
    with pytest.raises(Refusal):
        types.parse(text)
