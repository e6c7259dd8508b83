"""What budgets spent, from `calls`: each call once, at its own time, exactly, and as it is now."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

from nilometer.budgets.budget import BudgetScope, ScopeKind
from nilometer.budgets.spend import Span, Spent
from nilometer.query.spend import CallSpend
from tests.projects import new_project_id
from tests.query.rows import call_row, event_row

START = datetime(2026, 11, 1, tzinfo=UTC)
END = datetime(2026, 12, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def span(kind=ScopeKind.PROJECT, value="", start=START, end=END):
    return Span(BudgetScope(kind, value), start, end)


def put(store, project_id, cost, **columns):
    """Store a call; its cost is what was computed."""
    at = columns.pop("at", START + timedelta(days=9))
    event = event_row(project_id, timestamp=at, uuid=str(uuid4()))
    told = {"call_id": str(uuid4()), "cost_total": cost and Decimal(cost), **columns}
    row = call_row(event, **told)
    store.insert("calls", [row])
    return row


def test_the_sum_keeps_every_digit(store, project_id):
    put(store, project_id, "99999999999999.000000000000000001")
    put(store, project_id, "0.000000000000000001")
    [spent] = CallSpend(store).of(project_id, [span()])
    assert spent.cost == Decimal("99999999999999.000000000000000002")


def test_a_call_counts_once_as_its_best_source_tells_it(store, project_id):
    put(store, project_id, "5", call_id="one", source_rank=3)
    put(store, project_id, "2", call_id="one", source_rank=1)
    [spent] = CallSpend(store).of(project_id, [span()])
    assert (spent.cost, spent.calls) == (2, 1)


def test_a_call_is_in_the_span_of_its_own_time(store, project_id):
    for at, cost in ((START - MICROSECOND, 1), (START, 2), (END - MICROSECOND, 4), (END, 8)):
        put(store, project_id, str(cost), at=at)
    spans = [span(), span(start=END, end=END + timedelta(days=31))]
    found = CallSpend(store).of(project_id, spans)
    assert [each.cost for each in found] == [6, 8]
    assert found[0].first_at == START


def test_a_cost_is_computed_or_else_reported_and_unknown_is_not_nothing(store, project_id):
    put(store, project_id, None, reported_total_cost_usd=Decimal(3))
    put(store, project_id, None, reported_total_cost_usd=Decimal(0))
    put(store, project_id, None)
    put(store, project_id, None, is_error=True)
    put(store, project_id, "1", reported_total_cost_usd=Decimal(9))
    [spent] = CallSpend(store).of(project_id, [span()])
    assert (spent.cost, spent.calls, spent.unpriced) == (4, 5, 2)


def test_each_scope_counts_its_own_calls(store, project_id):
    put(store, project_id, "1", provider="OpenAI", model="m", user_id="u", job_id="j")
    put(store, project_id, "2", provider="other", environment="production")
    put(store, new_project_id(), "4", provider="OpenAI")
    kinds = [
        (ScopeKind.PROJECT, ""),
        (ScopeKind.SERVICE, "openai"),
        (ScopeKind.MODEL, "m"),
        (ScopeKind.USER, "u"),
        (ScopeKind.JOB, "j"),
        (ScopeKind.ENVIRONMENT, "production"),
        (ScopeKind.JOB, "' OR 1 = 1 --"),
    ]
    found = CallSpend(store).of(project_id, [span(*each) for each in kinds])
    assert [each.cost for each in found] == [3, 1, 1, 1, 1, 2, 0]


def test_a_call_that_is_priced_again_changes_the_next_answer(store, project_id):
    spend = CallSpend(store)
    row = put(store, project_id, "1")
    assert spend.of(project_id, [span()])[0].cost == 1
    again = {**row, "cost_total": Decimal(7), "revision": row["revision"] + 1}
    store.insert("calls", [again])
    assert spend.of(project_id, [span()])[0].cost == 7


def test_what_has_not_changed_is_not_read_again(store, project_id, monkeypatch):
    spend = CallSpend(store)
    put(store, project_id, "1")
    first = spend.of(project_id, [span()])
    monkeypatch.setattr(CallSpend, "_read", None)
    assert spend.of(project_id, [span()]) == first


def test_a_global_span_adds_up_the_projects_that_are_named(store, project_id):
    others = [new_project_id(), new_project_id()]
    for number, project in enumerate([project_id, *others]):
        put(store, project, str(10**number))
    spend = CallSpend(store).of_project(project_id, [project_id, others[0]])
    found = spend.of([span(ScopeKind.GLOBAL), span()])
    assert [each.cost for each in found] == [11, 1]


def test_more_questions_than_one_read_has_are_all_answered_in_order(store, project_id):
    put(store, project_id, "1", at=START + timedelta(days=1, hours=1))
    days = [START + timedelta(days=day) for day in range(90)]
    found = CallSpend(store).of(
        project_id, [span(start=day, end=day + timedelta(days=1)) for day in days]
    )
    assert [each.cost for each in found] == [int(day == 1) for day in range(90)]
    assert CallSpend(store).of(project_id, []) == []
    assert CallSpend(store).of(new_project_id(), [span()]) == [Spent()]


def test_spans_that_lie_far_apart_are_each_answered(store, project_id):
    at = [START + timedelta(days=5 * number) for number in range(8)]
    for number, moment in enumerate(at):
        put(store, project_id, str(2**number), at=moment)
    spans = [span(start=each, end=each + timedelta(hours=1)) for each in at]
    for few in (spans[:3], spans):
        found = CallSpend(store).of(project_id, few)
        assert [each.cost for each in found] == [2**number for number in range(len(few))]
