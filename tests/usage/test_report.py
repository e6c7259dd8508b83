"""Reports: the same from every source, exact, and harmless to who opens them."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from uuid import uuid4

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nilometer.cli.client import Client
from nilometer.cli.usage_source import ServerSource
from nilometer.domain.usage import TokenVector
from nilometer.dynamodb import table
from nilometer.dynamodb.sink import DynamoSink
from nilometer.errors import InvalidInput, NotFound, Unavailable
from nilometer.sdk.sinks.jsonl import JsonlSink
from nilometer.usage.report import making, rows, sources
from nilometer.usage.report.document import document
from nilometer.usage.report.making import Wanted, make
from nilometer.usage.report.markdown import to_markdown
from nilometer.usage.report.page import to_html
from nilometer.usage.report.report import Period
from tests.usage.calls import call, month, spent, stored_row
from tests.usage.metrics import metric, metrics

PERIOD = Period(date(2026, 11, 1), date(2026, 11, 20))
TABLES = (("service",), ("model",), ("job",), ("user", "status"), ("day", "service"))


def of_file(tmp_path, calls, since=date(2020, 1, 1)):
    path = tmp_path / "usage.jsonl"
    if calls:
        JsonlSink(path).store(calls)
    return sources.JsonlSource(path, since, None)


def report_of(tmp_path, calls, **wanted):
    period = wanted.pop("period", PERIOD)
    return make(of_file(tmp_path, calls), Wanted(period, **wanted))


def test_the_same_calls_give_the_same_report_from_every_source(
    world, dynamodb_local, tmp_path, monkeypatch
):
    calls = month(date(2026, 10, 10), 44, 120)
    project, name = world.project(), f"test-{uuid4().hex}"
    world.services.store.insert_lines("calls", [stored_row(project.id, each) for each in calls])
    local = dynamodb_local.client()
    table.create(local, name, sleep=lambda _: None)
    sink = DynamoSink(name, dynamodb=local)
    assert sink.store(calls) == []
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, "nilometer")
    url = f"dynamodb://{name}?region={dynamodb_local.region}&endpoint_url={dynamodb_local.endpoint}"
    of_table = sources.open_local(url, since=date(2026, 1, 1))
    headers = {"Authorization": f"Bearer {project.reader}"}
    with httpx.Client(base_url=world.url, headers=headers, timeout=60) as http:
        of_server = ServerSource(world.url, Client(http), str(project.id))
        for filters in ({}, {"service": "openai", "status": "success"}):
            wanted = Wanted(PERIOD, TABLES, filters)
            found = [
                document(make(each, wanted))
                for each in (
                    of_file(tmp_path, [*calls] if not filters else []),
                    of_table,
                    of_server,
                )
            ]
            for each in found:
                del each["source"], each["made_at"]
            # Whether a provider told the usage is not among the server's columns.
            assert found[2]["savings"].pop("estimated_count") is None
            for each in found[:2]:
                assert each["savings"].pop("estimated_count") == 0
            assert found[0] == found[1]
            assert found[1] == found[2]
            assert found[0]["total"]["calls"] > 20
    of_table.close()
    local.delete_table(TableName=name)


@given(st.lists(metrics(), max_size=20), st.sampled_from(TABLES))
@settings(max_examples=25, derandomize=True)
def test_lines_and_what_is_in_none_add_up_to_the_total(tmp_path_factory, found, levels):
    folder = tmp_path_factory.mktemp("usage")
    period = Period(date(2025, 6, 29), date(2025, 7, 5))
    noon = metric()
    made = report_of(folder, [*found, noon], period=period, tables=(levels,))
    assert made.total.now.calls > 0
    [each] = made.tables
    every = [*each.lines, each.rest]
    for name in ("calls", "requests", "errors", "unpriced", "tokens"):
        assert sum(getattr(line.now, name) for line in every) == getattr(made.total.now, name)
    total = sum((line.now.cost or Decimal(0) for line in every), Decimal(0))
    assert total == (made.total.now.cost or Decimal(0))
    assert sum(line.now.calls for line in made.trend) == made.total.now.calls
    shown, others = each.split(2)
    assert sum(line.now.calls for line in (*shown, *([others] if others else []))) == sum(
        line.now.calls for line in each.lines
    )


def test_a_period_is_compared_with_as_many_days_before(tmp_path):
    now = datetime(2026, 11, 10, tzinfo=UTC)
    calls = [
        call(timestamp=now, job_id="grew", cost_usd=Decimal(5)),
        call(timestamp=now - timedelta(days=20), job_id="grew", cost_usd=Decimal(4)),
        call(timestamp=now, job_id="came", cost_usd=Decimal(3)),
        call(timestamp=now - timedelta(days=20), job_id="went", cost_usd=Decimal(2)),
        call(timestamp=now, job_id="unpriced", cost_usd=None),
        call(timestamp=now - timedelta(days=41), job_id="long ago", cost_usd=Decimal(100)),
    ]
    made = report_of(tmp_path, calls, tables=(("job",),))
    assert made.previous == Period(date(2026, 10, 12), date(2026, 10, 31))
    assert (made.total.change, made.total.percent) == (Decimal(2), Decimal("33.3"))
    lines = {line.key[0]: line for line in made.tables[0].lines}
    assert (lines["grew"].change, lines["grew"].percent) == (Decimal(1), Decimal("25.0"))
    assert (lines["came"].change, lines["came"].percent) == (Decimal(3), None)
    assert (lines["went"].change, lines["went"].percent) == (Decimal(-2), Decimal("-100.0"))
    assert lines["unpriced"].change is None
    assert [line.key[0] for line in made.tables[0].movers(9)] == ["came", "went", "grew"]
    assert "long ago" not in lines
    alone = report_of(tmp_path, [], tables=(("job",),), compare=False)
    assert (alone.previous, alone.total.before, alone.total.change) == (None, None, None)


def test_a_trend_has_every_step_of_the_period(tmp_path):
    calls = [call(), call(timestamp=datetime(2026, 11, 20, 23, 59, tzinfo=UTC))]
    daily = report_of(tmp_path, calls)
    assert [line.now.calls for line in daily.trend] == [0] * 9 + [1] + [0] * 9 + [1]
    day = Period(date(2026, 11, 10), date(2026, 11, 10))
    hourly = report_of(tmp_path, [], period=day)
    assert [line.key for line in hourly.trend if line.now.calls] == [("2026-11-10", "12")]
    assert (hourly.step, len(hourly.trend)) == ("hour", 24)
    weekly = report_of(tmp_path, [], period=Period(date(2026, 8, 22), date(2026, 11, 20)))
    assert (weekly.step, len(weekly.trend)) == ("week", 13)
    assert [line.key[0] for line in weekly.trend if line.now.calls] == ["2026-11-07", "2026-11-14"]
    with pytest.raises(InvalidInput):
        report_of(tmp_path, [], period=Period(date(2024, 1, 1), date(2026, 11, 20)))


def test_unpriced_calls_are_told_and_are_no_zero(tmp_path):
    made = report_of(tmp_path, [call(cost_usd=None, job_id="j")], tables=(("job",),))
    assert made.total.now.cost is None
    assert made.price_share == Decimal(100)
    assert any("at a cost that is not known" in note for note in made.notes)
    assert document(made)["tables"][0]["lines"][0]["cost_usd"] is None
    assert ">unknown<" in to_html(made, 9).decode()
    assert "| j | unknown |" in to_markdown(made, 9).decode()
    # Nor where lines are added up: by the week, and what a short form leaves out.
    weekly = report_of(tmp_path, [], period=Period(date(2026, 8, 22), date(2026, 11, 20)))
    assert [line.now.cost for line in weekly.trend if line.now.calls] == [None]
    _, others = made.tables[0].split(0)
    assert others.now.cost is None


class TestFiles:
    def test_what_a_file_grew_by_is_all_that_is_read_again(self, tmp_path):
        source = of_file(tmp_path, [call(request_id="1")])
        asked = {"start_date": "2026-11-01", "end_date": "2026-11-20"}
        path = tmp_path / "usage.jsonl"

        def count():
            return source.ask(asked)["summary"]["call_count"]

        assert count() == 1
        half = call(request_id="2").to_json()
        with path.open("a") as file:
            file.write(half[:40])
        assert count() == 1
        with path.open("a") as file:
            file.write(half[40:] + "\n" + call(request_id="1").to_json() + "\nno metric\n\n[]\n")
        assert count() == 2
        path.rename(tmp_path / "usage.jsonl.20261111T000000.000000Z")
        assert count() == 2
        JsonlSink(path).store([call(request_id="3")])
        assert count() == 3
        assert source.notes() == ["2 lines of the file are no metrics and are not counted."]

    def test_a_file_that_is_not_there_is_named(self, tmp_path):
        with pytest.raises(NotFound, match=r"usage\.jsonl is not there"):
            of_file(tmp_path, []).ask({})

    def test_days_before_the_first_wanted_are_left_out(self, tmp_path):
        source = of_file(tmp_path, [call()], since=date(2026, 11, 11))
        assert source.ask({"start_date": "2026-11-01"})["summary"]["call_count"] == 0


NASTY = (
    '=HYPERLINK("http://x")',
    "<script>alert(1)</script>",
    "a|b\n[c](http://x)",
    "-1",
    "@x",
    "é",
)


@pytest.fixture(scope="module")
def nasty(tmp_path_factory):
    calls = [call(job_id=name, cost_usd=Decimal(f"1234.{n}00000000000000001"), user_id=f"u{n}")
             for n, name in enumerate(NASTY, 1)]  # fmt: skip
    folder = tmp_path_factory.mktemp("nasty")
    return report_of(folder, calls, tables=(("job",), ("user", "job"))), calls


class Page(HTMLParser):
    """The elements of a page, and its rows."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.rows, self._cell = [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._cell = True

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._cell = None

    def handle_data(self, data):
        if self._cell:
            self.rows[-1][-1] += data


def test_the_page_stands_for_itself_and_runs_nothing(nasty):
    made, calls = nasty
    text = to_html(made, 50).decode()
    page = Page(text)
    assert {tag for tag, _ in page.elements}.isdisjoint({"script", "link", "img", "iframe", "a"})
    for tag, attributes in page.elements:
        assert not {name for name in attributes if name.startswith("on") or name == "style"}, tag
        assert {"src", "href"}.isdisjoint(attributes)
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    assert "url(" not in style
    assert "@import" not in style
    policy = next(a["content"] for tag, a in page.elements if "http-equiv" in a)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'sha256-{digest}'" in policy
    jobs = {row[0]: row[1] for row in page.rows if len(row) > 4}
    assert jobs["<script>alert(1)</script>"] == "$1,234.200000000000000001"
    exact = [a["value"] for tag, a in page.elements if tag == "data"]
    assert str(calls[0].cost_usd) in exact
    assert made.total.now.cost == spent(calls)


def test_csv_is_exact_and_no_formula(nasty):
    made, calls = nasty
    found = list(csv.DictReader(io.StringIO(rows.to_csv(made).decode(), newline="")))
    jobs = {each["job"]: each for each in found if each["table"] == "job"}
    assert set(jobs) == {
        *('\'=HYPERLINK("http://x")', "<script>alert(1)</script>", "a|b\n[c](http://x)"),
        *("'-1", "'@x", "é"),
    }
    assert Decimal(jobs["é"]["cost_usd"]) == calls[-1].cost_usd
    [total] = [each for each in found if each["table"] == "total"]
    assert Decimal(total["cost_usd"]) == spent(calls)
    assert not any(cell.startswith(("=", "@", "+")) for each in found for cell in each.values())


def test_parquet_has_decimals(nasty):
    made, calls = nasty
    read = pq.read_table(io.BytesIO(rows.to_parquet(made)))
    assert read.schema.field("cost_usd").type == pa.decimal128(38, 18)
    found = {row["job"]: row for row in read.to_pylist() if row["table"] == "job"}
    assert set(found) == set(NASTY)
    assert found["é"]["cost_usd"] == calls[-1].cost_usd
    assert found["é"]["latency_p50"] == pytest.approx(0.25, rel=0.016)


def test_json_is_exact(nasty):
    made, calls = nasty
    read = json.loads(json.dumps(document(made)))
    assert Decimal(read["total"]["cost_usd"]) == spent(calls)
    assert {line["job"] for line in read["tables"][0]["lines"]} == set(NASTY)


def test_markdown_shows_texts_as_they_are(nasty):
    text = to_markdown(nasty[0], 50).decode()
    assert "\\<script\\>alert(1)\\</script\\>" in text
    assert "a\\|b\\\\n\\[c\\](http\\://x)" in text
    assert not re.search(r"(?<!\\)<script", text)


def test_a_report_of_nothing_is_one(tmp_path):
    calls = [call(timestamp=datetime(2020, 1, 1, tzinfo=UTC))]
    made = report_of(tmp_path, calls)
    assert (made.total.now.calls, made.total.now.cost) == (0, Decimal(0))
    assert made.price_share is None
    assert b"$0" in to_html(made, 5)
    assert to_markdown(made, 5)
    assert rows.to_parquet(made)
    for levels in ("", "weather", "day,hour,service,model,job"):
        with pytest.raises(InvalidInput):
            making.levels_of(levels)


def test_many_groups_come_in_pages(tmp_path, monkeypatch):
    calls = [call(job_id=f"job-{n:03}", vector=TokenVector(uncached_input=n)) for n in range(1, 26)]
    source = of_file(tmp_path, calls)
    asked = {"start_date": "2026-11-01", "end_date": "2026-11-20", "group_by": "job"}
    _, found = sources.pages(source, asked, limit=10)
    assert [group["job"] for group in found] == [f"job-{n:03}" for n in range(1, 26)]
    monkeypatch.setattr(sources, "MAX_GROUPS", 20)
    with pytest.raises(InvalidInput) as refused:
        sources.pages(source, asked, limit=10)
    assert refused.value.code == "too_many_groups"


class Growing(sources.JsonlSource):
    """A file that another call comes into before each question."""

    def __init__(self, path) -> None:
        self._sink = JsonlSink(path)
        self._sink.store([call(cost_usd=Decimal(1), job_id="j", user_id="u")])
        super().__init__(path, date(2020, 1, 1), None)

    def ask(self, parameters):
        self._sink.store([call(cost_usd=Decimal(1), job_id="j", user_id="u")])
        return super().ask(parameters)


def test_calls_that_arrive_while_a_report_is_made_are_missing_nowhere(tmp_path):
    source = Growing(tmp_path / "usage.jsonl")
    wanted = Wanted(PERIOD, (("job",), ("user", "status"), ("service", "model")))
    _, tables = making.spend(source, wanted)
    assert [each.rest.now.calls for each in tables] == [0, 0, 0]
    [counts] = {tuple(each.now.calls for each in table.lines) for table in tables[:1]}
    assert counts == (3,)  # the first question has two
    assert [each.rest.now.cost for each in make(source, wanted).tables] == [0, 0, 0]


def test_a_report_goes_without_savings_that_cannot_be_had(tmp_path, monkeypatch):
    source = of_file(tmp_path, [call()])

    def busy(_parameters):
        raise Unavailable("the store is busy")

    for savings, said in ((busy, "the store is busy"), (lambda _: None, "too many calls")):
        monkeypatch.setattr(source, "savings", savings)
        made = make(source, Wanted(PERIOD))
        assert made.savings is None
        assert any(said in note for note in made.notes)
        assert b"Savings</h2>" not in to_html(made, 5)
