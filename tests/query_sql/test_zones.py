"""A time zone is a name: the engine would open what else it is given, a pipe of its own too."""

import re

import pytest

from nilometer.query.sql import functions, zones
from nilometer.query.sql.refusal import Refusal
from nilometer.query.sql.types import parse
from tests.query_sql.test_queries import refused

PLACES = ("file:/proc/self/fd/17", "/proc/self/fd/17", "../../etc/localtime", "Europe/../x", ":x")
TIME = "toDateTime('2025-01-01 00:00:00')"
OF_TIME = re.compile(
    "(?i)date|time|day|week|month|quarter|year|hour|minute|second|now|age$|yyyy|tostring"
)
# What a zone may follow, for any function.
BEFORE = (
    *([TIME], [TIME, "1"], ["'day'", TIME], ["'day'", TIME, TIME], [TIME, "INTERVAL 1 DAY"]),
    *(["'2025-01-01'", "'%Y-%m-%d'"], ["1700000000"], ["2025", "1", "1", "0", "0", "0"]),
)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "query",
    [
        "SELECT toTimeZone(now(), '{}')",
        "SELECT now('{}')",
        "SELECT toHour(timestamp, '{}') FROM events",
        "SELECT dateDiff('day', timestamp, timestamp, '{}') FROM events",
        "SELECT toStartOfInterval(timestamp, INTERVAL 1 DAY, '{}') FROM events",
        "SELECT timestamp AT TIME ZONE '{}' FROM events",
        "SELECT CAST('2025-01-01 00:00:00' AS DateTime('{}'))",
        "SELECT JSONExtract('{{}}', 'a', 'DateTime(\\'{}\\')')",
    ],
)
def test_a_path_is_no_zone(queries, project_id, query, place):
    error = refused(queries, project_id, query.format(place))
    assert any(word in error.detail for word in ("time zone in", "This type"))


@pytest.mark.parametrize(
    "query",
    [
        "SELECT toTimeZone(now(), concat('fi', 'le:/x'))",
        "SELECT toTimeZone(now(), {zone:String})",
        "WITH 'file:/x' AS z SELECT toTimeZone(now(), z)",
        "SELECT toTimeZone(now(), z) FROM (SELECT 'file:/x' AS z)",
        "SELECT toStartOfInterval(now(), INTERVAL 1 DAY, concat('a'))",
        "SELECT toHour(now(), (SELECT 'file:/x'))",
    ],
)
def test_a_zone_is_written_and_not_computed(queries, project_id, query):
    error = refused(queries, project_id, query, zone="file:/x")
    assert "is written as its name in quotes" in error.detail


@pytest.mark.parametrize("kind", ["DateTime('/etc/passwd')", "DateTime64(3, 'a:b')"])
def test_a_path_is_no_zone_of_a_type(kind):
    with pytest.raises(Refusal):
        parse(kind)


def test_zones_stay():
    parse("DateTime64(3, 'America/Argentina/Buenos_Aires')")
    for zone in ("UTC", "Europe/Berlin", "Etc/GMT+5", "America/Argentina/Buenos_Aires"):
        assert zones.harmless(zone)


def test_every_place_at_which_the_engine_takes_a_zone_is_known(connection):
    """Tries each function that may be called with a zone that there is not."""
    unknown: list[str] = []
    places = 0
    for name in sorted(filter(OF_TIME.search, functions._EXACT)):
        for before in BEFORE:
            call = f"{name}({', '.join([*before, chr(39) + 'No/Such' + chr(39)])})"
            try:
                connection.query(f"SELECT {call}", "TSV", params={})
            except Exception as error:
                taken = "load time zone" in str(error).lower()
            else:
                taken = False
            places += taken
            if taken and len(before) < zones.first(name):
                unknown.append(call)
    assert unknown == []
    assert places > 30
