"""How `nilometer query` shows what it got."""

import json

from nilometer.cli.query import _show


def shown(capsys, results, **answer):
    columns = [f"c{number}" for number in range(len(results[0]))]
    given = {"columns": columns, "hasMore": False, "limit": 100, "hogql": "SELECT 1"} | answer
    _show(json.dumps(given | {"results": results}))
    return capsys.readouterr()


def test_null_is_told_from_the_empty_text(capsys):
    line = shown(capsys, [[None, "", [None, ""]]]).out
    assert "NULL" in line
    assert '[null, ""]' in line


def test_a_number_in_an_array_is_a_number(capsys):
    assert '[1.5, 2, "3.5"]' in shown(capsys, [[[1.5, 2, "3.5"]]]).out
    assert '{"a": [0.25]}' in shown(capsys, [[{"a": [0.25]}]]).out


def test_limit_is_named_to_who_wrote_none(capsys):
    assert "LIMIT asks for more" in shown(capsys, [[1]], hasMore=True).err
    limited = {"hogql": "SELECT 1 FROM events LIMIT 1", "limit": 1, "hasMore": True}
    told = shown(capsys, [[1]], **limited).err
    assert "the first 1 rows" in told
    assert "LIMIT" not in told
