"""Nilometer's own actions: each really does the thing, once, under the incident's name."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal

import pytest
from sqlalchemy import func, select

from nilometer.access.tables import AuditEntry
from nilometer.access.types import Action, KeyKind, Scope
from nilometer.budgets.budget import BudgetScope, ScopeKind
from nilometer.budgets.periods import Period
from nilometer.database.fence import EVERY_ROW
from nilometer.errors import InvalidInput, NotFound, Unavailable
from nilometer.incidents.tools.call import (
    Begun,
    ErrorClass,
    Failed,
    Interrupted,
    Pending,
    Succeeded,
    Unknown,
)
from nilometer.incidents.tools.executor import Executor
from nilometer.incidents.tools.kinds import INPUTS, REMOTE, ToolKind
from nilometer.incidents.tools.own.changes import CHANGES
from nilometer.incidents.tools.own.elsewhere import Elsewhere
from nilometer.incidents.tools.remote import Remote
from nilometer.notifications.channels import ChannelKind
from nilometer.notifications.tables import DeliveryRow
from tests.tools.conftest import INCIDENT, LOOPBACK, Nothing

ACTOR = f"incident {INCIDENT}"


def budget(bench, project=None, name="research"):
    return bench.budgets.add(
        project or bench.project,
        name=name,
        scope=BudgetScope(ScopeKind.PROJECT),
        amount=Decimal(100),
        period=Period.MONTH,
    ).budget


def audited(bench, action):
    query = select(AuditEntry).where(AuditEntry.action == action).order_by(AuditEntry.id)
    with bench.database.read(EVERY_ROW) as session:
        return [(each.actor, each.subject, each.project_id) for each in session.scalars(query)]


def dry(bench, call):
    return bench.executor.execute(replace(call, dry_run=True))


def test_a_budget_gets_its_hard_stop(each_bench):
    bench = each_bench
    of = budget(bench)
    for name in ("research", of.id):
        outcome = bench.run(bench.call("budget_hard_stop", budget=name))
        assert outcome.output["after"]["hard_stop"] is True
    assert bench.budgets.get(bench.project, of.id).budget.hard_stop
    assert audited(bench, Action.BUDGET_CHANGE) == [(ACTOR, of.id, bench.project)]


def test_a_budget_is_changed(bench):
    of = budget(bench)
    outcome = bench.run(
        bench.call("budget_change", budget="research", amount_usd="12.000000000000000001",
                   thresholds=[50, 100])
    )  # fmt: skip
    changed = bench.budgets.get(bench.project, of.id).budget
    assert changed.amount == Decimal("12.000000000000000001")
    assert changed.thresholds == (50, 100)
    assert outcome.output["before"]["amount_usd"] == "100"
    assert outcome.output["after"]["amount_usd"] == "12.000000000000000001"
    assert audited(bench, Action.BUDGET_CHANGE) == [(ACTOR, of.id, bench.project)]


def test_a_key_is_revoked(each_bench):
    bench = each_bench
    issued = bench.accounts.keys.create(
        kind=KeyKind.PERSONAL, project_id=bench.project, name="leaked", scopes=[Scope.READ]
    )
    outcome = bench.run(bench.call("key_revoke", key_id=issued.key_id))
    assert outcome.output["name"] == "leaked"
    assert bench.accounts.keys.get(issued.key_id).revoked_at is not None
    assert audited(bench, Action.KEY_REVOKE) == [(ACTOR, issued.key_id, bench.project)]
    assert issued.token not in repr(bench.history.list(bench.project))


def test_a_notification_goes_out_under_the_executions_id_with_the_record(each_bench):
    bench = each_bench
    for name in ("ops", "finance"):
        config = {"url": "http://127.0.0.1:1/"}
        bench.channels.add(bench.project, name, ChannelKind.WEBHOOK, config)
    call = bench.call("notify", title="Spend ran away", channels=["ops"], severity="critical")
    [begun] = bench.begin(call)
    performed = bench.executor.execute(begun.call)
    assert isinstance(performed, Pending)
    assert deliveries(bench) == []
    bench.record(begun.call, performed)
    bench.run(call)
    [delivery] = deliveries(bench)
    assert (delivery.channel_name, delivery.notification_id) == ("ops", call.execution_id)
    assert delivery.notification["facts"] == {"incident": INCIDENT}
    bench.run(bench.call("notify", title="To all"))
    assert len(deliveries(bench)) == 3


def deliveries(bench):
    with bench.database.read(EVERY_ROW) as session:
        return list(session.scalars(select(DeliveryRow)))


@pytest.mark.parametrize(
    ("tool", "given", "code"),
    [
        ("budget_hard_stop", {"budget": "nobody's"}, "not_found"),
        ("budget_hard_stop", {}, "input_invalid"),
        ("budget_change", {"budget": "research"}, "input_invalid"),
        ("budget_change", {"budget": "research", "amount_usd": "0"}, "invalid_input"),
        ("budget_change", {"budget": "research", "amount_usd": "1e3"}, "input_invalid"),
        ("key_revoke", {"key_id": "x"}, "not_found"),
        ("notify", {"title": "t"}, "no_channel"),
        ("notify", {"title": "t", "channels": ["nobody's"]}, "no_channel"),
        ("notify", {"title": "t", "other": 1}, "input_invalid"),
    ],
)
def test_what_cannot_be_done_fails_for_good_and_changes_nothing(bench, tool, given, code):
    of = budget(bench)
    before = bench.budgets.get(bench.project, of.id)
    for outcome in (dry(bench, bench.call(tool, **given)), bench.run(bench.call(tool, **given))):
        assert (outcome.code, outcome.error_class) == (code, ErrorClass.PERMANENT)
    assert bench.budgets.get(bench.project, of.id) == before
    assert audited(bench, Action.BUDGET_CHANGE) == []


def test_what_is_of_another_project_does_not_exist(bench):
    theirs = budget(bench, bench.other, "theirs")
    key = bench.accounts.keys.create(
        kind=KeyKind.PROJECT, project_id=bench.other, name="theirs", scopes=[]
    )
    for tool, given in [
        ("budget_hard_stop", {"budget": theirs.id}),
        ("budget_hard_stop", {"budget": "theirs"}),
        ("key_revoke", {"key_id": key.key_id}),
    ]:
        assert bench.run(bench.call(tool, **given)).code == "not_found"
    assert not bench.budgets.get(bench.other, theirs.id).budget.hard_stop
    assert bench.accounts.keys.get(key.key_id).revoked_at is None


def test_a_change_and_its_record_are_there_together_or_not_at_all(each_bench):
    bench = each_bench
    of = budget(bench)
    call = bench.call("budget_change", budget="research", amount_usd="7")
    [begun] = bench.begin(call)
    performed = bench.executor.execute(begun.call)
    with bench.database.session(EVERY_ROW) as session:
        [outcome] = bench.executions.record(session, [(begun.call, performed)], bench.now)
        assert isinstance(outcome, Succeeded)
        session.rollback()  # as when the process dies before the commit
    assert bench.budgets.get(bench.project, of.id).budget.amount == 100
    assert audited(bench, Action.BUDGET_CHANGE) == []

    # So it is interrupted, and then done: once.
    assert isinstance(bench.begin(call)[0], Interrupted)
    assert isinstance(bench.run(call), Succeeded)
    bench.run(call)
    assert bench.budgets.get(bench.project, of.id).budget.amount == 7
    assert len(audited(bench, Action.BUDGET_CHANGE)) == 1
    assert bench.kept(call).attempts == 1


def test_one_that_fails_takes_nothing_else_of_its_transaction_along(each_bench):
    bench = each_bench
    of = budget(bench)
    calls = [
        bench.call("budget_hard_stop", budget="research"),
        bench.call("budget_change", budget="research", thresholds=[100, 50]),
        bench.call("budget_change", budget="research", amount_usd="9"),
    ]
    begun = bench.begin(*calls)
    done = [(each.call, bench.executor.execute(each.call)) for each in begun]
    with bench.database.concurrent(EVERY_ROW) as session:
        outcomes = bench.executions.record(session, done, bench.now)
    assert [type(each) for each in outcomes] == [Succeeded, Failed, Succeeded]
    changed = bench.budgets.get(bench.project, of.id).budget
    assert (changed.hard_stop, changed.amount) == (True, 9)
    assert len(audited(bench, Action.BUDGET_CHANGE)) == 2


def test_one_that_fails_half_way_leaves_nothing_behind(bench, monkeypatch):
    of = budget(bench)

    def half(session, call, asked):
        CHANGES[ToolKind.BUDGET_HARD_STOP](session, call, {"budget": "research"})
        raise NotFound("there is no second half")

    monkeypatch.setitem(CHANGES, ToolKind.KEY_REVOKE, half)
    assert bench.run(bench.call("key_revoke", key_id="x")).code == "not_found"
    assert not bench.budgets.get(bench.project, of.id).budget.hard_stop
    assert audited(bench, Action.BUDGET_CHANGE) == []


def test_a_dry_run_tells_what_would_change_and_changes_nothing(each_bench):
    bench = each_bench
    of = budget(bench)
    bench.channels.add(bench.project, "ops", ChannelKind.WEBHOOK, {"url": "http://127.0.0.1:1/"})
    key = bench.accounts.keys.create(
        kind=KeyKind.PROJECT, project_id=bench.project, name="leaked", scopes=[]
    )
    entries = count(bench, AuditEntry)
    told = dry(bench, bench.call("budget_hard_stop", budget="research")).output
    assert told["dry_run"] is True
    assert told["would"]["before"]["hard_stop"] is False
    assert told["would"]["after"]["hard_stop"] is True
    assert dry(bench, bench.call("notify", title="t")).output["would"]["channels"] == ["ops"]
    assert dry(bench, bench.call("key_revoke", key_id=key.key_id)).output["would"]["name"]
    assert not bench.budgets.get(bench.project, of.id).budget.hard_stop
    assert bench.accounts.keys.get(key.key_id).revoked_at is None
    assert (count(bench, DeliveryRow), count(bench, AuditEntry)) == (0, entries)


def count(bench, table):
    with bench.database.read(EVERY_ROW) as session:
        return session.scalar(select(func.count()).select_from(table))


def test_part_of_the_input_can_be_fixed_by_the_definition(bench):
    budget(bench, name="mine")
    other = budget(bench, name="another")
    bench.define("budget_hard_stop", "stop_mine", input={"budget": "mine"})
    outcome = bench.run(bench.call("stop_mine", budget="another"))
    assert outcome.output["budget"] == "mine"
    assert not bench.budgets.get(bench.project, other.id).budget.hard_stop
    with pytest.raises(InvalidInput, match=r"config\.input"):
        bench.define("budget_hard_stop", "wrong", input={"key_id": "x"})


def test_each_of_our_own_can_be_disabled(bench):
    budget(bench)
    bench.tools.change(bench.project, "budget_hard_stop", {"enabled": False})
    call = bench.call("budget_hard_stop", budget="research")
    assert bench.run(call).code == "tool_disabled"
    bench.tools.remove(bench.project, "budget_hard_stop")
    assert isinstance(bench.run(bench.call("budget_hard_stop", budget="research")), Succeeded)


# What is done elsewhere.


class Letters:
    def __init__(self):
        self.asked = []
        self.fails = None

    def count(self, project_id, reason):
        return 7

    def replay(self, project_id, **asked):
        self.asked.append((project_id, asked))
        if self.fails:
            raise self.fails
        return {"replayed": 3, "refused": 1, "open": 4}


class Reports(Nothing):
    def make(self, project_id, *, days, group_by):
        return {"markdown": f"{project_id} {days} {','.join(group_by)}"}


def test_dead_letters_are_replayed_under_the_executions_note_again_after_a_crash(bench):
    letters = Letters()
    bench.executor = Executor(bench.database, Remote(LOOPBACK), Elsewhere(letters, Reports()))
    call = bench.call("dead_letters_replay", reason="map_failed", limit=3)
    [begun] = bench.begin(call)
    bench.executor.execute(begun.call)  # and nobody records
    assert isinstance(bench.begin(call)[0], Interrupted)
    assert bench.run(call) == Succeeded({"replayed": 3, "refused": 1, "open": 4})
    asked = {
        "reason": "map_failed",
        "most": 3,
        "actor": ACTOR,
        "note": f"execution {call.execution_id}",
    }
    assert letters.asked == [(bench.project, asked)] * 2
    told = dry(bench, bench.call("dead_letters_replay", limit=3))
    assert told.output["would"] == {"replayed": 3, "open": 7}
    assert len(letters.asked) == 2


def test_what_is_down_elsewhere_is_a_failure_for_now(bench):
    letters = Letters()
    bench.executor = Executor(bench.database, Remote(LOOPBACK), Elsewhere(letters, Reports()))
    letters.fails = Unavailable("the log is full", code="log_full", retry_after=9)
    outcome = bench.run(bench.call("dead_letters_replay"))
    assert outcome == Failed("log_full", "the log is full", ErrorClass.TRANSIENT, 9.0, asked=True)
    letters.fails = RuntimeError("a secret")
    outcome = bench.run(bench.call("dead_letters_replay"))
    assert (outcome.code, outcome.is_transient) == ("defect", True)
    assert "secret" not in outcome.detail


def test_a_report_is_attached_as_the_executions_output(bench):
    bench.executor = Executor(bench.database, Remote(LOOPBACK), Elsewhere(Letters(), Reports()))
    call = bench.call("report_attach", days=3, group_by=["model"])
    assert isinstance(bench.run(call), Succeeded)
    assert bench.kept(call).output == {"markdown": f"{bench.project} 3 model"}


def test_a_defect_after_something_may_have_been_sent_is_an_unknown_outcome(bench):
    def send(*_, **__):
        raise RuntimeError("a secret")

    bench.http()
    bench.executor = Executor(bench.database, Remote(LOOPBACK, send=send), bench.elsewhere)
    outcome = bench.run(bench.call())
    assert isinstance(outcome, Unknown)
    assert "secret" not in outcome.detail


# No kind falls through.


def test_every_kind_is_remote_or_says_what_it_takes_and_is_done(bench):
    assert set(ToolKind) == REMOTE | set(INPUTS)
    bench.executor = Executor(bench.database, Remote(LOOPBACK), Elsewhere(Letters(), Reports()))
    needed = {
        "notify": {"title": "t"},
        "budget_hard_stop": {"budget": "x"},
        "budget_change": {"budget": "x", "hard_stop": True},
        "key_revoke": {"key_id": "x"},
    }
    for kind in set(ToolKind) - REMOTE:
        [begun] = bench.begin(bench.call(kind.value, **needed.get(kind.value, {})))
        assert isinstance(begun, Begun)
        performed = bench.executor.execute(begun.call)
        assert isinstance(performed, Pending | Succeeded), kind


@pytest.mark.parametrize("kind", ["dummy", "grpc", "", "HTTP", "https"])
def test_an_unknown_kind_is_refused_when_it_is_defined(bench, kind):
    with pytest.raises(InvalidInput) as refused:
        bench.tools.add(bench.project, "call", kind, {})
    assert refused.value.code == "unknown_kind"


def test_changes_of_one_budget_at_the_same_moment_are_all_there(each_bench):
    """An incident's transaction takes no turn with those of people: it locks the row instead."""
    bench = each_bench
    of = budget(bench)

    def change(amount):
        bench.run(bench.call("budget_change", budget="research", amount_usd=str(amount)))
        bench.budgets.change(bench.project, of.id, {"amount": Decimal(amount + 1000)})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(change, range(1, 9)))
    past = bench.budgets.get(bench.project, of.id).budget.past_amounts
    now = bench.budgets.get(bench.project, of.id).budget.amount
    every = {100, *range(1, 9), *range(1001, 1009)}
    assert {*(amount for _, amount in past), now} == every
