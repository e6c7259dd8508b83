"""Money in queries is exact, whatever is done with it; in files it has the type that is stored."""

import io
import json
from decimal import Decimal
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nilometer.query.sql.errors import SqlError
from nilometer.query.sql.queries import ExportFormat
from tests.projects import new_project_id
from tests.query_sql.tenants import call_row

# Two of these divided or multiplied in 128 bits give another number (170.15 is the first).
AMOUNTS = [Decimal("850.25"), Decimal("1200.000000000000000001"), Decimal("49.75")]


@pytest.fixture(scope="module")
def rich(store) -> int:
    project_id = new_project_id()
    rows = [
        call_row(project_id, f"model-{number}")
        | {"event_uuid": str(uuid4()), "cost_total": amount, "reported_total_cost_usd": amount}
        for number, amount in enumerate(AMOUNTS)
    ]
    store.insert("calls", rows)
    return project_id


def rows(queries, project_id, sql):
    return [json.loads(row) for row in queries.run(project_id, sql).rows]


def test_a_share_of_the_whole_is_right(queries, rich):
    sql = (
        "SELECT model, 100 * sum(cost_total) / sum(sum(cost_total)) OVER () AS share "
        "FROM calls GROUP BY model ORDER BY model"
    )
    whole = sum(AMOUNTS)
    shares = [Decimal(share) for _, share in rows(queries, rich, sql)]
    assert all(
        abs(share - 100 * amount / whole) < Decimal("1e-17")
        for share, amount in zip(shares, AMOUNTS, strict=True)
    )


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("max(cost_total) / min(cost_total)", AMOUNTS[1] / AMOUNTS[2]),
        ("max(cost_total) * min(cost_total)", AMOUNTS[1] * AMOUNTS[2]),
        ("sum(cost_total) / sum(reported_total_cost_usd)", Decimal(1)),
        ("sum(cost_total) / toDecimal64('0.5', 1)", 2 * sum(AMOUNTS)),
        ("sum(cost_total * 1000000000000)", sum(AMOUNTS) * 10**12),
        ("arraySum(groupArray(cost_total)) / min(cost_total)", sum(AMOUNTS) / AMOUNTS[2]),
    ],
)
def test_a_product_and_a_quotient_are_right(queries, rich, expression, expected):
    ((found,),) = rows(queries, rich, f"SELECT {expression} FROM calls")
    assert abs(Decimal(found) - expected) < Decimal("1e-17")


@pytest.mark.parametrize("table", ["traces", "sessions"])
def test_a_summary_adds_up_beyond_128_bits(store, queries, table):
    project_id = new_project_id()
    huge = Decimal(9 * 10**19)
    calls = [
        call_row(project_id, f"{number}")
        | {"trace_id": "t", "session_id": "s", "reported_total_cost_usd": huge, "cost_total": huge}
        for number in range(4)
    ]
    store.insert("calls", calls)
    from tests.query.rows import event_row, insert

    insert(store, [event_row(project_id, trace_id="t", session_id="s")])
    sql = f"SELECT total_cost_usd, reported_total_cost_usd FROM {table}"
    assert [[Decimal(each) for each in row] for row in rows(queries, project_id, sql)] == [
        [4 * huge, 4 * huge]
    ]


def read(output, content):
    if output is ExportFormat.PARQUET:
        return pq.read_table(io.BytesIO(content))
    return pa.ipc.open_stream(content).read_all()


@pytest.mark.parametrize("output", [ExportFormat.ARROW, ExportFormat.PARQUET])
def test_a_file_has_money_in_128_bits(queries, rich, output):
    sql = (
        "SELECT model, cost_total, a.reported_total_cost_usd AS `it's \\`r\\``, "
        "groupArray(cost_total) OVER () AS costs, {n:Int8} AS n "
        "FROM calls AS a ORDER BY model LIMIT 2"
    )
    table = read(output, b"".join(queries.export(rich, sql, {"n": 3}, output=output)))
    money = pa.decimal128(38, 18)
    assert [table.schema.field(index).type for index in (1, 2)] == [money, money]
    assert table.schema.field("costs").type.value_type == money
    assert table["cost_total"].to_pylist() == AMOUNTS[:2]
    assert table["it's `r`"].to_pylist() == AMOUNTS[:2]
    assert table["model"].to_pylist() == ["model-0", "model-1"]


@pytest.mark.parametrize("output", [ExportFormat.ARROW, ExportFormat.PARQUET])
def test_an_amount_that_a_file_cannot_hold_is_an_error_and_never_another_number(
    queries, rich, output
):
    sql = "SELECT cost_total * 1000000000000000000 AS cost FROM calls"
    with pytest.raises(SqlError, match="does not fit") as caught:
        list(queries.export(rich, sql, output=output))
    assert caught.value.code == "decimal_overflow"
    text = b"".join(queries.export(rich, sql, output=ExportFormat.CSV)).decode()
    assert "850250000000000000000" in text
