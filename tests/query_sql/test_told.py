"""What somebody is told whose query is at fault in ways that an outsider found: a 400 that says
what, never a failure of the server, and never another number in silence."""

import pytest

from nilometer.query.sql.errors import SqlError
from nilometer.query.sql.queries import ExportFormat

NOT_UTF8 = [
    "SELECT toInt64(unhex('ff'))",
    "SELECT toInt64(unhex('41ff'))",
    "SELECT toInt16(replaceRegexpOne('a', '(a)', '![(%é'))",
    "SELECT toUUID(unhex('fffe'))",
]


@pytest.mark.parametrize("sql", NOT_UTF8)
def test_an_error_that_quotes_bytes_is_the_querys(queries, ours, sql):
    with pytest.raises(SqlError) as caught:
        queries.run(ours, sql)
    assert caught.value.code in ("cannot_parse_text", "cannot_parse_uuid")


@pytest.mark.parametrize("output", ExportFormat)
def test_so_it_is_in_an_export(queries, ours, output):
    with pytest.raises(SqlError) as caught:
        list(queries.export(ours, NOT_UTF8[0], output=output))
    assert caught.value.code == "cannot_parse_text"


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("UInt8", 300),
        ("UInt8", "300"),
        ("UInt8", -1),
        ("Int8", 128),
        ("Int64", 2**63),
        ("UInt64", 10**30),
        ("Nullable(UInt16)", 2**16),
        ("Array(UInt8)", [1, 300]),
        ("Array(UInt8)", "[1, 300]"),
    ],
)
def test_a_value_beyond_its_type_is_refused_by_the_parameters_name(queries, ours, kind, value):
    with pytest.raises(SqlError) as caught:
        queries.run(ours, f"SELECT {{beyond:{kind}}}", {"beyond": value})
    assert caught.value.code == "bad_query_parameter"
    assert "parameter beyond does not fit" in caught.value.detail


@pytest.mark.parametrize(
    ("kind", "value", "answer"),
    [
        ("UInt8", 255, "255"),
        ("Int8", -128, "-128"),
        ("UInt64", 2**64 - 1, "18446744073709551615"),
        ("Array(UInt8)", [0, 255], "[0,255]"),
        ("Tuple(UInt8, Int64)", "(1, 300)", "(1,300)"),
        ("String", "300", "300"),
    ],
)
def test_a_value_within_it_is_taken(queries, ours, kind, value, answer):
    said = queries.run(ours, f"SELECT toString({{within:{kind}}})", {"within": value})
    assert said.rows == [f'["{answer}"]'.encode()]


@pytest.mark.parametrize(
    ("sql", "sentence"),
    [
        (r"SELECT '\xff'", "An escape in a text makes bytes that are not UTF-8; write unhex('ff')"),
        (f"SELECT {'[' * 300}1{']' * 300}", "nested too deeply"),
        (f"SELECT {'(SELECT ' * 300}1{')' * 300}", "nested too deeply"),
        (f"SELECT 1{'+1' * 20_000}", "nested too deeply"),
        ("SELECT 1 LIMIT 18446744073709551615", "whole numbers of at most 18 digits."),
    ],
)
def test_the_sentence_says_what_is_wrong(queries, ours, sql, sentence):
    with pytest.raises(SqlError) as caught:
        queries.run(ours, sql)
    assert sentence in caught.value.detail
