"""What the forms of a report say and leave out, and sources that refuse or run short."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from nilometer.domain.usage import TokenVector
from nilometer.domain.usage_metric import AIUsageMetric
from nilometer.errors import ConfigurationError, InvalidInput, Unavailable
from nilometer.pricing.rates import Rates
from nilometer.sdk.sinks.jsonl import JsonlSink
from nilometer.usage import answers, cursors, fold, prices, savings
from nilometer.usage.fold import Row
from nilometer.usage.groups import Group, Groups
from nilometer.usage.jsonl import JsonlUsage
from nilometer.usage.query import UsageQuery
from nilometer.usage.report import charts, making, rows, sources, wording
from nilometer.usage.report.document import document
from nilometer.usage.report.making import Wanted, make
from nilometer.usage.report.markdown import to_markdown
from nilometer.usage.report.page import to_html
from nilometer.usage.report.report import Figures, Line, Period, Report
from tests.dynamodb.conftest import Table, new_table
from tests.usage.calls import call

PERIOD = Period(date(2026, 11, 1), date(2026, 11, 20))
CACHED = TokenVector(uncached_input=1000, cache_read=3000, text_output=5)
WRITTEN = TokenVector(uncached_input=10, cache_write_5m=1000)
BEFORE = datetime(2026, 10, 20, tzinfo=UTC)


def report_of(tmp_path: Path, calls: list[AIUsageMetric], **wanted: Any) -> Report:
    path = tmp_path / "usage.jsonl"
    JsonlSink(path).store(calls)
    source = sources.JsonlSource(path, date(2020, 1, 1), None)
    given = {"period": PERIOD, "tables": (("job",),)} | wanted
    return make(source, Wanted(**given))


def test_every_form_tells_what_is_compared_filtered_saved_and_left_out(tmp_path: Path):
    calls = [
        call(vector=CACHED, job_id="a", cost_usd=Decimal(3)),
        call(vector=CACHED, job_id="b"),
        call(job_id="c", service_tier="batch"),
        call(),  # of no job
        call(job_id="a", timestamp=BEFORE, cost_usd=Decimal(5)),
        call(service="anthropic", model="claude-sonnet-4-5", vector=WRITTEN, job_id="other"),
    ]
    made = report_of(tmp_path, calls, filters={"service": "openai"})
    page, text = to_html(made, 1).decode(), to_markdown(made, 1).decode()
    assert "compared with 12 to 31 October 2026; only service openai" in page
    assert "Only service openai." in text
    assert "against 12 to 31 October 2026" in text
    for form in (page, text):
        assert "2 others" in form
        assert "without job" in form
        assert "Saved by reading from caches" in form
        assert "Saved by batch prices" in form
    assert ">other<" not in page
    assert "| other |" not in text
    assert "the period before" in page
    assert "<polyline" in page
    found = list(csv.DictReader(io.StringIO(rows.to_csv(made).decode(), newline="")))
    [without] = [each for each in found if each["table"] == "job" and not each["job"]]
    assert without["calls"] == "1"


def test_what_is_compared_with_nothing_says_nothing_of_before(tmp_path: Path):
    made = report_of(tmp_path, [call(job_id="a")], compare=False, savings=False)
    page, text = to_html(made, 9).decode(), to_markdown(made, 9).decode()
    for form in (page, text):
        assert "Change" not in form
        assert "Top movers" not in form
        assert "Savings" not in form
        assert "without job" not in form
    assert "<polyline" not in page
    assert ", before" not in page
    assert '<p class="legend"><span class="key">this period</span></p>' in page
    assert "<header><h1>AI spend, 1 to 20 November 2026</h1></header>" in page
    assert ("previous" in document(made)["total"]) is False
    assert document(made)["savings"] is None


def test_hours_are_steps_of_a_chart_and_columns_of_a_file(tmp_path: Path):
    day = Period(date(2026, 11, 10), date(2026, 11, 10))
    made = report_of(tmp_path, [call()], period=day)
    assert ">12:00<" in charts.trend(made)
    assert "2026-11-10 12:00" in to_markdown(made, 9).decode()
    [noon] = [row for row in rows.rows(made) if row["table"] == "trend" and row["calls"]]
    assert (noon["day"], noon["hour"]) == ("2026-11-10", "12")
    weeks = report_of(tmp_path, [], period=Period(date(2026, 8, 22), date(2026, 11, 20)))
    assert wording.step(weeks, weeks.trend[0]) == "week of 2026-08-22"


def test_a_report_says_what_is_unpriced_estimated_and_in_no_saving(tmp_path: Path):
    calls = [
        call(vector=TokenVector(cache_read=3000), job_id="no fresh input"),
        call(service="acme", model="acme-1", service_tier="batch"),
        call(cost_usd=None, timestamp=BEFORE),
        call(estimated=True),
    ]
    notes = " ".join(report_of(tmp_path, calls).notes)
    assert "1 of 1 calls that read from a cache have no price of fresh input" in notes
    assert "1 of 1 calls of the batch tier have no known standard price" in notes
    assert "In the period before, 1 of 1 calls are unpriced." in notes
    assert "The usage of 1 calls was told by no provider" in notes
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    now = report_of(tmp_path, [], period=Period(tomorrow, tomorrow))
    assert any("The period is not over" in note for note in now.notes)


def test_what_was_paid_for_writing_to_a_cache_is_told(tmp_path: Path):
    claude = call(service="anthropic", model="claude-sonnet-4-5", vector=WRITTEN)
    told = {name: amount for name, amount, _ in wording.savings(report_of(tmp_path, [claude]))}
    parts = claude.cost_components
    extra = parts["cache_write_5m"] - parts["uncached_input"] * 100
    assert told == {"Paid beyond fresh input for writing to caches": extra}


def test_an_amount_that_fits_no_column_is_refused(tmp_path: Path):
    made = report_of(tmp_path, [call()])
    huge = replace(made, total=Line((), Figures(Decimal(10) ** 30, calls=1)))
    with pytest.raises(InvalidInput, match="too large for Parquet"):
        rows.to_parquet(huge)


def test_without_its_library_there_is_no_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = report_of(tmp_path, [call()])

    def missing(name: str) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(rows, "import_module", missing)
    with pytest.raises(ConfigurationError, match=r"nilometer\[parquet\]"):
        rows.to_parquet(made)


def test_a_chart_of_nothing_and_one_of_fractions_have_a_grid():
    assert charts._scale(0) == ([Decimal(0), Decimal(1)], 1.0)
    values, top = charts._scale(0.033)
    assert (values[-1], top) == (Decimal("0.04"), 0.04)
    assert charts.share(None, Decimal(1)) == charts.share(Decimal(1), None)
    assert 'width="50.00"' in charts.share(Decimal(1), Decimal(2))


def test_the_others_of_a_level_that_is_too_large_are_asked_for_in_pages():
    groups = Groups(levels={"job": {str(n): Group() for n in range(answers.MAX_GROUPS + 1)}})
    query = UsageQuery(PERIOD.start, PERIOD.end, {}, ("job",))
    with pytest.raises(InvalidInput) as refused:
        answers.answer(query, groups)
    assert (refused.value.code, refused.value.attr) == ("too_many_groups", "aggregation")


def test_a_value_that_a_row_has_not_is_named_in_no_group():
    groups = Groups()
    row = Row({"day": "2026-11-10", "service": ""}, [1, 1, 0, 0, 0, 0, 0, 0, 0], {})
    fold.level(groups, "day", [row, row._replace(dimensions=row.dimensions | {"service": "acme"})])
    assert groups.levels["day"]["2026-11-10"].names == {"service": {"acme"}}


@pytest.mark.parametrize("page", ["", "e30", "W10", "WzFd"])
def test_a_text_that_is_no_cursor_is_refused(page: str):
    with pytest.raises(InvalidInput, match="is not one that this API gave"):
        cursors.decode(page, [], 1)


def test_a_cursor_of_another_query_is_refused():
    given = cursors.encode(("a",), ["one"])
    assert cursors.decode(given, ["one"], 1) == ("a",)
    for subject, parts in ((["two"], 1), (["one"], 2)):
        with pytest.raises(InvalidInput, match="belongs to another query"):
            cursors.decode(given, subject, parts)


class TestPrices:
    def test_a_file_of_prices_is_looked_up_first(self, tmp_path: Path):
        file = tmp_path / "prices.toml"
        file.write_text(
            '[[override]]\nid = "ours"\nprovider = "acme"\nmodel = "acme-1"\n'
            "effective_from = 2026-01-01\n"
            '[override.per_million_tokens]\nuncached_input = "1"\ntext_output = "2"\n'
        )
        noon = datetime(2026, 11, 10, 12, tzinfo=UTC)
        found = prices.local_rates(file)("acme", "acme-1", "", noon)
        assert found is not None
        assert found.rows[0][1][0] == Decimal("0.000001")
        assert prices.local_rates()("acme", "acme-1", "", noon) is None

    def test_without_the_book_nothing_has_rates(self, monkeypatch: pytest.MonkeyPatch):
        noon = datetime(2026, 11, 10, 12, tzinfo=UTC)
        assert prices.local_rates()("openai", "gpt-4o-mini", "", noon) is not None
        monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
        assert prices.local_rates()("openai", "gpt-4o-mini", "", noon) is None


class TestStandardPrices:
    """A batch is compared with a standard price only where that is sure."""

    row = (Decimal("0.000001"), *[None] * (len(savings.BUCKETS) - 1))
    key = savings.BatchKey("acme", "acme-1", "2026-11-10", 0)

    def told(self, use: savings.BatchUse, *, batch: Rates, standard: Rates | None) -> int:
        found = savings.Savings(batches={self.key: use})
        tiers = {"batch": batch, "": standard}
        answer = savings.answer(found, lambda _s, _m, tier, _at: tiers[tier])
        return answer["batch"]["unknown_count"]

    def use(self, place: int = 0) -> savings.BatchUse:
        tokens = [0] * len(savings.BUCKETS)
        tokens[place] = 1000
        return savings.BatchUse(1, 0, tokens, 10**15)

    def test_a_price_of_every_size_is_one_and_of_another_size_none(self):
        plain = Rates(((0, self.row),))
        assert self.told(self.use(), batch=plain, standard=plain) == 0
        assert self.told(self.use(), batch=plain, standard=None) == 1
        odd = Rates(((0, self.row), (7, self.row)))
        assert self.told(self.use(), batch=odd, standard=plain) == 1
        assert self.told(self.use(), batch=plain, standard=odd) == 1

    def test_tokens_without_a_price_make_it_unknown(self):
        plain = Rates(((0, self.row),))
        assert self.told(self.use(1), batch=plain, standard=plain) == 1

    def test_units_that_the_tiers_price_otherwise_make_it_unknown(self):
        priced = Rates(((0, self.row),), {"image": Decimal(1)})  # type: ignore[dict-item]
        plain = Rates(((0, self.row),))
        use = self.use()
        use.units, use.cost = 5, use.cost + 5
        assert self.told(use, batch=plain, standard=plain) == 0
        assert self.told(use, batch=plain, standard=priced) == 1


class TestFiles:
    def test_a_file_that_was_written_anew_is_read_from_its_beginning(self, tmp_path: Path):
        path = tmp_path / "usage.jsonl"
        JsonlSink(path).store([call(request_id="1"), call(request_id="2")])
        usage = JsonlUsage(path, date(2020, 1, 1))
        usage.refresh()
        path.write_text(call(request_id="3").to_json() + "\n")
        usage.refresh()
        query = UsageQuery(PERIOD.start, PERIOD.end)
        assert usage.ledger.groups(query).summary.count("calls") == 3

    def test_a_file_that_may_not_be_read_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        path = tmp_path / "usage.jsonl"
        JsonlSink(path).store([call()])

        def failing(error: OSError) -> Any:
            def fail(*_: Any, **__: Any) -> Any:
                raise error

            return fail

        usage = JsonlUsage(path, date(2020, 1, 1))
        monkeypatch.setattr(Path, "open", failing(PermissionError(13, "Permission denied")))
        with pytest.raises(InvalidInput, match=r"usage\.jsonl cannot be read: Permission denied"):
            usage.refresh()
        monkeypatch.setattr(Path, "open", failing(FileNotFoundError(2, "gone")))
        usage.refresh()  # it was renamed since it was listed
        query = UsageQuery(PERIOD.start, PERIOD.end)
        assert usage.ledger.groups(query).summary.count("calls") == 0


class TestTables:
    """`dynamodb://`, on a server in this process."""

    @pytest.fixture
    def shop(self, moto_client: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
        for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(variable, "k")
        with new_table(moto_client) as table:
            url = (
                f"dynamodb://{table.name}?region=us-east-1"
                f"&endpoint_url={moto_client.meta.endpoint_url}"
            )
            source = sources.open_local(url, since=date(2026, 1, 1))
            yield table, source
            source.close()

    asked = {"start_date": "2026-11-01", "end_date": "2026-11-20"}  # noqa: RUF012

    def test_a_table_answers_and_tells_what_was_saved_up_to_a_bound(
        self, shop: tuple[Table, sources.Source], monkeypatch: pytest.MonkeyPatch
    ):
        table, source = shop
        assert table.sink().store([call(vector=CACHED), call()]) == []
        assert source.ask(self.asked)["summary"]["call_count"] == 2
        saved = source.savings(self.asked)
        assert saved is not None
        assert saved["cache"]["read_tokens"] == 3000
        assert source.notes() == []
        monkeypatch.setattr(sources, "MAX_SINGLE", 1)
        assert source.savings(self.asked) is None

    def test_a_table_that_is_not_there_is_unavailable_and_a_defect_is_none(
        self, shop: tuple[Table, sources.Source], monkeypatch: pytest.MonkeyPatch
    ):
        table, source = shop
        monkeypatch.setattr(source._reader._pages, "_table", f"{table.name}-gone")
        with pytest.raises(Unavailable, match="DynamoDB: "):
            source.ask(self.asked)

        def defect(*_: Any) -> Any:
            raise ZeroDivisionError

        monkeypatch.setattr("nilometer.dynamodb.reader.Reader.groups", defect)
        with pytest.raises(ZeroDivisionError):
            source.ask(self.asked)


def test_days_beyond_a_year_and_none_are_no_period(tmp_path: Path):
    for end in (date(2027, 11, 2), date(2026, 10, 31)):
        with pytest.raises(InvalidInput, match="1 to 366 days"):
            report_of(tmp_path, [call()], period=Period(date(2026, 11, 1), end))


def test_live_spend_is_the_total_and_the_tables(tmp_path: Path):
    path = tmp_path / "usage.jsonl"
    JsonlSink(path).store([call(job_id="a"), call()])
    source = sources.JsonlSource(path, date(2020, 1, 1), None)
    total, [table] = making.spend(source, Wanted(PERIOD, (("job",),), savings=False))
    assert (total.calls, table.lines[0].now.calls, table.rest.now.calls) == (2, 1, 1)
    assert table.lines[0].before is None
