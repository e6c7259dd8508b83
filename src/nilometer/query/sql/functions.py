"""The functions that a query may call: those that see nothing but their arguments.

Left out on purpose: what reads a file, a dictionary, a table by its name, a setting, the server or
another row of the block (`file`, `dictGet`, `joinGet`, `in`, `getSetting`, `hostName`, `neighbor`,
`runningDifference`), what waits or raises by order (`sleep`, `throwIf`), what runs a function by
its name (`arrayReduce`, `initializeAggregation`), and what reads raw states (`-Merge`,
`finalizeAggregation`, `reinterpret…`).
"""

from __future__ import annotations

import difflib

FUNCTIONS: dict[str, tuple[str, ...]] = {
    group: tuple(names.split())
    for group, names in {
        "Comparison and logic": (
            "and or not xor equals notEquals less greater lessOrEquals greaterOrEquals "
            "isDistinctFrom isNotDistinctFrom like notLike ilike notILike"
        ),
        "Conditions and nulls": (
            "if multiIf caseWithExpression coalesce ifNull nullIf isNull isNotNull isZeroOrNull "
            "assumeNotNull toNullable greatest least clamp transform grouping"
        ),
        "Arithmetic": (
            "plus minus multiply divide intDiv intDivOrZero intDivOrNull modulo moduloOrZero "
            "positiveModulo negate abs sign gcd lcm divideDecimal multiplyDecimal divideOrNull "
            "ifNotFinite isFinite isInfinite isNaN bitAnd bitOr bitXor bitNot bitShiftLeft "
            "bitShiftRight bitCount bitTest"
        ),
        "Mathematics": (
            "sqrt cbrt exp exp2 exp10 log ln log2 log10 log1p pow power sin cos tan asin acos atan "
            "atan2 sinh cosh tanh degrees radians pi e hypot sigmoid widthBucket erf ceil ceiling "
            "floor round roundBankers roundDown roundToExp2 trunc truncate"
        ),
        "Conversion": (
            "CAST accurateCastOrNull toString toTypeName toBool toInt8 toInt16 toInt32 toInt64 "
            "toInt128 toInt8OrNull toInt16OrNull toInt32OrNull toInt64OrNull toInt64OrZero "
            "toInt64OrDefault toUInt8 toUInt16 toUInt32 toUInt64 toUInt8OrNull toUInt16OrNull "
            "toUInt32OrNull toUInt64OrNull toUInt64OrZero toFloat32 toFloat64 toFloat32OrNull "
            "toFloat64OrNull toFloat64OrZero toFloat64OrDefault toDecimal32 toDecimal64 "
            "toDecimal128 toDecimal256 toDecimal32OrNull toDecimal64OrNull toDecimal128OrNull "
            "toDecimalString toUUID toUUIDOrNull toUUIDOrZero "
            "toDate DATE toDate32 toDateOrNull toDateTime toDateTime64 toDateTimeOrNull "
            "toDateTime64OrNull parseDateTime parseDateTimeOrNull parseDateTimeBestEffort "
            "parseDateTimeBestEffortOrNull parseDateTime64BestEffort "
            "parseDateTime64BestEffortOrNull toLowCardinality"
        ),
        "Dates and times": (
            "now now64 today yesterday toYear toQuarter toMonth toISOWeek toISOYear toWeek "
            "toDayOfYear toDayOfMonth toDayOfWeek toHour toMinute toSecond toMillisecond "
            "toMonday toStartOfYear toStartOfQuarter toStartOfMonth toStartOfWeek toStartOfDay "
            "toStartOfHour toStartOfMinute toStartOfSecond toStartOfFiveMinutes "
            "toStartOfTenMinutes toStartOfFifteenMinutes toStartOfInterval toLastDayOfMonth "
            "toLastDayOfWeek toDaysInMonth "
            "dateTrunc date_trunc dateDiff date_diff age addYears addQuarters addMonths addWeeks "
            "addDays addHours addMinutes addSeconds addMilliseconds subtractYears "
            "subtractQuarters subtractMonths subtractWeeks subtractDays subtractHours "
            "subtractMinutes subtractSeconds formatDateTime fromUnixTimestamp "
            "fromUnixTimestamp64Milli fromUnixTimestamp64Micro toUnixTimestamp "
            "toUnixTimestamp64Milli toUnixTimestamp64Micro toTimezone toTimeZone toYYYYMM "
            "toYYYYMMDD toYYYYMMDDhhmmss makeDate makeDateTime monthName dateName timeSlot "
            "toIntervalSecond toIntervalMinute toIntervalHour toIntervalDay toIntervalWeek "
            "toIntervalMonth toIntervalQuarter toIntervalYear toIntervalMillisecond "
            "toIntervalMicrosecond"
        ),
        "Strings": (
            "length lengthUTF8 empty notEmpty lower upper lowerUTF8 upperUTF8 reverse reverseUTF8 "
            "concat concatWithSeparator substring substr substringUTF8 left right leftUTF8 "
            "rightUTF8 leftPad rightPad trim trimLeft trimRight trimBoth repeat startsWith "
            "endsWith position locate positionUTF8 positionCaseInsensitive "
            "positionCaseInsensitiveUTF8 "
            "countSubstrings countSubstringsCaseInsensitive hasToken hasTokenCaseInsensitive "
            "hasSubsequence multiSearchAny multiSearchAnyCaseInsensitive match multiMatchAny "
            "extract extractAll extractAllGroups extractGroups countMatches regexpExtract replace "
            "replaceOne replaceAll replaceRegexpOne replaceRegexpAll regexpQuoteMeta translate "
            "format splitByChar splitByString splitByRegexp splitByWhitespace splitByNonAlpha "
            "alphaTokens ngrams arrayStringConcat substringIndex initcap initcapUTF8 ascii char "
            "hex unhex bin base64Encode base64Decode tryBase64Decode encodeURLComponent "
            "decodeURLComponent isValidUTF8 toValidUTF8 normalizeUTF8NFC "
            "ngramDistance formatReadableSize formatReadableQuantity "
            "formatReadableDecimalSize formatReadableTimeDelta bar toStringCutToZero domain "
            "domainWithoutWWW topLevelDomain protocol path queryString cutQueryString "
            "extractURLParameter extractTextFromHTML"
        ),
        "JSON": (
            "JSONExtract JSONExtractString JSONExtractInt JSONExtractUInt JSONExtractFloat "
            "JSONExtractBool JSONExtractRaw JSONExtractArrayRaw JSONExtractKeys "
            "JSONExtractKeysAndValues JSONExtractKeysAndValuesRaw JSONHas JSONLength JSONType "
            "JSONKey JSONArrayLength isValidJSON toJSONString "
            "simpleJSONExtractString simpleJSONExtractInt simpleJSONExtractFloat "
            "simpleJSONExtractBool simpleJSONExtractRaw simpleJSONHas visitParamExtractString"
        ),
        "Arrays": (
            "array arrayElement arrayElementOrNull arrayMap arrayFilter arrayExists arrayAll "
            "arrayCount arrayFirst arrayFirstOrNull arrayFirstIndex arrayLast arrayLastIndex "
            "arraySum arrayAvg arrayMin arrayMax arrayProduct arraySort arrayReverseSort "
            "arrayReverse arrayDistinct arrayUniq arrayConcat arrayFlatten arrayCompact "
            "arraySlice arrayPushBack arrayPushFront arrayPopBack arrayPopFront arrayResize "
            "arrayIntersect arrayUnion arrayExcept arrayEnumerate arrayEnumerateUniq "
            "arrayCumSum arrayDifference arrayZip arraySplit arrayFill arrayFold arrayJoin has "
            "hasAll hasAny hasSubstr indexOf countEqual range emptyArrayString"
        ),
        "Tuples and maps": (
            "tuple tupleElement untuple map mapFromArrays mapKeys mapValues mapContains "
            "mapContainsKey mapAdd mapSubtract mapFilter mapApply mapExists mapAll mapConcat "
            "mapUpdate mapSort"
        ),
        "Hashes and ids": (
            "cityHash64 sipHash64 sipHash128 xxHash64 murmurHash3_64 halfMD5 MD5 SHA1 SHA256 "
            "generateUUIDv4 generateUUIDv7 UUIDv7ToDateTime rand rand64 randCanonical"
        ),
        "Windows": (
            "row_number rank dense_rank denseRank percent_rank percentRank cume_dist ntile lag "
            "lead lagInFrame leadInFrame nth_value first_value last_value"
        ),
    }.items()
}  # fmt: skip
_AGGREGATES = (
    "count sum avg min max any anyLast anyHeavy any_value argMin argMax uniq uniqExact "
    "uniqCombined uniqCombined64 uniqHLL12 median quantile quantiles quantileExact "
    "quantilesExact quantileExactInclusive quantilesExactInclusive "
    "quantileExactWeighted quantileTDigest quantilesTDigest quantileTiming "
    "quantilesTiming quantileBFloat16 quantileDeterministic quantileGK stddevPop stddevSamp "
    "stddev_pop stddev_samp varPop varSamp var_pop var_samp covarPop covarSamp corr "
    "avgWeighted sumKahan sumWithOverflow sumCount sumMap minMap maxMap topK topKWeighted "
    "approx_top_k "
    "groupArray groupArrayLast groupArraySample groupArraySorted groupUniqArray "
    "groupArrayMovingAvg groupArrayMovingSum groupConcat groupBitAnd groupBitOr groupBitXor "
    "histogram entropy skewPop skewSamp kurtPop kurtSamp simpleLinearRegression retention "
    "windowFunnel sequenceMatch sequenceCount deltaSum deltaSumTimestamp boundingRatio "
    "exponentialMovingAverage maxIntersections rankCorr singleValueOrNull "
    "welchTTest mannWhitneyUTest"
)
AGGREGATES = tuple(_AGGREGATES.split())
# The engine's second names of functions above (`alias_to` in its `system.functions`), many of them
# another dialect's. One is written as the function that it stands for.
ALIASES: dict[str, str] = {
    alias: target
    for target, aliases in {
        "argMax": "max_by",
        "argMin": "min_by",
        "arrayFlatten": "flatten",
        "arrayStringConcat": "array_to_string",
        "base64Decode": "from_base64",
        "base64Encode": "to_base64",
        "concatWithSeparator": "concat_ws",
        "covarPop": "covar_pop",
        "covarSamp": "covar_samp",
        "dateDiff": "timestamp_diff timestampDiff",
        "formatDateTime": "date_format",
        "formatReadableSize": "format_bytes",
        "fromUnixTimestamp": "from_unixtime",
        "groupArray": "array_agg",
        "groupBitAnd": "bit_and",
        "groupBitOr": "bit_or",
        "groupBitXor": "bit_xor",
        "groupConcat": "string_agg group_concat",
        "JSONArrayLength": "json_array_length",
        "leftPad": "lpad",
        "length": "cardinality octet_length",
        "lengthUTF8": "char_length character_length",
        "lower": "lcase",
        "match": "regexp_matches",
        "modulo": "mod",
        "now": "current_timestamp localtimestamp",
        "parseDateTimeOrNull": "str_to_date",
        "positionCaseInsensitive": "instr",
        "quantileExact": "medianExact",
        "quantileTDigest": "medianTDigest",
        "regexpExtract": "regexp_extract regexp_substr",
        "replaceRegexpAll": "regexp_replace",
        "rightPad": "rpad",
        "stddevPop": "std",
        "stddevSamp": "stddev",
        "substring": "mid",
        "toDayOfMonth": "day dayOfMonth",
        "toDayOfWeek": "dayOfWeek",
        "toDayOfYear": "dayOfYear",
        "toHour": "hour",
        "toLastDayOfMonth": "last_day",
        "toMillisecond": "millisecond",
        "toMinute": "minute",
        "toMonth": "month",
        "toQuarter": "quarter",
        "toSecond": "second",
        "toStartOfInterval": "date_bin time_bucket",
        "toWeek": "week",
        "toYear": "year",
        "today": "curdate current_date",
        "trimLeft": "ltrim",
        "trimRight": "rtrim",
        "upper": "ucase",
        "widthBucket": "width_bucket",
    }.items()
    for alias in aliases.split()
}  # fmt: skip
# Names of other dialects that mean the same as a function above, written as that.
SYNONYMS: dict[str, str] = {"nvl": "ifNull"}
# What the engine cannot stop within a block: a distance of edits, whose work grows with the square,
# and a JSONPath, which may name a range of any length.
_SLOW = "write ngramDistance(), whose work grows only with the length of the texts."
_INSTEAD = {
    "json_exists": "write JSONHas(text, 'key', …).",
    "json_query": "write JSONExtractRaw(text, 'key', …), or JSONExtractArrayRaw().",
    "json_value": "write JSONExtractString(text, 'key', …).",
    "editdistance": _SLOW,
    "jarowinklersimilarity": _SLOW,
    "levenshteindistance": _SLOW,
    "arrayreduce": "call what it would: arraySum(), arrayMax(), arrayUniq(), arrayFold() …",
    "initializeaggregation": "aggregate a subquery.",
    "neighbor": "write lagInFrame(x) OVER (ORDER BY …), or leadInFrame().",
    "printf": "write format(), or toString(round(x, 2)).",
    "rownumberinallblocks": "write row_number() OVER ().",
    "runningaccumulate": "write sum(x) OVER (ORDER BY …).",
    "runningdifference": "write x - lagInFrame(x) OVER (ORDER BY …).",
}
# What does here what another dialect's function, unknown to the engine, does there.
_ELSEWHERE = {
    foreign: ours
    for ours, names in {
        "JSONExtractString": "json_extract json_extract_scalar json_extract_string get_json_object",
        "accurateCastOrNull": "try_cast safe_cast",
        "arrayJoin": "unnest explode",
        "arrayStringConcat": "array_join",
        "countIf": "count_if",
        "divideOrNull": "safe_divide",
        "formatDateTime": "to_char strftime",
        "generateUUIDv4": "uuid newid gen_random_uuid",
        "groupConcat": "listagg",
        "has": "array_contains",
        "if": "iif iff",
        "length": "len array_length array_size",
        "match": "regexp_like regexp_contains",
        "max": "bool_or logical_or",
        "min": "bool_and every logical_and",
        "now": "getdate sysdate",
        "parseDateTimeBestEffort": "to_timestamp",
        "position": "strpos charindex",
        "quantile": "approx_percentile approx_quantile percentile percentile_disc",
        "quantileExactInclusive": "percentile_cont",
        "range": "generate_series sequence numbers",
        "splitByChar": "split_part split",
        "toDate": "to_date",
        "toFloat64": "to_number",
        "topK": "mode",
        "uniq": "approx_count_distinct approx_distinct ndv",
        "varSamp": "variance",
    }.items()
    for foreign in names.split()
}
# Functions that the engine calls for a name without brackets, in any letter case, where nothing
# else has that name. A test tries every function of the engine so.
_NILADIC_NAMES = (
    "curdate current_database current_date current_timestamp current_user currentdatabase "
    "currenthandler currentrequesturl currentuser database fuzzquery getclienthttpheader "
    "localtime localtimestamp neighbor now regionhierarchy regionin regiontoarea regiontocity "
    "regiontocontinent regiontocountry regiontodistrict regiontoname regiontopopulation "
    "regiontotopcontinent runningaccumulate runningdifference "
    "runningdifferencestartingwithfirstvalue schema session_user today "
    "transactionlatestsnapshot transactionoldestsnapshot user"
)
_NILADIC = frozenset(_NILADIC_NAMES.split())
# What may follow an aggregate's name: `sumIf`, `uniqExactOrNull`, `groupArrayDistinctIf`.
COMBINATORS = ("If", "Array", "Distinct", "OrNull", "OrDefault", "ForEach", "ArgMin", "ArgMax")
# Functions whose last argument is a type as text, which must be one of `types`.
TYPED = frozenset({"CAST", "accurateCastOrNull", "JSONExtract", "JSONExtractKeysAndValues"})

_EXACT = {name: name for names in FUNCTIONS.values() for name in names} | {
    name: name for name in AGGREGATES
}
_FOLDED = {name.lower(): name for name in (*ALIASES, *_EXACT)}
_AGGREGATES_FOLDED = {name.lower(): name for name in AGGREGATES} | {
    alias.lower(): target for alias, target in ALIASES.items() if target in AGGREGATES
}
_MOST_COMBINATORS = 4


def canonical(name: str) -> str | None:
    """The allowed function of this name, in any letter case; None when there is none."""
    known = name if name in _EXACT else _FOLDED.get(name.lower())
    if known is None:
        return SYNONYMS.get(name.lower()) or _combined(name)
    return ALIASES.get(known, known)


def base(name: str) -> str:
    """An allowed function's name without what may follow an aggregate's."""
    if name in _EXACT:
        return name
    found = next((each for each in COMBINATORS if name.endswith(each)), None)
    return base(name[: -len(found)]) if found else name


def instead_of(name: str) -> str | None:
    """For a function that is left out on purpose, what to write."""
    folded = name.lower()
    if folded.endswith(("state", "merge")) and _combined(f"{name[:-5]}If"):
        return "states are not: aggregate, and aggregate that again in a query around it."
    return _INSTEAD.get(folded)


def is_niladic(name: str) -> bool:
    """Whether the engine may take this name, without brackets, for a call."""
    return name.lower() in _NILADIC


def similar(name: str) -> str | None:
    """The allowed function that does what this one does elsewhere, or whose name is most like
    its."""
    folded = name.lower()
    if known := _ELSEWHERE.get(folded) or _ELSEWHERE.get(folded.removesuffix("distinct")):
        return known
    found = difflib.get_close_matches(folded, _FOLDED, n=1, cutoff=0.7)
    return _FOLDED[found[0]] if found else None


def _combined(name: str) -> str | None:
    rest, suffixes = name, ""
    for _ in range(_MOST_COMBINATORS):
        suffix = next((each for each in COMBINATORS if rest.lower().endswith(each.lower())), None)
        if suffix is None:
            return None
        rest, suffixes = rest[: -len(suffix)], suffix + suffixes
        if base := _AGGREGATES_FOLDED.get(rest.lower()):
            return base + suffixes
    return None
