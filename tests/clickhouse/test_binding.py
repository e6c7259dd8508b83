"""Long values go to a server in pieces, and mean the same."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st

from nilometer.clickhouse.binding import bound, divided
from nilometer.clickhouse.store import Store

LONGEST = 200
SQL = (
    "SELECT {ids:Array(UUID)}, {text:String}, {numbers:Array(Int64)}, "
    "{times:Array(DateTime64(6, 'UTC'))}"
)
MOMENT = datetime(2025, 7, 1, 11, 0, 0, 123456, tzinfo=UTC)


def test_short_values_and_stores_without_a_limit_change_nothing():
    given = {"a": ["x"], "b": "y" * (LONGEST // 4), "c": 7}
    assert divided("SELECT {a:Array(String)}", given, LONGEST) == (
        "SELECT {a:Array(String)}",
        given,
    )
    long = {"a": "x" * 1000}
    assert divided("SELECT {a:String}", long, None) == ("SELECT {a:String}", long)


@given(
    st.lists(st.uuids(), max_size=30),
    st.text(st.sampled_from("a'\\é😀\n`"), max_size=300),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=50),
)
def test_no_piece_is_longer_than_the_limit_and_together_they_are_the_value(
    ids: list[UUID], text: str, numbers: list[int]
):
    values = {"ids": ids, "text": text, "numbers": numbers, "times": [MOMENT] * len(ids)}
    _, pieces = divided(SQL, values, LONGEST)
    for piece in (bound(pieces) or {}).values():
        assert len(str(piece).encode()) <= LONGEST
    for name, whole in values.items():
        parts = [value for key, value in pieces.items() if key.split("__")[0] == name]
        if isinstance(whole, str):
            assert "".join(parts) == whole
        else:
            assert [each for part in parts for each in part] == whole


def test_the_engine_puts_them_together(embedded_store: Store):
    ids, text = [uuid4() for _ in range(50)], "it's \\ é\t" * 100
    values = {"ids": ids, "text": text, "numbers": list(range(500)), "times": [MOMENT] * 20}
    sql, pieces = divided(SQL, values, LONGEST)
    assert len(pieces) > 30
    ((found_ids, found_text, numbers, times),) = embedded_store.query(sql, pieces).rows
    assert (found_ids, found_text) == (ids, text)
    assert (numbers, times) == (list(range(500)), [MOMENT] * 20)
